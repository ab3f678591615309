//! Reports as text for a terminal: a line each, with what makes a figure doubtful below.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{ONE_WAY, ROUND_TRIP, Report};
use crate::stats::LatencySummary;

/// The reports as a table, one line each; latencies stand below the throughputs, and figures of one command alone below both.
pub fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    let throughputs = reports.iter().filter(|report| report.messages_per_second.is_some());
    for (index, report) in throughputs.enumerate() {
        if index == 0 {
            line(&mut text, &THROUGHPUT_HEADINGS.map(str::to_owned));
        }
        line(&mut text, &throughput_cells(report));
    }
    for times in [ROUND_TRIP, ONE_WAY] {
        let of_these = reports.iter().filter(|report| report.times == times);
        let mut latencies = of_these.flat_map(latency_lines).peekable();
        if latencies.peek().is_some() {
            let mut headings = LATENCY_HEADINGS;
            headings[0] = times;
            line(&mut text, &headings.map(str::to_owned));
        }
        for cells in latencies {
            line(&mut text, &cells);
        }
    }
    for report in reports {
        detail_lines(&mut text, report);
    }
    let mut told: Vec<&String> = Vec::new();
    for warning in reports.iter().flat_map(|report| &report.warnings) {
        if !told.contains(&warning) {
            writeln!(text, "warning: {warning}").expect("writing to a string does not fail");
            told.push(warning);
        }
    }
    if reports.iter().any(|report| report.disturbed) {
        text.push_str("machine disturbed: the ceiling is under its floor, so no ratio is given\n");
    }
    text
}

const THROUGHPUT_HEADINGS: [&str; CELLS] = [
    "throughput",
    "bytes",
    "M msg/s",
    "Gb/s",
    "lost",
    "dup",
    "msg/dgram",
    "ceil. M/s",
    "ratio",
    "goal",
];

/// The first is what the times are of.
const LATENCY_HEADINGS: [&str; CELLS] =
    ["", "bytes", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "lost", "ratio", "goal"];

/// Columns of the table.
const CELLS: usize = 10;

fn line(text: &mut String, cells: &[String; CELLS]) {
    for (index, cell) in cells.iter().enumerate() {
        let written =
            if index == 0 { write!(text, "{cell:<13}") } else { write!(text, " {cell:>10}") };
        written.expect("writing to a string does not fail");
    }
    text.push('\n');
}

fn throughput_cells(report: &Report) -> [String; CELLS] {
    let ratio = match (report.ratio_to_ceiling, report.ratio_spread) {
        (Some(ratio), Some(spread)) => format!("{ratio:.2}+-{:.2}", spread / 2.0),
        _ => "-".into(),
    };
    [
        report.label.clone(),
        report.size_bytes.to_string(),
        cell(report.messages_per_second, 1e6),
        cell(report.goodput_gbps, 1.0),
        count_cell(report.lost),
        count_cell(report.duplicated),
        cell(report.messages_per_datagram, 1.0),
        cell(report.ceiling_messages_per_second, 1e6),
        ratio,
        report.verdict(),
    ]
}

fn latency_lines(report: &Report) -> Vec<[String; CELLS]> {
    let cells = |name: &str, summary: LatencySummary, lost, ratio, verdict| {
        let LatencySummary { p50, p90, p99, p999, max } = summary;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|us| cell(Some(us), 1.0));
        let bytes = report.size_bytes.to_string();
        [name.into(), bytes, p50, p90, p99, p999, max, lost, ratio, verdict]
    };
    let own = report.latency_us.map(|summary| {
        let ratio = cell(report.ratio_to_raw_p50, 1.0);
        cells(&report.label, summary, count_cell(report.lost), ratio, report.verdict())
    });
    let raw = report.raw_latency_us.map(|summary| {
        let lost = if own.is_some() { "-".into() } else { count_cell(report.lost) };
        cells("raw UDP", summary, lost, "-".into(), "-".into())
    });
    own.into_iter().chain(raw).collect()
}

/// One line for each figure that was measured; of a list of objects one line for each.
fn detail_lines(text: &mut String, report: &Report) {
    let mut told = |name: &str, value: &str| {
        writeln!(text, "{:<13} {name} {value}", report.label)
            .expect("writing to a string does not fail");
    };
    for (name, value) in &report.details {
        match value {
            Value::Null => {}
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    told(&format!("{name}[{index}]"), &detail_text(item));
                }
            }
            value => told(name, &detail_text(value)),
        }
    }
}

/// A figure as a line has it.
fn detail_text(value: &Value) -> String {
    let Value::Object(fields) = value else { return scalar_text(value) };
    let parts = detail_parts(fields).into_iter().map(|(name, value)| format!("{name} {value}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The figures of an object by name, and those of times within it. What is longer than a line is in the JSON object alone.
pub(super) fn detail_parts(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(inner) if inner.contains_key("p50") => {
                let times = ["p50", "p99", "max"].into_iter().filter_map(|time| {
                    Some((format!("{name} {time}"), scalar_text(inner.get(time)?)))
                });
                parts.extend(times);
            }
            Value::Null | Value::Object(_) | Value::Array(_) => {}
            value => parts.push((name.clone(), scalar_text(value))),
        }
    }
    parts
}

/// A number, a word, or a list of them.
pub(super) fn scalar_text(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(value) => cell(Some(value), 1.0),
        None => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

fn cell(value: Option<f64>, unit: f64) -> String {
    match value.map(|value| value / unit) {
        None => "-".into(),
        Some(value) if value.abs() < 1.0 => format!("{value:.4}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn count_cell(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    //! Goal: a terminal gets words and numbers, never the object's own text.
    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_words_and_numbers() {
        let times = json!({"p50": 1.5, "p90": 2.0, "p99": 3.0, "max": 9.0});
        let step = |failure: Value| json!({"rate": 10.0, "latency_us": times, "failure": failure});
        let report = Report::unmeasured("saturate", 64)
            .with("steps", json!([step(Value::Null), step(json!("p99"))]))
            .with("highest", Value::Null)
            .with("agents", json!([{"address": "a", "counters": {"sent": 1}}]))
            .with("answered", json!([5, 6]))
            .with("unloaded_us", times.clone());
        let text = table(&[report]);
        let lines: Vec<&str> = text.lines().map(|line| line.split_at(14).1).collect();
        let wanted = [
            "agents[0] address a",
            "answered [5,6]",
            "steps[0] latency_us p50 1.50, latency_us p99 3.00, latency_us max 9.00, rate 10.00",
            "steps[1] failure p99, latency_us p50 1.50, latency_us p99 3.00, latency_us max 9.00, rate 10.00",
            "unloaded_us max 9.00, p50 1.50, p90 2.00, p99 3.00",
        ];
        assert_eq!(lines, wanted);
    }
}
