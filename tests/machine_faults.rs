//! Goal: while the machine refuses calls, nothing acknowledged is lost or doubled; once it stops refusing, traffic is back
//! within a second.

mod support;

use std::env;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cubed::runtime::faults::{Call, Failure, Fault, clear, inject};
use cubed::{Backend, DriverKind, Node, Shard, block_on};
use support::{PATIENCE, number, receiver, send_numbered, sender_to, stop};

/// Messages of one stream.
const MESSAGES: u64 = 3_000;

/// How long the machine refuses.
const OUTAGE: Duration = Duration::from_millis(300);

/// What Linux says.
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EBADR: i32 = 53;
const ENOBUFS: i32 = 105;

fn errno(call: Call, errno: i32, one_in: u32) -> Fault {
    Fault { call, failure: Failure::Errno(errno), one_in }
}

/// Plans the fault on the node's shard.
fn plan(node: &Node, fault: Fault) {
    block_on(node.on_shard(0, move |_| async move { inject(fault) })).expect("the node runs");
}

/// Ends the plan; how many faults there were.
fn unplan(node: &Node) -> u64 {
    block_on(node.on_shard(0, |_| async { clear() })).expect("the node runs")
}

/// Streams through an outage of both nodes; how many faults there were.
fn endure(fault: Fault) -> u64 {
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let collect = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = numbers.send(number(message.body()));
        };
        shard.flow("numbers").handler(collect).expect("a new flow");
        let answer = |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
            let _ = context.reply(message.body());
        };
        shard.flow("echo").handler(answer).expect("a new flow");
    });
    let alice = sender_to(&bob);
    let echo = alice.resolve(bob.public_key(), "echo").expect("a valid name");
    assert_eq!(block_on(echo.request("before", PATIENCE)).expect("an answer"), "before");
    plan(&alice, fault);
    plan(&bob, fault);
    let sending = thread::spawn({
        let (alice, bob) = (alice.clone(), bob.clone());
        move || send_numbered(&alice, &bob, "numbers", MESSAGES, 1_000)
    });
    thread::sleep(OUTAGE);
    let faults = unplan(&alice) + unplan(&bob);
    let ended = Instant::now();
    let answer = block_on(echo.request("after", PATIENCE)).expect("an answer");
    let took = ended.elapsed();
    assert!(answer == "after" && took < Duration::from_secs(1), "{fault:?}: back after {took:?}");
    sending.join().expect("no panic");
    let report = block_on(alice.drain(PATIENCE)).expect("the node runs");
    // The two questions count as messages.
    let all = MESSAGES + 2;
    assert_eq!((report.offered, report.delivered), (all, all), "{fault:?}: {report:?}");
    stop(&[&alice, &bob]);
    let mut numbers: Vec<_> = received.iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{fault:?}: each once");
    faults
}

#[test]
fn sends_that_find_no_room_or_memory() {
    for (error, one_in) in [(ENOBUFS, 1), (ENOBUFS, 3), (ENOMEM, 1), (EAGAIN, 2), (EINTR, 2)] {
        assert!(endure(errno(Call::Send, error, one_in)) > 0);
    }
}

#[test]
fn receives_that_find_no_memory_or_are_interrupted() {
    for (error, one_in) in [(ENOMEM, 1), (ENOMEM, 2), (ENOBUFS, 2), (EAGAIN, 1), (EINTR, 2)] {
        assert!(endure(errno(Call::Recv, error, one_in)) > 0);
    }
}

#[test]
fn sleeps_that_are_refused_or_interrupted() {
    for (error, one_in) in [(EINTR, 1), (EAGAIN, 1), (ENOMEM, 1), (ENOMEM, 3)] {
        assert!(endure(errno(Call::Sleep, error, one_in)) > 0);
    }
}

#[test]
fn rings_that_lose_completions_or_get_short_ones() {
    let node = receiver(|_| {});
    let driver = block_on(node.stats()).expect("the node runs").shards[0].machine.driver;
    stop(&[&node]);
    if driver == DriverKind::Epoll {
        return;
    }
    let failures = [Failure::Short(8), Failure::Short(100), Failure::Errno(ENOMEM)];
    for failure in failures {
        assert!(endure(Fault { call: Call::Completion, failure, one_in: 2 }) > 0, "{failure:?}");
    }
    assert!(endure(errno(Call::Sleep, EBADR, 5)) > 0);
}

/// Set in the child: it has few descriptors, and starts a node on the backend that this names.
const CHILD: &str = "CUBED_TEST_DESCRIPTORS";

/// The child of the test below.
#[test]
fn start_with_few_descriptors() {
    let Ok(backend) = env::var(CHILD) else { return };
    let builder = support::builder().backend(backend.parse().expect("a backend"));
    match builder.start(async |_: Shard| ()) {
        Ok(node) => {
            println!("child: started");
            stop(&[&node]);
        }
        Err(error) => println!("child: {error}"),
    }
}

#[test]
fn a_node_without_descriptors_does_not_start_and_says_so() {
    let backends: &[&str] = match support::backend() {
        Backend::Epoll => &["epoll"],
        _ => &["auto", "uring", "epoll"],
    };
    for backend in backends {
        let start = |descriptors| {
            let shell = format!("ulimit -n {descriptors} && exec \"$0\" start_with --nocapture");
            let output = Command::new("sh")
                .args(["-c", &shell])
                .arg(env::current_exe().expect("the test binary"))
                .env(CHILD, backend)
                .output()
                .expect("the test binary starts again");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{backend} with {descriptors}: {said}{errors}");
            let is_started = said.contains("child: started");
            assert!(is_started || said.contains("ulimit -n"), "{backend}, {descriptors}: {said}");
            is_started
        };
        let started: Vec<bool> = (6..40).map(start).collect();
        assert!(started[33] && !started[0], "{backend}: {started:?}");
    }
}
