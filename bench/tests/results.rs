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
fn single_files_are_named_by_format() {
    let folder = tempdir().unwrap();
    let [json_file, hgrm_file] = ["a.json", "a.hgrm"].map(|name| folder.path().join(name));
    let flags = ["--json", json_file.to_str().unwrap(), "--hgrm", hgrm_file.to_str().unwrap()];
    run(&["raw-latency", "--seconds", "0.1"], &flags);
    assert_eq!(hgrm_count(&hgrm_file), json(&json_file)["delivered"].as_u64().unwrap());
}

#[test]
fn what_cannot_be_written_is_named() {
    let text = refused(&["raw-latency", "--seconds", "0.1", "--json", "/nowhere/a.json"]);
    assert!(text.contains("/nowhere/a.json"), "{text}");
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.hgrm");
    let text = refused(&["ceiling", "--seconds", "0.1", "--hgrm", file.to_str().unwrap()]);
    assert!(text.contains("--hgrm"), "{text}");
}
