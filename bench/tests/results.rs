//! Goal: a real run leaves the files that were asked for, each readable by its format's rules. No timing is asserted.

mod support;

use std::{fs, path::Path};

use serde_json::Value;
use support::{bench, refused};
use tempfile::tempdir;

const LATENCY: [&str; 3] = ["latency", "--seconds", "0.3"];

/// Runs a command that must succeed.
fn run(command: &[&str], flags: &[&str]) {
    let output = bench(&[command, flags].concat());
    assert!(output.status.success(), "{output:?}");
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The count of the last line of an `.hgrm` file, which is that of the whole distribution.
fn hgrm_count(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
    last.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn a_folder_gets_the_report_and_every_distribution() {
    let folder = tempdir().unwrap();
    // Not there yet, nor is the one above it.
    let out = folder.path().join("runs/1");
    run(&LATENCY, &["--out", out.to_str().unwrap()]);
    let report = json(&out.join("report.json"));
    assert_eq!(report["schema"], "cubed-bench/3");
    assert_eq!(hgrm_count(&out.join("latency.hgrm")), report["delivered"].as_u64().unwrap());
    assert!(hgrm_count(&out.join("latency.raw-udp.hgrm")) > 0);
    let slices = report["slices"].as_array().unwrap();
    assert!(slices.iter().all(|slice| slice["baseline_latency_us"]["p50"].as_f64().is_some()));
}

#[test]
fn intervals_of_the_measured_time_are_in_the_object_and_in_a_table() {
    let folder = tempdir().unwrap();
    for command in [
        &["latency", "--no-baseline"][..],
        &["latency", "--no-baseline", "--rate", "500"],
        &["throughput", "--no-baseline"],
        &["throughput", "--no-baseline", "--mode", "best-effort"],
        &["request", "--no-baseline"],
        &["ceiling"],
        &["raw-latency"],
    ] {
        let out = folder.path().join(command.join("-"));
        run(command, &["--seconds", "0.5", "--interval", "100", "--out", out.to_str().unwrap()]);
        let report = json(&out.join("report.json"));
        let intervals = report["intervals"].as_array().unwrap();
        assert!(!intervals.is_empty(), "{command:?}");
        let sum = |field: &str| intervals.iter().map(|it| it[field].as_f64().unwrap()).sum::<f64>();
        assert!(sum("seconds") <= report["seconds"].as_f64().unwrap() + 0.2, "{command:?}");
        // What is told at the end of a slice alone would be in one interval of it.
        let slices = intervals.last().unwrap()["slice"].as_u64().unwrap();
        let is_told = |it: &&Value| it["messages_per_second"].as_f64().unwrap() > 0.0;
        let told = intervals.iter().filter(is_told).count() as u64;
        assert!(told > slices, "{command:?}: {intervals:?}");
        assert!(!intervals[0]["cpu_busy"].as_array().unwrap().is_empty());
        let has_latency = intervals.iter().any(|it| it["p99_us"].as_f64().is_some());
        let is_timed = command[0].contains("latency") || command[0] == "request";
        assert_eq!(has_latency, is_timed, "{command:?}");
        let table = fs::read_to_string(out.join("intervals.csv")).unwrap();
        assert_eq!(table.lines().count(), intervals.len() + 1, "{command:?}");
        let fields: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
        assert!(fields.iter().all(|count| *count == fields[0] && *count > 9), "{table}");
    }
}

#[test]
fn how_it_goes_is_told_once_a_second_and_only_the_result_when_quiet() {
    let command = ["raw-latency", "--seconds", "2.2"];
    let text = |flags: &[&str]| {
        let output = bench(&[&command[..], flags].concat());
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (told, progress) = text(&[]);
    let lines = progress.lines().filter(|line| line.contains("msg/s") && line.contains("p99"));
    assert!((1..=2).contains(&lines.count()), "{progress}");
    let (result, progress) = text(&["--quiet"]);
    assert_eq!(progress, "");
    assert!(result.starts_with("round trip"), "{result}");
    assert!(result.lines().count() < told.lines().count());
}

#[test]
fn a_report_says_where_it_was_measured_and_what_to_doubt() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.json");
    let output = bench(&["raw-latency", "--seconds", "0.1", "--json", file.to_str().unwrap()]);
    let report = json(&file);
    let found = &report["surroundings"];
    for field in ["kernel", "sender_core", "receiver_core", "busy_cores", "load_average"] {
        assert!(!found[field].is_null(), "{field}");
    }
    assert!(found["socket"]["gso"].is_boolean() && found["socket"]["gro"].is_boolean());
    assert!(found["socket"]["recv_buffer_bytes"].as_u64().unwrap() > 0);
    assert_eq!(found["build"]["encrypts"], true);
    let commit = found["build"]["commit"].as_str().unwrap();
    assert!(commit == "unknown" || commit.chars().all(|digit| digit.is_ascii_hexdigit()));
    // Tests run debug builds, which is a reason to doubt.
    let table = String::from_utf8(output.stdout).unwrap();
    let warnings = report["warnings"].as_array().unwrap();
    let is_told =
        |warning: &Value| table.contains(&format!("warning: {}", warning.as_str().unwrap()));
    assert!(warnings.iter().all(is_told), "{table}");
    let is_debug = warnings.iter().any(|warning| warning.as_str().unwrap().contains("debug build"));
    assert_eq!(is_debug, cfg!(debug_assertions));
}

#[test]
fn a_violated_bound_ends_with_status_3_after_everything_is_written() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.json");
    let flags = ["raw-latency", "--seconds", "0.1", "--json", file.to_str().unwrap()];
    let ended = |bounds: &[&str]| {
        let output = bench(&[&flags[..], bounds].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = ended(&["--fail-if", "p99>60s", "--fail-if", "loss>=100%"]);
    assert_eq!(status, Some(0), "{said}");
    fs::remove_file(&file).unwrap();
    let (status, said) = ended(&["--fail-if", "max>1ns", "--fail-if", "p50<60s"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("'max>1ns' forbids") && said.contains("'p50<60s' forbids"), "{said}");
    assert!(json(&file)["raw_latency_us"]["max"].as_f64().is_some());
    let (status, said) = ended(&["--fail-if", "rate<1"]);
    assert!(status == Some(2) && said.contains("no such figure; its others are p50"), "{said}");
    let (status, said) = ended(&["--fail-if", "p98>1us"]);
    assert!(status == Some(2) && said.contains("choose rate, p50"), "{said}");
}

#[test]
fn two_runs_are_compared_with_their_noise() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [first, second, result] = ["a.json", "b.json", "c.json"].map(path);
    run(&["raw-latency", "--seconds", "1.5"], &["--json", &first]);
    let status = |flags: &[&str]| {
        let output = bench(&[&["compare"], flags].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (same, table) = status(&[&first, &first, "--json", &result]);
    assert_eq!(same, Some(0), "{table}");
    assert_eq!(json(Path::new(&result))["figures"][0]["verdict"], "no_difference");
    // A run like the first, but everything takes a thousand times as long.
    let mut slower = json(Path::new(&first));
    let slow = |value: &mut Value| {
        for key in ["p50", "p90", "p99", "p999", "max"] {
            value[key] = (value[key].as_f64().unwrap() * 1000.0).into();
        }
    };
    slow(&mut slower["raw_latency_us"]);
    slower["slices"].as_array_mut().unwrap().iter_mut().for_each(|it| slow(&mut it["latency_us"]));
    fs::write(&second, slower.to_string()).unwrap();
    let (worse, table) = status(&[&first, &second]);
    assert_eq!(worse, Some(3), "{table}");
    assert!(table.lines().any(|line| line.contains("p50") && line.contains("WORSE")), "{table}");
    fs::write(&second, r#"{"schema": "cubed-bench/2"}"#).unwrap();
    let text = refused(&["compare", &first, &second]);
    assert!(text.contains("b.json") && text.contains("cubed-bench/2"), "{text}");
    fs::write(&second, r#"{"schema": "cubed-bench-scale/2", "rows": []}"#).unwrap();
    let text = refused(&["compare", &first, &second]);
    assert!(text.contains("b.json") && text.contains("a sheet of `scale`"), "{text}");
}

#[test]
fn single_files_are_named_by_format() {
    let folder = tempdir().unwrap();
    let [json_file, hgrm_file] = ["a.json", "a.hgrm"].map(|name| folder.path().join(name));
    let flags = ["--json", json_file.to_str().unwrap(), "--hgrm", hgrm_file.to_str().unwrap()];
    run(&["raw-latency", "--seconds", "0.1"], &flags);
    assert_eq!(hgrm_count(&hgrm_file), json(&json_file)["delivered"].as_u64().unwrap());
}

#[test]
fn what_cannot_be_done_is_named() {
    let text = refused(&["raw-latency", "--interval", "99"]);
    assert!(text.contains("--interval 99"), "{text}");
    let text = refused(&["raw-latency", "--seconds", "0.1", "--json", "/nowhere/a.json"]);
    assert!(text.contains("/nowhere/a.json"), "{text}");
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.hgrm");
    let text = refused(&["ceiling", "--seconds", "0.1", "--hgrm", file.to_str().unwrap()]);
    assert!(text.contains("--hgrm"), "{text}");
}
