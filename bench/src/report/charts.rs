//! Which plots a report has: latency by percentile and by rate, rate and latency over time, how busy the cores were.

use serde_json::Value;

use super::{
    Report,
    plot::{Axis, Plot, Series},
    scale::Scale,
};
use crate::monitor::Interval;

/// Cores that get a line each; of more, the busiest and the mean do.
const CORES_MAX: usize = 8;

/// Intervals that begin later than this after the end of the one before, in seconds, are not joined.
const GAP_MAX: f64 = 0.02;

/// Every plot of a report that has something to show.
pub fn plots(report: &Report) -> Vec<Plot> {
    [percentiles(report), by_rate(report), rate(report), latency(report), cores(report)]
        .into_iter()
        .flatten()
        .collect()
}

fn percentiles(report: &Report) -> Option<Plot> {
    let series = |distribution: &super::hgrm::Distribution| {
        let points = distribution.points().into_iter().filter(|point| point.percentile < 100.0);
        let line = points.map(|point| (inverse(point.percentile), point.us)).collect();
        Series { name: distribution.name.clone(), lines: vec![line], is_reference: false }
    };
    let series: Vec<Series> = report.distributions.iter().map(series).collect();
    let all = || series.iter().flat_map(|series| &series.lines).flatten();
    let most = all().map(|(inverse, _)| *inverse).fold(10.0, f64::max);
    all().next()?;
    let decades = (most.log10() + 1e-9).floor() as u32;
    let tick = |decade: u32| (10_f64.powi(decade as i32), percentile_label(decade));
    let x = Axis {
        title: format!("part that took at most so long, {}", report.times),
        scale: Scale::Logarithmic { from: 1.0, to: most },
        ticks: Some((0..=decades).map(tick).collect()),
        label: |value| format!("{value:.0}"),
    };
    let y = us_axis(report.times, all().map(|(_, us)| *us));
    Some(Plot { id: "percentiles", title: "Latency by percentile".into(), x, y, series })
}

/// 1 / (1 - p): what a percentile's axis is the logarithm of.
fn inverse(percentile: f64) -> f64 {
    1.0 / (1.0 - percentile / 100.0)
}

/// The percentile at 10 to the power of `decade` on that axis: 0 %, 90 %, 99 %, 99.9 %.
fn percentile_label(decade: u32) -> String {
    let digits = decade.saturating_sub(2) as usize;
    let percentile = 100.0 - 100.0 / 10_f64.powi(decade as i32);
    format!("{percentile:.digits$} %")
}

/// Latency of each step of `saturate` by its rate, where two rates or more were tried.
fn by_rate(report: &Report) -> Option<Plot> {
    let steps = report.details.get("steps")?.as_array()?;
    let line = |time: &str| {
        let point = |step: &Value| {
            let rate = step["planned_messages_per_second"].as_f64()?;
            Some((rate, step["latency_us"][time].as_f64()?))
        };
        let mut points: Vec<(f64, f64)> = steps.iter().filter_map(point).collect();
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        points
    };
    let [p50, p99] = [line("p50"), line("p99")];
    let ends = p50.first().zip(p50.last()).filter(|((first, _), (last, _))| first < last);
    let ((first, _), (last, _)) = ends?;
    let limit = report.details.get("p99_below_us").and_then(Value::as_f64);
    let limit = limit.map(|limit| vec![(*first, limit), (*last, limit)]);
    let rates: Vec<f64> = p50.iter().map(|(rate, _)| *rate).collect();
    let lines =
        [("p50", Some(p50), false), ("p99", Some(p99), false), ("limit of p99", limit, true)];
    let series: Vec<Series> = lines
        .into_iter()
        .filter_map(|(name, line, is_reference)| {
            Some(Series { name: name.into(), lines: vec![line?], is_reference })
        })
        .collect();
    let x = Axis {
        title: "messages per second, as planned".into(),
        scale: Scale::fitting(rates.iter().copied()),
        ticks: None,
        label: rate_label,
    };
    let times: Vec<f64> =
        series.iter().flat_map(|series| &series.lines[0]).map(|(_, us)| *us).collect();
    let y = us_axis(report.times, times.iter().copied());
    Some(Plot { id: "steps", title: "Latency by rate".into(), x, y, series })
}

fn rate(report: &Report) -> Option<Plot> {
    let own = over_time(report, "delivered", |interval| Some(interval.messages_per_second))?;
    let mut series = vec![own];
    if let (Some(ceiling), Some(end)) = (report.ceiling_messages_per_second, end(report))
        && report.command != "ceiling"
    {
        let line = vec![(0.0, ceiling), (end, ceiling)];
        let name = "ceiling, median".into();
        series.push(Series { name, lines: vec![line], is_reference: true });
    }
    let values =
        series.iter().flat_map(|series| series.lines.iter().flatten()).map(|(_, rate)| *rate);
    let y = Axis {
        title: "messages per second".into(),
        scale: Scale::from_zero(values),
        ticks: None,
        label: rate_label,
    };
    let title = "Rate over time".into();
    Some(Plot { id: "rate", title, x: time_axis(report), y, series })
}

fn latency(report: &Report) -> Option<Plot> {
    let p50 = over_time(report, "p50", |interval| interval.p50_us)?;
    let p99 = over_time(report, "p99", |interval| interval.p99_us)?;
    let series = vec![p50, p99];
    let values = series.iter().flat_map(|series| series.lines.iter().flatten()).map(|(_, us)| *us);
    let y = us_axis(report.times, values);
    let title = "Latency over time".into();
    Some(Plot { id: "latency", title, x: time_axis(report), y, series })
}

fn cores(report: &Report) -> Option<Plot> {
    let count = report.intervals.iter().map(|interval| interval.cpu_busy.len()).max()?;
    let series: Vec<Series> = if count <= CORES_MAX {
        let core = |core: usize| {
            over_time(report, &format!("core {core}"), move |interval| {
                interval.cpu_busy.get(core).map(|busy| busy * 100.0)
            })
        };
        (0..count).filter_map(core).collect()
    } else {
        let busiest = |interval: &Interval| interval.cpu_busy.iter().copied().reduce(f64::max);
        let mean = |interval: &Interval| {
            let count = interval.cpu_busy.len();
            (count > 0).then(|| interval.cpu_busy.iter().sum::<f64>() / count as f64)
        };
        let percent = |name: &str, part: &dyn Fn(&Interval) -> Option<f64>| {
            over_time(report, name, |interval| Some(part(interval)? * 100.0))
        };
        let mean_name = format!("mean of {count} cores");
        [percent("busiest core", &busiest), percent(&mean_name, &mean)]
            .into_iter()
            .flatten()
            .collect()
    };
    series.first()?;
    let y = Axis {
        title: "time busy, of everything that runs".into(),
        scale: Scale::Linear { from: 0.0, to: 100.0 },
        ticks: None,
        label: |value| format!("{value:.0} %"),
    };
    let title = "CPU by core".into();
    Some(Plot { id: "cores", title, x: time_axis(report), y, series })
}

/// A line over the intervals' middles, broken where nothing was measured; `None` without any value.
fn over_time(
    report: &Report,
    name: &str,
    value: impl Fn(&Interval) -> Option<f64>,
) -> Option<Series> {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut end = f64::NEG_INFINITY;
    for interval in &report.intervals {
        let Some(value) = value(interval) else { continue };
        if interval.at_s - end > GAP_MAX {
            lines.push(Vec::new());
        }
        end = interval.at_s + interval.seconds;
        let line = lines.last_mut().expect("the first interval began a line");
        line.push((interval.at_s + interval.seconds / 2.0, value));
    }
    (!lines.is_empty()).then(|| Series { name: name.into(), lines, is_reference: false })
}

fn end(report: &Report) -> Option<f64> {
    report.intervals.last().map(|interval| interval.at_s + interval.seconds)
}

fn time_axis(report: &Report) -> Axis {
    let has_baseline = report.ceiling_messages_per_second.or(report.ratio_to_raw_p50).is_some();
    let title = if has_baseline && report.command != "ceiling" {
        "seconds since the run began; gaps: its baseline's turn"
    } else {
        "seconds since the run began"
    };
    Axis {
        title: title.into(),
        scale: Scale::Linear { from: 0.0, to: end(report).unwrap_or(1.0) },
        ticks: None,
        label: |value| format!("{} s", (value * 100.0).round() / 100.0),
    }
}

fn us_axis(times: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
    Axis { title: times.into(), scale: Scale::fitting(values), ticks: None, label: us_label }
}

/// Microseconds in a unit that keeps them short.
pub fn us_label(us: f64) -> String {
    let (value, unit) = match us {
        us if us >= 1e6 => (us / 1e6, "s"),
        us if us >= 1e3 => (us / 1e3, "ms"),
        us => (us, "µs"),
    };
    format!("{} {unit}", short(value))
}

/// A number per second in a unit that keeps it short.
pub fn rate_label(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{} M/s", short(rate / 1e6)),
        rate if rate >= 1e3 => format!("{} k/s", short(rate / 1e3)),
        rate => format!("{}/s", short(rate)),
    }
}

/// Three significant digits at least, without zeros behind the point.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

#[cfg(test)]
mod tests {
    //! Goal: a plot for everything that was measured, none for what was not, and gaps stay gaps.
    use serde_json::json;

    use super::*;

    fn report(cores: usize) -> Report {
        let interval = |at_s: f64| Interval {
            at_s,
            seconds: 0.1,
            messages_per_second: 1e6,
            p50_us: Some(12.0),
            p99_us: Some(20.0),
            cpu_busy: vec![0.5; cores],
            ..Interval::default()
        };
        let mut report = Report::unmeasured("latency", 64);
        report.intervals = [0.0, 0.1, 0.6, 0.7].map(interval).to_vec();
        report
    }

    fn ids(report: &Report) -> Vec<&'static str> {
        plots(report).iter().map(|plot| plot.id).collect()
    }

    #[test]
    fn what_was_not_measured_has_no_plot() {
        assert_eq!(ids(&Report::unmeasured("throughput", 64)), [""; 0]);
        assert_eq!(ids(&report(2)), ["rate", "latency", "cores"]);
        let mut without = report(0);
        without.intervals.iter_mut().for_each(|interval| interval.p50_us = None);
        assert_eq!(ids(&without), ["rate"]);
    }

    #[test]
    fn steps_are_a_line_by_their_rates() {
        let step = |rate: f64, p50: f64| {
            let latency = json!({"p50": p50, "p99": p50 * 2.0});
            json!({"planned_messages_per_second": rate, "latency_us": latency})
        };
        let silent = json!({"planned_messages_per_second": 9.0, "latency_us": null});
        let of = |steps: Value| {
            let report = Report::unmeasured("saturate", 64).with("p99_below_us", 200.0);
            plots(&report.with("steps", steps))
        };
        let plots = of(json!([step(2e3, 40.0), step(1e3, 10.0), silent, step(4e3, 400.0)]));
        let [plot] = plots.as_slice() else { panic!("{plots:?}") };
        let lines = plot.series.iter().map(|series| series.lines[0].clone());
        let wanted = [
            vec![(1e3, 10.0), (2e3, 40.0), (4e3, 400.0)],
            vec![(1e3, 20.0), (2e3, 80.0), (4e3, 800.0)],
            vec![(1e3, 200.0), (4e3, 200.0)],
        ];
        assert_eq!((plot.id, lines.collect::<Vec<_>>()), ("steps", wanted.to_vec()));
        assert!(of(json!([step(1e3, 5.0), step(1e3, 6.0)])).is_empty(), "one rate is no line");
    }

    #[test]
    fn time_without_measurement_breaks_the_line() {
        let plots = plots(&report(2));
        let lengths: Vec<usize> = plots[0].series[0].lines.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
    }

    #[test]
    fn many_cores_become_two_lines() {
        let series = |cores| plots(&report(cores)).last().unwrap().series.len();
        assert_eq!((series(2), series(8), series(9)), (2, 8, 2));
    }

    #[test]
    fn labels_are_short_and_have_units() {
        assert_eq!([1.0, 12.34, 1500.0, 2e6].map(us_label), ["1 µs", "12.3 µs", "1.5 ms", "2 s"]);
        assert_eq!([0.0, 999.0, 15.58e6].map(rate_label), ["0/s", "999/s", "15.6 M/s"]);
        assert_eq!(
            [0, 1, 2, 3, 5].map(percentile_label),
            ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]
        );
    }
}
