//! Goal: over a path that loses, reorders, doubles and damages datagrams, every message arrives once and whole.
//!
//! The full size: `cargo test --release -p cubed-sockets --test exactly_once -- --ignored --nocapture`

mod support;

use std::time::{Duration, Instant};

use cubed_sockets::traffic::{Plan, Verdict};
use support::{Peer, Relay, send_all, sender, start, told};

const BAD_PATH: &str = "--loss 0.3 --reorder 0.25 --reorder-ms 4 --duplicate 0.1 --corrupt 0.01";

/// Sends the plan through a relay with these flags and checks both ends' accounts.
fn run(plan: Plan, flags: &str, patience: Duration) {
    let mut peer = Peer::expecting(&plan);
    let relay = Relay::start(peer.address, flags);
    let node = start(sender(peer.key, relay.address));
    let begun = Instant::now();
    let drained = send_all(&node, peer.key, plan, u64::MAX, patience);
    let took = begun.elapsed();
    let (report, sender) = (peer.report(), told(&node));
    let counts = relay.end();
    println!(
        "{took:?} for {plan:?}\n  sender: {sender}\n  receiver: {report:?}\n  relay: {counts:?}"
    );
    assert_eq!(drained.offered, plan.count());
    assert_eq!(drained.delivered, plan.count(), "{drained:?}");
    let fine = Verdict { received: plan.count(), ..Verdict::default() };
    assert_eq!(report.verdict, fine);
    assert!(counts.lost > 0 && counts.reordered > 0 && counts.duplicated > 0, "{counts:?}");
    let opened = ["dropped_forged", "dropped_replayed"].map(|name| report.counters[name]);
    assert!(opened.iter().all(|&count| count > 0), "damage and doubles reached it: {opened:?}");
}

#[test]
fn five_thousand_messages_survive_a_bad_path() {
    let plan = Plan { seed: 26, short: 5_000, long: 2, long_bytes: 1 << 20 };
    run(plan, BAD_PATH, Duration::from_mins(4));
}

#[test]
#[ignore = "minutes: see docs/HACKING.md"]
fn a_hundred_thousand_messages_survive_a_bad_path() {
    let plan = Plan { seed: 2_600, short: 100_000, long: 20, long_bytes: 1 << 20 };
    run(plan, BAD_PATH, Duration::from_mins(30));
}
