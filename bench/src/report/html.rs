//! Reports as one page that needs nothing else: style sheet, plots and the JSON object are inside it, and no script runs.
//!
//! Always holds: the page's own policy forbids it to load anything or run anything.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Report,
    charts::{plots, rate_label, us_label},
    plot::escaped,
    table::{detail_parts, scalar_text},
};
use crate::surroundings::Surroundings;

const STYLE: &str = include_str!("page.css");

/// What a browser may do with the page: use its style sheet, nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The page of the reports of one run; `json` is their object, kept inside for other programs.
pub fn page(reports: &[Report], json: &str) -> String {
    let title = match reports {
        [report] => format!("cubed-bench {}", report.command),
        _ => "cubed-bench".to_owned(),
    };
    let title = escaped(&title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    let surroundings = reports.iter().find_map(|report| report.surroundings.as_ref());
    if let Some(surroundings) = surroundings {
        writeln!(page, "<p class=\"soft\">{}</p>", escaped(&surroundings.line())).expect(WRITES);
    }
    page += &warnings(reports);
    for report in reports {
        page += &section(report);
    }
    page += &surroundings.map(machine).unwrap_or_default();
    // Within a text of JSON this is the same letter, and no end of the element that keeps the object.
    let json = json.replace('<', "\\u003c");
    page + &format!(
        "<script type=\"application/json\" id=\"report\">\n{json}</script>\n</body>\n</html>\n"
    )
}

const WRITES: &str = "writing to a string does not fail";

fn warnings(reports: &[Report]) -> String {
    let mut told: Vec<String> = Vec::new();
    for report in reports {
        let disturbed = "machine disturbed: the ceiling is under its floor, so no ratio is given";
        let disturbed = report.disturbed.then(|| disturbed.to_owned());
        for warning in report.warnings.iter().cloned().chain(disturbed) {
            if !told.contains(&warning) {
                told.push(warning);
            }
        }
    }
    if told.is_empty() {
        return String::new();
    }
    let items = told.iter().map(|warning| format!("<li>{}</li>", escaped(warning)));
    let items: String = items.collect();
    format!("<div class=\"warning\" role=\"note\"><b>Doubtful:</b><ul>{items}</ul></div>\n")
}

/// What the nodes ran on and how they waited, as far as it is known.
fn node_line(report: &Report) -> String {
    let node = report.backend.as_ref().zip(report.executor.as_ref());
    let node = node.map(|(backend, executor)| {
        format!("driver {backend}, executor {executor}, shards a side {}", report.shards)
    });
    let wait = report.wait.map(|wait| format!("waits: {wait}"));
    let seconds = Some(format!("{:.1} s measured", report.seconds));
    let parts: Vec<String> = [seconds, node, wait].into_iter().flatten().collect();
    format!("<p class=\"soft\">{}</p>\n", escaped(&parts.join("; ")))
}

fn section(report: &Report) -> String {
    let heading = format!("{}, {} bytes", report.label, report.size_bytes);
    let mut text = format!(
        "<section>\n<h2>{}</h2>\n{}<dl class=\"figures\">\n",
        escaped(&heading),
        node_line(report)
    );
    for (name, value) in figures(report) {
        writeln!(text, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(&name), escaped(&value))
            .expect(WRITES);
    }
    text += "</dl>\n<div class=\"plots\">\n";
    for plot in plots(report) {
        text += &plot.figure();
    }
    text += "</div>\n";
    for (name, value) in &report.details {
        text += &list(name, value);
    }
    text + "</section>\n"
}

/// A table of a detail that is an object, or of several; nothing of what is a figure.
fn list(name: &str, value: &Value) -> String {
    let items = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
        Value::Object(fields) => vec![fields],
        _ => Vec::new(),
    };
    let rows: Vec<_> = items.into_iter().map(detail_parts).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let heading = |name: &str| format!("<th scope=\"col\">{}</th>", escaped(&spaced(name)));
    let head: String = names.iter().map(|name| heading(name)).collect();
    let cell = |row: &[(String, String)], name: &str| {
        let found = row.iter().find(|(other, _)| other == name);
        format!("<td>{}</td>", found.map_or_else(String::new, |(_, value)| escaped(value)))
    };
    let line = |row: &Vec<(String, String)>| {
        let cells: String = names.iter().map(|name| cell(row, name)).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let lines: String = rows.iter().map(line).collect();
    let name = escaped(&spaced(name));
    format!(
        "<h3>{name}</h3>\n<div class=\"list\"><table>\n<tr>{head}</tr>\n{lines}</table></div>\n"
    )
}

/// A field's name as words.
fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// The figures of a report by name, as far as they were measured.
fn figures(report: &Report) -> Vec<(String, String)> {
    let mut figures = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        figures.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("messages", report.messages_per_second.map(rate_label));
    add("goodput", report.goodput_gbps.map(|rate| format!("{rate:.2} Gb/s")));
    if let Some(latency) = report.latency_us.or(report.raw_latency_us) {
        add("p50", Some(us_label(latency.p50)));
        add("p99", Some(us_label(latency.p99)));
        add("p99.9", Some(us_label(latency.p999)));
        add("longest", Some(us_label(latency.max)));
    }
    let spread =
        report.ratio_spread.map_or_else(String::new, |spread| format!(" ± {:.2}", spread / 2.0));
    add("of the ceiling", report.ratio_to_ceiling.map(|ratio| format!("{ratio:.2}{spread}")));
    add("p50 over plain UDP", report.ratio_to_raw_p50.map(|ratio| format!("{ratio:.2}{spread}")));
    add("lost", report.lost.map(|count| count.to_string()));
    add("doubled", report.duplicated.map(|count| count.to_string()));
    let resent = report.intervals.iter().map(|interval| interval.retransmissions).sum::<u64>();
    add("blocks sent again", (!report.intervals.is_empty()).then(|| resent.to_string()));
    for (name, value) in &report.details {
        let is_list = value.as_array().is_some_and(|items| items.iter().any(Value::is_object));
        let is_figure = !is_list && !value.is_object() && !value.is_null();
        add(&spaced(name), is_figure.then(|| scalar_text(value)));
    }
    figures
}

fn machine(found: &Surroundings) -> String {
    let unknown = || "unknown".to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let number = |value: Option<f64>| value.map_or_else(unknown, |value| format!("{value:.2}"));
    let core = |value: Option<usize>| value.map_or_else(unknown, |core| core.to_string());
    let cores: Vec<String> = found.cores.iter().map(usize::to_string).collect();
    let governors: Vec<&str> = found.governors.iter().map(String::as_str).collect();
    let offload = |has: bool| if has { "yes" } else { "no" };
    let mut rows = vec![
        ("processor", text(&found.cpu)),
        ("kernel", text(&found.kernel)),
        ("cores of this process", cores.join(", ")),
        (
            "sender, receiver pinned to",
            format!("{}, {}", core(found.sender_core), core(found.receiver_core)),
        ),
        ("governors", if governors.is_empty() { "none".into() } else { governors.join(", ") }),
        (
            "CPU limit of the control group, cores",
            found.quota_cores.map_or_else(|| "none".into(), |quota| format!("{quota:.2}")),
        ),
        ("cores busy before the run", number(found.busy_cores)),
        ("load average before the run", number(found.load_average)),
    ];
    if let Some(socket) = found.socket {
        rows.push(("GSO, GRO", format!("{}, {}", offload(socket.gso), offload(socket.gro))));
        rows.push((
            "receive buffer, as read back and as asked for, bytes",
            format!("{}, {}", socket.recv_buffer_bytes, socket.recv_buffer_requested_bytes),
        ));
        rows.push((
            "send buffer, as read back and as asked for, bytes",
            format!("{}, {}", socket.send_buffer_bytes, socket.send_buffer_requested_bytes),
        ));
    }
    let build = &found.build;
    rows.push((
        "build",
        format!(
            "{} at {}{}",
            build.version,
            build.commit,
            if build.debug { ", debug" } else { "" }
        ),
    ));
    let row = |(name, value): (&str, String)| {
        format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>\n", escaped(&value))
    };
    let rows: String = rows.into_iter().map(row).collect();
    format!("<h2>Surroundings</h2>\n<table>\n{rows}</table>\n")
}

#[cfg(test)]
mod tests {
    //! Goal: the page is whole, keeps its object readable, and lets no text of a report become part of the page.
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_keeps_the_object_and_shows_no_foreign_markup() {
        let mut report = Report::unmeasured("latency", 64).labelled("</script><b>x</b>");
        report.warnings.push("<i>busy</i>".into());
        let json = serde_json::to_string(&report).unwrap();
        let page = page(&[report], &json);
        assert!(!page.contains("<b>x") && !page.contains("<i>busy"), "{page}");
        let (_, kept) = page.split_once("id=\"report\">").unwrap();
        let (kept, rest) = kept.split_once("</script>").unwrap();
        let kept: serde_json::Value = serde_json::from_str(kept).unwrap();
        assert_eq!(kept["label"], "</script><b>x</b>");
        assert!(rest.trim_start().starts_with("</body>"));
    }

    #[test]
    fn lists_are_tables_and_what_was_not_measured_is_left_out() {
        let step = |rate: f64| json!({"rate_per_second": rate, "latency_us": {"p50": 1.5}});
        let report = Report::unmeasured("saturate", 64)
            .with("steps", json!([step(10.0), {"rate_per_second": 20.0, "failure": "<late>"}]))
            .with("unloaded_us", json!({"p50": 2.5}))
            .with("agents", json!([{"counters": {"sent": 1}}]))
            .with("baseline", Value::Null)
            .with("flows", 7);
        let section = section(&report);
        for wanted in [
            "<h3>steps</h3>",
            "<th scope=\"col\">latency us p50</th><th scope=\"col\">rate per second</th>",
            "<tr><td>1.50</td><td>10.00</td><td></td></tr>",
            "<tr><td></td><td>20.00</td><td>&lt;late&gt;</td></tr>",
            "<h3>unloaded us</h3>",
            "<dt>flows</dt><dd>7</dd>",
        ] {
            assert!(section.contains(wanted), "{wanted}: {section}");
        }
        for foreign in ["{", "null", "baseline", "agents"] {
            assert!(!section.contains(foreign), "{foreign}: {section}");
        }
    }

    #[test]
    fn nothing_is_loaded() {
        let page = page(&[Report::unmeasured("latency", 64)], "{}");
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
        assert!(page.contains("default-src 'none'") && !page.contains("@import"));
    }
}
