//! The tour: what Cubed does on this machine, in less than half a minute, in one table.

use std::{rc::Rc, time::Duration};

use crate::{
    ceiling::Ceiling,
    cli::MachineArgs,
    commands::{DATAGRAM_BYTES, finish_all, has_ceiling, say_latency, say_throughput, tell, watch},
    error::Result,
    goal,
    node::{
        bodies::Mode, client::ClientSettings, latency::CubedEcho, load::Load, loader::Loader,
        throughput::CubedThroughput,
    },
    pairs::{Plan, measure_latency, measure_throughput},
    raw_echo::RawEcho,
    report::{Report, output::OutputArgs},
    subject::ThroughputSubject,
};

/// Pairs of throughput slices, as long as those of the command.
const THROUGHPUT_PLAN: Plan = Plan { count: 5, slice: Duration::from_millis(500) };

/// Pairs of latency slices, shorter than those of the command.
const LATENCY_PLAN: Plan = Plan { count: 5, slice: Duration::from_millis(250) };

/// Body bytes of the echo.
const ECHO_BYTES: usize = 64;

/// Runs the tour; its reports go to the files of `output`.
///
/// # Errors
///
/// The first error of any part.
pub fn run(machine: MachineArgs, output: &OutputArgs) -> Result<()> {
    tell(&format!(
        "two processes, one encrypted session; alternating with baselines: {} for throughput, {} for \
         round trips (short: use the commands for figures to keep)",
        describe(THROUGHPUT_PLAN),
        describe(LATENCY_PLAN)
    ));
    let reports = [
        throughput(machine, output, "acked 64 B", 64)?,
        throughput(machine, output, "acked 64 KiB", 65_536)?,
        echo(machine, output, "echo spinning", true)?,
        echo(machine, output, "echo parked", false)?,
    ];
    tell("");
    finish_all(&reports, output)
}

fn describe(plan: Plan) -> String {
    format!("{} pairs of {} s", plan.count, plan.slice.as_secs_f64())
}

fn throughput(
    machine: MachineArgs,
    output: &OutputArgs,
    label: &str,
    size: usize,
) -> Result<Report> {
    tell(&format!("\n{label}"));
    let settings = ClientSettings {
        served: None,
        key_file: None,
        spin: CubedThroughput::SPIN,
        datagram_bytes: DATAGRAM_BYTES,
        flows: 1,
        machine,
    };
    let loader = Rc::new(Loader::start(&settings)?);
    let mut subject = CubedThroughput::new("cubed", &loader, Load::fixed(size, Mode::Acked));
    let ceiling = has_ceiling(machine).then(|| Ceiling::start(size, DATAGRAM_BYTES.into()));
    let mut ceiling = ceiling.transpose()?;
    let monitor = watch(label, THROUGHPUT_PLAN.length(), output)?;
    subject.watch(monitor.meter());
    let baseline = ceiling.as_mut().map(|ceiling| ceiling as &mut dyn ThroughputSubject);
    let run = measure_throughput(THROUGHPUT_PLAN, &mut subject, baseline, say_throughput)?;
    let mut report = Report::of_throughput("throughput", size, DATAGRAM_BYTES.into(), &run);
    report.intervals = monitor.finish();
    Ok(report.by(loader.client())?.waiting(CubedThroughput::SPIN).labelled(label))
}

fn echo(machine: MachineArgs, output: &OutputArgs, label: &str, spin: bool) -> Result<Report> {
    tell(&format!("\n{label}"));
    let settings = ClientSettings {
        served: None,
        key_file: None,
        spin: CubedEcho::spin(spin, None)?,
        datagram_bytes: DATAGRAM_BYTES,
        flows: 1,
        machine,
    };
    let mut subject = CubedEcho::start(ECHO_BYTES, None, &settings)?;
    let mut raw = RawEcho::start(ECHO_BYTES, spin, None)?;
    let monitor = watch(label, LATENCY_PLAN.length(), output)?;
    subject.watch(monitor.meter());
    let run = measure_latency(LATENCY_PLAN, &mut subject, Some(&mut raw), say_latency)?;
    let goal = if spin { goal::ECHO_SPINNING } else { goal::ECHO_PARKED };
    let mut report = Report::of_latency("latency", ECHO_BYTES, &run, Some(goal));
    report.intervals = monitor.finish();
    Ok(report.by(subject.client())?.waiting(settings.spin).labelled(label))
}
