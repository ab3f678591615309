//! The flags of `scale` and its sub-commands.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use cubed::PublicKey;

use super::{bound::Bound, crowd::CROWD_COMMAND};
use crate::{cli::MachineArgs, units::parse_rate};

/// What `scale` can measure.
#[derive(Debug, Subcommand)]
pub enum ScaleCommand {
    /// Resident memory per idle peer: of a node on real sockets, and of the protocol engine in memory
    Idle(IdleArgs),
    /// Resident memory of a node with very many flows
    Flows(FlowsArgs),
    /// Handshakes per second and core, beside their arithmetic alone
    Handshakes(HandshakesArgs),
    /// Peers that start at once against one node: time until all are connected, datagrams lost
    Start(StartArgs),
    /// CPU time of idle shards, with nobody watched and with many peers watched
    Watch(WatchArgs),
    /// Round trips while peers are added and forgotten, beside round trips in peace and beside a thread that only wakes
    Churn(ChurnArgs),
    /// A fixed number of messages between two nodes in one process, for an instruction counter
    Work(WorkArgs),
    /// A process of light peers.
    #[command(name = CROWD_COMMAND, hide = true)]
    PeerCrowd(CrowdArgs),
}

impl ScaleCommand {
    /// Where the result goes besides the terminal, and the shards of each node; `None` of a process that answers another one.
    pub fn output(&self) -> Option<(&SheetArgs, usize)> {
        match self {
            Self::Idle(args) => Some((&args.output, args.machine.shards)),
            Self::Flows(args) => Some((&args.output, args.machine.shards)),
            Self::Handshakes(args) => Some((&args.output, 1)),
            Self::Start(args) => Some((&args.output, args.machine.shards)),
            Self::Watch(args) => Some((&args.output, args.machine.shards)),
            Self::Churn(args) => Some((&args.output, args.machine.shards)),
            Self::Work(args) => Some((&args.output, args.machine.shards)),
            Self::PeerCrowd(_) => None,
        }
    }
}

/// Where the result goes.
#[derive(Debug, Clone, Default, Args)]
pub struct SheetArgs {
    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub json: Option<PathBuf>,
    /// End with exit status 3 when a figure of any row is beyond BOUND, as in 'lost>0': a column of the table and a
    /// number, by >, >=, < or <=. Repeat it for several
    #[arg(long, value_name = "BOUND", help_heading = "Results")]
    pub fail_if: Vec<Bound>,
}

/// Flags of `scale idle`.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Numbers of peers of the endpoint in memory, one row each; 0 for none
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [100, 10_000, 100_000])]
    pub peers: Vec<usize>,
    /// Numbers of peers with a socket each, one row each; 0 for none
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    pub sockets: Vec<usize>,
    /// Messages of 64 B that each peer sends before it falls silent
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub messages: u64,
    /// What the node on sockets runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale flows`.
#[derive(Debug, Clone, Args)]
pub struct FlowsArgs {
    /// Flows to register
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub flows: usize,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale handshakes`.
#[derive(Debug, Clone, Args)]
pub struct HandshakesArgs {
    /// Handshakes of one slice, and sides of one slice of arithmetic
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub handshakes: usize,
    /// Pairs of slices
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub pairs: usize,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// Peers, each with a socket
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub peers: usize,
    /// Processes that they live in, at least
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub processes: usize,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Peers to watch, each with a socket
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub peers: usize,
    /// Seconds to look at each row
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub seconds: f64,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale churn`.
#[derive(Debug, Clone, Args)]
pub struct ChurnArgs {
    /// Peers added per second; as many are forgotten. The control wakes as often
    #[arg(long, value_name = "RATE", default_value = "1k", value_parser = parse_rate)]
    pub rate: f64,
    /// Seconds to measure with churn; as long again in peace, and as long beside the control
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub seconds: f64,
    /// Poll on both sides instead of parking
    #[arg(long)]
    pub spin: bool,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of `scale work`.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Messages of 64 B from each shard
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub messages: u64,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: SheetArgs,
}

/// Flags of the hidden process of light peers.
#[derive(Debug, Clone, Args)]
pub struct CrowdArgs {
    /// Where the host listens
    #[arg(long)]
    pub host: SocketAddr,
    /// Its key
    #[arg(long)]
    pub host_key: PublicKey,
    /// Number of the first peer
    #[arg(long)]
    pub first: u64,
    /// How many
    #[arg(long)]
    pub count: usize,
}
