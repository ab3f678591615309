//! Flags of the serving processes: `serve`, and the hidden ones that a measurement starts.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use cubed::PublicKey;

use super::{MachineArgs, shared::DATAGRAM_BYTES};
use crate::units::parse_address;

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// File with the key that identifies this node
    #[arg(long, value_name = "FILE", visible_alias = "identity")]
    pub key: PathBuf,
    /// Public key that may connect; repeat it for several. Without it nobody may
    #[arg(long, value_name = "KEY")]
    pub allow: Vec<PublicKey>,
    /// Core to pin the first shard to, and the others to those after it; the system chooses without it
    #[arg(long, value_name = "CORE")]
    pub core: Option<usize>,
    /// Bytes of each UDP datagram sent
    #[arg(long, value_name = "BYTES", default_value_t = 1452, value_parser = clap::value_parser!(u16).range(DATAGRAM_BYTES))]
    pub datagram: u16,
    /// Flows of each shard that count messages: as many as `--flows` of those that measure
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub flows: usize,
    /// Poll for up to 10 ms before parking
    #[arg(long)]
    pub spin: bool,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Flags of the hidden serving process.
#[derive(Debug, Clone, Args)]
pub struct PeerNodeArgs {
    /// Core to pin the first shard to
    #[arg(long)]
    pub core: usize,
    /// Public key that may measure
    #[arg(long)]
    pub allow: PublicKey,
    /// Bytes of each UDP datagram sent
    #[arg(long)]
    pub datagram: u16,
    /// Flows of each shard that count messages
    #[arg(long, default_value_t = 1)]
    pub flows: usize,
    /// How long to poll before parking; adaptive without it
    #[arg(long)]
    pub spin_micros: Option<u64>,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Flags of the hidden processes with many sockets.
#[derive(Debug, Clone, Args)]
pub struct PeerAudienceArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// Sockets
    #[arg(long)]
    pub count: usize,
}

/// Flags of the hidden receiving process.
#[derive(Debug, Clone, Args)]
pub struct PeerCeilingArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// The measuring process has the same core
    #[arg(long)]
    pub shares_core: bool,
    /// Each datagram comes by a call of its own
    #[arg(long)]
    pub no_gro: bool,
}

/// Flags of the hidden counting process of plain UDP one way.
#[derive(Debug, Clone, Args)]
pub struct PeerOneWayArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// Body bytes of each message
    #[arg(long)]
    pub size: usize,
    /// Poll instead of blocking
    #[arg(long)]
    pub spin: bool,
}

/// Flags of the hidden echoing process.
#[derive(Debug, Clone, Args)]
pub struct PeerEchoArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// Poll instead of blocking
    #[arg(long)]
    pub spin: bool,
}
