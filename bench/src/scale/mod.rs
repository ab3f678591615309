//! How cost grows with peers, flows and cores: `cubed-bench scale ...`.
//!
//! Every command prints one table and writes the same as JSON ([`sheet`]). Nodes under test are real; their many peers are
//! light ones ([`guest`]), each with keys and, where sockets are measured, a socket of its own ([`crowd`]).
//! Modules are listed leaf first; each imports only from those above it.

pub mod bound;

pub mod sheet;

pub mod usage;

pub mod guest;

pub mod memory_network;

pub mod args;

pub mod crowd;

pub mod host;

pub mod idle;

pub mod flows;

pub mod handshakes;

pub mod start;

pub mod watch;

pub mod churn;

pub mod work;

use args::ScaleCommand;

use crate::{
    commands::{surroundings, tell},
    cpu::Look,
    error::Result,
    report::place,
};

/// Runs one command of the group.
///
/// # Errors
///
/// Whatever kept it from a result. `Limit` when a bound of `--fail-if` is violated.
pub fn run(command: &ScaleCommand) -> Result<()> {
    if let Some((output, _)) = command.output() {
        output.json.as_deref().map_or(Ok(()), place::file)?;
        tell(&surroundings().line());
    }
    let before = Look::take();
    let sheet = match command {
        ScaleCommand::Idle(args) => idle::run(args)?,
        ScaleCommand::Flows(args) => flows::run(args)?,
        ScaleCommand::Handshakes(args) => handshakes::run(args)?,
        ScaleCommand::Start(args) => start::run(args)?,
        ScaleCommand::Watch(args) => watch::run(args)?,
        ScaleCommand::Churn(args) => churn::run(args)?,
        ScaleCommand::Work(args) => work::run(args)?,
        ScaleCommand::PeerCrowd(args) => return crowd::run(args),
    };
    let Some((output, shards)) = command.output() else { return Ok(()) };
    let stolen = Look::take().since(&before).stolen;
    sheet.within(surroundings(), shards, stolen).finish(output.json.as_deref(), &output.fail_if)
}
