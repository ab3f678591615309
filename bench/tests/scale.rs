//! Goal: every `scale` command counts what it says, with real sockets where it says so. No timing and no amount is asserted.

mod support;

use serde_json::Value;
use support::{bench, measured};

/// The rows of a command that must succeed.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let report = measured(&[&["scale"], arguments].concat());
    assert_eq!(report["schema"], "cubed-bench-scale/2");
    assert_eq!(report["command"], format!("scale {}", arguments[0]));
    assert!(report["surroundings"]["kernel"].is_string() && report["warnings"].is_array());
    report["rows"].as_array().expect("rows").clone()
}

/// A count of a row.
fn count(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name} in {row}"))
}

#[test]
fn idle_peers_have_sessions_and_take_memory() {
    let rows = rows(&["idle", "--peers", "20,1000", "--sockets", "20,60"]);
    let found: Vec<_> =
        rows.iter().map(|row| (row["host"].as_str().unwrap(), count(row, "peers"))).collect();
    let (node, endpoint) = ("node on sockets", "endpoint in memory");
    assert_eq!(found, [(node, 20), (node, 60), (endpoint, 20), (endpoint, 1_000)]);
    // More than the first wave leaves free.
    assert!(count(&rows[3], "resident_bytes") > 0, "{rows:?}");
    let alone = self::rows(&["idle", "--peers", "5", "--sockets", "0"]);
    assert_eq!((alone.len(), count(&alone[0], "peers")), (1, 5));
}

#[test]
fn every_flow_that_is_asked_gets_its_message() {
    let rows = rows(&["flows", "--flows", "5000"]);
    assert_eq!((count(&rows[0], "flows"), count(&rows[0], "delivered")), (5_000, 100));
}

#[test]
fn handshakes_and_their_arithmetic_are_counted_on_both_sides() {
    let rows = rows(&["handshakes", "--handshakes", "5", "--pairs", "2"]);
    let names: Vec<_> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["dialler", "responder", "both sides", "arithmetic of one side"]);
    assert!(rows.iter().all(|row| count(row, "handshakes") == 10), "{rows:?}");
}

#[test]
fn peers_that_start_at_once_are_all_connected_and_no_datagram_is_lost_uncounted() {
    let rows = rows(&["start", "--peers", "150"]);
    assert_eq!((count(&rows[0], "peers"), count(&rows[0], "connected")), (150, 150));
    assert_eq!(rows[0]["uncounted"].as_i64(), Some(0), "{rows:?}");
    assert!(count(&rows[0], "sent_to_node") >= 2 * 150, "a hello and a finish each at least");
}

#[test]
fn watched_peers_are_asked_and_every_shard_is_looked_at() {
    let rows = rows(&["watch", "--peers", "10", "--seconds", "1.5", "--shards", "2"]);
    let found: Vec<_> =
        rows.iter().map(|row| (count(row, "watched_by_node"), count(row, "shard"))).collect();
    assert_eq!(found, [(0, 0), (0, 1), (10, 0), (10, 1)]);
    assert_eq!(count(&rows[0], "heartbeats_of_node"), 0);
    assert!(count(&rows[2], "heartbeats_of_node") > 0, "{rows:?}");
}

#[test]
fn round_trips_go_on_while_peers_come_and_go() {
    let rows = rows(&["churn", "--seconds", "0.5", "--rate", "100"]);
    let names: Vec<_> = rows.iter().map(|row| row["beside"].as_str().unwrap()).collect();
    assert_eq!(names, ["peace", "control", "churn"]);
    let rate = |row: &Value, what: &str| row[what].as_f64().unwrap() > 0.0;
    let rates = |row: &Value| [rate(row, "wakes_per_second"), rate(row, "changes_per_second")];
    let found: Vec<_> = rows.iter().map(rates).collect();
    assert_eq!(found, [[false, false], [true, false], [true, true]], "{rows:?}");
    for row in &rows {
        assert!(count(row, "lost") == 0 && count(row, "round_trips") > 0, "{row}");
    }
    assert!(rows[2]["p99_ratio_to_control"].is_number() && rows[2]["change_p50_us"].is_number());
}

#[test]
fn work_is_delivered_whole() {
    let work = ["work", "--messages", "3000", "--shards", "2", "--backend", "epoll"];
    let rows = rows(&work);
    assert_eq!((count(&rows[0], "messages"), count(&rows[0], "delivered")), (6_000, 6_000));
}

#[test]
fn steered_datagrams_reach_their_shard_and_others_are_handed_over() {
    let run = |steering| {
        let command = ["throughput", "--seconds", "0.3", "--no-baseline", "--shards", "3"];
        let report = measured(&[&command[..], &["--steering", steering]].concat());
        support::assert_counts(&report);
        report
    };
    let steered = run("filter");
    for name in ["strays_handed", "strays_dropped", "misdelivered"] {
        assert_eq!(steered["details"][name], 0, "{name}");
    }
    // A hash brings each lane to some shard; that all came to their own in five runs has a chance below 10^-6.
    let handed = (0..5).any(|_| {
        let report = run("off");
        assert_eq!(report["details"]["misdelivered"], 0);
        count(&report["details"], "strays_handed") > 0
    });
    assert!(handed, "nothing came to a wrong shard");
}

#[test]
fn a_bound_that_is_violated_sets_the_exit_status_and_flags_may_come_first() {
    let run = |bound: &str| {
        let flags = ["--quiet", "--fail-if", bound];
        bench(&[&flags[..], &["scale", "idle", "--sockets", "0", "--peers", "5"]].concat())
    };
    assert_eq!(run("peers>5").status.code(), Some(0));
    let output = run("peers>=5");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("peers is 5"), "{text}");
    assert_eq!(run("pears>5").status.code(), Some(2));
}
