//! Bounds that a run must keep: `--fail-if 'p99>200us'`.
//!
//! A bound is a figure, a comparison and a value with its unit; the run fails when the comparison holds. What is violated is
//! told after everything was written.

use std::{fmt, str::FromStr};

use super::Report;

/// Name of the detail that is the ratio to another baseline than the ceiling and plain UDP.
pub const BASELINE_RATIO: &str = "ratio_to_baseline";

/// The figures that are times.
pub const TIMES: [Figure; 5] = [Figure::P50, Figure::P90, Figure::P99, Figure::P999, Figure::Max];

/// One bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    text: String,
    figure: Figure,
    is_above: bool,
    includes_equal: bool,
    /// In the figure's own unit.
    value: f64,
}

/// What can be bound, and compared between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Microseconds that half of the round trips took at most.
    P50,
    /// The same for 90 of 100.
    P90,
    /// The same for 99 of 100.
    P99,
    /// The same for 999 of 1,000.
    P999,
    /// Microseconds of the longest.
    Max,
    /// Messages per second.
    Rate,
    /// Part of what was sent that did not arrive.
    Loss,
    /// Rate over the ceiling's or another baseline's, or p50 over plain UDP's.
    Ratio,
}

impl Figure {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Rate,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::Max,
        Self::Loss,
        Self::Ratio,
    ];

    /// Its name in bounds and comparisons.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::Rate => "rate",
            Self::Loss => "loss",
            Self::Ratio => "ratio",
        }
    }

    /// The figure of a report, in its own unit; `None` when it was not measured.
    pub fn of(self, report: &Report) -> Option<f64> {
        let latency = report.latency_us.or(report.raw_latency_us);
        match self {
            Self::P50 => latency.map(|latency| latency.p50),
            Self::P90 => latency.map(|latency| latency.p90),
            Self::P99 => latency.map(|latency| latency.p99),
            Self::P999 => latency.map(|latency| latency.p999),
            Self::Max => latency.map(|latency| latency.max),
            Self::Rate => report.messages_per_second,
            Self::Loss => loss(report.lost?, report.sent?),
            Self::Ratio => report
                .ratio_to_ceiling
                .or(report.ratio_to_raw_p50)
                .or_else(|| report.details.get(BASELINE_RATIO)?.as_f64()),
        }
    }

    /// `value`, which is in the figure's own unit, with that unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{value:.0}/s"),
            Self::Loss => format!("{:.4} %", value * 100.0),
            Self::Ratio => format!("{value:.3}"),
            _ => format!("{value:.2} us"),
        }
    }

    /// The figure's own units for each that may stand behind its values.
    fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Rate => {
                &[("", 1.0), ("/s", 1.0), ("k", 1e3), ("k/s", 1e3), ("M", 1e6), ("M/s", 1e6)]
            }
            Self::Loss => &[("", 1.0), ("%", 0.01)],
            Self::Ratio => &[("", 1.0)],
            _ => &[("us", 1.0), ("ns", 1e-3), ("ms", 1e3), ("s", 1e6)],
        }
    }
}

/// Part of `sent` that was lost; `None` when nothing was sent.
pub fn loss(lost: u64, sent: u64) -> Option<f64> {
    (sent > 0).then(|| lost as f64 / sent as f64)
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let compact: String = text.split_whitespace().collect();
        let at = compact.find(['>', '<']).ok_or("compare a figure by > or <, as in 'p99>200us'")?;
        let (name, rest) = compact.split_at(at);
        let is_above = rest.starts_with('>');
        let rest = &rest[1..];
        let (includes_equal, rest) =
            rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let figure =
            Figure::ALL.into_iter().find(|figure| figure.name() == name).ok_or_else(|| {
                let names: Vec<&str> = Figure::ALL.iter().map(|figure| figure.name()).collect();
                format!("no figure is called {name:?}: choose {}", names.join(", "))
            })?;
        let value = parsed_value(figure, rest)?;
        Ok(Self { text: text.into(), figure, is_above, includes_equal, value })
    }
}

/// The longest number at the beginning with a unit behind it.
fn parsed_value(figure: Figure, text: &str) -> Result<f64, String> {
    let letters =
        |letter: char| letter.is_alphabetic() && letter != 'e' || matches!(letter, '%' | '/');
    let (number, unit) = text.split_at(text.find(letters).unwrap_or(text.len()));
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    let units = figure.units();
    let known = units.iter().find(|(name, _)| *name == unit);
    let known = known.filter(|_| number.is_finite());
    known.map(|(_, factor)| number * factor).ok_or_else(|| {
        let names: Vec<String> = units.iter().map(|(name, _)| format!("{name:?}")).collect();
        format!("unit {unit:?} of {}: choose {}", figure.name(), names.join(", "))
    })
}

impl Limit {
    /// What it bounds.
    pub fn figure(&self) -> Figure {
        self.figure
    }

    /// What a report says to it: a line when it is violated, nothing when it is kept, `None` when the figure was not measured.
    pub fn check(&self, report: &Report) -> Option<Option<String>> {
        let found = self.figure.of(report)?;
        let is_equal = self.includes_equal && found >= self.value && found <= self.value;
        let is_beyond = if self.is_above { found > self.value } else { found < self.value };
        Some((is_beyond || is_equal).then(|| {
            let (name, found) = (self.figure.name(), self.figure.text(found));
            format!("{}: {name} is {found}, which --fail-if '{self}' forbids", report.label)
        }))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bound means what it says, in any of its units, and a mistake is named.
    use super::*;
    use crate::stats::LatencySummary;

    fn report() -> Report {
        let mut report = Report::unmeasured("latency", 64);
        report.latency_us =
            Some(LatencySummary { p50: 10.0, p90: 20.0, p99: 200.0, p999: 900.0, max: 5000.0 });
        report.messages_per_second = Some(1.5e6);
        (report.sent, report.lost) = (Some(1000), Some(5));
        report
    }

    fn is_violated(text: &str) -> bool {
        text.parse::<Limit>().unwrap().check(&report()).unwrap().is_some()
    }

    #[test]
    fn bounds_compare_in_their_units() {
        for text in [
            "p99>199us",
            "p99 > 0.1 ms",
            "p50>9000ns",
            "p99.9>0.8ms",
            "max>4ms",
            "p99>=200us",
            "rate<2M",
            "rate<1501k/s",
            "rate < 1.6e6",
            "loss>0",
            "loss>0.4%",
            "loss>=0.005",
            "p90<=20us",
        ] {
            assert!(is_violated(text), "{text}");
        }
        for text in ["p99>200us", "p99>1s", "rate<1.5M/s", "loss>0.5%", "loss>0.005", "max>5ms"] {
            assert!(!is_violated(text), "{text}");
        }
    }

    #[test]
    fn what_was_not_measured_is_neither_kept_nor_violated() {
        let limit: Limit = "ratio<0.5".parse().unwrap();
        assert_eq!(limit.check(&report()), None);
    }

    #[test]
    fn a_violation_names_figure_value_and_bound() {
        let limit: Limit = "p99>100us".parse().unwrap();
        let line = limit.check(&report()).unwrap().unwrap();
        assert_eq!(line, "latency: p99 is 200.00 us, which --fail-if 'p99>100us' forbids");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("p99", "> or <"),
            ("p98>1us", "p99.9"),
            ("p99>200", "\"us\""),
            ("rate<5us", "\"M\""),
            ("p99>fastus", "no number"),
            ("loss>x", "no number"),
            ("p99>nanus", "no number"),
        ] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
