//! Round trips while peers are added and forgotten at a rate, beside the same round trips in peace: slices in turn.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cubed::{Node, PublicKey};
use serde_json::json;

use super::{args::ChurnArgs, guest, sheet::Sheet};
use crate::{
    cli::ConnectArgs,
    commands::{DATAGRAM_BYTES, say_latency},
    error::{BenchError, Result},
    node::{client::ClientSettings, latency::CubedEcho},
    pairs::Plan,
    stats::{LatencySummary, latency_histogram, median, spread},
    subject::{LatencySlice, LatencySubject},
};

/// Body bytes of a question.
const SIZE_BYTES: usize = 64;

/// How often the churn looks whether its slice is over while nothing is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Keys that are used in turn.
const KEYS: u64 = 2_000;

/// A peer is forgotten when so many more have been added.
const STAY: usize = 1_000;

/// Peers with an address at which nobody is.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7530);

/// Runs the command.
///
/// # Errors
///
/// Those of the nodes.
pub fn run(args: &ChurnArgs) -> Result<Sheet> {
    let plan = Plan::pairs(args.seconds)?;
    let connect = ConnectArgs { connect: None, peer: None, key: None };
    let settings = ClientSettings {
        served: None,
        key_file: connect.key.as_deref(),
        spin: CubedEcho::spin(args.spin, None)?,
        datagram_bytes: DATAGRAM_BYTES,
        flows: 1,
        machine: args.machine,
    };
    let mut echo = CubedEcho::start(SIZE_BYTES, None, &settings)?;
    let keys: Vec<_> = (0..KEYS).map(|number| guest::identity(number).public_key()).collect();
    let mut churn = Churn { keys, at: 0, changes: 0, late: 0 };
    let mut slices = [Vec::new(), Vec::new()];
    for pair in 0..plan.count {
        for turn in 0..2 {
            // Who begins changes with each pair.
            let with = (pair + turn) % 2 == 1;
            let slice = if with {
                churn.beside(&mut echo, args.rate, plan.slice)?
            } else {
                echo.run_slice(plan.slice)?
            };
            say_latency(if with { "churn" } else { "peace" }, &slice);
            slices[usize::from(with)].push(slice);
        }
    }
    let [peace, churned] = slices;
    let mut sheet = Sheet::new("scale churn");
    let ratios: Vec<_> =
        churned.iter().zip(&peace).filter_map(|(c, p)| Some(p99(c)? / p99(p)?)).collect();
    add(&mut sheet, "none", &peace, (0, 0), &[]);
    add(&mut sheet, "added and forgotten", &churned, (churn.changes, churn.late), &ratios);
    Ok(sheet)
}

fn p99(slice: &LatencySlice) -> Option<f64> {
    LatencySummary::of(&slice.histogram).map(|summary| summary.p99)
}

fn add(
    sheet: &mut Sheet,
    what: &str,
    slices: &[LatencySlice],
    (changes, late): (u64, u64),
    ratios: &[f64],
) {
    let mut all = latency_histogram();
    for slice in slices {
        all.add(&slice.histogram).expect("histograms of the same bounds add up");
    }
    let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
    let summary = LatencySummary::of(&all);
    sheet.add(vec![
        ("peers", json!(what)),
        ("changes_per_second", json!(changes as f64 / seconds)),
        ("late", json!(late)),
        ("round_trips", json!(all.len())),
        ("lost", json!(slices.iter().map(|slice| slice.lost).sum::<u64>())),
        ("p50_us", json!(summary.map(|summary| summary.p50))),
        ("p99_us", json!(summary.map(|summary| summary.p99))),
        ("p99_ratio", json!(median(ratios))),
        ("spread", json!(spread(ratios))),
    ]);
}

/// Peers that come and go at the measuring node, which has no traffic with them.
struct Churn {
    keys: Vec<PublicKey>,
    at: usize,
    /// Peers added; as many are forgotten.
    changes: u64,
    /// Those that were more than 100 ms late: the machine could not keep the rate.
    late: u64,
}

impl Churn {
    /// A slice of round trips with the churn beside it.
    fn beside(
        &mut self,
        echo: &mut CubedEcho,
        rate: f64,
        duration: Duration,
    ) -> Result<LatencySlice> {
        let node = echo.client().node().clone();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let churning = scope.spawn(|| self.run(&node, rate, &stop));
            let slice = echo.run_slice(duration);
            stop.store(true, Ordering::Relaxed);
            churning.join().map_err(|_| BenchError::Machine("the churn panicked".into()))??;
            slice
        })
    }

    fn run(&mut self, node: &Node, rate: f64, stop: &AtomicBool) -> Result<()> {
        let begun = Instant::now();
        for step in 0_u64.. {
            let due = Duration::from_secs_f64(step as f64 / rate);
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let early = due.saturating_sub(begun.elapsed());
                if early.is_zero() {
                    break;
                }
                thread::sleep(early.min(LOOK_INTERVAL));
            }
            self.late += u64::from(begun.elapsed() > due + Duration::from_millis(100));
            self.change(node)?;
        }
        Ok(())
    }

    fn change(&mut self, node: &Node) -> Result<()> {
        let count = self.keys.len();
        let added = node.add_peer(self.keys[self.at % count], &[NOWHERE]);
        added.map_err(|error| BenchError::Machine(error.to_string()))?;
        node.forget_peer(self.keys[(self.at + count - STAY) % count]);
        self.at += 1;
        self.changes += 1;
        Ok(())
    }
}
