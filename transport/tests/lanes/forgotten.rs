//! Goal: a peer with several lanes is forgotten whole, by whichever of its lanes it is named; nothing is left at any place, and what
//! comes late on any lane reaches nobody who has the place after it.

use std::collections::BTreeSet;
use std::time::Duration;

use cubed_transport::identity::Identity;
use cubed_transport::{EndCause, Event, FlowId, Outcome, PeerId, SendError, Service, Token};

use crate::NAMES;
use crate::pair::{Pair, address};

/// Four lanes that have carried something, and their flows.
fn connected() -> (Pair, [FlowId; 4]) {
    let mut pair = Pair::new(4);
    let mut flows = NAMES.map(|name| pair.flow(name));
    send_all(&mut pair, &mut flows, 0);
    pair.run(100);
    assert_eq!((pair.sessions(), pair.received().len()), (4, 4));
    // The shards are known now, and so the lanes.
    let flows = NAMES.map(|name| pair.flow(name));
    let lanes: BTreeSet<PeerId> = flows.iter().map(|flow| flow.peer).collect();
    assert_eq!(lanes.len(), 4, "each has a lane of its own");
    pair.events.clear();
    (pair, flows)
}

/// One message to each flow, with tokens from `first`.
fn send_all(pair: &mut Pair, flows: &mut [FlowId; 4], first: u64) {
    for (flow, token) in flows.iter_mut().zip(first..) {
        pair.send(flow, &token.to_le_bytes(), Service::Ordered, token).unwrap();
    }
}

fn forget(pair: &mut Pair, peer: PeerId) {
    let now = pair.now;
    assert!(pair.dialler().forget_peer(now, peer));
    assert!(!pair.dialler().forget_peer(now, peer), "it is nobody");
}

fn add_again(pair: &mut Pair) {
    let key = pair.nodes[1][0].0.public_key();
    pair.peer = pair.dialler().add_peer(key, Some(address(1))).unwrap();
}

#[test]
fn every_lane_is_forgotten_whichever_is_named() {
    for named in 0..4 {
        let (mut pair, mut flows) = connected();
        let lanes = flows.map(|flow| flow.peer);
        let (now, peer, deadline) = (pair.now, pair.peer, pair.now + Duration::from_mins(1));
        pair.dialler().watch(now, peer).unwrap();
        pair.is_mute = true;
        for (flow, token) in flows.into_iter().zip(100..) {
            let body = b"?".to_vec().into();
            pair.dialler().request(now, flow, &body, Token(token), deadline).unwrap();
        }
        pair.run(50);
        send_all(&mut pair, &mut flows, 4);
        pair.events.clear();
        forget(&mut pair, lanes[named]);
        assert_eq!((pair.dialler().tally().pending, pair.dialler().requests_waiting()), (0, 0));
        for lane in lanes {
            assert_eq!((pair.dialler().peer_key(lane), pair.dialler().contact(lane)), (None, None));
            assert_eq!(pair.dialler().open_flow(lane, "a0"), Err(SendError::UnknownPeer));
        }
        pair.run(100);
        let of = |event: &Event| match event {
            Event::Outcome { token, outcome: Outcome::Unknown } => Some(token.0),
            _ => None,
        };
        let ended: BTreeSet<u64> = pair.events.iter().filter_map(of).collect();
        assert_eq!(ended, (4..8).collect(), "each message has its end");
        let forgotten = |event: &Event| match event {
            Event::Forgotten { peer } => Some(*peer),
            _ => None,
        };
        let told: Vec<PeerId> = pair.events.iter().filter_map(forgotten).collect();
        assert_eq!((told.len(), told.iter().copied().collect()), (4, BTreeSet::from(lanes)));
        let is_end = |event: &&Event| {
            matches!(event, Event::SessionEnded { cause: EndCause::ClosedHere, .. })
        };
        assert_eq!(pair.events.iter().filter(is_end).count(), 4, "one for each session");
        let asked: BTreeSet<u64> =
            pair.nodes[0][0].1.answers.iter().map(|(token, _)| token.0).collect();
        assert_eq!(asked, (100..104).collect());
        // Each shard of the peer is told, and none of their answers finds a session.
        assert!(pair.nodes[1].iter().all(|(end, _)| end.counters().sessions_ended == 1));
        for (endpoint, app) in &mut pair.nodes[1] {
            let to = app.asked.pop().expect("one request for each shard");
            assert_eq!(endpoint.reply(to, b"late"), Err(SendError::NotConnected));
        }
        pair.run(300_000);
        assert_eq!(pair.dialler().known_peers().count(), 0);
        assert_eq!(pair.dialler().poll_timeout(), None, "no timer is left");
    }
}

#[test]
fn added_again_it_is_met_on_new_lanes_and_nothing_of_the_old_arrives_there() {
    for is_told in [false, true] {
        let (mut pair, mut old) = connected();
        send_all(&mut pair, &mut old, 4);
        // What the old lanes still carry comes when the new ones are at work.
        pair.held = Some(Vec::new());
        pair.run(1);
        let (before, peer) = (pair.received().len(), pair.peer);
        pair.is_cut = !is_told;
        forget(&mut pair, peer);
        pair.run(5);
        let held = pair.held.take().expect("it was set");
        assert!(before == 4 && !held.is_empty());
        pair.is_cut = false;
        add_again(&mut pair);
        let mut new = NAMES.map(|name| pair.flow(name));
        send_all(&mut pair, &mut new, 8);
        pair.run(500);
        assert_eq!(pair.received().len(), 4);
        let counters = pair.dialler().counters();
        pair.let_go(held);
        pair.run(500);
        let late = pair.dialler().counters();
        assert!(late.dropped_unknown_association > counters.dropped_unknown_association);
        assert_eq!(late.violations, 0);
        send_all(&mut pair, &mut new, 12);
        pair.run(3_000);
        let tally = pair.dialler().tally();
        assert_eq!((tally.delivered, tally.unknown, tally.pending), (12, 4, 0), "{is_told}");
        assert_eq!(pair.received().len(), 4);
        assert!(new.iter().all(|flow| old.iter().all(|old| old.peer != flow.peer)));
    }
}

#[test]
fn the_places_of_all_lanes_go_to_others() {
    let (mut pair, mut old) = connected();
    let places: BTreeSet<u32> = old.iter().map(|flow| flow.peer.0 as u32).collect();
    send_all(&mut pair, &mut old, 4);
    let peer = pair.peer;
    forget(&mut pair, peer);
    let others: Vec<PeerId> = (50..54)
        .map(|seed| {
            let key = Identity::from_seed(&[seed; 32]).public_key();
            pair.dialler().add_peer(key, Some(address(1))).unwrap()
        })
        .collect();
    assert_eq!(others.iter().map(|peer| peer.0 as u32).collect::<BTreeSet<u32>>(), places);
    let now = pair.now;
    for flow in old {
        let sent = pair.dialler().send(now, flow, b"late", Service::Ordered, None);
        assert_eq!(sent, Err(SendError::UnknownPeer));
    }
    let of: Vec<FlowId> =
        others.iter().map(|&peer| pair.dialler().open_flow(peer, "a0").unwrap()).collect();
    assert!(of.iter().zip(&others).all(|(flow, peer)| flow.peer == *peer), "no placement is known");
    assert!(others.iter().all(|&peer| pair.dialler().contact(peer) == Some(peer)));
    assert_eq!(pair.dialler().tally().pending, 0);
}

/// While its lanes are dialled, so that some have a session and others are on their way to one.
#[test]
fn lanes_on_their_way_are_dropped() {
    let mut with_sessions = BTreeSet::new();
    for steps in 0..40 {
        let mut pair = Pair::new(4);
        let mut flows = NAMES.map(|name| pair.flow(name));
        send_all(&mut pair, &mut flows, 0);
        pair.step(steps);
        with_sessions.insert(pair.sessions());
        let peer = pair.peer;
        forget(&mut pair, peer);
        let dials = pair.dialler().counters().dials_begun;
        assert_eq!(pair.dialler().tally().pending, 0, "{steps}");
        // The other may have got so far that it dials by itself: it is a stranger then, and silent.
        pair.run(1_000);
        assert_eq!(pair.dialler().counters().dials_begun, dials, "{steps}");
        pair.events.clear();
        add_again(&mut pair);
        let mut flows = NAMES.map(|name| pair.flow(name));
        send_all(&mut pair, &mut flows, 4);
        pair.run(3_000);
        let tally = pair.dialler().tally();
        let ended = tally.delivered + tally.unknown + tally.peer_lost;
        assert_eq!((tally.pending, ended), (0, 8), "{steps}: {tally:?}");
        let delivered = |event: &&Event| {
            matches!(event, Event::Outcome { token: Token(4..), outcome: Outcome::Delivered })
        };
        assert_eq!(pair.events.iter().filter(delivered).count(), 4, "{steps}");
        let mut numbers: Vec<u64> = pair
            .received()
            .iter()
            .map(|(_, body)| u64::from_le_bytes(body[..].try_into().unwrap()))
            .collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]) && numbers.ends_with(&[4, 5, 6, 7]));
    }
    assert!(with_sessions.len() > 2, "{with_sessions:?}");
}

/// Each of its shards forgets the dialler, in the midst of its traffic.
#[test]
fn who_is_forgotten_by_every_shard_hears_so_on_every_lane() {
    let (mut pair, mut flows) = connected();
    send_all(&mut pair, &mut flows, 4);
    let (now, key) = (pair.now, pair.dialler().public_key());
    for (endpoint, _) in &mut pair.nodes[1] {
        let peer = endpoint.find_peer(&key).expect("it greeted each shard");
        assert!(endpoint.forget_peer(now, peer));
        assert_eq!(endpoint.known_peers().count(), 0);
    }
    pair.run(5);
    let is_end = |event: &&Event| {
        matches!(event, Event::SessionEnded { cause: EndCause::RejectedByPeer, .. })
    };
    assert_eq!(pair.events.iter().filter(is_end).count(), 4, "{:?}", pair.events);
    send_all(&mut pair, &mut flows, 8);
    pair.run(60_000);
    let tally = pair.dialler().tally();
    assert_eq!((tally.pending, tally.delivered + tally.unknown), (0, 12), "{tally:?}");
    let delivered = |event: &&Event| {
        matches!(event, Event::Outcome { token: Token(8..), outcome: Outcome::Delivered })
    };
    assert_eq!(pair.events.iter().filter(delivered).count(), 4, "it is met as a stranger");
}
