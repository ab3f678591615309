//! Flags of `saturate`.

use std::time::Duration;

use clap::Args;

use super::NodesArgs;
use crate::{
    node::bodies::Mode,
    units::{Ramp, parse_ramp, parse_rate, parse_time},
    workload::{Choice, Sizes},
};

/// Flags of `saturate`.
#[derive(Debug, Clone, Args)]
pub struct SaturateArgs {
    /// Body bytes: one size, or fixed:64, uniform:16..2048, log-uniform:16..2048, mix:64*9,64K*1; 16 or more, as each carries a time
    #[arg(long, value_name = "SIZES", default_value = "64", visible_alias = "size")]
    pub sizes: Sizes,
    /// Flows that messages go to
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub flows: usize,
    /// Which flow is next: round-robin, uniform, zipf or zipf:POWER
    #[arg(long, value_name = "CHOICE", default_value_t = Choice::RoundRobin)]
    pub choice: Choice,
    /// What sizes and choices are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How messages are sent
    #[arg(long, value_enum, default_value_t = Mode::Acked)]
    pub mode: Mode,
    /// A rate passes with no message lost and 99 of 100 there within TIME of when they were due
    #[arg(long, value_name = "TIME", default_value = "200us", value_parser = parse_time)]
    pub p99_below: Duration,
    /// Rate per second to begin the search at
    #[arg(long, value_name = "RATE", default_value = "100k", value_parser = parse_rate)]
    pub from: f64,
    /// End the search when the highest rate that passes and the lowest that fails differ by this part
    #[arg(long, value_name = "PART", default_value_t = 0.02)]
    pub precision: f64,
    /// Seconds of each step
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub seconds: f64,
    /// No search: rates from FROM to TO in so many equal steps
    #[arg(long, value_name = "FROM..TO/STEPS", value_parser = parse_ramp, conflicts_with = "step")]
    pub ramp: Option<Ramp>,
    /// No search: these rates, one after the other
    #[arg(long, value_name = "RATE,...", value_delimiter = ',', value_parser = parse_rate)]
    pub step: Vec<f64>,
    /// Poll on both sides instead of parking when it seems worth it
    #[arg(long)]
    pub spin: bool,
    /// Do not measure what a sender reaches that never waits for its time
    #[arg(long)]
    pub no_baseline: bool,
    /// The nodes.
    #[command(flatten)]
    pub nodes: NodesArgs,
}
