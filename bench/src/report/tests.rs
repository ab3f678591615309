//! Goal: a reader of the JSON finds each promised field, and no ratio where none holds.
use serde_json::Value;

use super::*;
use crate::stats::record_latency;

const FIELDS: [&str; 32] = [
    "schema",
    "command",
    "label",
    "size_bytes",
    "seconds",
    "backend",
    "executor",
    "messages_per_second",
    "goodput_gbps",
    "sent",
    "delivered",
    "lost",
    "duplicated",
    "datagrams_per_send",
    "messages_per_datagram",
    "ceiling_messages_per_second",
    "ratio_to_ceiling",
    "ratio_spread",
    "disturbed",
    "times",
    "latency_us",
    "raw_latency_us",
    "ratio_to_raw_p50",
    "slices",
    "latency_percentiles",
    "intervals",
    "shards",
    "wait",
    "gso_fallbacks",
    "surroundings",
    "warnings",
    "details",
];

fn slice(rate: f64) -> ThroughputSlice {
    ThroughputSlice {
        seconds: 1.0,
        sent: rate as u64 + 3,
        delivered: rate as u64,
        duplicated: 0,
        size_bytes: 64,
        datagrams: 1000,
        sends: 25,
    }
}

fn run(subject: f64, ceiling: f64) -> ThroughputRun {
    ThroughputRun { subject: vec![slice(subject); 5], baseline: vec![slice(ceiling); 5] }
}

fn round_trips(nanos: u64) -> LatencySlice {
    let mut slice = LatencySlice::empty();
    record_latency(&mut slice.histogram, nanos);
    slice.sent = 1;
    slice.seconds = 0.5;
    slice
}

fn latency_run() -> LatencyRun {
    let (subject, baseline) = (round_trips(9000), round_trips(6000));
    LatencyRun {
        subject_slices: vec![LatencySummary::of(&subject.histogram)],
        baseline_slices: vec![LatencySummary::of(&baseline.histogram)],
        ratios: vec![1.5],
        subject,
        baseline,
    }
}

fn raw_run() -> LatencyRun {
    LatencyRun { subject: round_trips(6000), ..LatencyRun::default() }
}

fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_report_has_exactly_the_promised_fields() {
    let latency = latency_run();
    for report in [
        Report::unmeasured("throughput", 64),
        Report::of_throughput("throughput", 64, 1452, &run(10e6, 20e6)),
        Report::of_ceiling(64, 1452, &run(20e6, 0.0)),
        Report::of_latency("latency", 64, &latency, Some(goal::ECHO_SPINNING)),
        Report::of_raw_latency(64, &raw_run()),
    ] {
        let value = json(&report);
        let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = FIELDS.to_vec();
        fields.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(fields, wanted);
    }
}

#[test]
fn what_was_not_measured_is_null() {
    let value = json(&Report::unmeasured("throughput", 64));
    for field in &FIELDS[5..] {
        let value = &value[field];
        let is_empty = value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        let is_set = ["disturbed", "shards", "times"].contains(field);
        assert!(value.is_null() || is_empty || is_set, "{field}");
    }
}

#[test]
fn throughput_counts_and_ratio() {
    let report = Report::of_throughput("throughput", 64, 1452, &run(10e6, 20e6));
    let value = json(&report);
    assert_eq!(value["delivered"], 50_000_000);
    assert_eq!(value["lost"], 15);
    assert_eq!(value["datagrams_per_send"], 40.0);
    assert_eq!(value["ratio_to_ceiling"], 0.5);
    assert_eq!(value["goodput_gbps"], 5.12);
    assert_eq!(value["disturbed"], false);
}

#[test]
fn under_the_floor_there_is_no_ratio_but_both_rates() {
    let report = Report::of_throughput("throughput", 64, 1452, &run(10e6, 17e6));
    let value = json(&report);
    assert_eq!(value["disturbed"], true);
    assert!(value["ratio_to_ceiling"].is_null() && value["ratio_spread"].is_null());
    assert_eq!(value["ceiling_messages_per_second"], 17e6);
    assert!(table(&[report]).contains("machine disturbed"));
}

#[test]
fn the_ceiling_alone_is_disturbed_under_its_own_floor() {
    let alone = |rate| ThroughputRun { subject: vec![slice(rate); 3], baseline: Vec::new() };
    assert!(Report::of_ceiling(64, 1452, &alone(1e6)).disturbed);
    let report = Report::of_ceiling(64, 1452, &alone(20e6));
    assert!(!report.disturbed);
    assert_eq!(report.ceiling_messages_per_second, Some(20e6));
    assert_eq!(report.ratio_to_ceiling, None);
}

#[test]
fn latencies_have_their_five_keys_in_microseconds() {
    let value = json(&Report::of_raw_latency(64, &raw_run()));
    for key in ["p50", "p90", "p99", "p999", "max"] {
        let micros = value["raw_latency_us"][key].as_f64().unwrap();
        assert!((micros - 6.0).abs() < 0.01, "{key} {micros}");
    }
    assert!(value["latency_us"].is_null());
}

#[test]
fn slices_stand_beside_their_baselines() {
    let value = json(&Report::of_throughput("throughput", 64, 1452, &run(10e6, 20e6)));
    assert_eq!(value["slices"].as_array().unwrap().len(), 5);
    assert_eq!(value["slices"][4]["messages_per_second"], 10e6);
    assert_eq!(value["slices"][4]["baseline_messages_per_second"], 20e6);
    let value = json(&Report::of_latency("latency", 64, &latency_run(), None));
    let p50 = |field: &str| value["slices"][0][field]["p50"].as_f64().unwrap();
    assert!(p50("latency_us") > 8.9 && p50("baseline_latency_us") < 6.1);
    assert_eq!(value["latency_percentiles"].as_array().unwrap().last().unwrap()["count"], 1);
}

#[test]
fn doubts_are_told_once_in_the_table_and_in_each_object() {
    let machine = Surroundings { cores: vec![0], ..Surroundings::default() };
    let report = Report::unmeasured("throughput", 64).within(&machine);
    assert!(json(&report)["warnings"][0].as_str().unwrap().starts_with("few cores"));
    let text = table(&[report.clone(), report]);
    assert_eq!(text.matches("warning: few cores").count(), 1, "{text}");
    let mut uneven = Report::unmeasured("throughput", 64);
    (uneven.ratio_to_ceiling, uneven.ratio_spread) = (Some(1.0), Some(0.21));
    uneven.gso_fallbacks = Some(2);
    let warnings = uneven.within(&Surroundings { cores: vec![0, 1], ..machine }).warnings;
    assert!(warnings[0].starts_with("uneven") && warnings[1].contains("2 runs"), "{warnings:?}");
}

#[test]
fn ratios_are_uneven_by_the_part_that_they_spread() {
    let is_uneven = |ratio: f64, spread: f64| {
        let set = |report: &mut Report, field: usize| match field {
            0 => report.ratio_to_ceiling = Some(ratio),
            1 => report.ratio_to_raw_p50 = Some(ratio),
            2 => report.detail("ratio_to_baseline", ratio),
            _ => report.detail("ratio_p99_to_unloaded_p50", ratio),
        };
        let warns = |field: usize| {
            let mut report = Report::unmeasured("latency", 64);
            set(&mut report, field);
            report.ratio_spread = Some(spread);
            let machine = Surroundings { cores: vec![0, 1], ..Surroundings::default() };
            report.within(&machine).warnings.iter().any(|warning| warning.starts_with("uneven"))
        };
        [0, 1, 2, 3].map(warns)
    };
    assert_eq!(is_uneven(0.29, 0.10), [true; 4]);
    assert_eq!(is_uneven(0.29, 0.05), [false; 4]);
    assert_eq!(is_uneven(11.0, 1.0), [false; 4]);
    assert_eq!(is_uneven(11.0, 3.0), [true; 4]);
}

#[test]
fn figures_of_one_command_stand_in_the_object_and_below_the_table() {
    let mut report = Report::unmeasured("connect", 64);
    report.detail("first_message_us", 812.5);
    report.detail("peers", 300);
    assert_eq!(json(&report)["details"]["peers"], 300);
    let text = table(&[report]);
    assert!(text.contains("connect       first_message_us 812.50\n"), "{text}");
    assert!(text.contains("peers 300\n"), "{text}");
}

#[test]
fn times_are_headed_by_what_they_are_of() {
    let round_trip = Report::of_latency("latency", 64, &latency_run(), None);
    let one_way = Report { times: ONE_WAY, ..round_trip.clone().labelled("one-way") };
    let text = table(&[one_way, round_trip]);
    let starts: Vec<&str> = text.lines().map(|line| line[..10].trim_end()).collect();
    assert_eq!(starts, ["round trip", "latency", "raw UDP", "one way", "one-way", "raw UDP"]);
}

#[test]
fn tables_have_a_line_per_result() {
    let latency = latency_run();
    let text = table(&[
        Report::of_throughput("throughput", 64, 1452, &run(10e6, 20e6)),
        Report::of_latency("latency", 64, &latency, Some(goal::ECHO_SPINNING)),
    ]);
    let starts: Vec<&str> = text.lines().map(|line| line.get(..7).unwrap()).collect();
    assert_eq!(starts, ["through", "through", "round t", "latency", "raw UDP"]);
    assert!(text.contains("1.50") && text.contains("misses 1.3") && text.contains("misses 0.85"));
}
