//! The flags of `scale` and its sub-commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `scale` can measure.
#[derive(Debug, Subcommand)]
pub enum ScaleCommand {
    /// Resident memory per idle peer
    Idle(IdleArgs),
}

impl ScaleCommand {
    /// Where the result goes besides the terminal.
    pub fn json(&self) -> Option<&PathBuf> {
        match self {
            Self::Idle(args) => args.json.as_ref(),
        }
    }
}

/// Flags of `scale idle`.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Numbers of peers, one row each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [100, 10_000])]
    pub peers: Vec<usize>,
    /// Messages of 64 B that each peer sends before it falls silent
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub messages: u64,
    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
