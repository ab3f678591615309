//! Round trips while peers are added and forgotten at a rate, beside the same round trips in peace and beside a control.
//!
//! Slices of the three follow each other in turn, and who begins changes with each round. The *control* is the same thread, which
//! wakes at the same rate and does nothing at the node. Where every core has a shard that polls, a thread that wakes takes a core
//! from one of them, whatever it does then: the control is what that costs, and the churn over the control is what is the node's.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use cubed::{Node, PublicKey};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{args::ChurnArgs, guest, sheet::Sheet};
use crate::{
    cli::ConnectArgs,
    commands::{DATAGRAM_BYTES, say_latency},
    error::{BenchError, Result},
    node::{client::ClientSettings, latency::CubedEcho},
    pairs::Plan,
    stats::{LatencySummary, latency_histogram, median, record_latency, spread},
    subject::{LatencySlice, LatencySubject},
};

/// Body bytes of a question.
const SIZE_BYTES: usize = 64;

/// How often the thread looks whether its slice is over while nothing is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Keys that are used in turn.
const KEYS: u64 = 2_000;

/// A peer is forgotten when so many more have been added.
const STAY: usize = 1_000;

/// Peers with an address at which nobody is.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7530);

/// Later than this the machine could not keep the rate.
const LATE_FROM: Duration = Duration::from_millis(100);

/// What goes on beside the round trips of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Nothing.
    Peace,
    /// A thread that wakes.
    Control,
    /// A thread that wakes, adds a peer and forgets one.
    Churn,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Peace, Self::Control, Self::Churn];

    /// The three of one round, in their order.
    fn round(number: u32) -> impl Iterator<Item = Self> {
        let first = number as usize % Self::ALL.len();
        Self::ALL.into_iter().cycle().skip(first).take(Self::ALL.len())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Peace => "peace",
            Self::Control => "control",
            Self::Churn => "churn",
        }
    }
}

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
    let mut churn = Churn::new();
    let mut runs = Beside::ALL.map(Run::new);
    for round in 0..plan.count {
        for beside in Beside::round(round) {
            let run = &mut runs[beside as usize];
            let slice = run.measure(&mut echo, &mut churn, args.rate, plan.slice)?;
            say_latency(beside.name(), &slice);
            run.slices.push(slice);
        }
    }
    let [peace, control, _] = &runs;
    let mut sheet = Sheet::new("scale churn");
    for run in &runs {
        run.add_to(&mut sheet, peace, control);
    }
    Ok(sheet)
}

/// What was measured beside one thing.
struct Run {
    beside: Beside,
    slices: Vec<LatencySlice>,
    beat: Beat,
    /// Time of each change at the calling thread, in ns: a peer added and one forgotten.
    changes: Histogram<u64>,
}

impl Run {
    fn new(beside: Beside) -> Self {
        let (slices, beat, changes) = (Vec::new(), Beat::default(), latency_histogram());
        Self { beside, slices, beat, changes }
    }

    /// Measures one slice with the thread beside it, if there is to be one.
    fn measure(
        &mut self,
        echo: &mut CubedEcho,
        churn: &mut Churn,
        rate: f64,
        duration: Duration,
    ) -> Result<LatencySlice> {
        let Self { beside, beat, changes, .. } = self;
        let node = echo.client().node().clone();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let thread = match beside {
                Beside::Peace => None,
                Beside::Control => Some(scope.spawn(|| beat.keep(rate, &stop, || Ok(())))),
                Beside::Churn => Some(scope.spawn(|| {
                    beat.keep(rate, &stop, || {
                        let begun = Instant::now();
                        churn.change(&node)?;
                        record_latency(changes, begun.elapsed().as_nanos() as u64);
                        Ok(())
                    })
                })),
            };
            let slice = echo.run_slice(duration);
            stop.store(true, Ordering::Relaxed);
            let ended = thread.map(ScopedJoinHandle::join);
            let panicked = |_| BenchError::Machine("the thread beside panicked".into());
            ended.transpose().map_err(panicked)?.transpose()?;
            slice
        })
    }

    /// Adds its row, with what its p99 is of those of `peace` and `control`, round by round.
    fn add_to(&self, sheet: &mut Sheet, peace: &Self, control: &Self) {
        let mut all = LatencySlice::empty();
        self.slices.iter().for_each(|slice| all.add(slice));
        let summary = LatencySummary::of(&all.histogram);
        let to_peace = self.over(peace, &[Beside::Control, Beside::Churn]);
        let to_control = self.over(control, &[Beside::Churn]);
        let change = LatencySummary::of(&self.changes);
        // Of what never ran the rate is 0.
        let per_second = |count: u64| count as f64 / self.beat.time.as_secs_f64().max(1e-9);
        sheet.add(vec![
            ("beside", json!(self.beside.name())),
            ("wakes_per_second", json!(per_second(self.beat.steps))),
            ("changes_per_second", json!(per_second(self.changes.len()))),
            ("late", json!(self.beat.late)),
            ("round_trips", json!(all.histogram.len())),
            ("lost", json!(all.lost)),
            ("p50_us", json!(summary.map(|summary| summary.p50))),
            ("p99_us", json!(summary.map(|summary| summary.p99))),
            ("p99_ratio_to_peace", figure(median, &to_peace)),
            ("spread_to_peace", figure(spread, &to_peace)),
            ("p99_ratio_to_control", figure(median, &to_control)),
            ("spread_to_control", figure(spread, &to_control)),
            ("change_p50_us", json!(change.map(|change| change.p50))),
        ]);
    }

    /// p99 over that of `other`, slice by slice; nothing unless this is one of `those`.
    fn over(&self, other: &Self, those: &[Beside]) -> Vec<f64> {
        if !those.contains(&self.beside) {
            return Vec::new();
        }
        let pairs = self.slices.iter().zip(&other.slices);
        pairs.filter_map(|(own, other)| Some(p99(own)? / p99(other)?)).collect()
    }
}

fn p99(slice: &LatencySlice) -> Option<f64> {
    LatencySummary::of(&slice.histogram).map(|summary| summary.p99)
}

fn figure(of: impl Fn(&[f64]) -> Option<f64>, ratios: &[f64]) -> Value {
    json!(of(ratios))
}

/// A thread that wakes at a rate.
#[derive(Debug, Default)]
struct Beat {
    steps: u64,
    /// Steps that were late by [`LATE_FROM`].
    late: u64,
    /// How long it has run: longer than slices, as it begins before their warm-up.
    time: Duration,
}

impl Beat {
    /// Sleeps until each step is due and takes it, until `stop`.
    fn keep(
        &mut self,
        rate: f64,
        stop: &AtomicBool,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        for number in 0_u64.. {
            let due = Duration::from_secs_f64(number as f64 / rate);
            loop {
                if stop.load(Ordering::Relaxed) {
                    self.time += begun.elapsed();
                    return Ok(());
                }
                let early = due.saturating_sub(begun.elapsed());
                if early.is_zero() {
                    break;
                }
                thread::sleep(early.min(LOOK_INTERVAL));
            }
            self.late += u64::from(begun.elapsed() > due + LATE_FROM);
            self.steps += 1;
            work()?;
        }
        Ok(())
    }
}

/// Peers that come and go at the measuring node, which has no traffic with them.
struct Churn {
    keys: Vec<PublicKey>,
    at: usize,
}

impl Churn {
    fn new() -> Self {
        let keys = (0..KEYS).map(|number| guest::identity(number).public_key());
        Self { keys: keys.collect(), at: 0 }
    }

    /// Adds the next peer and forgets the one that was added [`STAY`] changes before.
    fn change(&mut self, node: &Node) -> Result<()> {
        let count = self.keys.len();
        let added = node.add_peer(self.keys[self.at % count], &[NOWHERE]);
        added.map_err(|error| BenchError::Machine(error.to_string()))?;
        node.forget_peer(self.keys[(self.at + count - STAY) % count]);
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each of the three begins as often as the others, and ratios are of slices that were measured side by side.
    use super::*;

    fn run(beside: Beside, p99s_us: &[u64]) -> Run {
        let slice = |us: &u64| {
            let mut slice = LatencySlice::empty();
            record_latency(&mut slice.histogram, us * 1_000);
            slice.seconds = 1.0;
            slice
        };
        Run { slices: p99s_us.iter().map(slice).collect(), ..Run::new(beside) }
    }

    #[test]
    fn all_three_are_in_each_round_and_begin_in_turn() {
        let rounds: Vec<Vec<_>> = (0..4).map(|number| Beside::round(number).collect()).collect();
        for round in &rounds {
            assert!(Beside::ALL.iter().all(|beside| round.contains(beside)), "{round:?}");
            assert_eq!(round.len(), 3);
        }
        let first: Vec<_> = rounds.iter().map(|round| round[0]).collect();
        assert_eq!(first, [Beside::Peace, Beside::Control, Beside::Churn, Beside::Peace]);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let peace = run(Beside::Peace, &[10, 100, 10]);
        let control = run(Beside::Control, &[20, 200, 20]);
        let churn = run(Beside::Churn, &[30, 300, 30]);
        let mut sheet = Sheet::new("scale churn");
        for run in [&peace, &control, &churn] {
            run.add_to(&mut sheet, &peace, &control);
        }
        let rows = serde_json::to_value(&sheet).unwrap()["rows"].clone();
        let ratio = |row: usize, name: &str| {
            rows[row][name].as_f64().map(|ratio| (ratio * 100.0).round() / 100.0)
        };
        let of = |row| [ratio(row, "p99_ratio_to_peace"), ratio(row, "p99_ratio_to_control")];
        assert_eq!([of(0), of(1), of(2)], [[None; 2], [Some(2.0), None], [Some(3.0), Some(1.5)]]);
        assert!(ratio(2, "spread_to_control") < Some(0.02), "{rows}");
    }

    #[test]
    fn what_wakes_takes_its_steps_until_it_is_stopped() {
        let (mut beat, stop, mut steps) = (Beat::default(), AtomicBool::new(false), 0);
        let kept = beat.keep(10_000.0, &stop, || {
            steps += 1;
            stop.store(steps == 20, Ordering::Relaxed);
            Ok(())
        });
        assert!(kept.is_ok());
        assert_eq!((beat.steps, steps), (20, 20));
        // The last step was due after 19 intervals; later is possible, sooner is not.
        assert!(beat.time >= Duration::from_micros(1_900), "{beat:?}");
    }
}
