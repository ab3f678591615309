//! What a command hands back: one report of fixed fields, which [`mod@table`] prints and [`output`] writes to files.
//!
//! The fields are the same for every command; what was not measured is null or empty. A field keeps its meaning as long as
//! [`SCHEMA`] keeps its name: fields may be added under the same name, so readers pass over those that they do not know.

pub mod hgrm;

pub mod table;

pub mod csv;

pub mod scale;

pub mod plot;

pub mod charts;

pub mod html;

pub mod limit;

pub mod compare;

pub mod place;

pub mod output;

use cubed::{Machine, SpinPolicy};
use serde::Serialize;
use serde_json::{Map, Value};

use self::hgrm::Distribution;
pub use self::table::table;
use crate::{
    error::Result,
    floor::is_disturbed,
    goal::{self, Goal},
    monitor::Interval,
    node::client::Client,
    pairs::{LatencyRun, ThroughputRun},
    stats::{LatencySummary, median, spread},
    subject::{LatencySlice, ThroughputSlice},
    surroundings::{ENCRYPTS, Surroundings, doubts},
};

/// Name of the fields' meaning; changes when a field is taken away or means something else.
pub const SCHEMA: &str = "cubed-bench/3";

/// Name of the object in a folder of `--out`.
pub const REPORT_FILE: &str = "report.json";

/// Ratios of pairs that differ by more than this part of their median say that the machine was not the same to both.
const UNEVEN_PART_MAX: f64 = 0.2;

/// Times from a question to its answer.
pub const ROUND_TRIP: &str = "round trip";

/// Times from when a message was due to its handler.
pub const ONE_WAY: &str = "one way";

/// Result of one command. Everything is counted at the receiver unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Sub-command that measured this.
    pub command: &'static str,
    /// Name of this report among those of one run; its line in the table.
    pub label: String,
    /// The driver that moved the measuring node's datagrams: uring or epoll; null for baselines.
    pub backend: Option<String>,
    /// What ran its tasks: glommio or portable; null for baselines.
    pub executor: Option<String>,
    /// Shards of each node; 1 for baselines.
    pub shards: usize,
    /// How both sides wait: spin, park or adaptive; null where no command chose.
    pub wait: Option<&'static str>,
    /// Runs of datagrams that the kernel refused to segment for the measuring node, and that left singly; null for baselines.
    pub gso_fallbacks: Option<u64>,
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
    /// What times are of: [`ROUND_TRIP`] or [`ONE_WAY`].
    pub times: &'static str,
    /// Round trip, or the way of `times`, in microseconds.
    pub latency_us: Option<LatencySummary>,
    /// The same of plain UDP in the same run and wait mode, in microseconds.
    pub raw_latency_us: Option<LatencySummary>,
    /// p50 of it over that of plain UDP: median over the pairs of slices.
    pub ratio_to_raw_p50: Option<f64>,
    /// The slices, in order: how far the figures above are from each other.
    pub slices: Vec<Slice>,
    /// Points of the distribution of `latency_us`, or of `raw_latency_us` where that alone was measured.
    pub latency_percentiles: Vec<hgrm::Point>,
    /// How it went over the time measured, warm-up left out.
    pub intervals: Vec<Interval>,
    /// The machine and the build; null when nothing gathered them.
    pub surroundings: Option<Surroundings>,
    /// Reasons to doubt the figures.
    pub warnings: Vec<String>,
    /// Figures of this command alone, by name, with the unit as the name's end.
    pub details: Map<String, Value>,
    /// The whole distributions behind the latencies, the command's own first; not part of the object.
    #[serde(skip)]
    pub distributions: Vec<Distribution>,
    /// Why there is nothing to bound, where a run ended with no rate that it may have; not part of the object.
    #[serde(skip)]
    pub nothing: Option<&'static str>,
    /// What the ratio should be; not part of the object.
    #[serde(skip)]
    pub goal: Option<Goal>,
}

/// What one slice of a run gave, beside its baseline's slice of the same pair. What was not measured is null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Slice {
    /// Messages delivered per second.
    pub messages_per_second: Option<f64>,
    /// The same of the baseline.
    pub baseline_messages_per_second: Option<f64>,
    /// Round trip in microseconds.
    pub latency_us: Option<LatencySummary>,
    /// The same of the baseline.
    pub baseline_latency_us: Option<LatencySummary>,
}

impl Report {
    /// A report of `command` in which nothing is measured yet.
    pub fn unmeasured(command: &'static str, size_bytes: usize) -> Self {
        Self {
            schema: SCHEMA,
            command,
            label: command.into(),
            backend: None,
            executor: None,
            shards: 1,
            wait: None,
            gso_fallbacks: None,
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
            times: ROUND_TRIP,
            latency_us: None,
            raw_latency_us: None,
            ratio_to_raw_p50: None,
            slices: Vec::new(),
            latency_percentiles: Vec::new(),
            intervals: Vec::new(),
            surroundings: None,
            warnings: Vec::new(),
            details: Map::new(),
            distributions: Vec::new(),
            nothing: None,
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
        report.slices = throughput_slices(run);
        report.goal = Some(goal::THROUGHPUT);
        report
    }

    /// Report of a subject's throughput beside another baseline than the ceiling: the details name it, with its rate and the
    /// ratio to it.
    pub fn of_throughput_beside(
        command: &'static str,
        size_bytes: usize,
        baseline: &str,
        run: &ThroughputRun,
    ) -> Self {
        let mut report = Self::unmeasured(command, size_bytes);
        report.set_throughput(&run.subject_total(), run.subject_rate());
        report.slices = throughput_slices(run);
        if !run.baseline.is_empty() {
            report.ratio_spread = run.ratio_spread();
            report.detail("baseline", baseline);
            report.detail("baseline_messages_per_second", run.baseline_rate());
            report.detail("ratio_to_baseline", run.ratio());
        }
        report
    }

    /// The same report with a figure of its command alone.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail(name, value);
        self
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
        report.slices = latency_slices(run);
        report.distribute(command, &run.subject);
        report.distribute("raw UDP", &run.baseline);
        report.latency_us = LatencySummary::of(&run.subject.histogram);
        report.raw_latency_us = LatencySummary::of(&run.baseline.histogram);
        report.ratio_to_raw_p50 = median(&run.ratios);
        report.ratio_spread = spread(&run.ratios);
        report.goal = goal;
        report
    }

    /// Report of plain UDP alone: its round trips are the raw ones, and there is no ratio.
    pub fn of_raw_latency(size_bytes: usize, run: &LatencyRun) -> Self {
        let mut report = Self::unmeasured("raw-latency", size_bytes);
        report.set_round_trips(&run.subject);
        report.slices = latency_slices(run);
        report.distribute("raw UDP", &run.subject);
        report.raw_latency_us = LatencySummary::of(&run.subject.histogram);
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

    /// Keeps the distribution of `slice` under `name`, unless it is empty; the first one also as points.
    pub fn distribute(&mut self, name: &str, slice: &LatencySlice) {
        if slice.histogram.is_empty() {
            return;
        }
        let distribution = Distribution { name: name.into(), histogram: slice.histogram.clone() };
        if self.distributions.is_empty() {
            self.latency_percentiles = distribution.points();
        }
        self.distributions.push(distribution);
    }

    /// Adds a figure that only this command has; the unit is the end of its name, as in `first_message_us`.
    pub fn detail(&mut self, name: &str, value: impl Into<Value>) {
        self.details.insert(name.into(), value.into());
    }

    /// Tells where this was measured, and every reason to doubt it.
    #[must_use]
    pub fn within(mut self, surroundings: &Surroundings) -> Self {
        self.warnings.extend(doubts(surroundings, self.shards, self.stolen()));
        if let Some(part) = self.uneven_part().filter(|part| *part > UNEVEN_PART_MAX) {
            self.warnings.push(format!(
                "uneven: the ratios of the pairs spread by {:.0} % of their median; repeat it",
                part * 100.0
            ));
        }
        if let Some(count) = self.gso_fallbacks.filter(|count| *count > 0) {
            self.warnings.push(format!(
                "GSO refused: {count} runs of datagrams left singly; see `cubed doctor`"
            ));
        }
        self.surroundings = Some(surroundings.clone());
        self
    }

    /// How far the ratios of the pairs are apart, as part of their median, whichever ratio this report has.
    fn uneven_part(&self) -> Option<f64> {
        let detail = |name: &str| self.details.get(name).and_then(Value::as_f64);
        let ratio = self
            .ratio_to_ceiling
            .or(self.ratio_to_raw_p50)
            .or_else(|| detail("ratio_to_baseline"))
            .or_else(|| detail("ratio_p99_to_unloaded_p50"));
        let ratio = ratio.filter(|ratio| *ratio > 0.0)?;
        Some(self.ratio_spread? / ratio)
    }

    /// Part of the cores' time that the hypervisor gave to others, mean of the intervals.
    fn stolen(&self) -> f64 {
        let stolen = self.intervals.iter().map(|interval| interval.cpu_stolen).sum::<f64>();
        stolen / self.intervals.len().max(1) as f64
    }

    /// Of a build that does not encrypt, the row says so and has no goal: it is a baseline of its own.
    fn named_by_build(mut self) -> Self {
        if !ENCRYPTS {
            self.label = format!("{}, no AEAD", self.label);
            self.goal = None;
        }
        self
    }

    /// The same report of nodes that wait by `spin`.
    #[must_use]
    pub fn waiting(mut self, spin: SpinPolicy) -> Self {
        self.wait = Some(match spin {
            SpinPolicy::Never => "park",
            SpinPolicy::For(_) => "spin",
            SpinPolicy::Adaptive => "adaptive",
        });
        self
    }

    /// The same report as measured by the node of `client`.
    ///
    /// # Errors
    ///
    /// When the node has stopped.
    pub fn by(mut self, client: &Client) -> Result<Self> {
        self.shards = client.shards();
        self.gso_fallbacks = Some(client.gso_fallbacks()?);
        self.detail("datagram_bytes", client.datagram_bytes());
        Ok(self.on(client.machine()).named_by_build())
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

    fn verdict(&self) -> String {
        let ratio = self.ratio_to_ceiling.or(self.ratio_to_raw_p50);
        match (self.goal, ratio) {
            (Some(goal), Some(ratio)) => goal.verdict(ratio),
            _ => "-".into(),
        }
    }
}

fn throughput_slices(run: &ThroughputRun) -> Vec<Slice> {
    let slice = |(index, slice): (usize, &ThroughputSlice)| Slice {
        messages_per_second: Some(slice.messages_per_second()),
        baseline_messages_per_second: run
            .baseline
            .get(index)
            .map(ThroughputSlice::messages_per_second),
        ..Slice::default()
    };
    run.subject.iter().enumerate().map(slice).collect()
}

fn latency_slices(run: &LatencyRun) -> Vec<Slice> {
    let slice = |(index, summary): (usize, &Option<LatencySummary>)| Slice {
        latency_us: *summary,
        baseline_latency_us: run.baseline_slices.get(index).copied().flatten(),
        ..Slice::default()
    };
    run.subject_slices.iter().enumerate().map(slice).collect()
}

fn quotient(count: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| count as f64 / by as f64)
}

#[cfg(test)]
mod tests;
