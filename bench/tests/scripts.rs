//! Goal: every script says how it is called, and refuses what it does not know or cannot write before it builds or measures anything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Every executable script of a folder.
fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let entries =
        fs::read_dir(root.join("perf-scripts")).unwrap().map(|entry| entry.unwrap().path());
    let is_script = |path: &PathBuf| path.is_file() && path.extension().is_none();
    let mut scripts: Vec<PathBuf> = entries.filter(is_script).collect();
    scripts.push(root.join("bench/peers/run"));
    scripts.push(root.join("bench/peers/tables"));
    assert!(scripts.len() > 10, "{scripts:?}");
    scripts
}

fn called(script: &Path, arguments: &[&str]) -> Output {
    // An executable that does not exist: whoever goes on to a measurement ends there, and with another status.
    let mut command = Command::new(script);
    command.args(arguments).env("CUBED_BENCH", "/no/such/executable").output().unwrap()
}

#[test]
fn every_script_prints_its_usage() {
    for script in scripts() {
        let output = called(&script, &["--help"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("usage: "), "{script:?}: {output:?}");
    }
}

#[test]
fn wrong_command_lines_are_refused_before_anything_runs() {
    let takes = |script: &Path, flag: &str| {
        String::from_utf8_lossy(&called(script, &["--help"]).stdout).contains(flag)
    };
    for script in scripts() {
        let mut lines = vec![vec!["--no-such-flag"]];
        let is_shell = fs::read_to_string(&script).unwrap().starts_with("#!/usr/bin/env bash");
        for flag in ["--json", "--size", "--pairs"] {
            if is_shell && takes(&script, flag) {
                lines.push(vec![flag]);
            }
        }
        if takes(&script, "--json FILE") {
            lines.push(vec!["--json", "/no/such/folder/a.json"]);
        }
        if is_shell && takes(&script, "--pairs N") {
            lines.push(vec!["--pairs", "many"]);
        }
        for line in lines {
            let output = called(&script, &line);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{script:?} {line:?}: {said}");
            assert!(said.contains(line[0]), "{script:?} {line:?}: {said}");
        }
    }
}
