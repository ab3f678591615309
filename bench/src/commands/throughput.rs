//! Runs what measures messages per second.

use std::rc::Rc;

use super::{client_settings, finish, has_baseline, has_ceiling, plan, say_counters, tell, watch};
use crate::{
    ceiling::Ceiling,
    cli::{CeilingArgs, ThroughputArgs},
    error::Result,
    node::{
        bodies::Mode, client::ClientSettings, load::Load, loader::Loader, server::spin_for,
        throughput::CubedThroughput,
    },
    pairs::{Plan, ThroughputRun, measure_throughput},
    report::Report,
    subject::{ThroughputSlice, ThroughputSubject},
    workload::Sizes,
};

pub(super) fn run(args: &ThroughputArgs) -> Result<()> {
    if let Some(peers) = args.peers {
        return super::peers::run(args, peers);
    }
    let beside_flow = args.flows > 1;
    // One flow is measured between the same nodes, wherever they are and whatever they have.
    let with_baseline = !args.no_baseline
        && (beside_flow || has_baseline(&args.nodes.connect) && has_ceiling(args.nodes.machine));
    let plan = plan(args.seconds, with_baseline)?;
    let load = load(args);
    // Only the mean of a distribution can be compared with the ceiling, whose cost is linear in messages and bytes.
    let size = load.sizes.mean(load.seed).round() as usize;
    let spin = spin_for(args.spin_micros);
    let settings = client_settings(&args.nodes, spin);
    let loader = Rc::new(Loader::start(&ClientSettings { flows: args.flows, ..settings })?);
    let mut subject = CubedThroughput::new("cubed", &loader, load.clone());
    let mut one_flow = CubedThroughput::new(ONE_FLOW, &loader, Load { flows: 1, ..load.clone() });
    let mut ceiling = (with_baseline && !beside_flow)
        .then(|| Ceiling::start(size, args.nodes.datagram.into()))
        .transpose()?;
    let baseline: Option<&mut dyn ThroughputSubject> = match (&mut ceiling, with_baseline) {
        (Some(ceiling), _) => Some(ceiling),
        (None, true) => Some(&mut one_flow),
        (None, false) => None,
    };
    let monitor = watch("throughput", plan.length(), &args.nodes.output)?;
    subject.watch(monitor.meter());
    let run = measure_throughput(plan, &mut subject, baseline, say_throughput)?;
    if args.nodes.counters {
        say_counters(loader.client())?;
    }
    if args.mode == Mode::Acked {
        tell("by the tags: every message delivered once, 0 lost, 0 duplicated");
    }
    let mut report = if beside_flow {
        say_ratio(ONE_FLOW, &run);
        Report::of_throughput_beside("throughput", size, ONE_FLOW, &run)
    } else {
        Report::of_throughput("throughput", size, args.nodes.datagram.into(), &run)
    };
    report.intervals = monitor.finish();
    let strays = loader.client().strays()?;
    report.detail("strays_handed", strays.handed);
    report.detail("strays_dropped", strays.dropped);
    report.detail("misdelivered", strays.misdelivered);
    let report = describe(report, &load).by(loader.client())?.waiting(spin);
    finish(&report, &args.nodes.output)
}

/// What the messages of many flows are compared with.
const ONE_FLOW: &str = "one flow";

fn load(args: &ThroughputArgs) -> Load {
    Load {
        sizes: args.sizes.clone().unwrap_or(Sizes::Fixed(args.size)),
        flows: args.flows,
        choice: args.choice,
        seed: args.seed,
        per_call: args.per_call,
        ..Load::fixed(args.size, args.mode)
    }
}

/// The report with what was sent and to whom.
pub(super) fn describe(report: Report, load: &Load) -> Report {
    let mode = match load.mode {
        Mode::Acked => "acked",
        Mode::BestEffort => "best-effort",
    };
    report
        .with("mode", mode)
        .with("sizes", load.sizes.to_string())
        .with("flows", load.flows)
        .with("choice", load.choice.to_string())
        .with("seed", load.seed)
        .with("messages_per_call", load.per_call.get())
}

/// Prints how the subject stands beside a baseline that is not the ceiling.
pub(super) fn say_ratio(baseline: &str, run: &ThroughputRun) {
    let (Some(rate), Some(ratio), Some(spread)) =
        (run.baseline_rate(), run.ratio(), run.ratio_spread())
    else {
        return;
    };
    let rate = rate / 1e6;
    tell(&format!("{ratio:.3} of {baseline} (spread {spread:.3}), which had {rate:.3} M msg/s"));
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
    report.detail("datagram_bytes", args.datagram);
    finish(&report, &args.output)
}

/// Prints one slice of throughput.
pub fn say_throughput(name: &str, slice: &ThroughputSlice) {
    let rate = slice.messages_per_second() / 1e6;
    let gbps = slice.goodput_gbps();
    let (seconds, lost) = (slice.seconds, slice.lost());
    tell(&format!("{name:<8} {seconds:.2} s: {rate:.3} M msg/s, {gbps:.2} Gb/s, {lost} lost"));
}
