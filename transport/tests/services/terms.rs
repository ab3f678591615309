//! Goal: deadline, retries and burst are obeyed, each by itself.

use std::time::Duration;

use cubed_transport::{Outcome, Priority, SendOptions, Service, Token};

use super::world::{DELAY, LONG, ORDERED, World, body, number};

#[test]
fn deadlines_pass_without_a_trace_or_are_skipped_and_order_goes_on() {
    let mut skips = 0;
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.faults = [30, 10, 20];
        let (a, b) = (world.flow("a"), world.flow("b"));
        for token in 0..400 {
            let bytes = [8, 300, 1_000, 9_000][token as usize % 4];
            let deadline = if token % 3 == 0 { None } else { Some(world.after(5 + token % 40)) };
            let service = [Service::Ordered, Service::Acknowledged][token as usize % 2];
            let options = SendOptions { deadline, service, ..ORDERED };
            world.send([a, b][token as usize / 2 % 2], &body(token, bytes), &options, token);
            if token % 50 == 0 {
                world.run(Duration::from_millis(7));
            }
        }
        world.finish();
        world.check_outcomes();
        let expired = world.outcomes.values().filter(|end| **end == Outcome::Expired).count();
        let delivered = world.outcomes.values().filter(|end| **end == Outcome::Delivered).count();
        assert_eq!((world.outcomes.len(), expired + delivered), (400, 400));
        assert!(expired > 0 && delivered > 134, "{expired} expired, {delivered} delivered");
        for flow in ["a", "b"] {
            let received = &world.ends[1].1.received;
            let is_ordered =
                |m: &&(String, Vec<u8>, Service)| m.0 == flow && m.2 == Service::Ordered;
            let order: Vec<u64> =
                received.iter().filter(is_ordered).map(|m| number(&m.1)).collect();
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{flow}: {order:?}");
        }
        skips += world.ends[1].0.counters().skips_received;
        // The credit of what expired came back: a full window's worth still goes through.
        world.faults = [0; 3];
        for token in 1_000..1_200 {
            world.send(a, &body(token, 10_000), &SendOptions::default(), token);
        }
        world.finish();
        world.check_outcomes();
    }
    assert!(skips > 50, "{skips}");
}

#[test]
fn a_message_unsent_at_its_deadline_never_leaves() {
    let mut world = World::unconnected(3);
    let flow = world.flow("a");
    for (token, priority) in [(1, Priority::Low), (2, Priority::High), (3, Priority::Normal)] {
        let deadline = if token == 3 { None } else { Some(world.after(500)) };
        let options = SendOptions { deadline, priority, ..SendOptions::default() };
        world.send(flow, &body(token, 50), &options, token);
    }
    let options = SendOptions { priority: Priority::High, ..SendOptions::default() };
    world.send(flow, &body(4, 50), &options, 4);
    world.ends[0]
        .0
        .request(world.now, flow, &body(5, 9).into(), Token(5), world.now + DELAY)
        .unwrap();
    world.faults = [100, 0, 0];
    world.run(Duration::from_millis(700));
    let ends: Vec<_> = [1, 2].map(|token| world.outcomes.get(&token).copied()).into();
    assert_eq!(ends, [Some(Outcome::Expired); 2]);
    assert_eq!(world.ends[0].1.answers, [(Token(5), Err(Outcome::Expired))]);
    world.faults = [0; 3];
    world.finish();
    assert_eq!(world.received("a"), [4, 3], "high priority first, the expired never");
    assert_eq!(world.ends[0].0.tally().expired, 3);
    assert_eq!(world.ends[1].0.counters().skips_received, 0);
}

#[test]
fn two_messages_in_flight_obey_each_its_own_options() {
    let mut world = World::new(5);
    world.drops_from = LONG;
    let flow = world.flow("a");
    let retries = SendOptions { retries: Some(2), ..SendOptions::default() };
    let deadline = SendOptions { deadline: Some(world.after(700)), ..SendOptions::default() };
    world.send(flow, &body(1, 1_130), &retries, 1);
    world.send(flow, &body(2, 1_130), &deadline, 2);
    world.send(flow, &body(3, 1_130), &SendOptions::default(), 3);
    world.send(flow, &body(4, 40), &retries, 4);
    let begun = world.now;
    let mut ended = [None; 5];
    while world.now < begun + Duration::from_millis(1_500) {
        world.run(Duration::from_millis(1));
        for token in 1..5 {
            if world.outcomes.contains_key(&token) && ended[token as usize].is_none() {
                ended[token as usize] = Some(world.now.saturating_duration_since(begun));
            }
        }
    }
    assert_eq!(world.outcomes.get(&1), Some(&Outcome::Expired));
    assert_eq!(world.outcomes.get(&2), Some(&Outcome::Expired));
    assert_eq!(world.outcomes.get(&3), None, "it asked for no end");
    assert_eq!(world.outcomes.get(&4), Some(&Outcome::Delivered));
    let after = ended[2].unwrap().as_millis();
    assert!((700..=760).contains(&after), "expired {after} ms after it was sent, not 700");
    assert!(ended[1].unwrap() != ended[2].unwrap());
    world.drops_from = usize::MAX;
    world.finish();
    assert_eq!(world.outcomes.get(&3), Some(&Outcome::Delivered));
    world.check_outcomes();
}

#[test]
fn no_block_is_repeated_more_often_than_allowed() {
    for retries in [0, 1, 3] {
        let mut world = World::new(7);
        world.drops_from = LONG;
        let flow = world.flow("a");
        let options = SendOptions { retries: Some(retries), ..SendOptions::default() };
        world.send(flow, &body(1, 1_130), &options, 1);
        for token in 2..60 {
            world.send(flow, &body(token, 20), &SendOptions::default(), token);
            world.run(Duration::from_millis(20));
        }
        world.finish();
        assert_eq!(world.long_sent, 1 + usize::from(retries));
        assert_eq!(world.outcomes[&1], Outcome::Expired);
        world.check_outcomes();
    }
}

#[test]
fn a_burst_is_never_exceeded() {
    for burst in [0u16, 1, 4, 7, 11] {
        let mut world = World::new(9);
        let (flow, other) = (world.flow("a"), world.flow("b"));
        world.send(flow, &body(1, 8), &SendOptions::default(), 1);
        world.run(Duration::from_millis(20));
        world.long_in_flight_max = 0;
        let options = SendOptions { burst, ..SendOptions::default() };
        world.send(flow, &body(2, 40_000), &options, 2);
        world.send(other, &body(3, 100), &SendOptions::default(), 3);
        let begun = world.now;
        while !world.outcomes.contains_key(&3) {
            world.run(Duration::from_millis(1));
        }
        let waited = world.now.saturating_duration_since(begun);
        assert!(waited < 4 * DELAY, "the other waited {waited:?} for the burst");
        world.finish();
        let max = world.long_in_flight_max;
        match burst {
            0 => assert!(max > 11, "{max}"),
            _ => assert_eq!(max, usize::from(burst)),
        }
        assert_eq!(world.received("a"), [1, 2]);
    }
}

#[test]
fn bursts_end_under_loss() {
    for burst in [1u16, 4, 11] {
        let mut world = World::new(u64::from(burst));
        world.faults = [20, 5, 10];
        let flow = world.flow("a");
        for token in 0..12 {
            let deadline = if token % 2 == 0 { None } else { Some(world.after(100)) };
            let options = SendOptions { burst, deadline, ..ORDERED };
            world.send(flow, &body(token, 3_000 + 2_000 * token as usize), &options, token);
        }
        world.finish();
        world.check_outcomes();
        let order = world.received("a");
        assert!(order.len() >= 6 && order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
    }
}
