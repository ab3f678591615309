//! The command line: its flags and their limits. What the sub-commands do: [`crate::commands`].

mod shared;

mod throughput;

mod latency;

mod agents;

mod baselines;

mod request;

mod saturate;

mod serve;

mod compare;

mod path;

mod order;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::{
    agents::{AgentArgs, RunArgs},
    baselines::BaselinesArgs,
    compare::CompareArgs,
    latency::{LatencyArgs, RawLatencyArgs},
    path::PathArgs,
    request::RequestArgs,
    saturate::SaturateArgs,
    serve::{
        PeerAudienceArgs, PeerCeilingArgs, PeerEchoArgs, PeerNodeArgs, PeerOneWayArgs, ServeArgs,
    },
    shared::{ConnectArgs, MachineArgs, NodesArgs, SteeringArg},
    throughput::{CeilingArgs, ThroughputArgs},
};
pub use crate::report::output::OutputArgs;
use crate::{
    ceiling,
    node::server,
    peers::{audience, listeners},
    raw_echo, raw_one_way,
    scale::args::ScaleCommand,
};

/// Measures Cubed and, in the same run, the best that this machine could do.
///
/// Without a command: a tour of half a minute.
#[derive(Debug, Parser)]
#[command(name = "cubed-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to measure; the tour without it.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the result alone, and nothing of how it goes
    #[arg(long, global = true)]
    pub quiet: bool,
    /// What the tour's nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where the tour's results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Cli {
    /// Reads a command line, program name first; flags of a command may stand before it as well.
    ///
    /// # Errors
    ///
    /// What is wrong with the line, in clap's words; also the text of `--help`.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = take_negatives(Self::command());
        let line = order::flags_behind_commands(&command, line);
        Self::from_arg_matches(&command.try_get_matches_from(line)?)
    }
}

/// A number below 0 is a wrong value of its flag, not an unknown flag.
fn take_negatives(command: clap::Command) -> clap::Command {
    let take = |argument: clap::Arg| {
        let takes = argument.get_action().takes_values();
        argument.allow_negative_numbers(takes)
    };
    command.mut_args(take).mut_subcommands(take_negatives)
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages per second, beside the ceiling
    Throughput(ThroughputArgs),
    /// Round trip of a request and its reply, beside plain UDP
    Latency(LatencyArgs),
    /// How cost grows with peers, flows and cores
    #[command(subcommand)]
    Scale(ScaleCommand),
    /// Replies per second with many requests outstanding, beside plain UDP
    Request(RequestArgs),
    /// The highest rate without loss at which times stay under a limit
    Saturate(SaturateArgs),
    /// Sends and counts for a controller, until it is ended
    Agent(AgentArgs),
    /// Runs a plan between agents, on any hosts, and adds up what they counted
    Run(RunArgs),
    /// The peer for `--connect`: counts what it gets and answers requests, until it is ended
    Serve(ServeArgs),
    /// What each layer costs: plain UDP, UDP with offload, the ceiling and Cubed in turn, in one run
    Baselines(BaselinesArgs),
    /// The most that framing, sealing and UDP offload reach here without any reliability
    Ceiling(CeilingArgs),
    /// Round trip of plain UDP between two pinned processes
    RawLatency(RawLatencyArgs),
    /// Two runs beside each other: ratios, noise, verdicts; exit status 3 when the second is worse
    Compare(CompareArgs),
    /// So many messages between two endpoints in memory, for `perf-scripts/instructions`.
    #[command(hide = true)]
    Path(PathArgs),
    /// The serving process of `throughput` and `latency`.
    #[command(name = server::PEER_COMMAND, hide = true)]
    PeerNode(PeerNodeArgs),
    /// The receiving process of `ceiling`.
    #[command(name = ceiling::PEER_COMMAND, hide = true)]
    PeerCeiling(PeerCeilingArgs),
    /// The peers of `throughput --peers`.
    #[command(name = audience::PEER_COMMAND, hide = true)]
    PeerAudience(PeerAudienceArgs),
    /// The sockets of the sealed loop beside them.
    #[command(name = listeners::PEER_COMMAND, hide = true)]
    PeerListeners(PeerAudienceArgs),
    /// The echoing process of `raw-latency`.
    #[command(name = raw_echo::PEER_COMMAND, hide = true)]
    PeerEcho(PeerEchoArgs),
    /// The counting process of plain UDP beside `latency --one-way`.
    #[command(name = raw_one_way::PEER_COMMAND, hide = true)]
    PeerOneWay(PeerOneWayArgs),
}

impl Command {
    /// True of the hidden commands of processes that a measurement starts.
    pub fn is_of_a_peer(&self) -> bool {
        match self {
            Self::PeerNode(_)
            | Self::PeerCeiling(_)
            | Self::PeerAudience(_)
            | Self::PeerListeners(_)
            | Self::PeerEcho(_)
            | Self::PeerOneWay(_)
            | Self::Scale(ScaleCommand::PeerCrowd(_)) => true,
            Self::Throughput(_)
            | Self::Latency(_)
            | Self::Scale(_)
            | Self::Request(_)
            | Self::Saturate(_)
            | Self::Agent(_)
            | Self::Run(_)
            | Self::Serve(_)
            | Self::Baselines(_)
            | Self::Ceiling(_)
            | Self::RawLatency(_)
            | Self::Compare(_)
            | Self::Path(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
