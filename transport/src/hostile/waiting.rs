//! Goal: whatever a peer withholds, acknowledgements or credit, what waits for it neither keeps other messages from leaving nor
//! costs anything again and again; credit that nobody can use changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use super::{HOSTILE, Siege};
use crate::endpoint::{FlowId, Limits, Refusal, SendError, Service};
use crate::frame::Credit;
use crate::work;

fn fill_best_effort(siege: &mut Siege, flow: FlowId) {
    while siege.endpoint.send(siege.now, flow, &[0; 1_000], Service::BestEffort, None).is_ok() {}
}

#[test]
fn best_effort_without_end_keeps_nothing_else_from_leaving() {
    let mut siege = Siege::new(Limits::default());
    let peer = siege.endpoint.find_peer(&siege.key).unwrap();
    let flow = siege.endpoint.open_flow(peer, "theirs").unwrap();
    fill_best_effort(&mut siege, flow);
    for _ in 0..20 {
        siege.endpoint.send(siege.now, flow, &[0; 1_000], Service::Acknowledged, None).unwrap();
    }
    let mut turns = 0;
    while siege.endpoint.parts(peer).0.lane.log.has_unsent() {
        // It is full again whenever a datagram has left.
        fill_best_effort(&mut siege, flow);
        siege.turn();
        siege.now += Duration::from_millis(1);
        turns += 1;
        assert!(turns < 5, "{:?}", siege.endpoint.counters());
    }
    let counters = siege.endpoint.counters();
    assert!(counters.best_effort_sent >= 10, "{} went beside it", counters.best_effort_sent);
}

#[test]
fn flows_without_credit_are_not_tried_at_each_run() {
    let mut siege = Siege::unknown(Limits::default());
    let peer = siege.endpoint.add_peer(siege.key, Some(SocketAddr::from(HOSTILE))).unwrap();
    for number in 0..500 {
        let flow = siege.endpoint.open_flow(peer, &format!("theirs.{number}")).unwrap();
        siege.endpoint.send(siege.now, flow, &[0; 1_000], Service::Ordered, None).unwrap();
    }
    siege.acknowledges = false;
    siege.send(&siege.greeting());
    siege.turn();
    let pending = siege.endpoint.tally().pending;
    assert_eq!(pending, 500);
    let other = siege.endpoint.open_flow(peer, "theirs.too").unwrap();
    let before = work::done();
    for _ in 0..200 {
        let _ = siege.endpoint.send(siege.now, other, b"hello", Service::BestEffort, None);
        siege.turn();
    }
    let steps = work::done() - before;
    assert!(steps < 5_000, "{steps} steps for 500 messages that wait");
}

#[test]
fn flows_without_credit_are_told_of_within_the_window() {
    let mut siege = Siege::new(Limits::default());
    let peer = siege.endpoint.find_peer(&siege.key).unwrap();
    siege.acknowledges = false;
    let full = siege.endpoint.open_flow(peer, "theirs").unwrap();
    while siege.endpoint.send(siege.now, full, &[0; 1_000], Service::Acknowledged, None).is_ok() {}
    for _ in 0..20 {
        siege.turn();
    }
    let before = siege.answers;
    for number in 0..300 {
        let flow = siege.endpoint.open_flow(peer, &format!("theirs.{number}")).unwrap();
        let sent = siege.endpoint.send(siege.now, flow, &[0; 1_000], Service::Acknowledged, None);
        assert_eq!(sent, Err(SendError::Full));
        siege.turn();
    }
    let told = siege.answers - before;
    assert!(told < 10, "{told} datagrams beyond a full window");
    // With room in the window all of them are told of.
    siege.acknowledges = true;
    for _ in 0..1_000 {
        siege.now += Duration::from_millis(1);
        siege.turn();
    }
    assert!(!siege.endpoint.parts(peer).0.blocked.is_due());
}

#[test]
fn credit_for_a_flow_that_moved_does_not_bring_it_back() {
    let mut siege = Siege::unknown(Limits::default());
    let peer = siege.endpoint.add_peer(siege.key, None).unwrap();
    let flow = siege.endpoint.open_flow(peer, "theirs").unwrap();
    siege.shards = 2;
    siege.send(&siege.greeting());
    siege.turn();
    assert!(siege.is_connected() && siege.endpoint.counters().flows_moved == 1);
    let moved = siege.endpoint.open_flow(peer, "theirs").unwrap();
    assert_ne!(moved.peer, flow.peer);
    for refusal in [None, Some(Refusal::Denied)] {
        let credit =
            Credit { alias: flow.alias, limit: 1 << 20, message_bytes_max: 1 << 20, refusal };
        let mut frames = Vec::new();
        credit.write(&mut frames);
        siege.send(&frames);
        siege.turn();
        for (bytes, service) in [
            (0, Service::Acknowledged),
            (100_000, Service::Acknowledged),
            (9, Service::Ordered),
            (9, Service::LatestValue),
            (9, Service::BestEffort),
        ] {
            let sent = siege.endpoint.send(siege.now, flow, &vec![0; bytes], service, None);
            assert_eq!(sent, Err(SendError::Moved(moved)), "{bytes} B, {service:?}");
        }
    }
    assert!(siege.is_connected(), "{:?}", siege.end());
}
