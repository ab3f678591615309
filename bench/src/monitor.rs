//! Watches a measurement from a thread of its own: one interval after the other into the report, and onto the terminal.
//!
//! The thread wakes once per interval. On a machine with no core to spare that costs the measurement something (docs/BENCHMARKS.md,
//! what a run leaves behind), so intervals are not shorter than [`INTERVAL_MIN`], and an interval of zero watches nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    cpu::Look,
    error::{BenchError, Result},
    meter::{Cut, Event, Meter},
    progress::Progress,
    stats::LatencySummary,
};

/// Shortest interval.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Longest interval.
pub const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Intervals that a run of any length is cut into, about.
const INTERVALS: u32 = 100;

/// A last interval shorter than this part of the others is left out: its rate would be noise.
const PART_MIN: f64 = 0.5;

/// What happened in one interval of a run. What was not measured is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Interval {
    /// Begin, in seconds since the run began; baselines in between take time, too.
    pub at_s: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Number of the slice, from 1; of times, where several shards take turns, each turn is one.
    pub slice: u32,
    /// Messages delivered per second, as the measuring side heard.
    pub messages_per_second: f64,
    /// Median latency in microseconds.
    pub p50_us: Option<f64>,
    /// 99 of 100 took at most this long.
    pub p99_us: Option<f64>,
    /// Blocks sent again.
    pub retransmissions: u64,
    /// Part of the time that each core was busy with anything, 0 to 1, by its number.
    pub cpu_busy: Vec<f64>,
    /// Part of all cores' time that the hypervisor gave to others.
    pub cpu_stolen: f64,
}

/// A thread that watches a meter. Ended by [`Monitor::finish`], or with the value.
#[derive(Debug)]
pub struct Monitor {
    /// What the measurement tells it by; `None` watches nothing.
    meter: Option<Meter>,
    watching: Option<thread::JoinHandle<Vec<Interval>>>,
}

impl Monitor {
    /// Begins to watch a run that is to measure for `planned`, every `interval` or as often as fits its length; of zero, never.
    ///
    /// # Errors
    ///
    /// `Argument` for an interval out of bounds; `System` when there is no thread.
    pub fn start(
        planned: Duration,
        interval: Option<Duration>,
        progress: Progress,
    ) -> Result<Self> {
        if interval.is_some_and(|interval| interval.is_zero()) {
            return Ok(Self { meter: None, watching: None });
        }
        let interval = checked_interval(planned, interval)?;
        let meter = Meter::default();
        let mut watch = Watch::new(meter.clone(), interval, progress);
        let watching = thread::Builder::new()
            .name("monitor".into())
            .spawn(move || watch.run())
            .map_err(BenchError::system("start a thread"))?;
        Ok(Self { meter: Some(meter), watching: Some(watching) })
    }

    /// What the measurement tells it by; `None` when nothing is watched.
    pub fn meter(&self) -> Option<Meter> {
        self.meter.clone()
    }

    /// Ends the watch; the intervals of the run.
    pub fn finish(mut self) -> Vec<Interval> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<Interval> {
        if let Some(meter) = &self.meter {
            meter.stop();
        }
        // A panic of the watcher loses the intervals, not the measurement; its message is on stderr.
        self.watching.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn checked_interval(planned: Duration, interval: Option<Duration>) -> Result<Duration> {
    match interval {
        None => Ok((planned / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX)),
        Some(interval) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        Some(interval) => Err(BenchError::Argument(format!(
            "--interval {}: between {} and {} ms, or 0 for none",
            interval.as_millis(),
            INTERVAL_MIN.as_millis(),
            INTERVAL_MAX.as_millis()
        ))),
    }
}

/// The watching thread.
struct Watch {
    meter: Meter,
    interval: Duration,
    progress: Progress,
    begun: Instant,
    look: Look,
    intervals: Vec<Interval>,
}

impl Watch {
    fn new(meter: Meter, interval: Duration, progress: Progress) -> Self {
        let (begun, look) = (Instant::now(), Look::take());
        Self { meter, interval, progress, begun, look, intervals: Vec::new() }
    }

    fn run(&mut self) -> Vec<Interval> {
        let mut opened = 0;
        loop {
            match self.meter.next(self.interval, opened) {
                Event::Opened(slice) => {
                    opened = slice;
                    self.look = Look::take();
                }
                Event::Cut(cuts) => cuts.iter().for_each(|cut| self.take(cut)),
                Event::Stopped => break,
            }
        }
        self.progress.finish();
        std::mem::take(&mut self.intervals)
    }

    fn take(&mut self, cut: &Cut) {
        let seconds = cut.until.duration_since(cut.since).as_secs_f64();
        if cut.is_last && seconds < PART_MIN * self.interval.as_secs_f64() {
            return;
        }
        let look = Look::take();
        let usage = look.since(&self.look);
        self.look = look;
        let latency = LatencySummary::of(&cut.latencies);
        let interval = Interval {
            at_s: cut.since.saturating_duration_since(self.begun).as_secs_f64(),
            seconds,
            slice: cut.slice,
            messages_per_second: cut.messages as f64 / seconds,
            p50_us: latency.map(|latency| latency.p50),
            p99_us: latency.map(|latency| latency.p99),
            retransmissions: cut.retransmissions,
            cpu_busy: usage.busy,
            cpu_stolen: usage.stolen,
        };
        if let Some(planned) = self.meter.planned() {
            self.progress.plan(planned);
        }
        self.progress.show(&interval, &cut.latencies);
        self.intervals.push(interval);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the intervals are those of the measured time, and bounds are named.
    use super::*;

    #[test]
    fn a_run_becomes_intervals_of_measured_time() {
        let monitor =
            Monitor::start(Duration::from_secs(1), Some(INTERVAL_MIN), Progress::silent()).unwrap();
        let meter = monitor.meter().expect("it watches");
        for _ in 0..2 {
            let open = meter.open();
            for _ in 0..26 {
                meter.record(20_000);
                thread::sleep(Duration::from_millis(10));
            }
            drop(open);
        }
        let intervals = monitor.finish();
        // At least one of each slice; how many more depends on what else the machine does.
        assert!(intervals.len() >= 2, "{intervals:?}");
        assert!(intervals.is_sorted_by(|one, next| one.at_s + one.seconds <= next.at_s + 1e-9));
        let first = &intervals[0];
        assert!((first.p50_us.unwrap() - 20.0).abs() < 0.1 && !first.cpu_busy.is_empty());
        assert!(first.messages_per_second > 0.0 && first.slice == 1);
    }

    #[test]
    fn an_interval_of_zero_watches_nothing() {
        let monitor =
            Monitor::start(Duration::from_secs(1), Some(Duration::ZERO), Progress::silent());
        let monitor = monitor.unwrap();
        assert!(monitor.meter().is_none() && monitor.finish().is_empty());
    }

    #[test]
    fn intervals_fit_the_run_and_have_bounds() {
        let of = |seconds| checked_interval(Duration::from_secs(seconds), None).unwrap();
        assert_eq!(
            (of(1), of(50), of(3600)),
            (INTERVAL_MIN, Duration::from_millis(500), INTERVAL_MAX)
        );
        for bad in [99, 1001] {
            let asked = Some(Duration::from_millis(bad));
            let text = checked_interval(Duration::from_secs(1), asked).unwrap_err().to_string();
            assert!(text.contains(&format!("--interval {bad}")), "{text}");
        }
    }
}
