//! Flags of what measures times.

use clap::Args;

use super::{ConnectArgs, MachineArgs, OutputArgs};

/// Flags of `latency`.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Body bytes of each question and answer
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure Cubed for; plain UDP takes as long again
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Questions per second, each timed from when it was due; without it the next question follows
    /// the answer
    #[arg(long, value_name = "PER_S")]
    pub rate: Option<f64>,
    /// Poll on both sides instead of parking
    #[arg(long)]
    pub spin: bool,
    /// Do not measure plain UDP
    #[arg(long)]
    pub no_baseline: bool,
    /// Print what the measuring node counted: losses, retransmissions, drops
    #[arg(long)]
    pub counters: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `raw-latency`.
#[derive(Debug, Clone, Args)]
pub struct RawLatencyArgs {
    /// Bytes of each question and answer
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure for
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Poll on both sides instead of blocking
    #[arg(long)]
    pub spin: bool,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}
