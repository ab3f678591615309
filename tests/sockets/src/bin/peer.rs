//! `cubed-peer`: a receiving node that checks what it gets.
//!
//! Flow `checked` compares each message with the plan of its flags; flow `journal` appends the first 8 bytes of each
//! message to a file before its handler returns. Prints key and address as one line of JSON; `report` on standard input
//! is answered by a [`Report`]. Ends when standard input closes.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write, stdin};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use cubed::{Identity, Policy, Shard, block_on};
use cubed_sockets::nodes::node;
use cubed_sockets::report::{Hello, Report};
use cubed_sockets::traffic::{Account, Plan};

/// A node that receives and checks
#[derive(Clone, Parser)]
#[command(name = "cubed-peer")]
struct Cli {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Core to pin to
    #[arg(long)]
    core: Option<usize>,
    /// What is expected on flow `checked`
    #[command(flatten)]
    plan: Plan,
    /// File to append to from flow `journal`
    #[arg(long)]
    journal: Option<PathBuf>,
    /// How long the handler of flow `journal` takes for each message besides
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let account = Arc::new(Mutex::new(Account::new(&cli.plan)));
    let mut builder = node().identity(Identity::generate()?).listen(cli.listen);
    if let Some(core) = cli.core {
        builder = builder.shards([core]);
    }
    let (own, flags) = (Arc::clone(&account), cli.clone());
    let node = builder.policy(Policy::open()).start(move |shard: Shard| {
        let started = open_flows(&shard, &flags, &own).map_err(|error| error.to_string());
        async move { started }
    })?;
    let hello = Hello { key: node.public_key().to_string(), address: node.local_addr() };
    println!("{}", serde_json::to_string(&hello)?);
    for order in stdin().lock().lines() {
        if order? != "report" {
            return Err("say report".into());
        }
        let stats = block_on(node.stats())?;
        let flows = stats.shards.iter().flat_map(|shard| &shard.flows);
        let report = Report {
            verdict: account.lock().map_err(|_| "the handler panicked")?.verdict(),
            accepted: flows.map(|flow| flow.accepted).sum(),
            kernel_drops: stats.shards.iter().map(|shard| shard.driver.kernel_drops).sum(),
            counters: stats.shards[0]
                .counters
                .iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
        };
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn open_flows(
    shard: &Shard,
    flags: &Cli,
    account: &Arc<Mutex<Account>>,
) -> Result<(), Box<dyn Error>> {
    let account = Arc::clone(account);
    shard.flow("checked").handler(move |message, _| {
        account.lock().expect("no panic under the lock").take(message.body());
    })?;
    shard.flow("counted").handler(|_, _| {})?;
    if let Some(path) = &flags.journal {
        let mut journal = OpenOptions::new().create(true).append(true).open(path)?;
        let pause = Duration::from_micros(flags.pause_us);
        shard.flow("journal").handler(move |message, _| {
            consume(&mut journal, message.body());
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        })?;
    }
    Ok(())
}

/// One system call without a buffer, so that what was written outlives the process.
fn consume(journal: &mut File, body: &[u8]) {
    let number = body.first_chunk::<8>().expect("a number in front");
    journal.write_all(number).expect("room on the disk");
}
