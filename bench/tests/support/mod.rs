//! What the tests of the real executable share: run it, read its JSON, serve with it.

// Each test binary uses its part of this.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use cubed::Identity;
use serde_json::Value;

/// The executable under test.
pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_cubed-bench");

/// Runs the executable to its end.
pub(crate) fn bench(arguments: &[&str]) -> Output {
    Command::new(EXECUTABLE).args(arguments).output().expect("the executable starts")
}

/// Runs a measurement that must succeed; its JSON.
pub(crate) fn measured(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--json", path.to_str().unwrap()]);
    let output = bench(&arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs a command that must fail; what it says about it.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = bench(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{output:?}");
    text
}

/// Something arrived, and of acknowledged messages everything. Questions without an answer are counted apart from the answers, so
/// they add up; elsewhere `lost` is what `sent` and `delivered` differ by.
pub(crate) fn assert_counts(report: &Value) {
    let count = |field: &str| report[field].as_u64().unwrap();
    assert!(count("delivered") > 0 && count("delivered") <= count("sent"), "{report}");
    let is_acknowledged = match report["command"].as_str().unwrap() {
        "throughput" | "saturate" => report["details"]["mode"] != "best-effort",
        "latency" => report["label"] == "one-way",
        _ => false,
    };
    if is_acknowledged {
        assert_eq!(count("lost"), 0);
    } else if report["latency_us"].is_object() && report["times"] == "round trip" {
        assert_eq!(count("sent"), count("delivered") + count("lost"));
    }
}

/// An identity in a file of `folder`: the file's path and the public key's text.
pub(crate) fn identity_file(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name);
    let identity = Identity::create(&path).unwrap();
    (path.to_str().unwrap().to_owned(), identity.public_key().to_string())
}

/// `cubed-bench serve` as a child, killed when dropped.
pub(crate) struct Serving {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
    /// What it said before its last line of the beginning.
    pub(crate) said: Vec<String>,
}

impl Serving {
    /// Starts it on any port of loopback and reads its first `lines` lines.
    pub(crate) fn start(key_file: &str, arguments: &[&str], lines: usize) -> Self {
        let mut child = Command::new(EXECUTABLE)
            .args(["serve", "--listen", "127.0.0.1:0", "--key", key_file])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let said: Vec<String> = output.lines().take(lines).map(Result::unwrap).collect();
        let address = said[0].strip_prefix("listening on ").expect("its address").to_owned();
        Self { child, address, said }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
