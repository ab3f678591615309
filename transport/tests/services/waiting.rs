//! Goal: what waits for a session or for its flow is sent later or ends, whatever happens meanwhile.

use std::time::Duration;

use cubed_transport::{Outcome, PeerId, Refusal, SendOptions, Service, Token};

use super::world::{ORDERED, World, body};

/// Whoever ends a session, and for whatever reason: what had not left goes with the next one, in the same order.
#[test]
fn what_waits_outlives_its_session() {
    for is_ended_here in [false, true] {
        let mut world = World::unconnected(1);
        let stuck = world.flow("stuck");
        let value = world.flow("stuck.value");
        for token in 0..400 {
            let options = [ORDERED, SendOptions::default()][token as usize % 2];
            world.offer(stuck, &body(token, 990), &options, token).unwrap();
        }
        world.ask(stuck, 400, Duration::from_mins(1));
        world.run(Duration::from_millis(50));
        assert!(world.ends[0].0.is_connected(PeerId(0)));
        let latest = SendOptions::new(Service::LatestValue);
        for token in 401..800 {
            world.offer(value, &body(token, 990), &latest, token).unwrap();
            world.run(Duration::from_millis(1));
        }
        let pending = world.ends[0].0.tally().pending;
        assert!(pending > 20, "{pending}: nobody reads, so credit is short");
        world.ends[usize::from(!is_ended_here)].0.reject(PeerId(0));
        world.run(Duration::from_millis(20));
        assert!(!world.ends[0].0.is_connected(PeerId(0)));
        assert_eq!(world.ends[0].1.answers, [], "the request never left");
        let (received, lost) = (world.received("stuck"), world.outcomes.clone());
        world.run(Duration::from_secs(5));
        assert!(world.ends[0].0.is_connected(PeerId(0)), "whoever has something to send dials");
        let again = world.received("stuck").split_off(received.len());
        assert!(!again.is_empty());
        let ended_once = again.iter().all(|token| !lost.contains_key(token));
        assert!(ended_once, "told as ended, and sent all the same: {again:?}");
        let ordered = again.iter().filter(|token| *token % 2 == 0 && **token < 400);
        assert!(ordered.is_sorted(), "{again:?}");
        assert_eq!(world.received("stuck.value").last(), Some(&799), "the newest value");
    }
}

/// A session ends and there is no other one: what waits ends all the same.
#[test]
fn what_waits_ends_when_the_peer_is_gone() {
    for is_closed in [false, true] {
        let mut world = World::unconnected(1);
        let (stuck, value) = (world.flow("stuck"), world.flow("stuck.value"));
        for token in 0..400 {
            world.offer(stuck, &body(token, 990), &ORDERED, token).unwrap();
        }
        world.run(Duration::from_millis(50));
        let latest = SendOptions::new(Service::LatestValue);
        for token in 400..800 {
            world.offer(value, &body(token, 990), &latest, token).unwrap();
            world.run(Duration::from_millis(1));
        }
        assert!(world.ends[0].0.tally().pending > 20);
        if is_closed {
            world.ends[1].0.close();
        } else {
            world.ends[0].0.reject(PeerId(0));
        }
        world.run(Duration::from_millis(20));
        world.drops_from = 0;
        world.run(Duration::from_secs(200));
        assert_eq!(world.ends[0].0.tally().pending, 0, "{:?}", world.ends[0].0.tally());
        assert_eq!(world.outcomes.len(), 800);
        assert_eq!(world.ends[0].0.poll_timeout(), None, "and nothing is dialled for any more");
    }
}

#[test]
fn a_cancelled_request_that_has_not_left_never_does() {
    let mut world = World::unconnected(1);
    let flow = world.flow("ask");
    let first = world.ask(flow, 7, Duration::from_mins(1));
    world.ask(flow, 8, Duration::from_mins(1));
    world.ends[0].0.cancel_request(first);
    world.ends[0].0.cancel_request(first);
    world.run(Duration::from_secs(1));
    assert_eq!(world.received("ask"), [8]);
    assert_eq!(world.ends[0].0.tally().expired, 1);
    assert_eq!(world.ends[0].0.tally().pending, 0);
}

/// A refusal is the answer to what was sent, not to what will be.
#[test]
fn a_flow_that_was_refused_is_asked_for_again() {
    for service in
        [Service::Acknowledged, Service::Ordered, Service::LatestValue, Service::BestEffort]
    {
        let mut world = World::new(1);
        let flow = world.flow("later");
        world.ends[1].1.refuses = true;
        let now = world.now;
        let token = |number| Some(Token(number)).filter(|_| service != Service::BestEffort);
        world.ends[0].0.send(now, flow, &body(1, 100), service, token(1)).unwrap();
        world.run(Duration::from_millis(50));
        let refused = Some(&Outcome::Refused(Refusal::Denied));
        assert_eq!(world.outcomes.get(&1), refused.filter(|_| token(1).is_some()));
        world.ends[1].1.refuses = false;
        world.ends[1].1.generation += 1;
        for number in 2..5 {
            let now = world.now;
            world.ends[0].0.send(now, flow, &body(number, 100), service, token(number)).unwrap();
            world.run(Duration::from_millis(50));
        }
        assert_eq!(world.received("later"), [2, 3, 4], "{service:?}");
    }
}
