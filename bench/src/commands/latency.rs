//! Runs what measures times.

use std::time::Duration;

use cubed::SpinPolicy;

use super::{client_settings, finish, has_baseline, one_way, plan, say_counters, tell, watch};
use crate::{
    cli::{LatencyArgs, RawLatencyArgs},
    error::{BenchError, Result},
    goal,
    node::latency::CubedEcho,
    pairs::{Plan, measure_latency},
    raw_echo::RawEcho,
    report::Report,
    stats::LatencySummary,
    subject::{LatencySlice, LatencySubject},
};

/// Rate of an open loop without `--rate`, per second: a pause of 500 us lets both sides fall asleep that are to.
const RATE_DEFAULT: f64 = 2_000.0;

/// Highest rate of an open loop, per second.
const RATE_MAX: f64 = 1e6;

pub(super) fn run(args: &LatencyArgs) -> Result<()> {
    if args.one_way {
        return one_way::run(args);
    }
    let with_baseline = !args.no_baseline && has_baseline(&args.nodes.connect);
    let plan = plan(args.seconds, with_baseline)?;
    let rate = (!args.closed).then(|| args.rate.unwrap_or(RATE_DEFAULT));
    let interval = rate.map(interval).transpose()?;
    let spin = CubedEcho::spin(args.spin, interval)?;
    let spins = spin != SpinPolicy::Never;
    let settings = client_settings(&args.nodes, spin);
    let mut subject = CubedEcho::start(args.size, interval, &settings)?;
    let mut raw =
        with_baseline.then(|| RawEcho::start(args.size, args.spin, interval)).transpose()?;
    tell(&match rate {
        None => format!("request and reply in turn, {}", wait_mode(spins)),
        Some(rate) => format!("{rate} requests per second, {}", wait_mode(spins)),
    });
    let monitor = watch("latency", plan.length(), &args.nodes.output)?;
    subject.watch(monitor.meter());
    let baseline = raw.as_mut().map(|raw| raw as &mut dyn LatencySubject);
    let run = measure_latency(plan, &mut subject, baseline, say_latency)?;
    if args.nodes.counters {
        say_counters(subject.client())?;
    }
    let goal = if spins { goal::ECHO_SPINNING } else { goal::ECHO_PARKED };
    let goal = args.closed.then_some(goal);
    let mut report = Report::of_latency("latency", args.size, &run, goal);
    report.intervals = monitor.finish();
    report.detail("rate_per_second", rate);
    report.detail("answered_of_shards", subject.answered());
    finish(&report.by(subject.client())?.waiting(spin), &args.nodes.output)
}

pub(super) fn run_raw(args: &RawLatencyArgs) -> Result<()> {
    let plan = Plan::alone(args.seconds)?;
    let mut echo = RawEcho::start(args.size, args.spin, None)?;
    tell(&format!("plain UDP echo, {}", wait_mode(echo.spins())));
    let monitor = watch("raw-latency", plan.length(), &args.output)?;
    echo.watch(monitor.meter());
    let run = measure_latency(plan, &mut echo, None, say_latency)?;
    let mut report = Report::of_raw_latency(args.size, &run);
    report.intervals = monitor.finish();
    report.wait = Some(if echo.spins() { "spin" } else { "park" });
    finish(&report, &args.output)
}

fn interval(rate: f64) -> Result<Duration> {
    if rate <= RATE_MAX {
        return Ok(Duration::from_secs_f64(1.0 / rate));
    }
    Err(BenchError::Argument(format!("--rate {rate}: at most {RATE_MAX} questions a second")))
}

fn wait_mode(spins: bool) -> &'static str {
    if spins { "both sides spin" } else { "both sides park" }
}

/// Prints one slice of round trips.
pub fn say_latency(name: &str, slice: &LatencySlice) {
    let seconds = slice.seconds;
    let answers = slice.histogram.len();
    match LatencySummary::of(&slice.histogram) {
        Some(LatencySummary { p50, p99, .. }) => tell(&format!(
            "{name:<8} {seconds:.2} s: p50 {p50:.1} us, p99 {p99:.1} us of {answers} round trips"
        )),
        None => tell(&format!("{name:<8} {seconds:.2} s: no answer to {} questions", slice.sent)),
    }
}
