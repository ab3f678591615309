//! Flags of `baselines`.

use clap::Args;

use super::{MachineArgs, OutputArgs, shared::DATAGRAM_BYTES};

/// Flags of `baselines`.
#[derive(Debug, Clone, Args)]
pub struct BaselinesArgs {
    /// Body bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure each for
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Bytes of each UDP datagram; plain UDP has one for each message that fits into it
    #[arg(long, value_name = "BYTES", default_value_t = 1452, value_parser = clap::value_parser!(u16).range(DATAGRAM_BYTES))]
    pub datagram: u16,
    /// What Cubed's nodes run on; one shard, as the others have one core a side.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}
