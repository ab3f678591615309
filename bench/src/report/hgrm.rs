//! Distributions of latencies as points, and as the text that `HdrHistogram`'s tools plot (`.hgrm`).
//!
//! Points lie denser the nearer they are to the maximum: five for each halving of the distance to 100 %.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Points for each halving of the distance to the maximum; `HdrHistogram`'s own default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Nanoseconds in the unit of a point.
const NANOS_PER_MICRO: f64 = 1e3;

/// All round trips of one subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Whose they are.
    pub name: String,
    /// Round trips in ns.
    pub histogram: Histogram<u64>,
}

/// One point of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Part of the round trips that took at most `us`, in percent.
    pub percentile: f64,
    /// Round trip in microseconds.
    pub us: f64,
    /// How many that part is.
    pub count: u64,
}

impl Distribution {
    /// The distribution as points, from the shortest round trip to the longest. Empty when nothing was recorded.
    pub fn points(&self) -> Vec<Point> {
        let mut count = 0;
        let steps = self.histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE);
        let point = |step: hdrhistogram::iterators::IterationValue<u64>| {
            count += step.count_since_last_iteration();
            Point {
                percentile: step.quantile_iterated_to() * 100.0,
                us: step.value_iterated_to().min(self.histogram.max()) as f64 / NANOS_PER_MICRO,
                count,
            }
        };
        steps.map(point).collect()
    }

    /// The distribution in `HdrHistogram`'s percentile format, in microseconds.
    pub fn text(&self) -> String {
        let [value, percentile, count, inverse] =
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
        let heading = format!("{value:>12} {percentile:>14} {count:>10} {inverse:>14}\n\n");
        let lines: String = self.points().iter().map(line).collect();
        heading + &lines + &self.footer()
    }

    fn footer(&self) -> String {
        let histogram = &self.histogram;
        let mean = histogram.mean() / NANOS_PER_MICRO;
        let deviation = histogram.stdev() / NANOS_PER_MICRO;
        let max = histogram.max() as f64 / NANOS_PER_MICRO;
        let (count, buckets) = (histogram.len(), histogram.buckets());
        // A group of values must tell two apart that differ in their last significant digit.
        let sub_buckets = (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
        format!(
            "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]\n\
             #[Max     = {max:>12.3}, Total count    = {count:>12}]\n\
             #[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]\n"
        )
    }
}

/// One line; the last one has no inverse, for that would be infinite.
fn line(point: &Point) -> String {
    let Point { percentile, us, count } = point;
    let quantile = percentile / 100.0;
    if quantile < 1.0 {
        format!("{us:>12.3} {quantile:>2.12} {count:>10} {:>14.2}\n", 1.0 / (1.0 - quantile))
    } else {
        format!("{us:>12.3} {quantile:>2.12} {count:>10}\n")
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a reader of the format gets back what was recorded.
    use super::*;
    use crate::stats::{latency_histogram, record_latency};

    fn distribution(micros: impl Iterator<Item = u64>) -> Distribution {
        let mut histogram = latency_histogram();
        micros.for_each(|micros| record_latency(&mut histogram, micros * 1000));
        Distribution { name: "test".into(), histogram }
    }

    /// Value, percentile and count of each line, as a plotting tool reads them.
    fn parsed(text: &str) -> Vec<(f64, f64, u64)> {
        let lines = text.lines().skip(2).filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                (fields[0].parse().unwrap(), fields[1].parse().unwrap(), fields[2].parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn each_line_says_how_many_took_at_most_how_long() {
        let text = distribution(1..=10_000).text();
        let lines = parsed(&text);
        assert!(lines.len() > 30, "{text}");
        assert!(
            lines.is_sorted_by(|one, next| one.0 <= next.0 && one.1 < next.1 && one.2 <= next.2)
        );
        for (micros, quantile, count) in &lines {
            assert!(
                (micros - quantile * 10_000.0).abs() <= micros / 500.0 + 1.0,
                "{micros} {quantile}"
            );
            assert!((*count as f64 - micros).abs() <= micros / 500.0 + 1.0, "{micros} {count}");
        }
        assert_eq!(lines.last().map(|line| (line.1, line.2)), Some((1.0, 10_000)));
    }

    #[test]
    fn heading_and_footer_are_those_of_the_format() {
        let text = distribution([5, 5, 7].into_iter()).text();
        let heading = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
        assert!(text.starts_with(heading), "{text}");
        assert!(text.contains("Total count    =            3]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
        let [mean, max] = ["#[Mean    =        5.66", "#[Max     =        7.0"];
        assert!(text.contains(mean) && text.contains(max), "{text}");
    }

    #[test]
    fn nothing_recorded_is_no_point() {
        assert_eq!(distribution(std::iter::empty()).points(), []);
    }
}
