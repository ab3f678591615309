//! Runs `agent` and `run`.

use super::{finish_elsewhere, say, tell};
use crate::{
    agents::{agent::Agent, controller::Controller, plan::Plan},
    cli::{AgentArgs, RunArgs},
    error::{BenchError, Result},
    report::{ONE_WAY, Report, limit::TIMES},
    stats::LatencySummary,
};

pub(super) fn run_agent(args: &AgentArgs) -> Result<()> {
    let agent = Agent {
        listen: args.listen,
        identity: &args.identity,
        allowed: &args.allow,
        core: args.core,
        machine: args.machine,
    };
    agent.serve(say)
}

pub(super) fn run(args: &RunArgs) -> Result<()> {
    if args.output.interval.is_some() {
        return Err(BenchError::Argument(
            "--interval: agents say once a second how it goes, and no other interval is there"
                .into(),
        ));
    }
    let plan = Plan::load(&args.plan)?;
    if let Some(limit) = args.output.fail_if.iter().find(|limit| TIMES.contains(&limit.figure()))
        && plan.load.iter().all(|load| load.rate.is_none())
    {
        return Err(BenchError::Argument(format!(
            "--fail-if '{limit}': only messages of a load with a rate are timed, and the plan has none"
        )));
    }
    let mut controller = Controller::start(args.identity.as_deref(), &args.agents)?;
    tell(&format!("{} agents", args.agents.len()));
    let result = controller.run(&plan, tell)?;
    let total = result.throughput;
    let mut report = Report::unmeasured("run", total.size_bytes as usize);
    report.times = ONE_WAY;
    report.seconds = total.seconds;
    report.messages_per_second = Some(total.messages_per_second());
    report.goodput_gbps = Some(total.goodput_gbps());
    report.sent = Some(total.sent);
    report.delivered = Some(total.delivered);
    report.lost = Some(total.lost());
    report.duplicated = Some(total.duplicated);
    report.latency_us = LatencySummary::of(&result.latency.histogram);
    report.distribute("run", &result.latency);
    report.intervals = result.intervals;
    report.warnings = result.warnings;
    let report = report.with("streams", result.streams).with("agents", result.agents);
    finish_elsewhere(&report, &args.output)
}
