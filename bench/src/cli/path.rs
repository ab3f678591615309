//! The flags of the hidden command `path`.

use std::num::NonZeroU64;

use clap::Args;

/// What goes along the message path.
#[derive(Debug, Clone, Copy, Args)]
pub struct PathArgs {
    /// Messages, or questions
    #[arg(long)]
    pub messages: u64,
    /// Body bytes of each
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Ask, and be answered with as many bytes
    #[arg(long)]
    pub requests: bool,
    /// Questions outstanding at any time; of long ones fewer
    #[arg(long, default_value = "64", requires = "requests")]
    pub outstanding: NonZeroU64,
}
