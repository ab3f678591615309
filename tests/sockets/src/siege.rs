//! What a flood does to a node: the same traffic beside a flood aimed at the node and beside one aimed at a socket that
//! discards, in turn.
//!
//! Always holds: both kinds of slice have the same processes on the same cores, so that only what arrives differs; rates
//! are counted by the node that is flooded.

use std::error::Error;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use cubed::{Identity, Node, PublicKey, SendError, Shard, block_on};
use serde::{Deserialize, Serialize};

use crate::child::Process;
use crate::flood::{Kind, Sent};
use crate::nodes::node;
use crate::report::{Hello, Report};

/// How a siege is laid.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// What the flood consists of
    #[arg(long, value_enum, default_value_t = Kind::Mixed)]
    pub kind: Kind,
    /// Seconds of each slice
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Pairs of slices, one aimed at the node and one at a socket that discards
    #[arg(long, default_value_t = 4)]
    pub pairs: usize,
    /// Messages a second of the traffic; as many as possible without it
    #[arg(long)]
    pub messages_per_second: Option<f64>,
    /// Bytes of a message
    #[arg(long, default_value_t = 1_024)]
    pub bytes: usize,
    /// Datagrams a second of the flood; as many as possible without it
    #[arg(long, default_value_t = f64::INFINITY)]
    pub flood_rate: f64,
    /// Core of the flooded node
    #[arg(long)]
    pub node_core: Option<usize>,
    /// Core of the sending node and of the flood
    #[arg(long)]
    pub other_core: Option<usize>,
}

/// What one slice showed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// The flood was aimed at the node.
    pub is_attack: bool,
    /// Messages of the traffic that the node took, a second.
    pub messages_per_second: f64,
    /// Datagrams of the flood, a second.
    pub flood_per_second: f64,
    /// Different sources of the flood.
    pub sources: u64,
    /// Resident memory of the node at its end, KiB.
    pub resident_kib: u64,
    /// How long a new peer took to join during it, ms; none when it did not within 10 s.
    pub joined_ms: Option<f64>,
    /// Datagrams that the node's kernel dropped for want of socket buffer.
    pub kernel_drops: u64,
}

/// What a siege showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Slice by slice.
    pub slices: Vec<Slice>,
    /// The median over pairs of the rate under attack to that beside it.
    pub rate_kept: f64,
    /// The largest resident memory under attack less the largest before and beside it, KiB.
    pub growth_kib: i64,
    /// The longest that a new peer took to join under attack, ms; none when one did not.
    pub join_ms_max: Option<f64>,
    /// What the node counted.
    pub report: Report,
}

/// Runs a siege. The programs `cubed-peer` and `cubed-flood` are in `programs`.
///
/// # Errors
///
/// The system's, and a node's that does not start.
pub fn run(plan: &Plan, programs: &Path) -> Result<Outcome, Box<dyn Error>> {
    let mut siege = Siege::begin(plan, programs)?;
    let mut slices = vec![siege.slice(false)?];
    siege.warm = slices.pop().map_or(0, |warm: Slice| warm.resident_kib);
    for pair in 0..plan.pairs {
        // ABBA, so that a drift of the machine falls on both.
        for is_attack in [pair % 2 == 1, pair % 2 == 0] {
            slices.push(siege.slice(is_attack)?);
        }
    }
    let report = siege.node.ask("report");
    Ok(summary(slices, siege.warm, report))
}

struct Siege<'a> {
    plan: &'a Plan,
    programs: &'a Path,
    node: Process,
    key: PublicKey,
    address: SocketAddr,
    discarding: UdpSocket,
    /// Sends while it lives.
    sender: Node,
    /// Resident memory before the first attack, KiB.
    warm: u64,
}

impl<'a> Siege<'a> {
    fn begin(plan: &'a Plan, programs: &'a Path) -> Result<Self, Box<dyn Error>> {
        let core = plan.node_core.map(|core| core.to_string());
        let words: Vec<&str> = core.iter().flat_map(|core| ["--core", core.as_str()]).collect();
        let mut node = Process::start(&text(&programs.join("cubed-peer"))?, &words);
        let Hello { key, address } = node.answer();
        let key: PublicKey = key.parse()?;
        let discarding = UdpSocket::bind("127.0.0.1:0")?;
        let sender = start_traffic(plan, key, address)?;
        Ok(Self { plan, programs, node, key, address, discarding, sender, warm: 0 })
    }

    /// Floods for one slice; the rate is that of its middle, the flood being up before and until after.
    fn slice(&mut self, is_attack: bool) -> Result<Slice, Box<dyn Error>> {
        let seconds = self.plan.seconds;
        let target = if is_attack { self.address } else { self.discarding.local_addr()? };
        let mut flood = self.flood(target, seconds + 1.0)?;
        let _: bool = flood.answer();
        std::thread::sleep(Duration::from_millis(500));
        let before: Report = self.node.ask("report");
        let begun = Instant::now();
        let joined = self.join();
        std::thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(begun.elapsed()));
        let after: Report = self.node.ask("report");
        let taken = (after.accepted - before.accepted) as f64 / begun.elapsed().as_secs_f64();
        let resident_kib = resident_kib(self.node.id())?;
        let sent: Sent = flood.answer();
        block_on(self.sender.stats())?;
        Ok(Slice {
            is_attack,
            messages_per_second: taken,
            flood_per_second: sent.datagrams as f64 / sent.seconds,
            sources: sent.sources,
            resident_kib,
            joined_ms: joined.map(|joined| joined.as_secs_f64() * 1e3),
            kernel_drops: after.kernel_drops - before.kernel_drops,
        })
    }

    fn flood(&self, target: SocketAddr, seconds: f64) -> Result<Process, Box<dyn Error>> {
        let kind = serde_json::to_value(self.plan.kind)?;
        let kind = kind.as_str().ok_or("a word")?.to_owned();
        let mut words = vec!["attack".into(), "--target".into(), target.to_string()];
        words.extend(["--key".into(), self.key.to_string(), "--kind".into(), kind]);
        words.extend(["--seconds".into(), seconds.to_string()]);
        words.extend(["--rate".into(), self.plan.flood_rate.to_string()]);
        let program = text(&self.programs.join("cubed-flood"))?;
        let core = self.plan.other_core.map(|core| core.to_string());
        let Some(core) = core else {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            return Ok(Process::start(&program, &words));
        };
        let mut pinned = vec!["--cpu-list", core.as_str(), program.as_str()];
        pinned.extend(words.iter().map(String::as_str));
        Ok(Process::start("taskset", &pinned))
    }

    /// A peer that nobody has seen joins; how long it takes.
    fn join(&self) -> Option<Duration> {
        let begun = Instant::now();
        let (key, address) = (self.key, self.address);
        let builder = node().identity(Identity::generate().ok()?).listen("127.0.0.1:0");
        let builder = builder.peer(key, address).dial_timeout(Duration::from_secs(10));
        let node = builder.start(async |_: Shard| ()).ok()?;
        let joined = block_on(node.resolve(key, "counted").ok()?.connect()).is_ok();
        let took = begun.elapsed();
        node.shutdown();
        joined.then_some(took)
    }
}

impl Drop for Siege<'_> {
    fn drop(&mut self) {
        self.sender.shutdown();
    }
}

/// A node that sends to the flooded one until it is shut down.
fn start_traffic(plan: &Plan, key: PublicKey, address: SocketAddr) -> Result<Node, Box<dyn Error>> {
    let mut builder = node().identity(Identity::generate()?).listen("127.0.0.1:0");
    if let Some(core) = plan.other_core {
        builder = builder.shards([core]);
    }
    let (bytes, rate) = (plan.bytes, plan.messages_per_second.unwrap_or(f64::INFINITY));
    let node = builder.peer(key, address).start(move |shard: Shard| async move {
        if let Ok(to) = shard.resolve(key, "counted") {
            let (body, begun, mut sent) = (vec![7; bytes], shard.now(), 0_u64);
            loop {
                let elapsed = shard.now().saturating_duration_since(begun).as_secs_f64();
                let due = if rate.is_finite() { (elapsed * rate) as u64 } else { sent + 256 };
                while sent < due {
                    match to.try_send_acknowledged(&body) {
                        Ok(()) => sent += 1,
                        Err(SendError::Full) if to.ready().await.is_ok() => {}
                        Err(_) => return,
                    }
                }
                if rate.is_finite() {
                    shard.sleep(Duration::from_millis(1)).await;
                } else {
                    shard.yield_now().await;
                }
            }
        }
    })?;
    block_on(node.resolve(key, "counted")?.connect())?;
    Ok(node)
}

fn summary(slices: Vec<Slice>, warm_kib: u64, report: Report) -> Outcome {
    let attack = |slice: &&Slice| slice.is_attack;
    let rates = slices.chunks_exact(2).map(|pair| {
        let rate = |is_attack| {
            let found = pair.iter().find(|slice| slice.is_attack == is_attack);
            found.map_or(0.0, |slice| slice.messages_per_second)
        };
        rate(true) / rate(false)
    });
    let mut rates: Vec<f64> = rates.collect();
    rates.sort_by(f64::total_cmp);
    let most = slices.iter().filter(attack).map(|slice| slice.resident_kib).max();
    let joins: Option<Vec<f64>> =
        slices.iter().filter(attack).map(|slice| slice.joined_ms).collect();
    Outcome {
        rate_kept: rates.get(rates.len() / 2).copied().unwrap_or(0.0),
        growth_kib: most.unwrap_or(0) as i64 - warm_kib as i64,
        join_ms_max: joins.map(|joins| joins.into_iter().fold(0.0, f64::max)),
        slices,
        report,
    }
}

/// The resident memory of a process (`VmRSS` of `/proc/PID/status`), KiB.
fn resident_kib(process: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(words.parse()?)
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()))
}
