//! Flags of what measures messages per second.

use std::num::NonZeroUsize;

use clap::Args;

use super::{NodesArgs, OutputArgs};
use crate::{
    node::{bodies::Mode, load::PER_CALL},
    workload::{Choice, Sizes},
};

/// Flags of `throughput`.
#[derive(Debug, Clone, Args)]
pub struct ThroughputArgs {
    /// Body bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Body bytes from a distribution: fixed:64, uniform:1..2048, log-uniform:1..2048 or mix:64*9,64K*1; the ceiling then has
    /// their mean
    #[arg(long, value_name = "SIZES", conflicts_with = "size")]
    pub sizes: Option<Sizes>,
    /// Flows that messages go to; with more than one, the baseline is one flow between the same nodes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub flows: usize,
    /// Peers, each with an identity and a socket of its own in one process; the baseline is one flow to one peer or, with
    /// --visit 1, a loop of sealed datagrams to as many sockets
    #[arg(long, value_name = "N", conflicts_with_all = ["flows", "sizes", "connect", "counters"])]
    pub peers: Option<usize>,
    /// Messages to one peer before it is the turn of the next; with --peers
    #[arg(long, value_name = "N", default_value_t = 160, requires = "peers")]
    pub visit: usize,
    /// Which flow or peer is next: round-robin, uniform, zipf or zipf:POWER
    #[arg(long, value_name = "CHOICE", default_value_t = Choice::RoundRobin)]
    pub choice: Choice,
    /// What sizes and choices are drawn from; the same seed gives the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Seconds to measure Cubed for; the baseline takes as long again
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// How messages are sent
    #[arg(long, value_enum, default_value_t = Mode::Acked)]
    pub mode: Mode,
    /// Microseconds that an idle shard of either node polls before it sleeps, 0 for none; adaptive without it. A node behind
    /// --connect waits as it was told to when it was started
    #[arg(long, value_name = "N", conflicts_with = "peers")]
    pub spin_micros: Option<u64>,
    /// Bodies handed over by one call, at most, when all have one length and go to one flow; 1: a call for each
    #[arg(long, value_name = "N", default_value_t = PER_CALL, conflicts_with = "peers")]
    pub per_call: NonZeroUsize,
    /// Do not measure the baseline
    #[arg(long)]
    pub no_baseline: bool,
    /// The nodes.
    #[command(flatten)]
    pub nodes: NodesArgs,
}

/// Flags of `ceiling`.
#[derive(Debug, Clone, Args)]
pub struct CeilingArgs {
    /// Body bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure for
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Bytes of each UDP datagram
    #[arg(long, value_name = "BYTES", default_value_t = 1452)]
    pub datagram: usize,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}
