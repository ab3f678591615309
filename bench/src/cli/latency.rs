//! Flags of what measures times.

use clap::Args;

use super::{NodesArgs, OutputArgs};
use crate::units::parse_rate;

/// Flags of `latency`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are bools")]
pub struct LatencyArgs {
    /// Body bytes of each question and answer
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure Cubed for, several shards one after the other; plain UDP takes as long again
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Questions per second, each sent when it is due and timed from then, however late the ones before are answered; 2,000
    /// without it. With --one-way, messages per second of the loaded slices
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// The next question follows the answer: a late answer then delays the questions that would have met the same delay
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,
    /// Time messages from when they are due to their handler, while as many are sent as --load says, beside an unloaded path and
    /// plain UDP on the same schedules
    #[arg(long, conflicts_with = "closed")]
    pub one_way: bool,
    /// Part of the rate that a sender reaches which never waits; with --one-way
    #[arg(
        long,
        value_name = "PART",
        default_value_t = 0.5,
        requires = "one_way",
        conflicts_with = "rate"
    )]
    pub load: f64,
    /// Poll on both sides instead of parking
    #[arg(long)]
    pub spin: bool,
    /// Do not measure plain UDP
    #[arg(long)]
    pub no_baseline: bool,
    /// The nodes.
    #[command(flatten)]
    pub nodes: NodesArgs,
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
