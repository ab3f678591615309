//! Goal: neither a full window, nor a slow flow, nor a busy caller keeps a message out for ever.

use std::time::Duration;

use cubed_transport::{Outcome, SendError, SendOptions, Service};

use super::world::{ORDERED, World, body};

#[test]
fn nothing_that_fills_the_window_starves_a_plain_message() {
    for service in [Service::LatestValue, Service::Acknowledged] {
        let mut world = World::new(21);
        // With losses the window holds a few datagrams only, and each place that comes free is wanted.
        world.faults = [25, 0, 0];
        let flows = (0..40).map(|n| world.flow(&format!("busy{n}"))).collect::<Vec<_>>();
        let lone = world.flow("lone");
        let mut token = 0;
        // A full log of other blocks may go before it.
        for round in 0..20_000 {
            if world.outcomes.contains_key(&9_000_000) {
                break;
            }
            for flow in &flows {
                let deadline = Some(world.after(5_000 + round));
                let busy = SendOptions { deadline, ..SendOptions::new(service) };
                token += 1;
                let _ = world.offer(*flow, &body(token, 1_140), &busy, token);
            }
            if round == 200 {
                let plain = SendOptions::default();
                world.offer(lone, &body(9_000_000, 40), &plain, 9_000_000).unwrap();
            }
            world.run(Duration::from_millis(1));
        }
        let lone = (world.received("lone"), world.outcomes.get(&9_000_000));
        assert_eq!(lone, (vec![9_000_000], Some(&Outcome::Delivered)), "{service:?}");
        world.finish();
    }
}

#[test]
fn a_flow_that_is_not_read_stalls_no_other() {
    let mut world = World::new(13);
    let (stuck, flow) = (world.flow("stuck"), world.flow("a"));
    let options = SendOptions::new(Service::Ordered);
    let mut offered = 0;
    for _ in 0..20 {
        while world.offer(stuck, &body(offered, 900), &options, offered).is_ok() {
            offered += 1;
        }
        world.run(Duration::from_millis(10));
    }
    for token in 10_000..14_000 {
        world.send(flow, &body(token, 1_000), &options, token);
    }
    world.run(Duration::from_millis(200));
    assert_eq!(world.received("a").len(), 4_000);
    assert!(world.offer(stuck, &body(offered, 900), &options, offered) == Err(SendError::Full));
}

#[test]
fn a_flow_without_credit_holds_up_none_of_those_that_wait_for_a_session() {
    let mut world = World::unconnected(14);
    let (stuck, flow) = (world.flow("stuck"), world.flow("a"));
    let options = [SendOptions::default(), ORDERED];
    for token in 0..600 {
        world.offer(stuck, &body(token, 900), &options[token as usize % 2], token).unwrap();
    }
    for token in 1_000..1_100 {
        world.offer(flow, &body(token, 900), &options[token as usize % 2], token).unwrap();
    }
    world.run(Duration::from_millis(200));
    assert_eq!(world.received("a").len(), 100);
    let taken = world.received("stuck").len();
    assert!((200..300).contains(&taken), "{taken} fit into the window");
    for token in 2_000..2_100 {
        world.send(flow, &body(token, 900), &options[token as usize % 2], token);
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.received("a").len(), 200);
}

/// Whoever waited for a session, for credit or for room gets the room that comes free, whatever a busy caller offers.
#[test]
fn what_waits_gets_room_before_a_caller_who_fills_the_log_all_the_time() {
    // The caller takes the credit of the same flow, or fills the log by others.
    for busy in [1, 20] {
        let mut world = World::unconnected(16);
        let flows = (0..busy).map(|n| world.flow(&format!("busy{n}"))).collect::<Vec<_>>();
        let plain = SendOptions::default();
        let mut waiting = 0;
        while world.offer(flows[0], &body(waiting, 900), &plain, waiting).is_ok() {
            waiting += 1;
        }
        world.busy = if busy == 1 { flows } else { flows[1..].to_vec() };
        world.run(Duration::from_secs(2));
        world.busy.clear();
        let tokens = world.busy_tokens.clone();
        let missing = (0..waiting).filter(|token| !world.outcomes.contains_key(token)).count();
        assert_eq!(missing, 0, "of {waiting} offered first, beside {tokens:?}");
        assert!(tokens.end - tokens.start > waiting, "the caller was busy: {tokens:?}");
        world.finish();
        world.check_outcomes();
    }
}
