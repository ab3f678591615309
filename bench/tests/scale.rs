//! Goal: every `scale` command counts what it says, with real sockets where it says so. No timing and no amount is asserted.

mod support;

use serde_json::Value;
use support::measured;

/// The rows of a command that must succeed.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let report = measured(&[&["scale"], arguments].concat());
    assert_eq!(report["schema"], "cubed-bench-scale/1");
    assert_eq!(report["command"], format!("scale {}", arguments[0]));
    report["rows"].as_array().expect("rows").clone()
}

#[test]
fn idle_peers_have_sessions_and_take_memory() {
    let rows = rows(&["idle", "--peers", "20,60"]);
    let counts: Vec<_> = rows.iter().map(|row| row["peers"].as_u64().unwrap()).collect();
    assert_eq!(counts, [20, 60]);
    assert!(rows[1]["resident_bytes"].as_u64().unwrap() > 0, "{rows:?}");
}
