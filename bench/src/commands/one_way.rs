//! Runs `latency --one-way`: from when a message was due to its handler at the peer, loaded and unloaded in turn.
//!
//! Sender and receiver read one clock, so both must run on this machine.

use cubed::SpinPolicy;
use serde_json::json;

use super::{client_settings, finish, say_counters, tell, watch};
use crate::{
    cli::{ConnectArgs, LatencyArgs},
    error::{BenchError, Result},
    node::{
        bodies::Mode,
        latency::CubedEcho,
        load::{Load, Pace},
        loader::{LoadSlice, Loader},
    },
    pairs::Plan,
    report::{ONE_WAY, Report},
    stats::{LatencySummary, median, spread},
    subject::{LatencySlice, shortfall},
};

/// Messages per second of the unloaded slices: each finds the path empty.
const UNLOADED_RATE: f64 = 1_000.0;

/// One loaded message of so many is timed.
const STAMP_EVERY: u64 = 64;

/// What one round gave.
struct Round {
    saturation: Option<f64>,
    planned: f64,
    delivered: f64,
    unloaded_p50: f64,
    loaded_p99: f64,
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
    let settings = client_settings(&args.nodes, spin);
    let nodes = Loader::start(&settings)?;
    let load = Load { stamp_every: Some(STAMP_EVERY), ..Load::fixed(args.size, Mode::Acked) };
    let monitor = watch("one-way", plan.length(), &args.nodes.output)?;
    let meter = monitor.meter();
    let (mut loaded, mut unloaded) = (LatencySlice::empty(), LatencySlice::empty());
    let mut rounds = Vec::new();
    for index in 0..plan.count {
        let saturation = match args.rate {
            None => Some(nodes.run(&Load::fixed(args.size, Mode::Acked), plan.slice, None)?),
            Some(_) => None,
        };
        let saturation = saturation.map(|slice| slice.throughput.messages_per_second());
        let planned = args.rate.or(saturation.map(|rate| rate * args.load)).unwrap_or_default();
        let busy = load.at(Pace::Rate(planned));
        let idle = Load { stamp_every: Some(1), ..load.at(Pace::Rate(UNLOADED_RATE)) };
        let (busy, idle) = if index % 2 == 0 {
            let idle = nodes.run(&idle, plan.slice, None)?;
            (nodes.run(&busy, plan.slice, meter.as_ref())?, idle)
        } else {
            let busy = nodes.run(&busy, plan.slice, meter.as_ref())?;
            (busy, nodes.run(&idle, plan.slice, None)?)
        };
        let (Some(at_load), Some(at_rest)) =
            (LatencySummary::of(&busy.latencies), LatencySummary::of(&idle.latencies))
        else {
            return Err(BenchError::Corrupt("a slice without one message that was timed".into()));
        };
        let delivered = busy.throughput.messages_per_second();
        tell(&format!(
            "planned {planned:.0}/s, came {delivered:.0}/s: p50 {:.1} us, p99 {:.1} us; unloaded p50 {:.1} us",
            at_load.p50, at_load.p99, at_rest.p50
        ));
        loaded.add(&latency(&busy));
        unloaded.add(&latency(&idle));
        let (unloaded_p50, loaded_p99) = (at_rest.p50, at_load.p99);
        rounds.push(Round { saturation, planned, delivered, unloaded_p50, loaded_p99 });
    }
    if args.nodes.counters {
        say_counters(nodes.client())?;
    }
    let mut report = report(args, &rounds, &loaded, &unloaded);
    let planned = rounds.iter().map(|round| round.planned * plan.slice.as_secs_f64()).sum();
    report.warnings.extend(shortfall(planned, loaded.sent).map(|what| format!("late: {what}")));
    report.intervals = monitor.finish();
    finish(&report.by(nodes.client())?.waiting(spin), &args.nodes.output)
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

/// Times of a slice with its counts.
pub(super) fn latency(slice: &LoadSlice) -> LatencySlice {
    LatencySlice {
        histogram: slice.latencies.clone(),
        seconds: slice.throughput.seconds,
        sent: slice.throughput.sent,
        lost: slice.throughput.lost(),
    }
}

fn report(
    args: &LatencyArgs,
    rounds: &[Round],
    loaded: &LatencySlice,
    unloaded: &LatencySlice,
) -> Report {
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let ratios = of(|round| round.loaded_p99 / round.unloaded_p50);
    let saturations: Vec<f64> = rounds.iter().filter_map(|round| round.saturation).collect();
    let mut report = Report::unmeasured("latency", args.size).labelled("one-way");
    report.times = ONE_WAY;
    report.seconds = loaded.seconds;
    report.messages_per_second = median(&of(|round| round.delivered));
    report.sent = Some(loaded.sent);
    report.delivered = Some(loaded.sent - loaded.lost);
    report.lost = Some(loaded.lost);
    report.latency_us = LatencySummary::of(&loaded.histogram);
    report.distribute("one-way", loaded);
    report.distribute("one-way unloaded", unloaded);
    report.ratio_spread = spread(&ratios);
    report
        .with("planned_messages_per_second", median(&of(|round| round.planned)))
        .with("saturation_messages_per_second", median(&saturations))
        .with("rate_per_second", args.rate)
        .with("load", args.rate.is_none().then_some(args.load))
        .with("stamped_1_of", STAMP_EVERY)
        .with("unloaded_us", json!(LatencySummary::of(&unloaded.histogram)))
        .with("ratio_p99_to_unloaded_p50", median(&ratios))
}
