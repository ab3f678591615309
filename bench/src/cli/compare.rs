//! Flags of the command that compares two runs.

use std::path::PathBuf;

use clap::Args;

/// Flags of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Report of the first run, as written by `--json` or `--out`
    #[arg(value_name = "A.json")]
    pub first: PathBuf,
    /// Report of the second run
    #[arg(value_name = "B.json")]
    pub second: PathBuf,
    /// Write the comparison to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
