//! Alternation of a subject with its baseline, so that both meet the same machine.
//!
//! A shared machine drifts by the second. Slices of the two follow each other closely, who begins
//! changes with each pair, and only the ratio within a pair is used: its median is reported, with
//! the spread over all pairs beside it.

use std::time::Duration;

use crate::{
    error::{BenchError, Result},
    stats::{LatencySummary, median, spread},
    subject::{LatencySlice, LatencySubject, ThroughputSlice, ThroughputSubject},
};

/// Shortest slice that is measured.
pub const SLICE_MIN: Duration = Duration::from_millis(500);

/// Least number of pairs.
pub const PAIRS_MIN: u32 = 5;

/// Most pairs: beyond it slices grow instead.
const PAIRS_MAX: u32 = 15;

/// How a run is cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Slices per subject.
    pub count: u32,
    /// Length of each.
    pub slice: Duration,
}

impl Plan {
    /// Time measured of one subject.
    pub fn length(self) -> Duration {
        self.slice * self.count
    }

    /// Cuts about `seconds` per subject into at least [`PAIRS_MIN`] slices of at least
    /// [`SLICE_MIN`], so a subject paired with a baseline runs 2.5 s or longer.
    ///
    /// # Errors
    ///
    /// `Argument` when `seconds` is not a positive number of at most one day.
    pub fn pairs(seconds: f64) -> Result<Self> {
        let seconds = checked_seconds(seconds)?;
        let count = ((seconds / SLICE_MIN.as_secs_f64()) as u32).clamp(PAIRS_MIN, PAIRS_MAX);
        let slice = Duration::from_secs_f64(seconds / f64::from(count)).max(SLICE_MIN);
        Ok(Self { count, slice })
    }

    /// Cuts exactly `seconds` of one subject alone into slices of about half a second; a shorter
    /// run is one slice.
    ///
    /// # Errors
    ///
    /// As [`Plan::pairs`].
    pub fn alone(seconds: f64) -> Result<Self> {
        let seconds = checked_seconds(seconds)?;
        let count = ((seconds / SLICE_MIN.as_secs_f64()) as u32).clamp(1, PAIRS_MAX);
        Ok(Self { count, slice: Duration::from_secs_f64(seconds / f64::from(count)) })
    }
}

/// `seconds`, if a run may last so long.
///
/// # Errors
///
/// `Argument` unless it is above 0 and at most a day.
pub fn checked_seconds(seconds: f64) -> Result<f64> {
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(seconds)
    } else {
        Err(BenchError::Argument(format!(
            "--seconds {seconds}: give a number above 0 and up to 86400"
        )))
    }
}

/// Throughput slices of a subject, with those of its baseline when there was one.
#[derive(Debug, Clone, Default)]
pub struct ThroughputRun {
    /// Slices of the subject, in order.
    pub subject: Vec<ThroughputSlice>,
    /// Slices of the baseline, index by index beside the subject's; empty without baseline.
    pub baseline: Vec<ThroughputSlice>,
}

impl ThroughputRun {
    /// Median rate of the subject in messages per second.
    pub fn subject_rate(&self) -> Option<f64> {
        median_rate(&self.subject)
    }

    /// Median rate of the baseline in messages per second.
    pub fn baseline_rate(&self) -> Option<f64> {
        median_rate(&self.baseline)
    }

    /// Rate of the subject over the rate of the baseline, pair by pair.
    pub fn ratios(&self) -> Vec<f64> {
        let pairs = self.subject.iter().zip(&self.baseline);
        pairs
            .filter(|(_, baseline)| baseline.delivered > 0)
            .map(|(subject, baseline)| {
                subject.messages_per_second() / baseline.messages_per_second()
            })
            .collect()
    }

    /// Median of [`ThroughputRun::ratios`].
    pub fn ratio(&self) -> Option<f64> {
        median(&self.ratios())
    }

    /// Largest minus smallest of [`ThroughputRun::ratios`].
    pub fn ratio_spread(&self) -> Option<f64> {
        spread(&self.ratios())
    }

    /// Sums of the subject's counts and seconds over all slices.
    pub fn subject_total(&self) -> ThroughputSlice {
        let first = self.subject.first().copied().unwrap_or_default();
        self.subject.iter().skip(1).fold(first, |sum, slice| ThroughputSlice {
            seconds: sum.seconds + slice.seconds,
            sent: sum.sent + slice.sent,
            delivered: sum.delivered + slice.delivered,
            duplicated: sum.duplicated + slice.duplicated,
            size_bytes: sum.size_bytes,
            datagrams: sum.datagrams + slice.datagrams,
            sends: sum.sends + slice.sends,
        })
    }
}

fn median_rate(slices: &[ThroughputSlice]) -> Option<f64> {
    median(&slices.iter().map(ThroughputSlice::messages_per_second).collect::<Vec<_>>())
}

/// Round trips of a subject, with those of its baseline when there was one.
#[derive(Debug, Clone, Default)]
pub struct LatencyRun {
    /// All slices of the subject together.
    pub subject: LatencySlice,
    /// All slices of the baseline together; empty without baseline.
    pub baseline: LatencySlice,
    /// p50 of the subject over p50 of the baseline, pair by pair.
    pub ratios: Vec<f64>,
    /// The subject's slices one by one, in order; `None` for one without an answer.
    pub subject_slices: Vec<Option<LatencySummary>>,
    /// The baseline's, index by index beside them; empty without baseline.
    pub baseline_slices: Vec<Option<LatencySummary>>,
}

/// Measures `subject` in the slices of `plan`, alternating with `baseline` when there is one.
///
/// `observe` is called after each slice with the name of what ran and its result.
///
/// # Errors
///
/// The first error of either; what was measured before it is dropped.
pub fn measure_throughput(
    plan: Plan,
    subject: &mut dyn ThroughputSubject,
    mut baseline: Option<&mut dyn ThroughputSubject>,
    mut observe: impl FnMut(&str, &ThroughputSlice),
) -> Result<ThroughputRun> {
    let mut run = ThroughputRun::default();
    let mut measure = |who: &mut dyn ThroughputSubject, into: &mut Vec<_>| -> Result<()> {
        let slice = who.run_slice(plan.slice)?;
        observe(who.name(), &slice);
        into.push(slice);
        Ok(())
    };
    for index in 0..plan.count {
        match baseline.as_deref_mut() {
            None => measure(subject, &mut run.subject)?,
            Some(baseline) if index % 2 == 0 => {
                measure(baseline, &mut run.baseline)?;
                measure(subject, &mut run.subject)?;
            }
            Some(baseline) => {
                measure(subject, &mut run.subject)?;
                measure(baseline, &mut run.baseline)?;
            }
        }
    }
    Ok(run)
}

/// As [`measure_throughput`], for round trips.
///
/// # Errors
///
/// The first error of either; what was measured before it is dropped.
pub fn measure_latency(
    plan: Plan,
    subject: &mut dyn LatencySubject,
    mut baseline: Option<&mut dyn LatencySubject>,
    mut observe: impl FnMut(&str, &LatencySlice),
) -> Result<LatencyRun> {
    let mut run = LatencyRun::default();
    let mut measure = |who: &mut dyn LatencySubject, into: &mut LatencySlice| {
        let slice = who.run_slice(plan.slice)?;
        observe(who.name(), &slice);
        into.add(&slice);
        Ok::<_, BenchError>(LatencySummary::of(&slice.histogram))
    };
    for index in 0..plan.count {
        let (subject_slice, baseline_slice) = match baseline.as_deref_mut() {
            None => (measure(subject, &mut run.subject)?, None),
            Some(baseline) if index % 2 == 0 => {
                let before = measure(baseline, &mut run.baseline)?;
                (measure(subject, &mut run.subject)?, before)
            }
            Some(baseline) => {
                let before = measure(subject, &mut run.subject)?;
                (before, measure(baseline, &mut run.baseline)?)
            }
        };
        if let (Some(subject), Some(baseline)) = (subject_slice, baseline_slice) {
            run.ratios.push(subject.p50 / baseline.p50);
        }
        run.subject_slices.push(subject_slice);
        if baseline.is_some() {
            run.baseline_slices.push(baseline_slice);
        }
    }
    Ok(run)
}

#[cfg(test)]
mod tests;
