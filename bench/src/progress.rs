//! How a run goes, on stderr: a bar that is drawn over on a terminal, else a plain line once a second.
//!
//! Lines for stdout go through [`print()`], so that a bar on the same terminal is not written into.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    monitor::Interval,
    stats::{LatencySummary, latency_histogram},
};

/// Cores that are named one by one; of more, the mean and the busiest are told.
const CORES_MAX: usize = 8;

/// Seconds between two plain lines.
const LINE_SECONDS: f64 = 1.0;

static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on nothing is told of how runs go.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// True after [`be_quiet`].
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

fn terminal() -> &'static MultiProgress {
    static TERMINAL: OnceLock<MultiProgress> = OnceLock::new();
    TERMINAL.get_or_init(MultiProgress::new)
}

/// Prints one line on stdout, above the bar if there is one. A reader that went away (`| head`) does not end a measurement.
pub fn print(text: &str) {
    terminal().suspend(|| {
        let _ = writeln!(io::stdout(), "{text}");
    });
}

/// Takes whatever is drawn on the terminal away: the process ends.
pub fn leave() {
    // A terminal that is gone needs no clearing.
    let _ = terminal().clear();
}

/// Where the state of one run is shown.
#[derive(Debug)]
pub struct Progress {
    name: String,
    sink: Sink,
    measured_s: f64,
    since_line: Sum,
}

#[derive(Debug)]
enum Sink {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

/// What happened since the last line.
#[derive(Debug)]
struct Sum {
    seconds: f64,
    messages: f64,
    retransmissions: u64,
    latencies: Histogram<u64>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { seconds: 0.0, messages: 0.0, retransmissions: 0, latencies: latency_histogram() }
    }
}

impl Progress {
    /// Shows a run of what is called `name`, which measures for `planned`, as fits stderr; nothing when asked to be quiet.
    pub fn of(name: &str, planned: Duration) -> Self {
        let sink = if is_quiet() {
            Sink::Nothing
        } else if io::stderr().is_terminal() {
            Sink::Bar(bar(name, planned))
        } else {
            Sink::Lines
        };
        Self { sink, name: name.into(), ..Self::silent() }
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        let (name, since_line) = (String::new(), Sum::default());
        Self { name, sink: Sink::Nothing, measured_s: 0.0, since_line }
    }

    /// Shows a run that will have measured for `planned` in all.
    pub fn plan(&self, planned: Duration) {
        if let Sink::Bar(bar) = &self.sink {
            bar.set_length(planned.as_millis() as u64);
        }
    }

    /// Takes one interval, with its latencies in ns.
    pub fn show(&mut self, interval: &Interval, latencies: &Histogram<u64>) {
        self.measured_s += interval.seconds;
        if let Sink::Bar(bar) = &self.sink {
            bar.set_position((self.measured_s * 1e3) as u64);
            let latency = LatencySummary::of(latencies);
            let (rate, again) = (interval.messages_per_second, interval.retransmissions);
            bar.set_message(state(rate, latency, again, &interval.cpu_busy));
            return;
        }
        let sum = &mut self.since_line;
        sum.seconds += interval.seconds;
        sum.messages += interval.messages_per_second * interval.seconds;
        sum.retransmissions += interval.retransmissions;
        // All histograms of latencies have the same bounds.
        let _ = sum.latencies.add(latencies);
        if sum.seconds >= LINE_SECONDS {
            let sum = std::mem::take(&mut self.since_line);
            let latency = LatencySummary::of(&sum.latencies);
            let rate = sum.messages / sum.seconds;
            let state = state(rate, latency, sum.retransmissions, &interval.cpu_busy);
            if matches!(self.sink, Sink::Lines) {
                // Nobody reads stderr: no reason to stop.
                let _ = writeln!(io::stderr(), "{:>6.1} s {}: {state}", self.measured_s, self.name);
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Sink::Bar(bar) = &self.sink {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, planned: Duration) -> ProgressBar {
    let bar = ProgressBar::new(planned.as_millis() as u64);
    let style = ProgressStyle::with_template("{prefix} {bar:10} {percent:>3} %  {wide_msg}");
    let style = style.expect("a constant template is valid");
    bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    bar.set_prefix(name.to_owned());
    terminal().add(bar)
}

/// One interval in words.
fn state(rate: f64, latency: Option<LatencySummary>, again: u64, busy: &[f64]) -> String {
    let latency = latency.map_or_else(String::new, |LatencySummary { p50, p99, .. }| {
        format!(", p50 {p50:.1} us, p99 {p99:.1} us")
    });
    let busy = if busy.is_empty() { String::new() } else { format!(", {}", busy_text(busy)) };
    format!("{}{latency}, {again} sent again{busy}", rate_text(rate))
}

/// A rate with a unit that keeps it short.
pub fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M msg/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k msg/s", rate / 1e3),
        rate => format!("{rate:.0} msg/s"),
    }
}

fn busy_text(busy: &[f64]) -> String {
    let percent = |part: f64| (part * 100.0).round() as u64;
    if busy.len() > CORES_MAX {
        let mean = busy.iter().sum::<f64>() / busy.len() as f64;
        let most = busy.iter().copied().fold(0.0, f64::max);
        return format!("{} cores {} %, busiest {} %", busy.len(), percent(mean), percent(most));
    }
    let each: Vec<String> = busy.iter().map(|part| percent(*part).to_string()).collect();
    format!("cores {} %", each.join(" "))
}

#[cfg(test)]
mod tests {
    //! Goal: a line has rate, percentiles, retransmissions and cores, each with its unit.
    use super::*;

    #[test]
    fn a_line_names_everything_with_units() {
        let latency = LatencySummary { p50: 12.34, p90: 15.0, p99: 20.0, p999: 30.0, max: 40.0 };
        assert_eq!(
            state(15.5e6, Some(latency), 7, &[0.98, 0.5]),
            "15.50 M msg/s, p50 12.3 us, p99 20.0 us, 7 sent again, cores 98 50 %"
        );
        assert_eq!(state(1200.0, None, 0, &[]), "1.2 k msg/s, 0 sent again");
        assert_eq!(state(1200.0, None, 0, &[1.0]), "1.2 k msg/s, 0 sent again, cores 100 %");
    }

    #[test]
    fn of_many_cores_the_mean_and_the_busiest_are_told() {
        let busy = [vec![1.0], vec![0.0; 15]].concat();
        assert_eq!(busy_text(&busy), "16 cores 6 %, busiest 100 %");
    }
}
