//! Runs `latency --one-way`: from when a message was due to its handler at the peer, loaded and unloaded in turn, beside plain UDP on
//! the same schedules.
//!
//! Sender and receiver read one clock, so both must run on this machine.

use std::time::Duration;

use cubed::SpinPolicy;
use serde_json::json;

use super::{client_settings, finish, has_raw_udp, say_counters, tell, watch};
use crate::{
    cli::{ConnectArgs, LatencyArgs},
    error::{BenchError, Result},
    goal,
    meter::Meter,
    node::{
        bodies::Mode,
        latency::CubedEcho,
        load::{Load, Pace},
        loader::{LoadSlice, Loader},
    },
    pairs::Plan,
    preempted::Preempted,
    raw_one_way::{RawOneWay, RawSlice, stalls::Stalls},
    report::{ONE_WAY, Report, Slice},
    stats::{LatencySummary, median, spread},
    subject::{LatencySlice, shortfall},
};

/// Messages per second of the unloaded slices: each finds the path empty.
const UNLOADED_RATE: f64 = 1_000.0;

/// One loaded message of so many is timed.
const STAMP_EVERY: u64 = 64;

/// What both shards may wait for their cores together, in percent of the time: whoever handles half of what it can makes good for a wait in
/// as long again, so with more a hundredth of the messages is late for that.
const PREEMPTED_PERCENT_MAX: f64 = 0.5;

/// What is run in turn.
struct Subjects {
    nodes: Loader,
    raw: Option<RawOneWay>,
    slice: Duration,
    meter: Option<Meter>,
}

/// Times of one subject in one round.
struct Times {
    loaded: LatencySlice,
    unloaded: LatencySlice,
    at_load: LatencySummary,
    at_rest: LatencySummary,
}

/// What one round gave.
struct Round {
    saturation: Option<f64>,
    planned: f64,
    delivered: f64,
    own: Times,
    /// What sender and receiver waited for their cores in the loaded slice.
    preempted: [Preempted; 2],
    raw: Option<(Times, [Stalls; 2])>,
}

pub(super) fn run(args: &LatencyArgs) -> Result<()> {
    check_one_clock(&args.nodes.connect)?;
    if !(args.load > 0.0 && args.load <= 1.0) {
        return Err(BenchError::Argument(format!(
            "--load {}: above 0 and up to 1, a part of the saturation rate",
            args.load
        )));
    }
    let plan = Plan::pairs(args.seconds)?;
    let spin = if args.spin { CubedEcho::spin(true, None)? } else { SpinPolicy::Adaptive };
    let nodes = Loader::start(&client_settings(&args.nodes, spin))?;
    let raw = raw_udp(args)?;
    let monitor = watch("one-way", plan.length(), &args.nodes.output)?;
    let mut subjects = Subjects { nodes, raw, slice: plan.slice, meter: monitor.meter() };
    let mut rounds = Vec::new();
    for index in 0..plan.count {
        let round = subjects.round(args, index % 2 == 0)?;
        round.say();
        rounds.push(round);
    }
    let client = subjects.nodes.client();
    if args.nodes.counters {
        say_counters(client)?;
    }
    let mut report = report(args, &rounds);
    let planned = rounds.iter().map(|round| round.planned * plan.slice.as_secs_f64()).sum();
    let sent = report.sent.unwrap_or_default();
    report.warnings.extend(shortfall(planned, sent).map(|what| format!("late: {what}")));
    report.intervals = monitor.finish();
    finish(&report.by(client)?.waiting(spin), &args.nodes.output)
}

/// An error unless both nodes read this machine's clock.
pub(super) fn check_one_clock(connect: &ConnectArgs) -> Result<()> {
    if connect.connect.is_none_or(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    Err(BenchError::Argument(
        "--connect to another machine: times one way need one clock for both nodes".into(),
    ))
}

/// Plain UDP on the same schedules, where it can be like it.
fn raw_udp(args: &LatencyArgs) -> Result<Option<RawOneWay>> {
    let datagram_bytes = usize::from(args.nodes.datagram);
    if args.no_baseline || !has_raw_udp(args.nodes.machine) {
        return Ok(None);
    }
    if args.size > datagram_bytes {
        tell("no plain UDP beside it: a message is longer than a datagram");
        return Ok(None);
    }
    RawOneWay::start(args.size, datagram_bytes, args.spin).map(Some)
}

impl Subjects {
    /// Runs all once: the unloaded slices first or last, and plain UDP the other way round.
    fn round(&mut self, args: &LatencyArgs, unloaded_first: bool) -> Result<Round> {
        let load = Load { stamp_every: Some(STAMP_EVERY), ..Load::fixed(args.size, Mode::Acked) };
        let saturation = match args.rate {
            None => Some(self.nodes.run(
                &Load { stamp_every: None, ..load.clone() },
                self.slice,
                None,
            )?),
            Some(_) => None,
        };
        let saturation = saturation.map(|slice| slice.throughput.messages_per_second());
        let planned = args.rate.or(saturation.map(|rate| rate * args.load)).unwrap_or_default();
        let busy = load.at(Pace::Rate(planned));
        let idle = Load { stamp_every: Some(1), ..load.at(Pace::Rate(UNLOADED_RATE)) };
        let (busy, idle) = if unloaded_first {
            let idle = self.nodes.run(&idle, self.slice, None)?;
            (self.nodes.run(&busy, self.slice, self.meter.as_ref())?, idle)
        } else {
            let busy = self.nodes.run(&busy, self.slice, self.meter.as_ref())?;
            (busy, self.nodes.run(&idle, self.slice, None)?)
        };
        let delivered = busy.throughput.messages_per_second();
        let own = Times::of(latency(&busy), latency(&idle))?;
        let raw = self.raw_round(planned, unloaded_first)?;
        let preempted = [busy.sender_preempted, busy.receiver_preempted];
        Ok(Round { saturation, planned, delivered, own, preempted, raw })
    }

    fn raw_round(&mut self, rate: f64, loaded_first: bool) -> Result<Option<(Times, [Stalls; 2])>> {
        let Some(raw) = &mut self.raw else { return Ok(None) };
        let (busy, idle): (RawSlice, RawSlice) = if loaded_first {
            let busy = raw.run(rate, STAMP_EVERY, self.slice)?;
            (busy, raw.run(UNLOADED_RATE, 1, self.slice)?)
        } else {
            let idle = raw.run(UNLOADED_RATE, 1, self.slice)?;
            (raw.run(rate, STAMP_EVERY, self.slice)?, idle)
        };
        let stalls = [
            busy.sender_stalls.plus(idle.sender_stalls),
            busy.receiver_stalls.plus(idle.receiver_stalls),
        ];
        Ok(Some((Times::of(busy.latency, idle.latency)?, stalls)))
    }
}

impl Times {
    fn of(loaded: LatencySlice, unloaded: LatencySlice) -> Result<Self> {
        let summaries =
            LatencySummary::of(&loaded.histogram).zip(LatencySummary::of(&unloaded.histogram));
        let (at_load, at_rest) = summaries.ok_or_else(|| {
            BenchError::Corrupt("a slice without one message that was timed".into())
        })?;
        Ok(Self { loaded, unloaded, at_load, at_rest })
    }

    /// p99 under load over the unloaded p50.
    fn ratio(&self) -> f64 {
        self.at_load.p99 / self.at_rest.p50
    }

    fn text(&self) -> String {
        let (at_load, at_rest) = (self.at_load, self.at_rest);
        format!(
            "p50 {:.1} us, p99 {:.1} us; unloaded p50 {:.1} us",
            at_load.p50, at_load.p99, at_rest.p50
        )
    }
}

impl Round {
    fn say(&self) {
        let Self { planned, delivered, .. } = self;
        tell(&format!("planned {planned:.0}/s, came {delivered:.0}/s: {}", self.own.text()));
        if let Some((raw, stalls)) = &self.raw {
            let stalled = stalls.map(|stalls| stalls.part().unwrap_or_default() * 100.0);
            tell(&format!(
                "plain UDP at that rate: {}; its sides stood still for {:.1} and {:.1} % of the time",
                raw.text(),
                stalled[0],
                stalled[1]
            ));
        }
    }

    /// A figure of Cubed over the same one of plain UDP.
    fn ratio_to_raw(&self, figure: fn(&Times) -> f64) -> Option<f64> {
        let (raw, _) = self.raw.as_ref()?;
        Some(figure(&self.own) / figure(raw))
    }
}

/// Times of a slice with its counts.
pub(super) fn latency(slice: &LoadSlice) -> LatencySlice {
    LatencySlice {
        histogram: slice.latencies.clone(),
        seconds: slice.throughput.seconds,
        sent: slice.throughput.sent,
        lost: slice.throughput.lost(),
    }
}

fn report(args: &LatencyArgs, rounds: &[Round]) -> Report {
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let ratios = of(|round| round.own.ratio());
    let saturations: Vec<f64> = rounds.iter().filter_map(|round| round.saturation).collect();
    let loaded = sum(rounds.iter().map(|round| &round.own.loaded));
    let unloaded = sum(rounds.iter().map(|round| &round.own.unloaded));
    let mut report = Report::unmeasured("latency", args.size).labelled("one-way");
    report.times = ONE_WAY;
    report.seconds = loaded.seconds;
    report.messages_per_second = median(&of(|round| round.delivered));
    report.sent = Some(loaded.sent);
    report.delivered = Some(loaded.sent - loaded.lost);
    report.lost = Some(loaded.lost);
    report.latency_us = LatencySummary::of(&loaded.histogram);
    report.distribute("one-way", &loaded);
    report.distribute("one-way unloaded", &unloaded);
    report.ratio_spread = spread(&ratios);
    report.slices = rounds.iter().map(slice).collect();
    let ratio = median(&ratios);
    let report = report
        .with("planned_messages_per_second", median(&of(|round| round.planned)))
        .with("saturation_messages_per_second", median(&saturations))
        .with("rate_per_second", args.rate)
        .with("load", args.rate.is_none().then_some(args.load))
        .with("stamped_1_of", STAMP_EVERY)
        .with("unloaded_us", json!(LatencySummary::of(&unloaded.histogram)))
        .with("ratio_p99_to_unloaded_p50", ratio)
        .with("ratio_p99_to_unloaded_p50_spread", spread(&ratios))
        .with("goal_p99_to_unloaded_p50", ratio.map(|ratio| goal::ONE_WAY.verdict(ratio)));
    beside_raw_udp(beside_others(report, rounds), rounds)
}

/// Adds what else ran on the cores in the loaded slices.
fn beside_others(mut report: Report, rounds: &[Round]) -> Report {
    let [sender, receiver] = [0, 1].map(|side: usize| {
        let all = rounds.iter().map(|round| round.preempted[side]);
        all.fold(Preempted::default(), Preempted::plus).part().map(|part| part * 100.0)
    });
    let both = sender.unwrap_or_default() + receiver.unwrap_or_default();
    if both > PREEMPTED_PERCENT_MAX {
        report.warnings.push(format!(
            "other tasks: something else ran on the shards' cores for {:.2} % (sender) and {:.2} % (receiver) of the loaded time, and p99 counts that; leave it a core of its own",
            sender.unwrap_or_default(),
            receiver.unwrap_or_default(),
        ));
    }
    report.with("sender_preempted_percent", sender).with("receiver_preempted_percent", receiver)
}

/// Adds what plain UDP had on the same schedules, and what that says of the machine.
fn beside_raw_udp(mut report: Report, rounds: &[Round]) -> Report {
    let raws: Vec<_> = rounds.iter().filter_map(|round| round.raw.as_ref()).collect();
    let Some(ratio) = median(&raws.iter().map(|(raw, _)| raw.ratio()).collect::<Vec<_>>()) else {
        return report;
    };
    let loaded = sum(raws.iter().map(|(raw, _)| &raw.loaded));
    let unloaded = sum(raws.iter().map(|(raw, _)| &raw.unloaded));
    let [sender, receiver] = [0, 1].map(|side: usize| {
        raws.iter().fold(Stalls::default(), |sum, (_, stalls)| sum.plus(stalls[side]))
    });
    let to_raw = |figure: fn(&Times) -> f64| {
        rounds.iter().filter_map(|round| round.ratio_to_raw(figure)).collect::<Vec<_>>()
    };
    let p50_ratios = to_raw(|times| times.at_load.p50);
    report.raw_latency_us = LatencySummary::of(&loaded.histogram);
    report.ratio_to_raw_p50 = median(&p50_ratios);
    report.ratio_spread = spread(&p50_ratios);
    report.distribute("raw UDP", &loaded);
    report.distribute("raw UDP unloaded", &unloaded);
    let percent = |stalls: Stalls| stalls.part().map(|part| part * 100.0);
    let longest_ms = sender.plus(receiver).longest_nanos as f64 / 1e6;
    if !goal::ONE_WAY.is_met(ratio) {
        report.warnings.push(format!(
            "machine: the p99 of plain UDP at this rate is {ratio:.1} times its own unloaded p50, so this p99 is the machine's; the loops of plain UDP stood still for {:.2} % (sender) and {:.2} % (receiver) of the time, {longest_ms:.1} ms at most",
            percent(sender).unwrap_or_default(),
            percent(receiver).unwrap_or_default(),
        ));
    }
    report
        .with("raw_lost", loaded.lost)
        .with("raw_unloaded_us", json!(LatencySummary::of(&unloaded.histogram)))
        .with("raw_ratio_p99_to_unloaded_p50", ratio)
        .with("ratio_to_raw_p90", median(&to_raw(|times| times.at_load.p90)))
        .with("ratio_to_raw_p99", median(&to_raw(|times| times.at_load.p99)))
        .with("ratio_to_raw_unloaded_p50", median(&to_raw(|times| times.at_rest.p50)))
        .with("sender_stalled_percent", percent(sender))
        .with("receiver_stalled_percent", percent(receiver))
        .with("stall_longest_ms", longest_ms)
}

fn slice(round: &Round) -> Slice {
    Slice {
        messages_per_second: Some(round.delivered),
        latency_us: Some(round.own.at_load),
        baseline_latency_us: round.raw.as_ref().map(|(raw, _)| raw.at_load),
        ..Slice::default()
    }
}

fn sum<'a>(slices: impl Iterator<Item = &'a LatencySlice>) -> LatencySlice {
    slices.fold(LatencySlice::empty(), |mut sum, slice| {
        sum.add(slice);
        sum
    })
}
