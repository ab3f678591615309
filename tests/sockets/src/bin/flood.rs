//! `cubed-flood`: floods a node on loopback (`attack`), or measures what that does to one (`measure`).
//!
//! Both print JSON: `attack` says `true` when it begins and what it sent when it ends; `measure` prints a table of its
//! slices and, on the last line, everything as one object.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use cubed::PublicKey;
use cubed_sockets::flood::{Flood, Kind};
use cubed_sockets::siege::{self, Outcome, Plan};

/// Floods a node on loopback, or measures what that does
#[derive(Parser)]
#[command(name = "cubed-flood")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends, from many sources, as fast as one core can
    Attack {
        /// Where to; on 127.0.0.0/8
        #[arg(long)]
        target: SocketAddr,
        /// The public key of the node there
        #[arg(long)]
        key: PublicKey,
        /// What to send
        #[arg(long, value_enum, default_value_t = Kind::Mixed)]
        kind: Kind,
        /// How long
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Datagrams a second, at most
        #[arg(long, default_value_t = f64::INFINITY)]
        rate: f64,
    },
    /// Floods a node of its own beside steady traffic, and a socket that discards, in turn
    Measure(Plan),
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Attack { target, key, kind, seconds, rate } => {
            let flood = Flood::new(target, key, kind, u64::from(std::process::id()))?;
            println!("true");
            let sent = flood.run(Duration::from_secs_f64(seconds), rate)?;
            println!("{}", serde_json::to_string(&sent)?);
        }
        Command::Measure(plan) => {
            let own = std::env::current_exe()?;
            let outcome = siege::run(&plan, own.parent().ok_or("no folder")?)?;
            print(&outcome);
            println!("{}", serde_json::to_string(&outcome)?);
        }
    }
    Ok(())
}

fn print(outcome: &Outcome) {
    println!(
        "| flood aimed at | flood, datagrams/s | messages/s | resident, KiB | new peer joined in | kernel drops |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let join = |ms: Option<f64>| ms.map_or("not in 10 s".to_owned(), |ms| format!("{ms:.0} ms"));
    for slice in &outcome.slices {
        println!(
            "| {} | {:.0} | {:.0} | {} | {} | {} |",
            if slice.is_attack { "the node" } else { "a socket that discards" },
            slice.flood_per_second,
            slice.messages_per_second,
            slice.resident_kib,
            join(slice.joined_ms),
            slice.kernel_drops,
        );
    }
    println!(
        "\nkept {:.2} of the rate; memory grew by {} KiB; the slowest new peer joined in {}",
        outcome.rate_kept,
        outcome.growth_kib,
        join(outcome.join_ms_max)
    );
}
