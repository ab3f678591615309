//! The few statistics every report uses: median, spread, and percentiles of a histogram.
//!
//! No tail is trimmed and no slice is left out.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Largest latency a histogram holds, in ns. Longer ones are recorded as this.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;

/// Middle value; the mean of the two middle ones for an even count. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Largest minus smallest value, in the values' unit. `None` without values.
pub fn spread(values: &[f64]) -> Option<f64> {
    let largest = values.iter().copied().max_by(f64::total_cmp)?;
    let smallest = values.iter().copied().min_by(f64::total_cmp)?;
    Some(largest - smallest)
}

/// An empty histogram of latencies in ns: 1 ns to 60 s, three significant digits.
///
/// # Panics
///
/// Never: the bounds are constants that the histogram accepts.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("constant bounds are valid")
}

/// Records one latency of `nanos` in a histogram made by [`latency_histogram`].
pub fn record_latency(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.max(1));
}

/// A histogram on its way between processes: each value met, in ns, with how often. Adding two loses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramCounts(Vec<(u64, u64)>);

impl HistogramCounts {
    /// What a histogram made by [`latency_histogram`] holds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let values = histogram.iter_recorded();
        Self(values.map(|value| (value.value_iterated_to(), value.count_at_value())).collect())
    }

    /// The same as a histogram. Values outside its bounds are kept at the bound.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = latency_histogram();
        for (value, count) in &self.0 {
            histogram.saturating_record_n((*value).max(1), *count);
        }
        histogram
    }
}

/// Percentiles of one latency distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Half of the round trips took at most this long.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The longest one.
    pub max: f64,
}

impl LatencySummary {
    /// Reads the percentiles of a histogram of ns. `None` when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the printed numbers mean what their names say.
    use super::*;

    #[test]
    fn median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), Some(6.0));
    }

    #[test]
    fn spread_is_largest_minus_smallest() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some(0.0));
        assert_eq!(spread(&[2.0, -1.0, 4.0]), Some(5.0));
    }

    #[test]
    fn summary_gives_microseconds_within_three_digits() {
        let mut histogram = latency_histogram();
        for micros in 1..=1000 {
            record_latency(&mut histogram, micros * 1000);
        }
        let summary = LatencySummary::of(&histogram).unwrap();
        for (got, wanted) in [
            (summary.p50, 500.0),
            (summary.p90, 900.0),
            (summary.p99, 990.0),
            (summary.p999, 999.0),
            (summary.max, 1000.0),
        ] {
            assert!((got - wanted).abs() <= wanted / 1000.0, "{got} for {wanted}");
        }
        assert_eq!(LatencySummary::of(&latency_histogram()), None);
    }

    #[test]
    fn latencies_outside_the_bounds_are_kept_at_the_bound() {
        let mut histogram = latency_histogram();
        record_latency(&mut histogram, 0);
        record_latency(&mut histogram, u64::MAX);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= LATENCY_NANOS_MAX);
    }

    #[test]
    fn a_histogram_survives_its_journey() {
        let mut histogram = latency_histogram();
        for nanos in [1, 2_047, 2_048, 2_049, 123_456_789, 60_000_000_000] {
            for _ in 0..=(nanos % 7) {
                record_latency(&mut histogram, nanos);
            }
        }
        let text = serde_json::to_string(&HistogramCounts::of(&histogram)).unwrap();
        let counts: HistogramCounts = serde_json::from_str(&text).unwrap();
        assert_eq!(counts.histogram(), histogram);
        assert_eq!(HistogramCounts::default().histogram(), latency_histogram());
    }
}
