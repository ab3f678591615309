//! Goal: the real executable with its real peer process counts what was sent and nothing else, and
//! leaves nothing behind. No timing is asserted.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cubed::Identity;
use serde_json::Value;
use support::{EXECUTABLE, assert_counts, bench, measured};

#[test]
fn the_ceiling_delivers_what_was_sent_in_order() {
    // Tags are checked per message in the receiver; an invented or doubled one fails the command.
    for size in ["64", "0", "3", "100000"] {
        let report = measured(&["ceiling", "--size", size, "--seconds", "0.3"]);
        assert_counts(&report);
        assert_eq!(report["schema"], "cubed-bench/3");
        assert_eq!(report["command"], "ceiling");
        assert_eq!(report["duplicated"], 0);
        assert!(report["ratio_to_ceiling"].is_null());
    }
}

#[test]
fn small_datagrams_carry_the_ceiling_too() {
    let arguments = ["ceiling", "--size", "200", "--datagram", "64", "--seconds", "0.1"];
    let report = measured(&arguments);
    assert_counts(&report);
    assert!(report["messages_per_datagram"].as_f64().unwrap() < 1.0);
}

#[test]
fn raw_echo_answers_each_question() {
    for mode in [&["--spin"][..], &[]] {
        let report = measured(&[&["raw-latency", "--seconds", "0.1"], mode].concat());
        assert_counts(&report);
        assert!(report["raw_latency_us"]["p50"].as_f64().unwrap() > 0.0);
        assert!(report["latency_us"].is_null());
    }
}

#[test]
fn a_peer_exits_when_its_stdin_closes() {
    let key = Identity::generate().unwrap().public_key().to_string();
    let node = ["peer-node", "--core", "0", "--datagram", "1452", "--allow", &key];
    for arguments in [&["peer-ceiling", "--core", "0"][..], &["peer-echo", "--core", "0"], &node] {
        let mut peer = Command::new(EXECUTABLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(peer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("127.0.0.1:"), "{line}");
        drop(peer.stdin.take());
        assert!(peer.wait().unwrap().success());
    }
}

#[test]
fn a_peer_that_nobody_listens_to_exits_at_the_start_of_a_slice() {
    let mut peer = Command::new(EXECUTABLE)
        .args(["peer-echo", "--core", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(peer.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    let mut orders = peer.stdin.take().unwrap();
    writeln!(orders, r#"{{"begin":null}}"#).unwrap();
    drop(orders);
    let id = peer.id().to_string();
    wait_until_gone(&id);
    assert!(!peer.wait().unwrap().success(), "the lost answer is an error");
}

#[test]
fn a_killed_measurement_leaves_no_peer_behind() {
    let mut bench = Command::new(EXECUTABLE)
        .args(["ceiling", "--seconds", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bench.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("window")), "no slice began");
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    let peer = fs::read_to_string(children).unwrap().trim().to_owned();
    assert!(!peer.is_empty());
    bench.kill().unwrap();
    bench.wait().unwrap();
    wait_until_gone(&peer);
}

#[test]
fn a_measurement_whose_peer_is_killed_fails_and_says_so() {
    for command in ["request", "latency"] {
        let mut bench = Command::new(EXECUTABLE)
            .args([command, "--seconds", "8", "--no-baseline"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(bench.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("cubed ")), "no slice ended");
        let children = format!("/proc/{0}/task/{0}/children", bench.id());
        let peer = fs::read_to_string(children).unwrap().trim().to_owned();
        assert!(Command::new("kill").args(["-9", &peer]).status().unwrap().success());
        lines.for_each(drop);
        let output = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("it answers no more"),
            "{command}: {said}"
        );
    }
}

#[test]
fn what_lies_below_cubed_is_measured_in_the_same_run() {
    let reports = measured(&["baselines", "--seconds", "0.1"]);
    let reports = reports.as_array().unwrap();
    let label = |report: &Value| report["label"].as_str().unwrap().to_owned();
    let labels: Vec<String> = reports.iter().map(label).collect();
    assert_eq!(labels, ["plain UDP", "UDP GSO/GRO", "ceiling", "cubed"]);
    for report in reports {
        assert!(report["delivered"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(report["duplicated"], 0, "{report}");
    }
    let mean = |index: usize, field: &str| reports[index][field].as_f64().unwrap();
    // One message a datagram and one datagram a call, against many of both.
    assert!((mean(0, "messages_per_datagram") - 1.0).abs() < 1e-9, "{}", reports[0]);
    assert!((mean(0, "datagrams_per_send") - 1.0).abs() < 0.5, "{}", reports[0]);
    assert!(mean(1, "messages_per_datagram") > 15.0 && mean(1, "datagrams_per_send") > 2.0);
}

fn wait_until_gone(id: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_running(id) {
        assert!(Instant::now() < deadline, "process {id} outlives its measurement");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether process `id` exists and is more than a zombie that nobody has waited for yet.
fn is_running(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z'))
}

#[test]
fn bad_arguments_are_named_and_fail() {
    for (arguments, wanted) in [
        (&["ceiling", "--datagram", "63"][..], "--datagram 63"),
        (&["ceiling", "--seconds", "0"], "--seconds 0"),
        (&["ceiling", "--size", "99999999"], "--size 99999999"),
        (&["raw-latency", "--size", "4"], "--size 4"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(wanted), "{text}");
    }
}

#[test]
fn our_own_key_is_no_peer() {
    let file = std::env::temp_dir().join(format!("cubed-bench-own-{}.key", std::process::id()));
    let identity = Identity::generate().unwrap();
    identity.save(&file).unwrap();
    let (key, own) = (identity.public_key().to_string(), file.to_str().unwrap());
    let to = ["--connect", "127.0.0.1:1", "--peer", &key, "--key", own];
    let output = bench(&[&["request", "--seconds", "0.1"][..], &to].concat());
    fs::remove_file(&file).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("our own key"), "{text}");
}
