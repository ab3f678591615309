//! The executable `cubed-peers`: other transports under the workloads of `cubed-bench`. `bench/peers/run` builds and starts it.

mod frames;

#[cfg(any(feature = "quinn", feature = "omq"))]
mod text;

mod tcp;

#[cfg(feature = "zmq")]
mod libzmq;

#[cfg(feature = "quinn")]
mod quic;

#[cfg(feature = "quinn")]
mod datagrams;

#[cfg(feature = "omq")]
mod omq;

mod stacks;

mod report;

mod run;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use cubed_peers::{
    side::{self, SideArgs},
    stack::Outcome,
};

use crate::{
    run::{Plan, WORKLOADS, Wait},
    stacks::{STACKS, Stack},
};

/// Measures other transports beside Cubed
#[derive(Debug, Parser)]
#[command(name = "cubed-peers", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before each measurement that do not count
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    warm_up: f64,
    /// Runs of everything; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Stacks or families of them, instead of all
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Workloads, instead of all
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Also write the results here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The executable of cubed-bench; without it there are no ratios
    #[arg(long, value_name = "FILE")]
    cubed: Option<PathBuf>,
    /// How Cubed's shards wait for work; the other stacks' threads block
    #[arg(long, value_enum, value_name = "WAIT", default_value_t = Wait::Park)]
    wait: Wait,
    /// The executable of a family that has one of its own
    #[arg(long, value_name = "FAMILY=FILE")]
    program: Vec<String>,
    /// What the results are to be read with: versions, machine
    #[arg(long, value_name = "NAME=TEXT")]
    fact: Vec<String>,
    /// A family that could not be built
    #[arg(long, value_name = "FAMILY=WHY")]
    missing: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One side of one measurement
    #[command(hide = true)]
    Side(SideArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Side(args)) => {
            side::play(args, stacks::named(&args.stack).and_then(Stack::sides)).map(|()| true)
        }
        None => run(&cli),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cubed-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; `false` when something failed or messages went missing.
fn run(cli: &Cli) -> Outcome<bool> {
    let known =
        |name: &String| STACKS.iter().any(|stack| stack.is_among(std::slice::from_ref(name)));
    if let Some(name) = cli.only.iter().find(|name| !known(name)) {
        let names: Vec<_> = STACKS.iter().map(|stack| stack.name).collect();
        return Err(format!("no stack is named {name:?}; there are {}", names.join(", ")).into());
    }
    if let Some(name) = cli.workloads.iter().find(|name| !WORKLOADS.iter().any(|w| w.key == **name))
    {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.key).collect();
        return Err(format!("no workload is named {name:?}; there are {}", names.join(", ")).into());
    }
    let report = run::measure(&Plan {
        seconds: cli.seconds,
        warm_up: cli.warm_up,
        runs: cli.runs,
        only: &cli.only,
        workloads: &cli.workloads,
        programs: &cli.program,
        cubed: cli.cubed.as_deref(),
        wait: cli.wait,
        missing: &cli.missing,
    });
    print!("{}", report.table());
    if let Some(file) = &cli.json {
        let text = serde_json::to_string_pretty(&report.json(&cli.fact))?;
        fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(report.is_clean())
}
