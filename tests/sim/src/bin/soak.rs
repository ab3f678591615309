//! Many seeds of every scenario, for as long as one cares to wait.
//!
//! Prints each failing seed with the command that repeats it, and fails when there was one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use cubed_sim::scenario::{Report, SCENARIOS, Scenario};
use cubed_sim::seeds::run_many;

/// Runs simulation scenarios over many seeds.
#[derive(Parser)]
struct Arguments {
    /// How many seeds of each scenario.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only the scenario of this name.
    #[arg(long)]
    scenario: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = |name: &str| arguments.scenario.as_deref().is_none_or(|wanted| wanted == name);
    let scenarios: Vec<_> = SCENARIOS.iter().filter(|(name, _)| chosen(name)).collect();
    if scenarios.is_empty() {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        eprintln!("no scenario of this name; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let mut failed = false;
    for (name, scenario) in scenarios {
        failed |= !soak(name, *scenario, arguments.from, arguments.seeds);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn soak(name: &str, scenario: Scenario, first: u64, count: u64) -> bool {
    let (messages, datagrams, millis) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let add = |_, report: &Report| {
        messages.fetch_add(report.sums.taken, Ordering::Relaxed);
        datagrams.fetch_add(report.datagrams, Ordering::Relaxed);
        millis.fetch_add(report.took.as_millis() as u64, Ordering::Relaxed);
    };
    let failures = run_many(scenario, first, count, &add);
    println!(
        "{name}: seeds {first}..{}, {} messages, {} datagrams, {} s of virtual time, {} failures",
        first + count,
        messages.into_inner(),
        datagrams.into_inner(),
        millis.into_inner() / 1_000,
        failures.len()
    );
    for failure in &failures {
        println!("  seed {}: {}", failure.seed, failure.what);
        println!(
            "    repeat: cargo run --release -p cubed-sim --bin soak -- --scenario {name} --from {} --seeds 1",
            failure.seed
        );
    }
    failures.is_empty()
}
