//! The executable `cubed-bench`: reads the command line and runs it.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use cubed_bench::{cli::Cli, error::BenchError, interrupt};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Warnings go to stderr, since stdout carries results or, in a peer process, its answers.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match cli.answer_signals().and_then(|()| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match interrupt::told(error) {
            None => ExitCode::from(BenchError::Interrupted.exit_status()),
            Some(error) => {
                eprintln!("cubed-bench: {error}");
                ExitCode::from(error.exit_status())
            }
        },
    }
}
