//! What was measured, as a table and as JSON.
//!
//! A figure is the median of its runs. A ratio is the median of the ratios of the runs: rate of Cubed by rate of the stack, and time
//! of Cubed by time of the stack, so that Cubed is ahead above 1 in rates and below 1 in times.

use std::fmt::Write as _;

use cubed_peers::load::Checks;
use serde_json::{Map, Value as Json, json};

use crate::run::{WORKLOADS, Wait};

/// All of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) runs: usize,
    /// How Cubed waited.
    pub(crate) wait: Wait,
    pub(crate) cubed: Row,
    pub(crate) rows: Vec<Row>,
    /// Stacks that were not measured, and why.
    pub(crate) skipped: Vec<(&'static str, String)>,
}

/// One stack.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) security: &'static str,
    /// Whether a message that is missing is a fault, or else a result.
    pub(crate) is_reliable: bool,
    /// One for each workload.
    pub(crate) cells: Vec<Cell>,
}

/// One stack under one workload.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// One value of each run; `None` where it failed or was disturbed.
    pub(crate) runs: Vec<Option<Value>>,
    /// Runs that are left out since one side stood still in them.
    pub(crate) disturbed: usize,
    pub(crate) failures: Vec<String>,
    /// Those of all runs.
    pub(crate) checks: Checks,
}

/// What one measurement gives: messages per second alone, or p50 and p99 in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value {
    main: f64,
    tail: Option<f64>,
}

impl Value {
    pub(crate) fn rate(messages_per_second: f64) -> Self {
        Self { main: messages_per_second, tail: None }
    }

    pub(crate) fn times((p50_us, p99_us): (f64, f64)) -> Self {
        Self { main: p50_us, tail: Some(p99_us) }
    }
}

impl Row {
    pub(crate) fn new(name: &'static str, security: &'static str, is_reliable: bool) -> Self {
        let cells = WORKLOADS.iter().map(|_| Cell::default()).collect();
        Self { name, security, is_reliable, cells }
    }

    /// Whether nothing arrived that should not have, and of a reliable stack all that was sent.
    fn is_right(&self, cell: &Cell) -> bool {
        let missing = if self.is_reliable { cell.checks.missing } else { 0 };
        Checks { missing, ..cell.checks }.is_clean()
    }
}

impl Cell {
    fn main(&self) -> Option<f64> {
        median(self.runs.iter().flatten().map(|value| value.main).collect())
    }

    fn tail(&self) -> Option<f64> {
        median(self.runs.iter().flatten().filter_map(|value| value.tail).collect())
    }

    /// Part of the messages that never arrived.
    fn lost(&self) -> f64 {
        self.checks.missing as f64 / (self.checks.messages + self.checks.missing).max(1) as f64
    }

    /// Median of the runs' ratios to this cell.
    fn ratio_of(&self, cubed: &Cell) -> Option<f64> {
        let pairs = self.runs.iter().zip(&cubed.runs);
        median(pairs.filter_map(|(own, cubed)| Some((*cubed)?.main / (*own)?.main)).collect())
    }
}

impl Report {
    pub(crate) fn new(seconds: f64, runs: usize, wait: Wait) -> Self {
        let cubed = Row::new("cubed", "TLS 1.3", true);
        Self { seconds, runs, wait, cubed, rows: Vec::new(), skipped: Vec::new() }
    }

    /// Whether everything that was to be measured was, and all that was sent arrived once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.all()
            .all(|row| row.cells.iter().all(|cell| cell.failures.is_empty() && row.is_right(cell)))
    }

    fn all(&self) -> impl Iterator<Item = &Row> {
        std::iter::once(&self.cubed).chain(&self.rows)
    }

    /// The table as Markdown, with what failed and what was left out below it.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| stack | security | reliable |");
        for workload in WORKLOADS {
            let _ = write!(text, " {} |", workload.name);
        }
        let _ = write!(text, "\n| --- | --- | --- |{}\n", " --- |".repeat(WORKLOADS.len()));
        for row in self.all().filter(|row| row.cells.iter().any(|cell| !cell.runs.is_empty())) {
            let reliable = if row.is_reliable { "yes" } else { "no" };
            let _ = write!(text, "| {} | {} | {reliable} |", row.name, row.security);
            for (cell, cubed) in row.cells.iter().zip(&self.cubed.cells) {
                let ratio = cell.ratio_of(cubed).filter(|_| row.name != self.cubed.name);
                let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
                let lost = cell.lost();
                let lost = if row.is_reliable || lost == 0.0 {
                    String::new()
                } else {
                    format!(", {:.1} % lost", lost * 100.0)
                };
                let _ = write!(text, " {}{ratio}{lost} |", shown(cell));
            }
            text.push('\n');
        }
        let (runs, seconds, wait) = (self.runs, self.seconds, self.wait.name());
        let _ = writeln!(
            text,
            "\nMedian of {runs} runs of {seconds} s; echo: p50 / p99; Cubed's wait: {wait}. In parentheses Cubed's value by the stack's: \
             Cubed is ahead above 1 in rates, below 1 in times (p50)."
        );
        for row in self.all() {
            for (cell, workload) in row.cells.iter().zip(WORKLOADS) {
                self.complain(&mut text, row, cell, workload.name);
            }
        }
        for (name, why) in &self.skipped {
            let _ = writeln!(text, "skipped {name}: {why}");
        }
        text
    }

    fn complain(&self, text: &mut String, row: &Row, cell: &Cell, workload: &str) {
        if let Some(failure) = cell.failures.first() {
            let (count, runs) = (cell.failures.len(), self.runs);
            let _ = writeln!(text, "FAILED {}, {workload}, {count} of {runs}: {failure}", row.name);
        }
        if cell.disturbed > 0 {
            let (count, runs) = (cell.disturbed, self.runs);
            let _ = writeln!(
                text,
                "disturbed {}, {workload}: {count} of {runs} runs left out, in which one side stood still",
                row.name
            );
        }
        if !row.is_right(cell) {
            let Checks { messages, wrong_length, missing, repeated } = cell.checks;
            let _ = writeln!(
                text,
                "FAULTY {}, {workload}: of {messages} messages {wrong_length} of a wrong length, \
                 {missing} missing, {repeated} late or repeated",
                row.name
            );
        }
    }

    /// The same as JSON.
    pub(crate) fn json(&self, facts: &[String]) -> Json {
        let rows: Vec<Json> = self
            .all()
            .flat_map(|row| {
                row.cells
                    .iter()
                    .zip(&self.cubed.cells)
                    .zip(WORKLOADS)
                    .filter(|((cell, _), _)| !cell.runs.is_empty())
                    .map(|((cell, cubed), workload)| {
                        let main: Vec<_> =
                            cell.runs.iter().map(|run| run.map(|v| v.main)).collect();
                        let tail: Vec<_> =
                            cell.runs.iter().map(|run| run.and_then(|v| v.tail)).collect();
                        json!({
                            "stack": row.name,
                            "security": row.security,
                            "reliable": row.is_reliable,
                            "workload": workload.key,
                            "size_bytes": workload.size,
                            "unit": if workload.is_echo { "us" } else { "messages/s" },
                            "median": cell.main(),
                            "runs": main,
                            "median_p99": cell.tail(),
                            "runs_p99": if workload.is_echo { tail } else { Vec::new() },
                            "lost": cell.lost(),
                            "cubed_by_stack": cell.ratio_of(cubed),
                            "checks": cell.checks,
                            "disturbed": cell.disturbed,
                            "failures": cell.failures,
                        })
                    })
            })
            .collect();
        let skipped: Vec<Json> =
            self.skipped.iter().map(|(name, why)| json!({ "stack": name, "why": why })).collect();
        let wait = ("cubed_wait", self.wait.name());
        let facts: Map<String, Json> = facts
            .iter()
            .filter_map(|fact| fact.split_once('='))
            .chain([wait])
            .map(|(name, text)| (name.to_owned(), text.into()))
            .collect();
        json!({
            "schema": "cubed-peers/2",
            "facts": facts,
            "seconds": self.seconds,
            "runs": self.runs,
            "rows": rows,
            "skipped": skipped,
        })
    }
}

fn shown(cell: &Cell) -> String {
    match (cell.main(), cell.tail()) {
        (Some(p50), Some(p99)) => format!("{p50:.1} / {p99:.1} us"),
        (Some(rate), None) if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        (Some(rate), None) => format!("{:.1} k/s", rate / 1e3),
        (None, _) if !cell.failures.is_empty() => "failed".into(),
        (None, _) if cell.disturbed > 0 => "disturbed".into(),
        (None, _) => "-".into(),
    }
}

/// The middle of the values, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: ratios pair the runs, and what went wrong is said.
    use super::*;

    fn cell(runs: &[Option<f64>]) -> Cell {
        let runs = runs.iter().map(|run| run.map(Value::rate)).collect();
        Cell { runs, ..Cell::default() }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_runs_ratios() {
        let cubed = cell(&[Some(4.0), Some(9.0), Some(10.0)]);
        let own = cell(&[Some(2.0), Some(3.0), Some(1.0)]);
        assert_eq!(own.ratio_of(&cubed), Some(3.0));
        let own = cell(&[None, Some(3.0), None]);
        assert_eq!(own.ratio_of(&cubed), Some(3.0), "only runs that both have");
        assert_eq!(cell(&[]).ratio_of(&cubed), None);
    }

    #[test]
    fn failures_and_missing_messages_are_in_the_table() {
        let mut report = Report::new(2.0, 1, Wait::Park);
        report.rows.push(Row::new("tcp", "none", true));
        let found = report.table();
        assert!(report.is_clean() && !found.contains("| tcp |"), "never measured");
        assert!(found.contains("Cubed's wait: park"), "{found}");
        assert_eq!(
            report.json(&["cpu=x".into()])["facts"],
            json!({ "cpu": "x", "cubed_wait": "park" })
        );
        report.rows[0].cells[0] = cell(&[Some(2.5e6)]);
        report.rows[0].cells[1].runs.push(None);
        report.rows[0].cells[1].failures.push("why not".into());
        report.rows[0].cells[0].checks.missing = 7;
        report.rows[0].cells[2] = Cell { runs: vec![None], disturbed: 1, ..Cell::default() };
        let found = report.table();
        assert!(!report.is_clean());
        assert!(found.contains("| tcp | none | yes | 2.50 M/s | failed | disturbed |"), "{found}");
        assert!(found.contains("FAILED tcp, one-way 64 B, 1 of 1: why not"), "{found}");
        assert!(found.contains("7 missing"), "{found}");
    }

    #[test]
    fn of_an_unreliable_stack_losses_are_a_result_and_doubles_a_fault() {
        let mut report = Report::new(2.0, 1, Wait::Park);
        report.rows.push(Row::new("loose", "none", false));
        report.rows[0].cells[0] = cell(&[Some(2.5e6)]);
        report.rows[0].cells[0].checks = Checks { messages: 90, missing: 10, ..Checks::default() };
        assert!(report.is_clean());
        let found = report.table();
        assert!(found.contains("| loose | none | no | 2.50 M/s, 10.0 % lost |"), "{found}");
        report.rows[0].cells[0].checks.repeated = 1;
        assert!(!report.is_clean() && report.table().contains("FAULTY loose"));
    }
}
