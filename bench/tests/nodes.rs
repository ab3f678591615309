//! Goal: two real nodes in two processes deliver what was sent, and say clearly when they cannot. No
//! timing is asserted.

mod support;

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use support::{Serving, assert_counts, bench, identity_file, measured, refused};
use tempfile::tempdir;

/// Every acknowledged message delivered, once.
fn assert_exact(report: &Value) {
    assert_counts(report);
    assert_eq!((&report["lost"], &report["duplicated"]), (&Value::from(0), &Value::from(0)));
}

#[test]
fn acknowledged_messages_arrive_once_and_in_order() {
    // Order, loss and duplication are checked per message in the receiver; any fails the command.
    for size in ["64", "0", "65536"] {
        let report = measured(&["throughput", "--size", size, "--seconds", "0.3", "--no-baseline"]);
        assert_exact(&report);
        assert_eq!(report["command"], "throughput");
        assert_eq!(report["schema"], "cubed-bench/3");
        for field in ["messages_per_second", "datagrams_per_send", "messages_per_datagram"] {
            assert!(report[field].as_f64().unwrap() > 0.0, "{field}");
        }
        assert!(report["ratio_to_ceiling"].is_null());
    }
}

#[test]
fn a_report_names_what_the_node_ran_on() {
    for (flags, backend, executor) in [
        (&["--backend", "epoll"][..], "epoll", "portable"),
        (&["--backend", "uring", "--executor", "portable"], "uring", "portable"),
        (&["--backend", "epoll", "--executor", "glommio"], "epoll", "glommio"),
    ] {
        let command = ["throughput", "--seconds", "0.3", "--no-baseline"];
        let report = measured(&[&command[..], flags].concat());
        assert_exact(&report);
        assert_eq!((&report["backend"], &report["executor"]), (&backend.into(), &executor.into()));
    }
    let command = ["latency", "--seconds", "0.2", "--no-baseline", "--backend", "epoll"];
    let report = measured(&[&command[..], &["--shards", "2"]].concat());
    assert_eq!((&report["wait"], &report["shards"]), (&"park".into(), &2.into()));
    assert!(report["gso_fallbacks"].as_u64().is_some());
    assert_eq!((&report["backend"], &report["executor"]), (&"epoll".into(), &"portable".into()));
}

#[test]
fn several_shards_on_each_side_deliver_everything_once() {
    for shards in ["2", "3"] {
        // One core a side is no ceiling for several shards.
        let report = measured(&["throughput", "--seconds", "0.3", "--shards", shards]);
        assert_exact(&report);
        assert!(
            report["ceiling_messages_per_second"].is_null()
                && !report["disturbed"].as_bool().unwrap()
        );
        for command in [&["latency"][..], &["latency", "--closed"], &["request"]] {
            let flags = ["--seconds", "0.2", "--shards", shards];
            let without = if command[0] == "latency" { &["--no-baseline"][..] } else { &[] };
            let report = measured(&[command, &flags[..], without].concat());
            assert_counts(&report);
            assert!(report["details"]["ratio_to_baseline"].is_null());
            let of_shards = report["details"]["answered_of_shards"].as_array().unwrap();
            let answered: Vec<_> = of_shards.iter().map(|count| count.as_u64().unwrap()).collect();
            assert_eq!(answered.len().to_string(), shards);
            assert!(answered.iter().all(|count| *count > 0), "{command:?}: {answered:?}");
            assert_eq!(Some(answered.iter().sum()), report["delivered"].as_u64());
        }
    }
}

#[test]
fn best_effort_counts_what_arrives() {
    let report = measured(&[
        "throughput",
        "--size",
        "200",
        "--seconds",
        "0.3",
        "--mode",
        "best-effort",
        "--no-baseline",
        "--datagram",
        "1200",
    ]);
    assert_counts(&report);
    assert_eq!(report["duplicated"], 0);
}

#[test]
fn a_run_with_its_ceiling_fills_every_field_of_throughput() {
    let report = measured(&["throughput", "--size", "100", "--seconds", "0.3"]);
    assert_exact(&report);
    for field in ["goodput_gbps", "ceiling_messages_per_second", "ratio_to_ceiling", "ratio_spread"]
    {
        assert!(report[field].as_f64().is_some(), "{field}");
    }
    assert_eq!(report["disturbed"], false);
}

#[test]
fn every_question_is_answered() {
    for mode in [&["--spin"][..], &[], &["--closed"], &["--closed", "--spin"], &["--rate", "500"]] {
        let command = ["latency", "--seconds", "0.3", "--no-baseline"];
        let report = measured(&[&command[..], mode].concat());
        assert_counts(&report);
        for key in ["p50", "p90", "p99", "p999", "max"] {
            assert!(report["latency_us"][key].as_f64().unwrap() > 0.0, "{key}");
        }
        assert!(report["raw_latency_us"].is_null() && report["ratio_to_raw_p50"].is_null());
    }
}

#[test]
fn a_served_node_is_measured_by_whom_it_allows() {
    let folder = tempdir().unwrap();
    let (served_file, served_key) = identity_file(folder.path(), "served.key");
    let (own_file, own_key) = identity_file(folder.path(), "own.key");
    let serving = Serving::start(&served_file, &["--allow", &own_key], 3);
    assert_eq!(serving.said[1], format!("key {served_key}"));
    assert!(serving.said[2].starts_with(&format!("allowed {own_key}")));
    let target =
        ["--connect", &serving.address, "--peer", &served_key, "--key", &own_file, "--no-baseline"];
    let throughput = ["throughput", "--size", "64", "--seconds", "0.3"];
    assert_exact(&measured(&[&throughput[..], &target].concat()));
    let latency = ["latency", "--seconds", "0.2"];
    assert_counts(&measured(&[&latency[..], &target].concat()));
}

#[test]
fn a_served_node_denies_everybody_else() {
    let folder = tempdir().unwrap();
    let (served_file, served_key) = identity_file(folder.path(), "served.key");
    let serving = Serving::start(&served_file, &[], 3);
    assert!(serving.said[2].contains("nobody is allowed"), "{:?}", serving.said);
    let text = refused(&["latency", "--connect", &serving.address, "--peer", &served_key]);
    assert!(text.contains("does not admit"), "{text}");
}

#[test]
fn another_key_than_the_dialled_one_is_an_error() {
    let folder = tempdir().unwrap();
    let (served_file, _) = identity_file(folder.path(), "served.key");
    let (own_file, own_key) = identity_file(folder.path(), "own.key");
    let (_, other_key) = identity_file(folder.path(), "other.key");
    let serving = Serving::start(&served_file, &["--allow", &own_key], 3);
    let target = ["--connect", &serving.address, "--peer", &other_key, "--key", &own_file];
    let text = refused(&[&["throughput"][..], &target].concat());
    let fingerprint = other_key.parse::<cubed::PublicKey>().unwrap().fingerprint().to_string();
    assert!(text.contains(&fingerprint) && text.contains(&serving.address), "{text}");
}

#[test]
fn nobody_listening_is_a_timeout_that_says_so() {
    let folder = tempdir().unwrap();
    let (_, key) = identity_file(folder.path(), "nobody.key");
    // Bound and never read: nothing answers, and nobody else can take the port meanwhile.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let text = refused(&["throughput", "--connect", &address, "--peer", &key]);
    assert!(text.contains("no answer") && text.contains(&address), "{text}");
}

#[test]
fn a_busy_port_is_named() {
    let folder = tempdir().unwrap();
    let (file, _) = identity_file(folder.path(), "node.key");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = refused(&["serve", "--listen", &address, "--key", &file]);
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

#[test]
fn bad_key_files_are_named_with_what_is_wrong() {
    let folder = tempdir().unwrap();
    let refusal = |path: &Path| {
        let file = path.to_str().unwrap();
        let text = refused(&["serve", "--listen", "127.0.0.1:0", "--key", file]);
        assert!(text.contains(file), "{text}");
        text
    };
    refusal(&folder.path().join("missing.key"));
    let (exposed, _) = identity_file(folder.path(), "exposed.key");
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(Path::new(&exposed)).contains("644"));
    let no_pem = folder.path().join("text.key");
    fs::write(&no_pem, "no key at all").unwrap();
    fs::set_permissions(&no_pem, fs::Permissions::from_mode(0o600)).unwrap();
    refusal(&no_pem);
}

#[test]
fn bad_arguments_are_named_and_fail() {
    for (arguments, wanted) in [
        (&["throughput", "--size", "67108865"][..], "--size 67108865"),
        (&["throughput", "--seconds", "0"], "--seconds 0"),
        (&["throughput", "--datagram", "100"], "datagram"),
        (&["latency", "--size", "4"], "--size 4"),
        (&["latency", "--rate", "0"], "'--rate <RATE>'"),
        (&["latency", "--connect", "127.0.0.1:7"], "--peer"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(wanted), "{arguments:?}: {text}");
    }
}
