//! Goal: a peer that is forgotten leaves nothing: what waited for it has its end, what comes late is dropped and counted, and its
//! numbers never mean whoever comes after it.

use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::Identity;
use cubed_transport::limits::DORMANT_AFTER;
use cubed_transport::{
    ChannelId, Event, FlowId, Outcome, PeerId, SendError, SendOptions, Service, Token,
};

use super::world::{App, DELAY, ORDERED, World, address, body};

const PEER: PeerId = PeerId(0);

impl World {
    fn forget(&mut self, peer: PeerId) {
        let now = self.now;
        assert!(self.ends[0].0.forget_peer(now, peer));
        self.check_sums();
        self.check_gone(peer);
        self.run(Duration::ZERO);
    }

    fn add_again(&mut self) -> PeerId {
        let key = self.ends[1].0.public_key();
        self.ends[0].0.add_peer(key, Some(address(1))).unwrap()
    }

    /// Nothing may be asked of the endpoint by this number any more, and nothing pends.
    fn check_gone(&mut self, peer: PeerId) {
        let now = self.now;
        let end = &mut self.ends[0].0;
        assert_eq!((end.tally().pending, end.requests_waiting()), (0, 0));
        assert_eq!((end.peer_key(peer), end.contact(peer), end.presence(peer)), (None, None, None));
        assert_eq!((end.path(peer), end.peer_memory(peer)), (None, None));
        assert!(!end.is_connected(peer) && !end.is_watched(peer) && !end.forget_peer(now, peer));
        let unknown = Err(SendError::UnknownPeer);
        assert_eq!((end.watch(now, peer), end.connect(now, peer)), (unknown, unknown));
        assert_eq!(end.open_flow(peer, "more"), Err(SendError::UnknownPeer));
        let flow = FlowId { peer, alias: 0 };
        for service in [Service::Acknowledged, Service::BestEffort, Service::LatestValue] {
            assert_eq!(end.send(now, flow, b"late", service, Some(Token(9_999))), unknown);
        }
        let asked = end.request(now, flow, &Bytes::new(), Token(9_999), now);
        assert_eq!(asked.map(drop), unknown);
    }

    fn known(&self) -> usize {
        self.ends[0].0.known_peers().count()
    }
}

#[test]
fn an_idle_peer_goes_without_a_trace() {
    for is_met in [false, true] {
        let mut world = if is_met { World::new(1) } else { World::unconnected(1) };
        world.forget(PEER);
        let closed = u64::from(is_met);
        world.run(Duration::from_millis(50));
        assert_eq!(world.known(), 0);
        assert_eq!(world.ends[0].0.counters().sessions_ended, closed);
        assert_eq!(world.ends[1].0.counters().sessions_ended, closed, "it was told");
        world.run(Duration::from_mins(10));
        assert_eq!(world.ends[0].0.poll_timeout(), None, "no timer is left");
    }
}

/// In flight, in fragments, as values, behind credit that is used up, as requests that were sent and that were not.
#[test]
fn whatever_waits_for_it_has_one_end() {
    for seed in 0..20 {
        let mut world = World::unconnected(seed);
        world.faults = [20, 10, 30];
        let (stuck, value) = (world.flow("stuck"), world.flow("value"));
        let (large, ask) = (world.flow("large"), world.flow("ask"));
        let mut token = 0;
        for _ in 0..400 {
            let options = [ORDERED, SendOptions::default()][token as usize % 2];
            world.offer(stuck, &body(token, 990), &options, token).unwrap();
            token += 1;
        }
        world.offer(large, &body(token, 200_000), &SendOptions::default(), token).unwrap();
        world.ask(ask, 1_000, Duration::from_mins(1));
        world.ask(stuck, 1_001, Duration::from_mins(1));
        let latest = SendOptions::new(Service::LatestValue);
        world.offer(value, &body(token + 1, 990), &latest, token + 1).unwrap();
        world.run(Duration::from_millis(5 * seed));
        let now = world.now;
        world.ends[0].0.watch(now, PEER).unwrap();
        world.forget(PEER);
        assert_eq!(world.outcomes.len() as u64, token + 2, "each message");
        let asked: Vec<_> = world.ends[0].1.answers.iter().map(|(token, _)| token.0).collect();
        assert_eq!(asked.len(), 2, "each request: {asked:?}");
        let tally = world.ends[0].0.tally();
        assert!(tally.peer_lost > 0 && tally.offered == token + 4, "{tally:?}");
        // What was on its way may arrive; nothing is told delivered that did not.
        world.run(Duration::from_secs(5));
        for (token, outcome) in &world.outcomes {
            let arrived = world.ends[1].1.received.iter().filter(|(_, bytes, _)| {
                u64::from_le_bytes(bytes[..8].try_into().unwrap()) == *token
            });
            let arrived = arrived.count();
            assert!(arrived <= 1 && (*outcome != Outcome::Delivered || arrived == 1), "{token}");
        }
    }
}

#[test]
fn a_dial_on_its_way_is_dropped() {
    let (mut late, mut hellos) = (0, 0);
    for half_trips in 0..6 {
        let mut world = World::unconnected(1);
        let now = world.now;
        // The other may have got so far that it dials by itself.
        world.ends[0].1.admits_none = true;
        world.ends[0].0.connect(now, PEER).unwrap();
        world.run(DELAY * half_trips);
        let dials = world.ends[0].0.counters().dials_begun;
        world.forget(PEER);
        world.run(Duration::from_mins(5));
        let counters = world.ends[0].0.counters();
        assert_eq!((counters.dials_begun, world.known()), (dials, 0), "{half_trips}");
        assert_eq!(counters.datagrams_received, dropped(&world) + counters.datagrams_taken);
        late += counters.dropped_unknown_association + counters.dropped_handshake;
        hellos += dials;
        assert_eq!(world.ends[0].0.poll_timeout(), None);
    }
    assert!(late > 0 && hellos == 6, "{late}");
}

fn dropped(world: &World) -> u64 {
    let counters = world.ends[0].0.counters();
    let dropped = counters.iter().filter(|(name, _)| name.starts_with("dropped_"));
    dropped.map(|(_, count)| count).sum()
}

#[test]
fn added_again_it_is_met_as_for_the_first_time() {
    for is_told in [false, true] {
        let mut world = World::new(1);
        let old = world.flow("orders");
        for token in 0..10 {
            world.send(old, &body(token, 100), &ORDERED, token);
        }
        world.run(Duration::from_millis(20));
        // Datagrams of the old session are on their way while the new one begins.
        for token in 10..20 {
            world.send(old, &body(token, 100), &ORDERED, token);
            world.run(DELAY / 2);
        }
        if !is_told {
            world.drops_from = 0;
        }
        world.forget(PEER);
        world.drops_from = usize::MAX;
        let peer = world.add_again();
        assert_ne!(peer, PEER);
        assert_eq!(world.known(), 1);
        let new = world.ends[0].0.open_flow(peer, "orders").unwrap();
        world.check_gone(PEER);
        for token in 20..40 {
            world.send(new, &body(token, 100), &ORDERED, token);
        }
        world.finish();
        let tally = world.ends[0].0.tally();
        assert!(tally.unknown > 0 && tally.delivered + tally.unknown == 40, "{tally:?}");
        assert!((20..40).all(|token| world.outcomes[&token] == Outcome::Delivered));
        let received = world.received("orders");
        assert!(received.is_sorted() && received.ends_with(&(20..40).collect::<Vec<_>>()));
        assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{received:?}");
        assert!(dropped(&world) > 0, "what came under the old keys is counted");
    }
}

#[test]
fn an_old_number_never_means_the_newcomer() {
    let mut world = World::new(1);
    let flow = world.flow("orders");
    world.forget(PEER);
    let stranger = Identity::from_seed(&[77; 32]).public_key();
    let newcomer = world.ends[0].0.add_peer(stranger, Some(address(1))).unwrap();
    let theirs = world.ends[0].0.open_flow(newcomer, "orders").unwrap();
    assert_eq!(theirs.alias, flow.alias);
    world.check_gone(PEER);
    let (now, end) = (world.now, &mut world.ends[0].0);
    end.watch(now, newcomer).unwrap();
    end.send(now, theirs, b"for them", Service::Acknowledged, Some(Token(1))).unwrap();
    end.unwatch(PEER);
    end.reject(PEER);
    end.disown_peer(PEER);
    end.set_lanes_sending(PEER, 9);
    end.release(PEER, 1, 0, 64);
    assert!(end.is_watched(newcomer) && end.tally().pending == 1);
    assert_eq!(end.peer_key(newcomer), Some(stranger));
}

#[test]
fn lanes_forgotten_are_counted_as_sending_no_more() {
    let mut world = World::new(1);
    let flow = world.flow("orders");
    world.ends[0].0.take_sending();
    world.send(flow, &body(0, 100), &ORDERED, 0);
    world.drain();
    world.forget(PEER);
    assert!(world.ends[0].0.take_sending().is_empty());
}

/// Each time with a session, a message in flight, one that waits for credit, and a watch.
#[test]
fn a_thousand_times_in_a_row_take_one_place() {
    let mut world = World::new(1);
    let mut peer = PEER;
    let mut numbers = std::collections::HashSet::new();
    for round in 0..1_000 {
        assert!(numbers.insert(peer), "{peer:?} a second time");
        let now = world.now;
        world.ends[0].0.watch(now, peer).unwrap();
        let flow = world.ends[0].0.open_flow(peer, "stuck").unwrap();
        for number in 0..3 {
            let token = 3 * round + number;
            world.offer(flow, &body(token, 100), &SendOptions::default(), token).unwrap();
        }
        world.run(Duration::from_millis(15));
        assert!(world.ends[0].0.is_connected(peer), "{round}");
        world.forget(peer);
        peer = world.add_again();
        assert_eq!(peer.0 as u32, 0, "one place for all of them");
    }
    world.run(Duration::from_mins(5));
    let counters = world.ends[0].0.counters();
    assert_eq!((counters.peers_forgotten, counters.sessions_ended), (1_000, 1_000));
    assert_eq!((world.known(), world.ends[0].0.poll_timeout()), (1, None));
    assert_eq!(world.outcomes.len(), 3_000);
    assert!(world.ends[0].0.take_sending().len() <= 1);
}

#[test]
fn whom_the_application_disowns_is_a_stranger_with_its_session() {
    let mut world = World::new(1);
    let flow = world.flow("orders");
    world.ends[0].0.disown_peer(PEER);
    world.send(flow, &body(0, 100), &ORDERED, 0);
    world.finish();
    assert_eq!(world.outcomes[&0], Outcome::Delivered);
    assert_eq!(world.ends[0].0.find_peer_on(ChannelId::DEFAULT, &key_of(&world)), Some(PEER));
}

fn key_of(world: &World) -> cubed_transport::identity::PublicKey {
    world.ends[1].0.public_key()
}

/// The one that is forgotten is told as gone, and nothing else of it comes after that.
#[test]
fn its_number_is_told_as_forgotten_last() {
    let mut world = World::new(1);
    let flow = world.flow("orders");
    world.offer(flow, &body(0, 100), &ORDERED, 0).unwrap();
    let now = world.now;
    let (end, app): &mut (_, App) = &mut world.ends[0];
    while end.poll_event().is_some() {}
    assert!(end.forget_peer(now, PEER));
    end.handle_timeout(now, app);
    let events: Vec<Event> = std::iter::from_fn(|| end.poll_event()).collect();
    assert!(
        matches!(events.last(), Some(Event::Forgotten { peer }) if *peer == PEER),
        "{events:?}"
    );
    let is_outcome = |event: &&Event| matches!(event, Event::Outcome { .. });
    assert_eq!(events.iter().filter(is_outcome).count(), 1);
    let is_end = |event: &&Event| matches!(event, Event::SessionEnded { .. });
    assert_eq!(events.iter().filter(is_end).count(), 1);
}

/// A message in fragments of each kind, of which the receiver has some; and one that waits for its turn behind a lost one.
fn begun(seed: u64) -> (World, [FlowId; 3]) {
    let mut world = World::new(seed);
    let flows = ["large", "ordered", "loose"].map(|name| world.flow(name));
    let [large, ordered, loose] = flows;
    // With the credit of flows that are known.
    for (flow, number) in flows.into_iter().zip(100..) {
        world.offer(flow, &body(number, 8), &ORDERED, number).unwrap();
    }
    world.run(10 * DELAY);
    world.offer(large, &body(0, 200_000), &SendOptions::default(), 0).unwrap();
    world.offer(ordered, &body(1, 50_000), &ORDERED, 1).unwrap();
    world.offer(ordered, &body(2, 50_000), &ORDERED, 2).unwrap();
    let best_effort = SendOptions::new(Service::BestEffort);
    world.offer(loose, &body(3, 10_000), &best_effort, 3).unwrap();
    (world, flows)
}

/// What the second end holds for the first of messages that are not whole.
fn fragments(world: &World) -> usize {
    let end = &world.ends[1].0;
    let peer = end.find_peer(&world.ends[0].0.public_key());
    peer.and_then(|peer| end.peer_memory(peer)).map_or(0, |memory| memory.fragments)
}

/// What is on its way to one end is lost.
fn lose(world: &mut World, side: usize) {
    world.drain();
    world.wire.retain(|_, (to, _)| *to != side);
}

/// Large messages of each kind get through as if there had been none before; what came of the first ones is true.
fn check_begun_anew(world: &mut World, flows: [FlowId; 3]) {
    world.faults = [0; 3];
    let best_effort = SendOptions::new(Service::BestEffort);
    for (flow, number, options) in
        [(flows[0], 10, SendOptions::default()), (flows[1], 11, ORDERED), (flows[1], 12, ORDERED)]
    {
        world.send(flow, &body(number, 200_000), &options, number);
    }
    world.run(Duration::from_secs(2));
    world.finish();
    world.offer(flows[2], &body(13, 10_000), &best_effort, 13).unwrap();
    world.run(Duration::from_secs(1));
    assert!((10..13).all(|token| world.outcomes[&token] == Outcome::Delivered));
    assert_eq!(
        (world.received("large").last(), world.received("loose").last()),
        (Some(&10), Some(&13))
    );
    assert!(world.received("ordered").ends_with(&[11, 12]));
    for (flow, bytes, _) in &world.ends[1].1.received {
        let number = super::world::number(bytes);
        assert!(*bytes == body(number, bytes.len()), "{flow}: {number} is of two messages");
    }
    // A session with an incomplete message never rests, and one that rests keeps no spare memory.
    world.run(DORMANT_AFTER + Duration::from_secs(1));
    assert_eq!(fragments(world), 0, "nothing is left of what was given up");
    world.outcomes.retain(|token, _| *token != 3 && *token != 13);
    for (token, outcome) in &world.outcomes {
        let all = &world.ends[1].1.received;
        let arrived = all.iter().filter(|(_, bytes, _)| super::world::number(bytes) == *token);
        let arrived = arrived.count();
        assert!(arrived <= 1 && (*outcome != Outcome::Delivered || arrived == 1), "{token}");
    }
}

/// By the one who puts it together.
#[test]
fn a_sender_that_is_forgotten_in_the_midst_of_a_message_leaves_no_part_of_it() {
    let mut most = 0;
    for (micros, is_told) in (0..60).flat_map(|step| [(step * 250, false), (step * 250, true)]) {
        let (mut world, flows) = begun(micros);
        world.faults = [10, 5, 20];
        world.run(Duration::from_micros(micros));
        let held = fragments(&world);
        most = most.max(held);
        let (now, key) = (world.now, world.ends[0].0.public_key());
        let sender = world.ends[1].0.find_peer(&key).expect("it greeted");
        assert!(world.ends[1].0.forget_peer(now, sender));
        assert_eq!(world.ends[1].0.peer_memory(sender), None);
        if !is_told {
            lose(&mut world, 0);
        }
        // What is on its way comes for nobody.
        world.run(2 * DELAY);
        assert_eq!(fragments(&world), 0, "{micros} us, {held} B held before");
        check_begun_anew(&mut world, flows);
    }
    assert!(most > 100_000, "{most} B held at most");
}

/// By the one who sends it.
#[test]
fn a_receiver_that_is_forgotten_in_the_midst_of_a_message_drops_what_it_has_of_it() {
    let mut most = 0;
    for (micros, is_told) in (0..60).flat_map(|step| [(step * 250, false), (step * 250, true)]) {
        let (mut world, _) = begun(micros);
        world.faults = [10, 5, 20];
        world.run(Duration::from_micros(micros));
        most = most.max(fragments(&world));
        let now = world.now;
        assert!(world.ends[0].0.forget_peer(now, PEER));
        if !is_told {
            lose(&mut world, 1);
        }
        let peer = world.add_again();
        let flows = ["large", "ordered", "loose"]
            .map(|name| world.ends[0].0.open_flow(peer, name).unwrap());
        check_begun_anew(&mut world, flows);
    }
    assert!(most > 100_000, "{most} B held at most");
}
