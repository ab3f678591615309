//! `cubed-relay`: UDP between clients and one node, impaired as its flags say.
//!
//! Prints where it listens as one line of JSON. Lines on standard input: `cut`, `open`, `rebind`, `counts`; each is
//! answered with the counts so far. Ends with them when standard input closes.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::net::SocketAddr;

use clap::Parser;
use cubed_sockets::relay::Relay;
use cubed_sockets::relay::impairment::Plan;

/// Forwards UDP both ways between its clients and one node, and impairs it
#[derive(Parser)]
#[command(name = "cubed-relay")]
struct Cli {
    /// The node to forward to
    #[arg(long)]
    to: SocketAddr,
    /// Decides what happens to each datagram
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    plan: Plan,
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let relay = Relay::start(cli.to, cli.plan, cli.seed)?;
    println!("{}", serde_json::json!({ "address": relay.local_addr() }));
    for order in stdin().lock().lines() {
        match order?.as_str() {
            "cut" => relay.set_cut(true),
            "open" => relay.set_cut(false),
            "rebind" => relay.rebind()?,
            "counts" => {}
            other => return Err(format!("{other:?}: say cut, open, rebind or counts").into()),
        }
        println!("{}", serde_json::to_string(&relay.counts())?);
    }
    println!("{}", serde_json::to_string(&relay.counts())?);
    Ok(())
}
