//! How cost grows with peers, flows and cores: `cubed-bench scale ...`.
//!
//! Every command prints one table and writes the same as JSON ([`sheet`]). Nodes under test are real; their many peers are
//! light ones ([`guest`]), each with keys and, where sockets are measured, a socket of its own.
//! Modules are listed leaf first; each imports only from those above it.

pub mod sheet;

pub mod usage;

pub mod guest;

pub mod memory_network;

pub mod args;

pub mod idle;

use std::path::PathBuf;

use crate::error::Result;
use args::ScaleCommand;

/// Runs one command of the group.
///
/// # Errors
///
/// Whatever kept it from a result.
pub fn run(command: &ScaleCommand) -> Result<()> {
    let sheet = match command {
        ScaleCommand::Idle(args) => idle::run(args)?,
    };
    sheet.finish(command.json().map(PathBuf::as_path))
}
