//! Runs what measures messages per second.

use super::{client_settings, finish, has_baseline, plan, say, say_counters};
use crate::{
    ceiling::Ceiling,
    cli::{CeilingArgs, ThroughputArgs},
    error::Result,
    machine::{self, Cores},
    node::{bodies::Mode, throughput::CubedThroughput},
    pairs::{Plan, measure_throughput},
    report::Report,
    subject::{ThroughputSlice, ThroughputSubject},
};

pub(super) fn run(args: &ThroughputArgs) -> Result<()> {
    let with_baseline = !args.no_baseline && has_baseline(&args.connect);
    let plan = plan(args.seconds, with_baseline)?;
    say(&machine::describe(Cores::choose()?));
    let settings =
        client_settings(&args.connect, args.machine, CubedThroughput::SPIN, args.datagram);
    let mut subject = CubedThroughput::start(args.size, args.mode, &settings)?;
    let mut ceiling =
        with_baseline.then(|| Ceiling::start(args.size, args.datagram.into())).transpose()?;
    let baseline = ceiling.as_mut().map(|ceiling| ceiling as &mut dyn ThroughputSubject);
    let run = measure_throughput(plan, &mut subject, baseline, say_throughput)?;
    if args.counters {
        say_counters(subject.client())?;
    }
    if args.mode == Mode::Acked {
        say("by the tags: every message delivered once, 0 lost, 0 duplicated");
    }
    let report = Report::of_throughput("throughput", args.size, args.datagram.into(), &run);
    finish(&report.on(subject.client().machine()), &args.output)
}

pub(super) fn run_ceiling(args: &CeilingArgs) -> Result<()> {
    let plan = Plan::alone(args.seconds)?;
    say(&machine::describe(Cores::choose()?));
    let mut ceiling = Ceiling::start(args.size, args.datagram)?;
    say(&format!("window of {} datagrams is the fastest", ceiling.window()));
    let run = measure_throughput(plan, &mut ceiling, None, say_throughput)?;
    finish(&Report::of_ceiling(args.size, args.datagram, &run), &args.output)
}

/// Prints one slice of throughput.
pub fn say_throughput(name: &str, slice: &ThroughputSlice) {
    let rate = slice.messages_per_second() / 1e6;
    let gbps = slice.goodput_gbps();
    let (seconds, lost) = (slice.seconds, slice.lost());
    say(&format!("{name:<8} {seconds:.2} s: {rate:.3} M msg/s, {gbps:.2} Gb/s, {lost} lost"));
}
