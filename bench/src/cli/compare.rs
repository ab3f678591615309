//! Flags of the command that compares two runs.

use std::path::PathBuf;

use clap::Args;

/// Flags of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The first run: a file of `--json`, or a folder of `--out`
    #[arg(value_name = "A.json")]
    pub first: PathBuf,
    /// The second run
    #[arg(value_name = "B.json")]
    pub second: PathBuf,
    /// Write the comparison to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
