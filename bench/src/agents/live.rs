//! How a run between agents goes while it does: what they say once a second, added up, as intervals.
//!
//! Counts are summed and histograms added over the agents. Nobody's cores are told of: the agents' machines are theirs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    monitor::Interval,
    progress::Progress,
    stats::{HistogramCounts, LatencySummary, latency_histogram},
};

/// Shorter than this no interval is: its rate would be noise.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Nor the last one shorter than this.
const LAST_MIN: Duration = Duration::from_millis(100);

/// What an agent has counted so far in a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pulse {
    /// Some stream of its own has not ended.
    pub(super) is_busy: bool,
    /// Messages that it received.
    pub(super) delivered: u64,
    /// Blocks that it sent again since it started.
    pub(super) resent: u64,
    /// Times of the stamped messages that it received, in ns.
    pub(super) latencies: HistogramCounts,
}

/// The sum of all agents' pulses.
#[derive(Debug, Clone)]
struct Sum {
    delivered: u64,
    resent: u64,
    latencies: Histogram<u64>,
}

impl Sum {
    fn of(pulses: &[Pulse]) -> Self {
        let mut latencies = latency_histogram();
        for pulse in pulses {
            // All histograms of latencies have the same bounds.
            let _ = latencies.add(pulse.latencies.histogram());
        }
        Self {
            delivered: pulses.iter().map(|pulse| pulse.delivered).sum(),
            resent: pulses.iter().map(|pulse| pulse.resent).sum(),
            latencies,
        }
    }
}

/// A run as it goes.
#[derive(Debug)]
pub(super) struct Live {
    progress: Progress,
    /// When all begin to send.
    begin: Duration,
    /// The end of the last interval and what was counted by then.
    last: Option<(Duration, Sum)>,
    intervals: Vec<Interval>,
}

impl Live {
    /// Shows by `progress` a run in which all begin to send at `begin`.
    pub(super) fn new(progress: Progress, begin: Duration) -> Self {
        Self { progress, begin, last: None, intervals: Vec::new() }
    }

    /// Takes what all agents said at `at`, by the same clock as the begin.
    pub(super) fn take(&mut self, at: Duration, pulses: &[Pulse]) {
        let sum = Sum::of(pulses);
        // Nothing was received before the begin.
        let nothing = Sum { delivered: 0, resent: sum.resent, latencies: latency_histogram() };
        let (since, last) = self.last.get_or_insert((self.begin, nothing));
        let length = at.saturating_sub(*since);
        let is_over = pulses.iter().all(|pulse| !pulse.is_busy);
        if length < if is_over { LAST_MIN } else { INTERVAL_MIN } {
            return;
        }
        let mut latencies = sum.latencies.clone();
        // Agents count on from what they said last.
        let _ = latencies.subtract(&last.latencies);
        let summary = LatencySummary::of(&latencies);
        let seconds = length.as_secs_f64();
        let interval = Interval {
            at_s: since.saturating_sub(self.begin).as_secs_f64(),
            seconds,
            slice: 1,
            messages_per_second: sum.delivered.saturating_sub(last.delivered) as f64 / seconds,
            p50_us: summary.map(|summary| summary.p50),
            p99_us: summary.map(|summary| summary.p99),
            retransmissions: sum.resent.saturating_sub(last.resent),
            ..Interval::default()
        };
        self.progress.show(&interval, &latencies);
        self.intervals.push(interval);
        self.last = Some((at, sum));
    }

    /// Ends the show; its intervals.
    pub(super) fn finish(self) -> Vec<Interval> {
        self.progress.finish();
        self.intervals
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an interval is what all agents together counted since the last one.
    use super::*;
    use crate::stats::record_latency;

    fn pulse(delivered: u64, resent: u64, nanos: &[u64]) -> Pulse {
        let mut latencies = latency_histogram();
        for nanos in nanos {
            record_latency(&mut latencies, *nanos);
        }
        Pulse { is_busy: true, delivered, resent, latencies: HistogramCounts::of(&latencies) }
    }

    #[test]
    fn what_came_since_the_last_time_is_an_interval() {
        let at = Duration::from_millis;
        let mut live = Live::new(Progress::silent(), at(500));
        live.take(at(0), &[pulse(0, 5, &[]), pulse(0, 0, &[])]);
        live.take(at(600), &[pulse(50, 5, &[9_000]), pulse(0, 0, &[])]);
        live.take(at(1_500), &[pulse(100, 6, &[9_000]), pulse(300, 1, &[7_000])]);
        live.take(at(3_500), &[pulse(200, 6, &[9_000]), pulse(600, 1, &[7_000, 50_000])]);
        let over = |pulse: Pulse| Pulse { is_busy: false, ..pulse };
        live.take(at(3_750), &[over(pulse(250, 6, &[])), over(pulse(600, 1, &[]))]);
        let intervals = live.finish();
        let of = |one: &Interval| (one.at_s, one.seconds, one.messages_per_second);
        let wanted = [(0.0, 1.0, 400.0), (1.0, 2.0, 200.0), (3.0, 0.25, 200.0)];
        assert_eq!(intervals.iter().map(of).collect::<Vec<_>>(), wanted);
        assert_eq!((intervals[0].retransmissions, intervals[1].retransmissions), (2, 0));
        assert!((intervals[0].p99_us.unwrap() - 9.0).abs() < 0.1);
        assert!((intervals[1].p50_us.unwrap() - 50.0).abs() < 0.1, "what came before is left out");
    }
}
