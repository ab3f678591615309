//! Goal: what is ended early says so, and what cannot succeed says so before it measures; each with its exit status.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use support::{EXECUTABLE, bench, identity_file};
use tempfile::tempdir;

/// Starts a command in a process group of its own, as a shell on a terminal does.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(EXECUTABLE);
    let command = command.args(arguments).process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends what Ctrl-C sends, to all processes of the command.
fn interrupt(child: &Child) {
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
}

/// Waits for its end: status, and what it still said on stdout and stderr.
fn ended(mut child: Child, mut output: impl Read) -> (Option<i32>, String, String) {
    let (mut said, mut errors) = (String::new(), String::new());
    output.read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code(), said, errors)
}

/// Reads to the line that begins so.
fn read_to(output: &mut impl BufRead, beginning: &str) -> String {
    let line = output.lines().map(Result::unwrap).find(|line| line.starts_with(beginning));
    line.unwrap_or_else(|| panic!("no line begins with {beginning}"))
}

#[test]
fn an_interrupted_measurement_says_that_it_has_no_result() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.json");
    let json = ["--json", file.to_str().unwrap()];
    for command in [
        &["throughput", "--no-baseline", "--seconds", "60"][..],
        &["latency", "--seconds", "60"],
        &["saturate", "--seconds", "60"],
        &["ceiling", "--seconds", "60"],
        &["scale", "watch", "--seconds", "60", "--peers", "2"],
    ] {
        let mut child = start(&[command, &json].concat());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        read_to(&mut output, "cubed-bench ");
        interrupt(&child);
        let (status, _, errors) = ended(child, output);
        assert_eq!(status, Some(130), "{command:?}: {errors}");
        assert!(errors.contains("interrupted: no result"), "{command:?}: {errors}");
        // The peer process is not taken for one that failed.
        assert!(!errors.contains("peer process"), "{command:?}: {errors}");
        assert!(!file.exists(), "{command:?}");
    }
}

#[test]
fn who_serves_says_at_its_end_what_it_did() {
    let folder = tempdir().unwrap();
    let (own, own_key) = identity_file(folder.path(), "own.key");
    let (theirs, their_key) = identity_file(folder.path(), "theirs.key");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--key", &theirs, "--allow", &own_key];
    let mut child = start(&serve);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let address = read_to(&mut output, "listening on ").split_off("listening on ".len());
    let to = ["--connect", &address, "--peer", &their_key, "--key", &own];
    let asked = bench(&[&["request", "--no-baseline", "--seconds", "0.1"][..], &to].concat());
    assert!(asked.status.success(), "{asked:?}");
    interrupt(&child);
    let (status, said, errors) = ended(child, output);
    assert_eq!(status, Some(0), "{errors}");
    let sum = said.lines().find(|line| line.starts_with("ended after ")).expect("a sum");
    assert!(sum.contains(" 1 sessions, ") && !sum.contains(", 0 messages"), "{sum}");
    assert!(said.contains("received ") && said.contains(" blocks sent again"), "{said}");
}

#[test]
fn an_agent_says_at_its_end_what_it_did() {
    let folder = tempdir().unwrap();
    let (own, _) = identity_file(folder.path(), "own.key");
    let mut child = start(&["agent", "--listen", "127.0.0.1:0", "--identity", &own]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    read_to(&mut output, "agent ");
    interrupt(&child);
    let (status, said, errors) = ended(child, output);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("ended after ") && said.contains(" 0 sessions"), "{said}");
}

#[test]
fn what_nobody_could_keep_is_not_measured() {
    let folder = tempdir().unwrap();
    let nowhere = folder.path().join("no/such/folder/a.json");
    let file = folder.path().join("a.hgrm");
    fs::write(&file, "of a run before").unwrap();
    let (nowhere, file) = (nowhere.to_str().unwrap(), file.to_str().unwrap());
    for (command, wanted) in [
        (&["throughput", "--json", nowhere][..], "no/such/folder"),
        (&["latency", "--html", nowhere], "no/such/folder"),
        (&["request", "--out", file], "a.hgrm"),
        (&["scale", "idle", "--json", nowhere], "no/such/folder"),
        (&["throughput", "--hgrm", file], "measures no latency"),
        (&["throughput", "--fail-if", "p99>1us"], "its others are rate, loss, ratio"),
        (&["latency", "--fail-if", "rate<1"], "its others are p50"),
        (&["compare", nowhere, nowhere], "--out"),
        (&["run", nowhere, "--agents", "x@127.0.0.1:1"], "KEY@ADDR"),
        (&["saturate", "--size", "8"], "16 bytes or more"),
        (&["throughput", "--seconds", "-1"], "--seconds -1"),
        (&["throughput", "--shards", "0"], "from 1 to 255"),
        (&["throughput", "--datagram", "100"], "1200..=9000"),
    ] {
        let output = bench(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(said.contains(wanted), "{command:?}: {said}");
        assert!(!said.contains("peer process"), "{command:?}: {said}");
        let measured = String::from_utf8_lossy(&output.stdout);
        assert!(!measured.contains("msg/s"), "{command:?}: {measured}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "of a run before");
}

#[test]
fn a_rate_that_nobody_reached_keeps_no_bound() {
    // No message is there within a nanosecond of when it was due.
    let search = ["saturate", "--step", "1k", "--p99-below", "1ns", "--seconds", "0.1"];
    let output = bench(&[&search[..], &["--no-baseline", "--fail-if", "rate<1"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no rate passed, so --fail-if 'rate<1' does not hold"), "{said}");
}
