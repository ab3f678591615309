//! The executable `cubed-bench`: reads the command line and runs it.

use std::process::ExitCode;

use clap::Parser;
use cubed_bench::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cubed-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
