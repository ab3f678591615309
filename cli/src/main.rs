//! The `cubed` command: what an operator does from a terminal.
//!
//! Results go to standard output, faults to standard error as one line that says what to do. The exit
//! status is 0 for success, 1 for a fault, 2 for a command line that cannot be read.

// The command runs nodes for people; those must encrypt.
#[cfg(cubed_clear)]
compile_error!(
    "cubed_clear takes the encryption away, and is for perf-scripts/clear alone: take it out of RUSTFLAGS"
);

mod doctor;
mod keys;
mod peers;
mod policies;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use peers::Decision;

/// Secure, reliable messaging by public key.
#[derive(Parser)]
#[command(name = "cubed", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new identity and write it to a file that only you can read.
    Keygen {
        /// The file to create; nothing is ever overwritten.
        path: PathBuf,
    },
    /// Show the public key of an identity file.
    #[command(visible_alias = "pubkey")]
    Key {
        /// The identity file.
        path: PathBuf,
    },
    /// Work with policies: who may do what.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Work with the keep of a stopped node: whom it knows, who waits, who is accepted.
    #[command(subcommand)]
    Peers(PeersCommand),
    /// Check what this machine allows a node, what that costs, and how to mend it.
    Doctor,
}

#[derive(Subcommand)]
enum PeersCommand {
    /// Show the keys of a keep; a running node's too.
    List {
        #[command(flatten)]
        keep: KeepArgument,
    },
    /// Accept a key, known or not.
    Accept {
        #[command(flatten)]
        keep: KeepArgument,
        /// The public key.
        key: String,
    },
    /// Reject a key, known or not, until told otherwise.
    Reject {
        #[command(flatten)]
        keep: KeepArgument,
        /// The public key.
        key: String,
    },
    /// Forget a key: its next contact is its first.
    Forget {
        #[command(flatten)]
        keep: KeepArgument,
        /// The public key.
        key: String,
    },
}

#[derive(clap::Args)]
struct KeepArgument {
    /// The file of the keep.
    #[arg(long, value_name = "FILE")]
    keep: PathBuf,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Read a policy and say what it grants, or which line is wrong.
    Check {
        /// The policy file (TOML).
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cubed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Keygen { path } => keys::generate(&path),
        Command::Key { path } => keys::show(&path),
        Command::Policy(PolicyCommand::Check { file }) => policies::check(&file),
        Command::Doctor => doctor::examine(),
        Command::Peers(command) => match command {
            PeersCommand::List { keep } => peers::list(&keep.keep),
            PeersCommand::Accept { keep, key } => peers::decide(&keep.keep, &key, Decision::Accept),
            PeersCommand::Reject { keep, key } => peers::decide(&keep.keep, &key, Decision::Reject),
            PeersCommand::Forget { keep, key } => peers::decide(&keep.keep, &key, Decision::Forget),
        },
    }
}
