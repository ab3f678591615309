//! Flags of `request`.

use clap::Args;

use super::NodesArgs;

/// Flags of `request`.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// Body bytes of each request and reply
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Requests that wait for their reply at any time, divided over the shards; the next one follows a reply
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub outstanding: usize,
    /// Seconds to measure Cubed for; plain UDP takes as long again, and is left out with several shards
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Do not measure plain UDP
    #[arg(long)]
    pub no_baseline: bool,
    /// The nodes.
    #[command(flatten)]
    pub nodes: NodesArgs,
}
