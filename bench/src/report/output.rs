//! Where results go besides the terminal: a folder with everything, or single files by format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{
    REPORT_FILE, Report, csv, html,
    limit::{Figure, Limit},
    place,
};
use crate::error::{BenchError, Result};

/// Where results go besides the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Write everything to the folder DIR, which is made: report.json,
    /// report.html, intervals.csv, and a .hgrm for each distribution of latencies
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Write the result to FILE as one JSON object; the tour's are an array
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub json: Option<PathBuf>,
    /// Write the latencies to FILE in `HdrHistogram`'s percentile format; of several distributions each gets FILE with its name
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub hgrm: Option<PathBuf>,
    /// Write a page with plots to FILE, which needs no other file and no network
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub html: Option<PathBuf>,
    /// Write what happened in each interval to FILE, one row per interval
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub csv: Option<PathBuf>,
    /// Milliseconds of each interval, 100 to 1000; without it a hundredth of the run as far as that allows; 0 for
    /// none, and nothing is shown while it runs
    #[arg(long, value_name = "MS", help_heading = "Results")]
    pub interval: Option<u64>,
    /// End with exit status 3 when a figure is beyond BOUND, as in 'p99>200us': p50, p90, p99, p99.9, max (ns, us, ms, s), rate (k, M),
    /// loss (a part, or %), ratio; by >, >=, < or <=. Repeat it for several
    #[arg(long, value_name = "BOUND", help_heading = "Results")]
    pub fail_if: Vec<Limit>,
}

impl OutputArgs {
    /// Looks, before anything is measured, whether the results can go where they are to go and whether a command whose reports
    /// never have the figures of `without` is asked for one.
    ///
    /// # Errors
    ///
    /// `Argument` for a place that cannot be written, a bound of such a figure, and `--hgrm` where no time is measured.
    pub fn prepare(&self, without: &[Figure]) -> Result<()> {
        if let Some(folder) = &self.out {
            place::folder(folder)?;
        }
        for file in [&self.json, &self.hgrm, &self.html, &self.csv].into_iter().flatten() {
            place::file(file)?;
        }
        if self.hgrm.is_some() && without.contains(&Figure::P50) {
            return Err(no_latency());
        }
        let mut limits = self.fail_if.iter();
        match limits.find(|limit| without.contains(&limit.figure())) {
            None => Ok(()),
            Some(limit) => Err(BenchError::Argument(format!(
                "--fail-if '{limit}': this command measures no such figure; its others are {}",
                Figure::ALL
                    .into_iter()
                    .filter(|figure| !without.contains(figure))
                    .map(Figure::name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// Writes the reports of one run to every place that was asked for.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; the text names it. `Argument` when there are no latencies for `--hgrm`.
    pub fn write(&self, reports: &[Report]) -> Result<()> {
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder)
                .map_err(BenchError::system(format!("make the folder {}", folder.display())))?;
            write_json(&folder.join(REPORT_FILE), reports)?;
            write_html(&folder.join("report.html"), reports)?;
            write_text(&folder.join("intervals.csv"), &csv::text(reports))?;
            for (name, text) in histograms(reports) {
                write_text(&folder.join(format!("{name}.hgrm")), &text)?;
            }
        }
        if let Some(path) = &self.json {
            write_json(path, reports)?;
        }
        if let Some(path) = &self.html {
            write_html(path, reports)?;
        }
        if let Some(path) = &self.csv {
            write_text(path, &csv::text(reports))?;
        }
        self.hgrm.as_deref().map_or(Ok(()), |path| write_histograms(path, reports))
    }
}

fn write_json(path: &Path, reports: &[Report]) -> Result<()> {
    write_text(path, &json(reports)?)
}

fn write_html(path: &Path, reports: &[Report]) -> Result<()> {
    write_text(path, &html::page(reports, &json(reports)?))
}

impl OutputArgs {
    /// Checks the bounds of `--fail-if`.
    ///
    /// # Errors
    ///
    /// `Limit` with a line for each bound that a report violates, or that nothing could keep; `Argument` when no report has the figure
    /// of one, `Machine` when that is the machine's fault.
    pub fn check(&self, reports: &[Report]) -> Result<()> {
        let mut violations = Vec::new();
        for limit in &self.fail_if {
            let checks: Vec<_> = reports.iter().filter_map(|report| limit.check(report)).collect();
            if checks.is_empty() {
                match reports.iter().find_map(|report| report.nothing) {
                    Some(why) => {
                        violations.push(format!("{why}, so --fail-if '{limit}' does not hold"));
                    }
                    None => return Err(not_measured(limit, reports)),
                }
            }
            violations.extend(checks.into_iter().flatten());
        }
        if violations.is_empty() { Ok(()) } else { Err(BenchError::Limit(violations.join("\n"))) }
    }
}

fn not_measured(limit: &Limit, reports: &[Report]) -> BenchError {
    if limit.figure() == Figure::Ratio && reports.iter().any(|report| report.disturbed) {
        return BenchError::Machine(format!(
            "--fail-if '{limit}': a disturbed machine gives no ratio; repeat it when nothing else runs"
        ));
    }
    BenchError::Argument(format!("--fail-if '{limit}': this run measured no such figure"))
}

fn no_latency() -> BenchError {
    BenchError::Argument("--hgrm: this command measures no latency".into())
}

/// One report is an object, several are an array.
fn json(reports: &[Report]) -> Result<String> {
    let text = match reports {
        [report] => serde_json::to_string_pretty(report),
        reports => serde_json::to_string_pretty(reports),
    };
    let text =
        text.map_err(|error| BenchError::Argument(format!("report not encodable: {error}")))?;
    Ok(text + "\n")
}

/// Writes anything else than reports to `path` as JSON.
///
/// # Errors
///
/// When the file cannot be written; the text names it.
pub fn write_object(path: &Path, object: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(object);
    let text = text.map_err(|error| BenchError::Argument(format!("not encodable: {error}")))?;
    write_text(path, &(text + "\n"))
}

/// The first distribution goes to `path` itself, the others beside it.
fn write_histograms(path: &Path, reports: &[Report]) -> Result<()> {
    let histograms = histograms(reports);
    if histograms.is_empty() {
        return Err(no_latency());
    }
    for (index, (name, text)) in histograms.iter().enumerate() {
        let beside = path.with_extension(format!("{name}.hgrm"));
        write_text(if index == 0 { path } else { &beside }, text)?;
    }
    Ok(())
}

/// Every distribution with a name for its file.
fn histograms(reports: &[Report]) -> Vec<(String, String)> {
    let each = reports.iter().flat_map(|report| {
        report.distributions.iter().map(move |distribution| {
            let name = file_name(&report.label);
            let is_first = report.distributions[0].name == distribution.name;
            let name =
                if is_first { name } else { format!("{name}.{}", file_name(&distribution.name)) };
            (name, distribution.text())
        })
    });
    each.collect()
}

/// `label` as a file's name: words joined by hyphens.
fn file_name(label: &str) -> String {
    let letters = label.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' });
    letters.collect::<String>().to_lowercase()
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(BenchError::system(format!("write {}", path.display())))
}
