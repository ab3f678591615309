//! Goal: a path that is cut, again and again or for long, costs time and no message, and traffic is back soon after it is.
//!
//! The full lengths: `cargo test --release -p cubed-sockets --test outages -- --ignored --nocapture`

mod support;

use std::time::Duration;

use cubed_sockets::relay::impairment::Counts;
use cubed_sockets::traffic::{Plan, Verdict};
use support::{Peer, Relay, send_all, start, time_until, told};

/// Traffic passes again within this after a path heals.
const RESUME_TIME_MAX: Duration = Duration::from_secs(3);

/// A flow of `bytes` in messages of 10 kB at 500 kB/s through a relay with these flags; what the relay did.
fn flow_over(bytes: u64, flags: &str) -> Counts {
    let plan = Plan { seed: 27, short: 0, long: bytes / 10_000, long_bytes: 10_000 };
    let mut peer = Peer::expecting(&plan);
    let relay = Relay::start(peer.address, flags);
    let node = start(support::sender(peer.key, relay.address));
    let drained = send_all(&node, peer.key, plan, 500_000, Duration::from_mins(2));
    let report = peer.report();
    let counts = relay.end();
    println!("{flags}: {}\n  {report:?}\n  {counts:?}", told(&node));
    assert_eq!(drained.delivered, plan.count(), "{drained:?}");
    assert_eq!(report.verdict, Verdict { received: plan.count(), ..Verdict::default() });
    counts
}

fn open_and_cut(bytes: u64, schedule: &str) {
    let counts = flow_over(bytes, &format!("--schedule {schedule}"));
    assert!(counts.cut > 0, "the path was never cut: {counts:?}");
}

/// A path cut for `length` in the middle of a flow, then healed.
fn one_cut(length: Duration) {
    let plan = Plan { seed: 27, short: 0, long: 300, long_bytes: 10_000 };
    let mut peer = Peer::expecting(&plan);
    let mut relay = Relay::start(peer.address, "");
    let (key, node) = (peer.key, start(support::sender(peer.key, relay.address)));
    let (sender, patience) = (&node, length + Duration::from_mins(1));
    let drained = std::thread::scope(|scope| {
        let sending = scope.spawn(move || send_all(sender, key, plan, 1_000_000, patience));
        let patience = Duration::from_secs(10);
        time_until("a third has arrived", patience, || peer.report().accepted > 100);
        relay.tell("cut");
        // What was behind the relay already may still arrive.
        std::thread::sleep(Duration::from_millis(500));
        let before = peer.report().accepted;
        std::thread::sleep(length);
        assert_eq!(peer.report().accepted, before, "the path is cut");
        assert!(before < plan.count());
        relay.tell("open");
        let patience = RESUME_TIME_MAX;
        let resumed = time_until("messages arrive", patience, || peer.report().accepted > before);
        println!("cut for {length:?}: messages again {resumed:?} after it healed");
        sending.join().expect("no panic")
    });
    println!("{}\n  {:?}", told(&node), relay.end());
    assert_eq!(drained.delivered, plan.count(), "{drained:?}");
    let fine = Verdict { received: plan.count(), ..Verdict::default() };
    assert_eq!(peer.report().verdict, fine);
}

#[test]
fn two_megabytes_pass_a_path_that_opens_and_closes() {
    open_and_cut(2_000_000, "700,400,...");
}

#[test]
#[ignore = "half a minute: see docs/HACKING.md"]
fn ten_megabytes_pass_a_path_open_for_5_s_and_cut_for_2_s_in_turn() {
    open_and_cut(10_000_000, "5000,2000,...");
}

#[test]
fn a_sender_whose_port_changes_twice_loses_no_message() {
    let counts = flow_over(2_000_000, "--rebind-at-ms 500,2500");
    assert_eq!(counts.rebound, 2);
}

#[test]
fn a_cut_of_5_s_heals() {
    one_cut(Duration::from_secs(5));
}

#[test]
#[ignore = "more than a minute: see docs/HACKING.md"]
fn a_cut_of_60_s_heals() {
    one_cut(Duration::from_mins(1));
}
