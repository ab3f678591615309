//! Goal: a peer is up or down as a whole, whatever its lanes hear, and no lane gives up a peer that answers.

use std::time::Duration;

use cubed_transport::{FlowId, Limits, Service, Token};

use crate::NAMES;
use crate::pair::{Pair, node};

#[test]
fn up_and_down_are_told_once_for_all_lanes() {
    let mut pair = Pair::new(4);
    let (now, peer) = (pair.now, pair.peer);
    pair.dialler().watch(now, peer).unwrap();
    let mut flows = NAMES.map(|name| pair.flow(name));
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(1_000);
    assert_eq!((pair.sessions(), pair.life()), (4, vec!["up"]));
    pair.is_cut = true;
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(10_000);
    assert_eq!(pair.life(), ["down"]);
    assert!(pair.dialler().is_down(peer));
    pair.is_cut = false;
    pair.run(5_000);
    assert_eq!(pair.life(), ["up"]);
    pair.nodes[1].iter_mut().for_each(|(endpoint, _)| endpoint.close());
    pair.run(2_000);
    assert_eq!(pair.life(), ["down"], "although each lane is closed by itself");
    pair.restart(3);
    pair.run(3_000);
    assert_eq!(pair.life(), ["up"]);
    pair.restart(2);
    pair.run(8_000);
    assert_eq!(pair.life(), ["down", "up"]);
}

#[test]
fn a_silent_lane_does_not_make_a_peer_down_that_speaks_on_another() {
    let mut pair = Pair::new(2);
    let mut flows = [pair.flow("a0"), pair.flow("b1")];
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(500);
    pair.life();
    // Shard 1 hangs.
    let hung = pair.nodes[1].pop().unwrap();
    pair.nodes[1].push(node(9, 0, 2, &pair.limits).pop().unwrap());
    for second in 0..10 {
        for flow in &mut flows {
            pair.send(flow, &[second], Service::Acknowledged, 0).unwrap();
        }
        pair.run(1_000);
    }
    assert_eq!(pair.life(), Vec::<&str>::new());
    let peer = pair.peer;
    assert!(!pair.dialler().is_down(peer));
    pair.nodes[1][1] = hung;
    pair.run(3_000);
    assert_eq!(pair.dialler().tally().pending, 0);
}

#[test]
fn a_start_with_fewer_shards_is_noticed_on_each_lane_alone() {
    for name in NAMES {
        let mut pair = Pair::new(4);
        let mut flow = pair.flow(name);
        pair.send(&mut flow, b"to the first start", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        assert_eq!(pair.received().len(), 1);
        pair.restart(1);
        // The lane hears by its next datagram that nobody knows its keys, also where no such shard is any more.
        pair.send(&mut flow, b"to nobody", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        let (tally, counters) = (pair.dialler().tally(), pair.nodes[1][0].0.counters());
        assert_eq!((tally.pending, tally.unknown), (0, 1), "{name}: {counters:?}");
        assert_eq!((counters.restarts_told, counters.dropped_misdelivered), (1, 0), "{name}");
        pair.send(&mut flow, b"to the second start", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        assert_eq!(pair.received().len(), 1, "{name}");
    }
}

/// A pair whose dialler watches the node of two shards; what it is home to is the lane to shard 0.
fn watched(limits: Limits) -> (Pair, [FlowId; 2]) {
    let mut pair = Pair::with(2, limits);
    let (now, peer) = (pair.now, pair.peer);
    pair.dialler().watch(now, peer).unwrap();
    let mut flows = [pair.flow("a0"), pair.flow("b1")];
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(1_000);
    assert_eq!((pair.sessions(), pair.life()), (2, vec!["up"]));
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(100);
    (pair, flows)
}

/// Messages to the flow every half second, so that its lane is never silent.
fn keep_busy(pair: &mut Pair, flow: &mut FlowId, millis: u64) {
    for _ in 0..millis / 500 {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
        pair.run(500);
    }
}

#[test]
fn a_lane_idle_for_longer_than_give_up_still_delivers() {
    let limits = Limits { give_up: Duration::from_secs(10), ..Limits::default() };
    for busy in [0, 1] {
        let (mut pair, mut flows) = watched(limits.clone());
        keep_busy(&mut pair, &mut flows[busy], 15_000);
        pair.send(&mut flows[1 - busy], b"late", Service::Acknowledged, 0).unwrap();
        pair.run(1_000);
        let tally = pair.dialler().tally();
        assert_eq!((tally.peer_lost, tally.pending), (0, 0), "lane {busy} busy: {tally:?}");
        assert_eq!((pair.sessions(), pair.life()), (0, Vec::new()), "lane {busy} busy");
    }
}

#[test]
fn a_request_may_wait_for_longer_than_give_up_while_the_peer_answers_heartbeats() {
    let limits = Limits { give_up: Duration::from_secs(10), ..Limits::default() };
    for busy in [0, 1] {
        let (mut pair, mut flows) = watched(limits.clone());
        pair.is_mute = true;
        let (now, deadline) = (pair.now, pair.now + Duration::from_mins(1));
        let idle = flows[1 - busy];
        pair.dialler().request(now, idle, &b"?".to_vec().into(), Token(7), deadline).unwrap();
        keep_busy(&mut pair, &mut flows[busy], 25_000);
        pair.answer();
        pair.run(1_000);
        let answers = std::mem::take(&mut pair.nodes[0][0].1.answers);
        assert_eq!(answers, [(Token(7), Ok(b"answer".to_vec()))], "lane {busy} busy");
    }
}

#[test]
fn a_late_word_of_an_earlier_start_leaves_nobody_undialled() {
    let mut pair = Pair::new(2);
    let mut home = pair.flow("a0");
    pair.send(&mut home, b"x", Service::Acknowledged, 0).unwrap();
    pair.run(500);
    // The other lane's handshake is answered; the greeting stays on its way.
    pair.held = Some(Vec::new());
    let mut flow = pair.flow("b1");
    pair.send(&mut flow, b"y", Service::Acknowledged, 0).unwrap();
    pair.run(20);
    let held = pair.held.take().unwrap();
    assert!(!held.is_empty());
    // The second start after this one places flows as it did. It greets on the first lane alone.
    pair.restart(2);
    pair.restart(2);
    pair.is_second_cut = true;
    pair.send(&mut home, b"x", Service::Acknowledged, 0).unwrap();
    let sessions = pair.sessions();
    for _ in 0..100 {
        pair.run(10);
        if pair.sessions() > sessions {
            break;
        }
    }
    assert_eq!(pair.sessions(), sessions + 1);
    pair.let_go(held);
    pair.run(10);
    pair.is_second_cut = false;
    pair.run(10_000);
    assert_eq!(pair.dialler().tally().pending, 0);
    assert_eq!(pair.received().last(), Some(&("b1".to_owned(), b"y".to_vec())));
}
