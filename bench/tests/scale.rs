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

#[test]
fn steered_datagrams_reach_their_shard_and_others_are_handed_over() {
    let run = |steering| {
        let command = ["throughput", "--seconds", "0.3", "--no-baseline", "--shards", "2"];
        measured(&[&command[..], &["--steering", steering]].concat())
    };
    let (steered, other) = (run("filter"), run("off"));
    for name in ["strays_handed", "strays_dropped", "misdelivered"] {
        assert_eq!(steered["details"][name], 0, "{name}");
    }
    // Both shards of a node have one address, and so do those of the other: the hash picks one socket for all of them.
    assert!(other["details"]["strays_handed"].as_u64().unwrap() > 0);
    assert_eq!(other["details"]["misdelivered"], 0);
    for report in [steered, other] {
        support::assert_counts(&report);
    }
}
