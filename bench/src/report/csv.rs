//! Intervals of a run as comma-separated values: a row each, numbers with a point, empty where nothing was measured.

use std::fmt::Write as _;

use super::Report;
use crate::monitor::Interval;

/// The intervals of all reports of a run; the first column says whose, the last ones are the cores.
pub fn text(reports: &[Report]) -> String {
    let cores = reports.iter().flat_map(|report| &report.intervals);
    let cores = cores.map(|interval| interval.cpu_busy.len()).max().unwrap_or_default();
    let mut text = String::from(
        "label,at_s,seconds,slice,messages_per_second,p50_us,p99_us,retransmissions,cpu_stolen",
    );
    for core in 0..cores {
        write!(text, ",cpu{core}_busy").expect("writing to a string does not fail");
    }
    text.push('\n');
    for report in reports {
        for interval in &report.intervals {
            text.push_str(&row(&report.label, interval, cores));
        }
    }
    text
}

fn row(label: &str, interval: &Interval, cores: usize) -> String {
    let optional =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    let Interval { at_s, seconds, slice, messages_per_second, retransmissions, .. } = interval;
    let (p50, p99) = (optional(interval.p50_us), optional(interval.p99_us));
    let mut row = format!(
        "{},{at_s:.6},{seconds:.6},{slice},{messages_per_second:.1},{p50},{p99},{retransmissions},{:.4}",
        quoted(label),
        interval.cpu_stolen
    );
    for core in 0..cores {
        let busy = interval.cpu_busy.get(core);
        row.push(',');
        row.push_str(&busy.map_or_else(String::new, |busy| format!("{busy:.4}")));
    }
    row.push('\n');
    row
}

/// RFC 4180: a field with a comma or a quote stands in quotes, and quotes in it are doubled.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every row has a field for every heading, and an interval's numbers stand under theirs.
    use super::*;

    #[test]
    fn rows_have_the_fields_of_the_heading() {
        let interval = Interval {
            at_s: 0.5,
            seconds: 0.1,
            slice: 2,
            messages_per_second: 1e6,
            p50_us: Some(12.5),
            retransmissions: 3,
            cpu_busy: vec![0.25, 1.0],
            ..Interval::default()
        };
        let mut report = Report::unmeasured("latency", 64).labelled("a, b");
        report.intervals = vec![interval.clone(), Interval { cpu_busy: Vec::new(), ..interval }];
        let text = text(&[report]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("cpu_stolen,cpu0_busy,cpu1_busy"), "{text}");
        assert_eq!(
            lines[1],
            "\"a, b\",0.500000,0.100000,2,1000000.0,12.500,,3,0.0000,0.2500,1.0000"
        );
        assert!(lines[2].ends_with(",3,0.0000,,"), "{text}");
    }
}
