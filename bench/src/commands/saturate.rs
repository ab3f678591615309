//! Runs `saturate`: the highest rate at which nothing is lost and the times stay under a limit, or a profile of given rates.

use std::time::Duration;

use cubed::SpinPolicy;
use serde::Serialize;
use serde_json::json;

use super::{
    client_settings, finish, one_way::check_one_clock, one_way::latency, say_counters, tell, watch,
};
use crate::{
    cli::SaturateArgs,
    error::{BenchError, Result},
    meter::Meter,
    node::{
        bodies::STAMPED_BYTES_MIN,
        client::ClientSettings,
        latency::CubedEcho,
        load::{Load, PER_CALL, Pace},
        loader::{LoadSlice, Loader},
    },
    pairs::Plan,
    report::{ONE_WAY, Report},
    search::Search,
    stats::{LatencySummary, median},
    subject::shortfall,
};

/// Messages of a step that are timed, about; of more, one in so many is, up to [`STAMP_EVERY_MAX`].
const STAMPED: f64 = 20_000.0;

/// Fewest: one message of so many is timed.
const STAMP_EVERY_MAX: f64 = 64.0;

/// One step, as it is printed and reported.
#[derive(Debug, Clone, Serialize)]
struct Step {
    planned_messages_per_second: f64,
    messages_per_second: f64,
    sent: u64,
    lost: u64,
    latency_us: Option<LatencySummary>,
    /// Why it failed; none when it passed.
    failure: Option<String>,
}

/// A step with its times.
struct Tried {
    step: Step,
    slice: LoadSlice,
}

/// What steps are made with.
struct Steps<'a> {
    loader: &'a Loader,
    load: Load,
    duration: Duration,
    limit: Duration,
    meter: Option<Meter>,
    taken: Vec<Step>,
}

impl Steps<'_> {
    /// Tells how many steps are left at most.
    fn plan(&self, left: u32) {
        if let Some(meter) = &self.meter {
            meter.plan(self.duration * (self.taken.len() as u32 + left));
        }
    }
}

pub(super) fn run(args: &SaturateArgs) -> Result<()> {
    check_one_clock(&args.nodes.connect)?;
    if !(1e-4..=1.0).contains(&args.precision) {
        return Err(BenchError::Argument(format!(
            "--precision {}: between 0.0001 and 1",
            args.precision
        )));
    }
    if args.sizes.smallest() < STAMPED_BYTES_MIN {
        return Err(BenchError::Argument(format!(
            "--sizes {}: {STAMPED_BYTES_MIN} bytes or more, as each message carries a time",
            args.sizes
        )));
    }
    let duration = Plan::alone(args.seconds)?.length();
    let spin = if args.spin { CubedEcho::spin(true, None)? } else { SpinPolicy::Adaptive };
    let settings = client_settings(&args.nodes, spin);
    let loader = Loader::start(&ClientSettings { flows: args.flows, ..settings })?;
    let load = Load {
        sizes: args.sizes.clone(),
        mode: args.mode,
        flows: args.flows,
        choice: args.choice,
        seed: args.seed,
        pace: Pace::Full,
        per_call: PER_CALL,
        stamp_every: None,
    };
    let monitor = watch("saturate", duration, &args.nodes.output)?;
    let mut steps = Steps {
        loader: &loader,
        load: load.clone(),
        duration,
        limit: args.p99_below,
        meter: monitor.meter(),
        taken: Vec::new(),
    };
    let mut full = Vec::new();
    let mut measure_full = || {
        if !args.no_baseline {
            let slice = loader.run(&load, duration, None)?.throughput;
            tell(&format!("never waiting: {:.0}/s", slice.messages_per_second()));
            full.push(slice.messages_per_second());
        }
        Ok::<_, BenchError>(())
    };
    measure_full()?;
    let rates = args.ramp.map_or_else(|| args.step.clone(), |ramp| ramp.rates());
    let best = if rates.is_empty() {
        steps.search(args)?
    } else {
        steps.plan(rates.len() as u32);
        let tried: Result<Vec<_>> = rates.iter().map(|rate| steps.take(*rate)).collect();
        best_of(tried?)
    };
    measure_full()?;
    if args.nodes.counters {
        say_counters(loader.client())?;
    }
    let taken = steps.taken;
    let mut report = report(args, &load, best, &taken, median(&full));
    report.intervals = monitor.finish();
    finish(&report.by(loader.client())?.waiting(spin), &args.nodes.output)
}

impl Steps<'_> {
    fn search(&mut self, args: &SaturateArgs) -> Result<Option<Tried>> {
        let mut search = Search::new(args.from, args.precision);
        let mut best = None;
        while let Some(rate) = search.rate() {
            self.plan(search.steps_left_max());
            let tried = self.take(rate)?;
            search.record(tried.step.failure.is_none());
            best = best_of(best.into_iter().chain([tried]));
        }
        Ok(best)
    }

    /// Holds one rate, and prints how it went.
    fn take(&mut self, rate: f64) -> Result<Tried> {
        let every = (rate * self.duration.as_secs_f64() / STAMPED).clamp(1.0, STAMP_EVERY_MAX);
        let load = Load { stamp_every: Some(every as u64), ..self.load.at(Pace::Rate(rate)) };
        let slice = self.loader.run(&load, self.duration, self.meter.as_ref())?;
        let throughput = slice.throughput;
        let latency_us = LatencySummary::of(&slice.latencies);
        let mut step = Step {
            planned_messages_per_second: rate,
            messages_per_second: throughput.messages_per_second(),
            sent: throughput.sent,
            lost: throughput.lost(),
            latency_us,
            failure: None,
        };
        step.failure = failure(&step, self.duration, self.limit);
        let times =
            latency_us.map_or_else(String::new, |LatencySummary { p50, p99, max, .. }| {
                format!("p50 {p50:.1} us, p99 {p99:.1} us, max {max:.1} us")
            });
        let verdict =
            step.failure.as_deref().map_or("passes".into(), |why| format!("fails: {why}"));
        tell(&format!("{rate:>12.0}/s: {times}, {} lost: {verdict}", step.lost));
        self.taken.push(step.clone());
        Ok(Tried { step, slice })
    }
}

/// Why a step does not pass.
fn failure(step: &Step, duration: Duration, limit: Duration) -> Option<String> {
    let planned = step.planned_messages_per_second * duration.as_secs_f64();
    let limit_us = limit.as_secs_f64() * 1e6;
    let Some(latency) = step.latency_us else {
        return Some("no message that was timed".into());
    };
    if step.lost > 0 {
        Some(format!("{} lost", step.lost))
    } else if latency.p99 >= limit_us {
        Some(format!("p99 not under {limit_us} us"))
    } else {
        shortfall(planned, step.sent)
    }
}

/// The highest rate that passed.
fn best_of(tried: impl IntoIterator<Item = Tried>) -> Option<Tried> {
    let passed = tried.into_iter().filter(|tried| tried.step.failure.is_none());
    let rate = |tried: &Tried| tried.step.planned_messages_per_second;
    passed.max_by(|one, other| rate(one).total_cmp(&rate(other)))
}

fn report(
    args: &SaturateArgs,
    load: &Load,
    best: Option<Tried>,
    steps: &[Step],
    full: Option<f64>,
) -> Report {
    let size = load.sizes.mean(load.seed).round() as usize;
    let mut report = Report::unmeasured("saturate", size);
    report.times = ONE_WAY;
    let rate = best.as_ref().map(|best| best.step.planned_messages_per_second);
    match best {
        None => {
            tell("no rate passed");
            report.nothing = Some("no rate passed");
        }
        Some(best) => {
            let times = latency(&best.slice);
            report.seconds = times.seconds;
            report.messages_per_second = Some(best.step.messages_per_second);
            report.sent = Some(times.sent);
            report.delivered = Some(times.sent - times.lost);
            report.lost = Some(times.lost);
            report.latency_us = LatencySummary::of(&times.histogram);
            report.distribute("saturate", &times);
        }
    }
    super::throughput::describe(report, load)
        .with("p99_below_us", args.p99_below.as_secs_f64() * 1e6)
        .with("highest_messages_per_second", rate)
        .with("baseline", full.map(|_| "a sender that never waits for its time"))
        .with("baseline_messages_per_second", full)
        .with("ratio_to_baseline", rate.zip(full).map(|(rate, full)| rate / full))
        .with("steps", json!(steps))
}

#[cfg(test)]
mod tests {
    //! Goal: each way to fail fails, and nothing else.
    use super::*;

    fn step() -> Step {
        let latency_us = LatencySummary { p50: 10.0, p90: 20.0, p99: 199.0, p999: 300.0, max: 9e3 };
        Step {
            planned_messages_per_second: 1_000.0,
            messages_per_second: 1_000.0,
            sent: 1_995,
            lost: 0,
            latency_us: Some(latency_us),
            failure: None,
        }
    }

    #[test]
    fn losses_late_messages_and_unsent_ones_fail() {
        let (duration, limit) = (Duration::from_secs(2), Duration::from_micros(200));
        assert_eq!(failure(&step(), duration, limit), None);
        assert!(failure(&Step { latency_us: None, ..step() }, duration, limit).is_some());
        assert!(failure(&Step { lost: 1, ..step() }, duration, limit).unwrap().contains("1 lost"));
        assert!(failure(&step(), duration, Duration::from_micros(199)).unwrap().contains("p99"));
        assert!(
            failure(&Step { sent: 1_979, ..step() }, duration, limit).unwrap().contains("1979")
        );
    }
}
