//! What a command hands back: one JSON object of fixed fields, and a plain table.
//!
//! The fields are the same for every command; what was not measured is null. New fields come with
//! a new schema name.

use std::{fmt::Write as _, fs, path::Path};

use cubed::Machine;
use serde::Serialize;

use crate::{
    error::{BenchError, Result},
    floor::is_disturbed,
    goal::{self, Goal},
    pairs::{LatencyRun, ThroughputRun},
    stats::{LatencySummary, median, spread},
    subject::{LatencySlice, ThroughputSlice},
};

/// Name of the fields' meaning; changes when a field does.
pub const SCHEMA: &str = "cubed-bench/2";

/// Result of one command. Everything is counted at the receiver unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Sub-command that measured this.
    pub command: &'static str,
    /// The driver that moved the measuring node's datagrams: uring or epoll; null for baselines.
    pub backend: Option<String>,
    /// What ran its tasks: glommio or portable; null for baselines.
    pub executor: Option<String>,
    /// Body bytes of one message.
    pub size_bytes: u64,
    /// Seconds measured, all slices of the command's own subject together.
    pub seconds: f64,
    /// Messages delivered per second: median of the slices.
    pub messages_per_second: Option<f64>,
    /// 10^9 body bits delivered per second: median of the slices.
    pub goodput_gbps: Option<f64>,
    /// Messages sent, as counted at the sender; for latency, questions.
    pub sent: Option<u64>,
    /// Distinct messages delivered; for latency, answers.
    pub delivered: Option<u64>,
    /// Messages sent and not delivered.
    pub lost: Option<u64>,
    /// Messages that arrived once more.
    pub duplicated: Option<u64>,
    /// Datagrams in one send call, mean.
    pub datagrams_per_send: Option<f64>,
    /// Messages in one datagram, mean; below 1 when a message takes several.
    pub messages_per_datagram: Option<f64>,
    /// Messages per second of the ceiling in the same run: median of its slices.
    pub ceiling_messages_per_second: Option<f64>,
    /// Rate over the ceiling's rate: median over the pairs of slices. Null when `disturbed`.
    pub ratio_to_ceiling: Option<f64>,
    /// Largest minus smallest ratio over the pairs, of whichever ratio this report has. Null with
    /// it.
    pub ratio_spread: Option<f64>,
    /// True when the ceiling is under the floor of its size, so that no ratio to it holds.
    pub disturbed: bool,
    /// Round trip in microseconds.
    pub latency_us: Option<LatencySummary>,
    /// Round trip of plain UDP in the same run and wait mode, in microseconds.
    pub raw_latency_us: Option<LatencySummary>,
    /// p50 of the round trip over that of plain UDP: median over the pairs of slices.
    pub ratio_to_raw_p50: Option<f64>,
    /// Name in the table; not part of the object.
    #[serde(skip)]
    pub label: String,
    /// What the ratio should be; not part of the object.
    #[serde(skip)]
    pub goal: Option<Goal>,
}

impl Report {
    /// A report of `command` in which nothing is measured yet.
    pub fn unmeasured(command: &'static str, size_bytes: usize) -> Self {
        Self {
            schema: SCHEMA,
            command,
            backend: None,
            executor: None,
            size_bytes: size_bytes as u64,
            seconds: 0.0,
            messages_per_second: None,
            goodput_gbps: None,
            sent: None,
            delivered: None,
            lost: None,
            duplicated: None,
            datagrams_per_send: None,
            messages_per_datagram: None,
            ceiling_messages_per_second: None,
            ratio_to_ceiling: None,
            ratio_spread: None,
            disturbed: false,
            latency_us: None,
            raw_latency_us: None,
            ratio_to_raw_p50: None,
            label: command.into(),
            goal: None,
        }
    }

    /// Report of a subject's throughput, beside the ceiling if that was its baseline.
    pub fn of_throughput(
        command: &'static str,
        size_bytes: usize,
        datagram_bytes: usize,
        run: &ThroughputRun,
    ) -> Self {
        let total = run.subject_total();
        let mut report = Self::unmeasured(command, size_bytes);
        report.set_throughput(&total, run.subject_rate());
        report.ceiling_messages_per_second = run.baseline_rate();
        report.disturbed = run
            .baseline_rate()
            .is_some_and(|ceiling| is_disturbed(size_bytes, datagram_bytes, ceiling));
        if !report.disturbed {
            report.ratio_to_ceiling = run.ratio();
            report.ratio_spread = run.ratio_spread();
        }
        report.goal = Some(goal::THROUGHPUT);
        report
    }

    /// Report of the ceiling alone: its rate stands in both fields, and there is no ratio.
    pub fn of_ceiling(size_bytes: usize, datagram_bytes: usize, run: &ThroughputRun) -> Self {
        let mut report = Self::of_throughput("ceiling", size_bytes, datagram_bytes, run);
        report.ceiling_messages_per_second = report.messages_per_second;
        report.disturbed = report
            .messages_per_second
            .is_some_and(|ceiling| is_disturbed(size_bytes, datagram_bytes, ceiling));
        report
    }

    /// Report of a subject's round trips, beside plain UDP if that was its baseline, with a goal for
    /// its ratio if there is one.
    pub fn of_latency(
        command: &'static str,
        size_bytes: usize,
        run: &LatencyRun,
        goal: Option<Goal>,
    ) -> Self {
        let mut report = Self::unmeasured(command, size_bytes);
        report.set_round_trips(&run.subject);
        report.latency_us = LatencySummary::of(&run.subject.histogram);
        report.raw_latency_us = LatencySummary::of(&run.baseline.histogram);
        report.ratio_to_raw_p50 = median(&run.ratios);
        report.ratio_spread = spread(&run.ratios);
        report.goal = goal;
        report
    }

    /// Report of plain UDP alone: its round trips are the raw ones, and there is no ratio.
    pub fn of_raw_latency(size_bytes: usize, slice: &LatencySlice) -> Self {
        let mut report = Self::unmeasured("raw-latency", size_bytes);
        report.set_round_trips(slice);
        report.raw_latency_us = LatencySummary::of(&slice.histogram);
        report
    }

    fn set_throughput(&mut self, total: &ThroughputSlice, rate: Option<f64>) {
        self.seconds = total.seconds;
        self.messages_per_second = rate;
        self.goodput_gbps = rate.map(|rate| rate * self.size_bytes as f64 * 8.0 / 1e9);
        self.sent = Some(total.sent);
        self.delivered = Some(total.delivered);
        self.lost = Some(total.lost());
        self.duplicated = Some(total.duplicated);
        self.datagrams_per_send = quotient(total.datagrams, total.sends);
        self.messages_per_datagram = quotient(total.sent, total.datagrams);
    }

    fn set_round_trips(&mut self, slice: &LatencySlice) {
        self.seconds = slice.seconds;
        self.sent = Some(slice.sent);
        self.delivered = Some(slice.histogram.len());
        self.lost = Some(slice.lost);
    }

    /// The same report of nodes that run on `machine`.
    #[must_use]
    pub fn on(mut self, machine: Machine) -> Self {
        self.backend = Some(machine.driver.to_string());
        self.executor = Some(machine.executor.to_string());
        self
    }

    /// The same report under another name in the table.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Writes the report to `path` as one JSON object.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the text names it.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    fn verdict(&self) -> String {
        let ratio = self.ratio_to_ceiling.or(self.ratio_to_raw_p50);
        match (self.goal, ratio) {
            (Some(goal), Some(ratio)) => goal.verdict(ratio),
            _ => "-".into(),
        }
    }
}

/// Writes one report, or several, to `path` as JSON.
///
/// # Errors
///
/// When the file cannot be written; the text names it.
pub fn write_json(path: &Path, reports: &(impl Serialize + ?Sized)) -> Result<()> {
    let mut text = serde_json::to_string_pretty(reports)
        .map_err(|error| BenchError::Argument(format!("report not encodable: {error}")))?;
    text.push('\n');
    fs::write(path, text).map_err(BenchError::system(format!("write {}", path.display())))
}

fn quotient(count: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| count as f64 / by as f64)
}

/// The reports as a table, one line each; latencies stand below the throughputs.
pub fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    let throughputs = reports.iter().filter(|report| report.messages_per_second.is_some());
    for (index, report) in throughputs.enumerate() {
        if index == 0 {
            line(&mut text, &THROUGHPUT_HEADINGS.map(str::to_owned));
        }
        line(&mut text, &throughput_cells(report));
    }
    let mut latencies = reports.iter().flat_map(latency_lines).peekable();
    if latencies.peek().is_some() {
        line(&mut text, &LATENCY_HEADINGS.map(str::to_owned));
    }
    for cells in latencies {
        line(&mut text, &cells);
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

const LATENCY_HEADINGS: [&str; CELLS] = [
    "round trip",
    "bytes",
    "p50 us",
    "p90 us",
    "p99 us",
    "p99.9 us",
    "max us",
    "lost",
    "ratio",
    "goal",
];

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
mod tests;
