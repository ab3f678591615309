//! Goal: order and values hold on each flow, and what is urgent goes first.

use std::time::Duration;

use cubed_transport::{Priority, SendOptions, Service};

use super::world::{ORDERED, World, body, number};

#[test]
fn ordered_messages_come_in_order_on_each_flow_and_hold_up_no_others() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        world.faults = [15, 10, 25];
        let (a, b) = (world.flow("a"), world.flow("b"));
        let free = world.flow("free");
        for token in 0..300 {
            let bytes = [8, 100, 1_200, 4_000, 30_000][token as usize % 5];
            let flow = [a, b, free][token as usize % 3];
            let priority =
                [Priority::Normal, Priority::High, Priority::Low][token as usize % 7 % 3];
            let service = [Service::Ordered, Service::Ordered, Service::Acknowledged];
            let service = service[token as usize % 3];
            let options = SendOptions { priority, service, ..ORDERED };
            world.send(flow, &body(token, bytes), &options, token);
        }
        world.finish();
        world.check_outcomes();
        for flow in ["a", "b"] {
            let order = world.received(flow);
            assert_eq!(order.len(), 100);
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{flow}: {order:?}");
        }
        assert!(world.ends[1].0.counters().ordered_held > 0);
        let free = world.received("free");
        assert!(free.windows(2).any(|pair| pair[0] > pair[1]), "nothing was out of order");
    }
}

/// What is offered behind a long ordered message must not fill the window of blocks: the message would never end.
#[test]
fn ordered_messages_do_not_overtake_a_long_one_of_their_flow() {
    // Longer than the window of blocks; and bursts so small that others fill the window meanwhile.
    for (bytes, burst) in [(30 << 20, 0), (400_000, 1)] {
        let mut world = World::new(15);
        let (flow, other) = (world.flow("a"), world.flow("b"));
        let options = SendOptions { burst, ..ORDERED };
        world.send(flow, &body(0, bytes), &options, 0);
        for token in 1..100 {
            world.send(flow, &body(token, 40), &ORDERED, token);
        }
        for token in 1_000..21_000 {
            world.send(other, &body(token, 1_300), &SendOptions::default(), token);
        }
        world.finish();
        assert_eq!(world.received("a"), (0..100).collect::<Vec<_>>());
        assert_eq!(world.received("b").len(), 20_000);
        assert_eq!(world.ends[1].0.counters().ordered_held, 0, "none came before its turn");
    }
}

#[test]
fn the_latest_value_wins_at_both_ends() {
    for (seed, bytes) in [(1, 40), (2, 900), (3, 5_000)] {
        let mut world = World::new(seed);
        world.faults = [20, 10, 30];
        let flows = [world.flow("a"), world.flow("b")];
        let options = SendOptions::new(Service::LatestValue);
        for token in 0..2_000 {
            world.offer(flows[token as usize % 2], &body(token, bytes), &options, token).unwrap();
            if token % 10 == 9 {
                world.run(Duration::from_micros(300));
            }
        }
        world.finish();
        world.check_outcomes();
        for (flow, last) in [("a", 1_998), ("b", 1_999)] {
            let values = world.received(flow);
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "older after newer");
            assert_eq!(values.last(), Some(&last));
        }
        assert_eq!(world.outcomes.len(), 2_000);
        assert!(world.ends[0].0.counters().values_superseded > 1_000);
    }
}

#[test]
fn high_priority_overtakes_a_full_backlog() {
    let mut world = World::new(11);
    let (flow, urgent) = (world.flow("a"), world.flow("urgent"));
    world.send(flow, &body(30_000, 8), &SendOptions::default(), 30_000);
    world.run(Duration::from_millis(20));
    let mut token = 0;
    while world.offer(flow, &body(token, 900), &SendOptions::default(), token).is_ok() {
        token += 1;
    }
    let low = SendOptions { priority: Priority::Low, ..SendOptions::default() };
    world.send(urgent, &body(20_000, 100), &low, 20_000);
    let high = SendOptions { priority: Priority::High, ..SendOptions::default() };
    world.offer(urgent, &body(10_000, 100), &high, 10_000).unwrap();
    assert!(token > 200, "{token} messages before it was full");
    world.finish();
    let position = |wanted: u64| {
        let mut received = world.ends[1].1.received.iter();
        received.position(|message| number(&message.1) == wanted).unwrap()
    };
    assert!(position(10_000) < 3, "at {}", position(10_000));
    assert!(position(20_000) > 60, "at {}", position(20_000));
}
