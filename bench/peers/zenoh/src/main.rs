//! The executable `cubed-peers-zenoh`: the sides of Zenoh, which `cubed-peers` starts as it starts itself for other stacks.

mod zenoh_peer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cubed_peers::side::{self, SideArgs};

use crate::zenoh_peer::ZenohPeer;

/// Plays one side of one measurement of Zenoh
#[derive(Debug, Parser)]
#[command(name = "cubed-peers-zenoh")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One side of one measurement
    Side(SideArgs),
}

fn main() -> ExitCode {
    let Command::Side(args) = Cli::parse().command;
    let sides = ZenohPeer::new(&args.stack).map(|peer| Box::new(peer) as _);
    match side::play(&args, sides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cubed-peers-zenoh: {error}");
            ExitCode::FAILURE
        }
    }
}
