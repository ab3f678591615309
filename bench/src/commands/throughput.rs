//! Runs what measures messages per second.

use std::time::Duration;

use super::{client_settings, finish, has_baseline, plan, say_counters, tell, watch};
use crate::{
    ceiling::Ceiling,
    cli::{CeilingArgs, ThroughputArgs},
    error::Result,
    node::{bodies::Mode, throughput::CubedThroughput},
    pairs::{Plan, measure_throughput},
    report::Report,
    subject::{ThroughputSlice, ThroughputSubject},
};

/// Time in which windows grow and caches fill, not measured.
const WARM_UP: Duration = Duration::from_millis(200);

pub(super) fn run(args: &ThroughputArgs) -> Result<()> {
    let with_baseline = !args.no_baseline && has_baseline(&args.connect);
    let plan = plan(args.seconds, with_baseline)?;
    let settings =
        client_settings(&args.connect, args.machine, CubedThroughput::SPIN, args.datagram);
    let mut subject = CubedThroughput::start(args.size, args.mode, &settings)?;
    let mut ceiling =
        with_baseline.then(|| Ceiling::start(args.size, args.datagram.into())).transpose()?;
    subject.run_slice(WARM_UP)?;
    let monitor = watch("throughput", plan.length(), &args.output)?;
    subject.watch(monitor.meter());
    let baseline = ceiling.as_mut().map(|ceiling| ceiling as &mut dyn ThroughputSubject);
    let run = measure_throughput(plan, &mut subject, baseline, say_throughput)?;
    if args.counters {
        say_counters(subject.client())?;
    }
    if args.mode == Mode::Acked {
        tell("by the tags: every message delivered once, 0 lost, 0 duplicated");
    }
    let mut report = Report::of_throughput("throughput", args.size, args.datagram.into(), &run);
    report.intervals = monitor.finish();
    let strays = subject.client().strays()?;
    report.detail("strays_handed", strays.handed);
    report.detail("strays_dropped", strays.dropped);
    report.detail("misdelivered", strays.misdelivered);
    finish(&report.by(subject.client())?.waiting(CubedThroughput::SPIN), &args.output)
}

pub(super) fn run_ceiling(args: &CeilingArgs) -> Result<()> {
    let plan = Plan::alone(args.seconds)?;
    let mut ceiling = Ceiling::start(args.size, args.datagram)?;
    tell(&format!("window of {} datagrams is the fastest", ceiling.window()));
    let monitor = watch("ceiling", plan.length(), &args.output)?;
    ceiling.watch(monitor.meter());
    let run = measure_throughput(plan, &mut ceiling, None, say_throughput)?;
    let mut report = Report::of_ceiling(args.size, args.datagram, &run);
    report.intervals = monitor.finish();
    finish(&report, &args.output)
}

/// Prints one slice of throughput.
pub fn say_throughput(name: &str, slice: &ThroughputSlice) {
    let rate = slice.messages_per_second() / 1e6;
    let gbps = slice.goodput_gbps();
    let (seconds, lost) = (slice.seconds, slice.lost());
    tell(&format!("{name:<8} {seconds:.2} s: {rate:.3} M msg/s, {gbps:.2} Gb/s, {lost} lost"));
}
