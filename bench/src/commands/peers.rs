//! Runs `throughput --peers`: one node that visits many peers, beside one flow or a loop of sealed datagrams.

use std::rc::Rc;

use super::{client_settings, finish, say_throughput, tell, throughput::say_ratio, watch};
use crate::{
    cli::ThroughputArgs,
    error::{BenchError, Result},
    node::{bodies::Mode, load::Load, loader::Loader, throughput::CubedThroughput},
    pairs::{Plan, measure_throughput},
    peers::{Visits, sealed::SealedLoop, speaker::CubedPeers},
    report::Report,
    subject::ThroughputSubject,
};

/// What visits of several messages are compared with.
const ONE_FLOW: &str = "one flow to one peer";

/// What visits of one message are compared with.
const SEALED: &str = "sealed datagrams to as many sockets";

pub(super) fn run(args: &ThroughputArgs, peers: usize) -> Result<()> {
    if args.mode != Mode::Acked || args.nodes.machine.shards != 1 {
        return Err(BenchError::Argument(
            "--peers: messages are acknowledged, and one shard sends them".into(),
        ));
    }
    let plan =
        if args.no_baseline { Plan::alone(args.seconds)? } else { Plan::pairs(args.seconds)? };
    let visits = Visits { peers, messages: args.visit, size_bytes: args.size };
    let mut subject =
        CubedPeers::start(visits, args.choice, args.seed, args.nodes.machine, args.nodes.datagram)?;
    let name = if args.visit == 1 { SEALED } else { ONE_FLOW };
    let mut baseline = baseline(args, visits)?;
    let monitor = watch("throughput", plan.length(), &args.nodes.output)?;
    subject.watch(monitor.meter());
    let run = match &mut baseline {
        Some(baseline) => {
            measure_throughput(plan, &mut subject, Some(baseline.as_mut()), say_throughput)?
        }
        None => measure_throughput(plan, &mut subject, None, say_throughput)?,
    };
    tell("by the tags: every peer got each message once, 0 lost, 0 duplicated");
    say_ratio(name, &run);
    let mut report = Report::of_throughput_beside("throughput", args.size, name, &run);
    report.intervals = monitor.finish();
    let report = report
        .with("datagram_bytes", args.nodes.datagram)
        .with("peers", peers)
        .with("messages_per_visit", args.visit)
        .with("choice", args.choice.to_string())
        .with("seed", args.seed);
    finish(&report.on(subject.machine()?).waiting(CubedThroughput::SPIN), &args.nodes.output)
}

fn baseline(args: &ThroughputArgs, visits: Visits) -> Result<Option<Box<dyn ThroughputSubject>>> {
    if args.no_baseline {
        return Ok(None);
    }
    if args.visit == 1 {
        return Ok(Some(Box::new(SealedLoop::start(visits)?)));
    }
    let settings = client_settings(&args.nodes, CubedThroughput::SPIN);
    let loader = Rc::new(Loader::start(&settings)?);
    let load = Load::fixed(args.size, Mode::Acked);
    Ok(Some(Box::new(CubedThroughput::new("one flow", &loader, load))))
}
