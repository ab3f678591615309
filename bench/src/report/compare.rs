//! Two runs beside each other: a ratio per figure, with the noise that the slices of both show, and a verdict.
//!
//! The noise of a figure is half of what its slices spread, over its median; that of a ratio of two is the root of the sum of their
//! squares. A ratio within it says nothing. A figure of a single slice has no band and gets no verdict.

use std::{fmt::Write as _, fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    REPORT_FILE, SCHEMA,
    limit::{BASELINE_RATIO, Figure, loss},
};
use crate::{
    error::{BenchError, Result},
    stats::{LatencySummary, median, spread},
};

/// Details that say what was asked for, not what came out: a difference in one makes the figures those of two things.
const SETTINGS: [&str; 14] = [
    "mode",
    "datagram_bytes",
    "rate_per_second",
    "load",
    "sizes",
    "flows",
    "choice",
    "seed",
    "peers",
    "messages_per_visit",
    "messages_per_call",
    "outstanding",
    "p99_below_us",
    "baseline",
];

/// A report as it was kept; fields that a comparison does not need are passed over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Kept {
    schema: String,
    command: String,
    label: String,
    backend: Option<String>,
    executor: Option<String>,
    size_bytes: u64,
    shards: usize,
    wait: Option<String>,
    messages_per_second: Option<f64>,
    sent: Option<u64>,
    lost: Option<u64>,
    ratio_to_ceiling: Option<f64>,
    latency_us: Option<LatencySummary>,
    raw_latency_us: Option<LatencySummary>,
    ratio_to_raw_p50: Option<f64>,
    slices: Vec<KeptSlice>,
    surroundings: Option<KeptSurroundings>,
    warnings: Vec<String>,
    #[serde(default)]
    details: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct KeptSlice {
    messages_per_second: Option<f64>,
    baseline_messages_per_second: Option<f64>,
    latency_us: Option<LatencySummary>,
    baseline_latency_us: Option<LatencySummary>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct KeptSurroundings {
    cpu: Option<String>,
    kernel: Option<String>,
}

/// What a comparison of one figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Beyond the noise, and for the good.
    Better,
    /// Beyond the noise, and for the bad.
    Worse,
    /// Within the noise.
    NoDifference,
    /// A run of one slice: nobody knows its noise.
    NoBand,
}

/// One figure of two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The report's label.
    pub label: String,
    /// The figure's name.
    pub figure: &'static str,
    /// Its value in the first run: microseconds, messages per second, or a part.
    pub first: f64,
    /// Its value in the second.
    pub second: f64,
    /// The second over the first; null when the first is 0.
    pub ratio: Option<f64>,
    /// How far from 1 the ratio may be by noise alone.
    pub noise: Option<f64>,
    /// What that says of the second run.
    pub verdict: Verdict,
}

/// Two runs beside each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Every figure that both have.
    pub figures: Vec<Compared>,
    /// What else differs, and reasons to doubt one of them.
    pub notes: Vec<String>,
}

/// Reads the reports in `path`, a file or a folder of `--out`: an object, or an array of them.
///
/// # Errors
///
/// `Argument` when it cannot be read or is no report of this schema.
pub fn read(path: &Path) -> Result<Vec<Kept>> {
    // What `--out` made is a folder.
    let path = if path.is_dir() { &path.join(REPORT_FILE) } else { path };
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        BenchError::Argument(format!(
            "cannot read {name} ({error}): give a file that --json wrote, or a folder of --out"
        ))
    })?;
    let wrong = |what: String| BenchError::Argument(format!("{name}: {what}"));
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("no JSON, so not written by --json: {error}")))?;
    let values = match value {
        serde_json::Value::Array(values) => values,
        value => vec![value],
    };
    let kept = |value: serde_json::Value| {
        let schema = value["schema"].as_str().unwrap_or("none").to_owned();
        if schema.starts_with("cubed-bench-scale/") {
            return Err(wrong(
                "a sheet of `scale`; this compares reports of the other commands".into(),
            ));
        }
        if schema != SCHEMA {
            return Err(wrong(format!(
                "its schema is {schema}; this reads {SCHEMA}: measure again"
            )));
        }
        serde_json::from_value(value).map_err(|error| wrong(format!("no report: {error}")))
    };
    values.into_iter().map(kept).collect()
}

/// Compares the reports that have the same label in both runs; where each run has only one, those.
///
/// # Errors
///
/// `Argument` when no label is in both, or they have no figure in common.
pub fn compare(first: &[Kept], second: &[Kept]) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let pairs: Vec<(&Kept, &Kept)> = if let ([first], [second]) = (first, second) {
        vec![(first, second)]
    } else {
        let same = |one: &Kept| second.iter().find(|other| other.label == one.label);
        first.iter().filter_map(|one| Some((one, same(one)?))).collect()
    };
    let alone = |which: &str, runs: &[Kept], is_paired: &dyn Fn(&Kept) -> bool| {
        let alone = runs.iter().filter(|kept| !is_paired(kept));
        alone.map(|kept| format!("{}: only in the {which} run", kept.label)).collect::<Vec<_>>()
    };
    let is_first = |kept: &Kept| pairs.iter().any(|(first, _)| std::ptr::eq(*first, kept));
    let is_second = |kept: &Kept| pairs.iter().any(|(_, second)| std::ptr::eq(*second, kept));
    comparison.notes.extend(alone("first", first, &is_first));
    comparison.notes.extend(alone("second", second, &is_second));
    for (first, second) in pairs {
        comparison.notes.extend(differences(first, second));
        comparison
            .figures
            .extend(Figure::ALL.into_iter().filter_map(|figure| compared(figure, first, second)));
    }
    if comparison.figures.is_empty() {
        return Err(BenchError::Argument("the two runs have no figure in common".into()));
    }
    Ok(comparison)
}

fn compared(figure: Figure, first: &Kept, second: &Kept) -> Option<Compared> {
    let [a, b] = [first, second].map(|kept| kept.value(figure));
    let (a, b) = (a?, b?);
    let ratio = (a > 0.0).then(|| b / a);
    let noise = if figure == Figure::Loss {
        chance_of_loss(first, second)
    } else {
        first.noise(figure).zip(second.noise(figure)).map(|(one, other)| one.hypot(other))
    };
    // Loss is compared as it is: no loss at all is a common value, and a ratio to it is none.
    let change = if figure == Figure::Loss { b - a } else { change(ratio?) };
    let verdict = match noise {
        None => Verdict::NoBand,
        Some(noise) if change.abs() <= noise => Verdict::NoDifference,
        Some(_) if (change > 0.0) == first.more_is_better(figure) => Verdict::Better,
        Some(_) => Verdict::Worse,
    };
    let label = first.label.clone();
    Some(Compared { label, figure: figure.name(), first: a, second: b, ratio, noise, verdict })
}

/// How far a ratio is from 1: half as much is as far as twice as much, on the other side.
fn change(ratio: f64) -> f64 {
    if ratio >= 1.0 { ratio - 1.0 } else { 1.0 - 1.0 / ratio.max(f64::MIN_POSITIVE) }
}

/// How far two parts of loss may be apart by chance: two standard deviations, each loss independent of the others.
fn chance_of_loss(first: &Kept, second: &Kept) -> Option<f64> {
    let variance = |kept: &Kept| {
        let sent = kept.sent.filter(|sent| *sent > 0)? as f64;
        Some(kept.lost? as f64 / (sent * sent))
    };
    Some(2.0 * (variance(first)? + variance(second)?).sqrt())
}

impl Kept {
    fn value(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Rate => self.messages_per_second,
            Figure::Loss => loss(self.lost?, self.sent?),
            Figure::Ratio => self
                .ratio_to_ceiling
                .or(self.ratio_to_raw_p50)
                .or_else(|| self.details.get(BASELINE_RATIO)?.as_f64()),
            _ => of_latency(figure, self.latency_us.or(self.raw_latency_us)?),
        }
    }

    fn more_is_better(&self, figure: Figure) -> bool {
        match figure {
            Figure::Rate => true,
            Figure::Ratio => self.ratio_to_raw_p50.is_none(),
            _ => false,
        }
    }

    /// Half of the spread of the slices over their median; `None` for fewer than two.
    fn noise(&self, figure: Figure) -> Option<f64> {
        let of = |slice: &KeptSlice| match figure {
            Figure::Rate => slice.messages_per_second,
            Figure::Loss => None,
            Figure::Ratio => slice.ratio(),
            _ => of_latency(figure, slice.latency_us?),
        };
        let values: Vec<f64> = self.slices.iter().filter_map(of).collect();
        if values.len() < 2 {
            return None;
        }
        let median = median(&values).filter(|median| *median > 0.0)?;
        Some(spread(&values)? / 2.0 / median)
    }
}

impl KeptSlice {
    fn ratio(&self) -> Option<f64> {
        let rates = self.messages_per_second.zip(self.baseline_messages_per_second);
        let latencies = self.latency_us.zip(self.baseline_latency_us);
        let latencies = latencies.map(|(own, baseline)| (own.p50, baseline.p50));
        let (own, baseline) = rates.or(latencies)?;
        (baseline > 0.0).then(|| own / baseline)
    }
}

fn of_latency(figure: Figure, latency: LatencySummary) -> Option<f64> {
    match figure {
        Figure::P50 => Some(latency.p50),
        Figure::P90 => Some(latency.p90),
        Figure::P99 => Some(latency.p99),
        Figure::P999 => Some(latency.p999),
        Figure::Max => Some(latency.max),
        Figure::Rate | Figure::Loss | Figure::Ratio => None,
    }
}

/// What else is not the same in two reports, and what each warned of.
fn differences(first: &Kept, second: &Kept) -> Vec<String> {
    let named = |text: Option<&str>| text.unwrap_or("none").to_owned();
    let machine = |kept: &Kept| {
        let found = kept.surroundings.as_ref();
        let part = |part: fn(&KeptSurroundings) -> &Option<String>| {
            named(found.and_then(|found| part(found).as_deref()))
        };
        format!("{} with Linux {}", part(|found| &found.cpu), part(|found| &found.kernel))
    };
    let setting = |kept: &Kept, name: &str| match kept.details.get(name) {
        None | Some(Value::Null) => "none".into(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let of = |kept: &Kept| {
        let settings = SETTINGS.map(|name| (name, setting(kept, name)));
        let fields = [
            ("command", kept.command.clone()),
            ("size_bytes", kept.size_bytes.to_string()),
            ("shards", kept.shards.to_string()),
            ("backend", named(kept.backend.as_deref())),
            ("executor", named(kept.executor.as_deref())),
            ("wait", named(kept.wait.as_deref())),
            ("machine", machine(kept)),
        ];
        fields.into_iter().chain(settings)
    };
    let pairs = of(first).zip(of(second));
    let differing = pairs.filter(|((_, one), (_, other))| one != other);
    let note = |((name, one), (_, other)): ((&str, String), (&str, String))| {
        format!("{}: {name} differs: {one} and {other}", first.label)
    };
    let warned = [("first", first), ("second", second)];
    let warned = warned.into_iter().flat_map(|(which, kept)| {
        kept.warnings.iter().map(move |warning| format!("{}: {which} run: {warning}", kept.label))
    });
    differing.map(note).chain(warned).collect()
}

impl Comparison {
    /// True when a figure of the second run is worse, beyond the noise.
    pub fn is_worse(&self) -> bool {
        self.figures.iter().any(|compared| compared.verdict == Verdict::Worse)
    }

    /// The comparison as a table, with the notes below.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<14} {:<6} {:>16} {:>16} {:>8} {:>8}  {}\n",
            "report", "figure", "first", "second", "ratio", "noise", "second is"
        );
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
        for compared in &self.figures {
            let figure = Figure::ALL.into_iter().find(|figure| figure.name() == compared.figure);
            let [first, second] = [compared.first, compared.second]
                .map(|value| figure.map_or_else(String::new, |figure| figure.text(value)));
            let (ratio, noise) = (number(compared.ratio), number(compared.noise));
            let verdict = match compared.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::NoDifference => "no different",
                Verdict::NoBand => "unknown: one slice",
            };
            let (label, figure) = (&compared.label, compared.figure);
            writeln!(
                text,
                "{label:<14} {figure:<6} {first:>16} {second:>16} {ratio:>8} {noise:>8}  {verdict}"
            )
            .expect("writing to a string does not fail");
        }
        for note in &self.notes {
            writeln!(text, "note: {note}").expect("writing to a string does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests;
