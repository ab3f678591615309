//! Runs `request`: replies per second with many requests outstanding.

use super::{
    client_settings, finish, has_baseline, has_raw_udp, plan, say_counters, say_throughput,
    throughput::say_ratio, watch,
};
use crate::{
    cli::RequestArgs, error::Result, node::requests::CubedRequests, pairs::measure_throughput,
    raw_echo::requests::RawRequests, report::Report, stats::LatencySummary,
    subject::ThroughputSubject,
};

/// What replies are compared with.
const RAW: &str = "plain UDP with as many questions outstanding";

pub(super) fn run(args: &RequestArgs) -> Result<()> {
    let with_baseline =
        !args.no_baseline && has_baseline(&args.nodes.connect) && has_raw_udp(args.nodes.machine);
    let plan = plan(args.seconds, with_baseline)?;
    let settings = client_settings(&args.nodes, CubedRequests::SPIN);
    let mut subject = CubedRequests::start(args.size, args.outstanding, &settings)?;
    let raw = with_baseline.then(|| RawRequests::start(args.size, args.outstanding));
    let mut raw = raw.transpose()?;
    let monitor = watch("request", plan.length(), &args.nodes.output)?;
    subject.watch(monitor.meter());
    let baseline = raw.as_mut().map(|raw| raw as &mut dyn ThroughputSubject);
    let run = measure_throughput(plan, &mut subject, baseline, say_throughput)?;
    if args.nodes.counters {
        say_counters(subject.client())?;
    }
    say_ratio(RAW, &run);
    let mut report = Report::of_throughput_beside("request", args.size, RAW, &run);
    report.distribute("request", subject.times());
    report.latency_us = LatencySummary::of(&subject.times().histogram);
    report.intervals = monitor.finish();
    let report = report.with("outstanding", args.outstanding);
    let report = report.with("answered_of_shards", subject.answered());
    finish(&report.by(subject.client())?.waiting(CubedRequests::SPIN), &args.nodes.output)
}
