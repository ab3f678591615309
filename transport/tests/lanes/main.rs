//! Goal: nodes of several shards find the shard that owns a flow; what waited before that was known moves there whole, once and in
//! order; another start of a peer, with other shards, is met like any.

mod forgotten;
mod life;
mod pair;

use std::time::Duration;

use cubed_transport::identity::Identity;
use cubed_transport::{
    ChannelId, EndCause, Event, Limits, Outcome, PeerId, SendError, SendOptions, Service, Token,
};
use pair::{Pair, node_as, owner};

const NAMES: [&str; 4] = ["a0", "b1", "c2", "d3"];

#[test]
fn what_waits_moves_in_order_with_its_tokens() {
    let mut pair = Pair::new(4);
    let now = pair.now;
    let flows = NAMES.map(|name| pair.flow(name));
    assert!(flows.iter().all(|flow| flow.peer == pair.peer), "nothing is known of its shards");
    let mut token = 0;
    for round in 0..20_u8 {
        for (place, flow) in flows.into_iter().enumerate() {
            let body = [place as u8, round];
            for service in [Service::Ordered, Service::Acknowledged, Service::LatestValue] {
                let sent = pair.dialler().send(now, flow, &body, service, Some(Token(token)));
                sent.unwrap();
                token += 1;
            }
        }
    }
    for (place, flow) in flows.into_iter().enumerate() {
        let (asked, deadline) = (Token(1_000 + place as u64), now + Duration::from_secs(5));
        let body = vec![place as u8, 99].into();
        pair.dialler().request(now, flow, &body, asked, deadline).unwrap();
        // Past before there is a session.
        let options = SendOptions { deadline: Some(now), ..SendOptions::default() };
        let late = Some(Token(2_000 + place as u64));
        pair.dialler().send_with(now, flow, b"late", &options, late).unwrap();
    }
    pair.run(1_000);
    let received = pair.received();
    for (place, name) in NAMES.into_iter().enumerate() {
        let mine = received.iter().filter(|(flow, _)| flow == name);
        let rounds: Vec<u32> = mine.map(|(_, body)| body[1].into()).collect();
        // Ordered and plain ones of each round, the last value, and the request.
        for round in 0..20 {
            let expected = if round == 19 { 3 } else { 2 };
            assert_eq!(rounds.iter().filter(|&&other| other == round).count(), expected, "{name}");
        }
        assert_eq!((rounds.len(), rounds.contains(&99)), (42, true), "{place}");
    }
    let (endpoint, app) = &pair.nodes[0][0];
    assert_eq!(app.answers.len(), 4);
    assert!(app.answers.iter().all(|(_, answer)| answer.as_deref() == Ok(b"answer")));
    let mut outcomes: Vec<_> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Outcome { token, outcome } => Some((token.0, *outcome)),
            _ => None,
        })
        .collect();
    outcomes.sort_by_key(|(token, _)| *token);
    let tokens: Vec<u64> = outcomes.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, (0..240).chain(2_000..2_004).collect::<Vec<_>>(), "each ends once");
    let expired = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Expired).count();
    assert_eq!(expired, 4 * 19 + 4, "values that were replaced, and what came too late");
    assert_eq!((endpoint.tally().pending, endpoint.counters().flows_moved), (0, 3));
    assert_eq!(pair.sessions(), 4);
}

#[test]
fn ordered_messages_keep_their_order_on_the_way() {
    let mut pair = Pair::new(4);
    let mut flow = pair.flow("d3");
    for number in 0..200_u8 {
        pair.send(&mut flow, &[number], Service::Ordered, number.into()).unwrap();
        if number > 50 {
            pair.run(1);
        }
    }
    pair.run(1_000);
    let bodies: Vec<u8> = pair.received().into_iter().map(|(_, body)| body[0]).collect();
    assert_eq!(bodies, (0..200).collect::<Vec<u8>>());
}

#[test]
fn a_flow_that_moved_says_where_to_and_is_opened_there() {
    let mut pair = Pair::new(4);
    let old = NAMES.map(|name| pair.flow(name));
    pair.send(&mut old[0].clone(), b"first", Service::Acknowledged, 0).unwrap();
    pair.run(500);
    let new = NAMES.map(|name| pair.flow(name));
    let (now, contact) = (pair.now, pair.peer);
    for (place, (old, new)) in old.into_iter().zip(new).enumerate() {
        assert_eq!(pair.dialler().peer_shard(new.peer), Some(place as u8));
        assert_eq!(pair.dialler().contact(new.peer), Some(contact));
        if old == new {
            continue;
        }
        let deadline = now + Duration::from_secs(1);
        for (bytes, service) in [
            (0, Service::Acknowledged),
            (9, Service::Ordered),
            (0, Service::BestEffort),
            (9, Service::LatestValue),
        ] {
            let sent = pair.dialler().send(now, old, &vec![0; bytes], service, None);
            assert_eq!(sent, Err(SendError::Moved(new)), "{service:?}");
        }
        let asked = pair.dialler().request(now, old, &vec![1].into(), Token(7), deadline);
        assert_eq!(asked, Err(SendError::Moved(new)));
    }
    assert_eq!(pair.dialler().requests_waiting(), 0);
}

#[test]
fn who_found_no_room_is_told_when_the_flow_moves() {
    let limits = Limits { queue_bytes_max: 4_000, ..Limits::default() };
    let mut pair = Pair::with(2, limits);
    let mut flows = [pair.flow("a0"), pair.flow("b1")];
    let mut taken = 0;
    while pair
        .send(&mut flows[taken % 2], &[taken as u8; 100], Service::Acknowledged, taken as u64)
        .is_ok()
    {
        taken += 1;
    }
    let contact = pair.peer;
    pair.run(500);
    let told =
        pair.events.iter().any(|e| matches!(e, Event::Writable { peer } if *peer == contact));
    assert!(told && taken > 10, "{taken}");
    for flow in &mut flows {
        pair.send(flow, b"more", Service::Acknowledged, 99).unwrap();
    }
    pair.run(500);
    assert_eq!(pair.received().len(), taken + 2);
}

#[test]
fn lanes_that_send_are_counted_and_those_that_only_answer_are_not() {
    let mut pair = Pair::new(4);
    let key = pair.nodes[1][0].0.public_key();
    let mut flows = NAMES.map(|name| pair.flow(name));
    let mut counted = |pair: &mut Pair, names: usize| {
        pair.run(1_000);
        pair.dialler().take_sending();
        for flow in &mut flows[..names] {
            pair.send(flow, b"count this lane", Service::Acknowledged, 0).unwrap();
        }
        pair.run(5);
        let others: usize =
            pair.nodes[1].iter_mut().map(|(node, _)| node.take_sending().len()).sum();
        (pair.dialler().take_sending().remove(&(ChannelId::DEFAULT, key)), others)
    };
    // Greetings and first contacts are over before the count.
    counted(&mut pair, NAMES.len());
    let owners = |names: &[&str]| {
        let owners = names.iter().map(|name| owner(&[0; 32], name, 4));
        owners.collect::<std::collections::HashSet<_>>().len() as u16
    };
    for names in [1, 2, NAMES.len()] {
        let (lanes, _) = counted(&mut pair, names);
        assert_eq!(lanes, Some(owners(&NAMES[..names])), "{names} flows");
    }
    assert_eq!(counted(&mut pair, 0), (None, 0));
}

#[test]
fn another_start_with_other_shards_gets_the_flows_anew() {
    let mut pair = Pair::new(4);
    let mut flows = NAMES.map(|name| pair.flow(name));
    for shards in [4, 2, 3, 1, 4] {
        // What meets the former start ends as unknown.
        for flow in &mut flows {
            pair.send(flow, b"who is there", Service::Acknowledged, 0).unwrap();
        }
        pair.run(3_000);
        pair.received();
        for (place, flow) in flows.iter_mut().enumerate() {
            pair.send(flow, &[place as u8], Service::Ordered, 0).unwrap();
            pair.send(flow, &[place as u8], Service::Acknowledged, 0).unwrap();
        }
        pair.run(3_000);
        let received = pair.received();
        assert_eq!(received.len(), 8, "{} shards: {received:?}", pair.nodes[1].len());
        let tally = pair.dialler().tally();
        assert_eq!(tally.pending, 0, "{tally:?}");
        pair.restart(shards);
    }
}

#[test]
fn an_answer_of_another_shard_belongs_to_the_lane_of_that_shard() {
    let mut pair = Pair::new(4);
    let mut flow = pair.flow("d3");
    pair.send(&mut flow, b"x", Service::Acknowledged, 0).unwrap();
    // Whichever shard is asked for, the third one answers.
    pair.hellos_to = Some(2);
    pair.run(900);
    assert_eq!(pair.dialler().tally().delivered, 0);
    let lanes: Vec<_> = (0..2).map(|lane| pair.dialler().peer_shard(PeerId(lane))).collect();
    assert_eq!(lanes, [Some(2), Some(3)]);
    pair.hellos_to = None;
    pair.run(2_000);
    assert_eq!(pair.received(), [("d3".to_owned(), b"x".to_vec())]);
}

#[test]
fn a_start_that_places_flows_anew_is_no_part_of_the_session() {
    let mut pair = Pair::new(1);
    let mut flow = pair.flow("a0");
    pair.send(&mut flow, b"x", Service::Acknowledged, 0).unwrap();
    pair.run(500);
    pair.events.clear();
    pair.nodes[1] = node_as(2, [0, 1], 1, &Limits::default());
    pair.send(&mut flow, b"y", Service::Acknowledged, 0).unwrap();
    pair.run(3_000);
    // It is told so, and greets as somebody else.
    let ends = |event: &&Event| {
        matches!(event, Event::SessionEnded { cause: EndCause::NewIncarnation, .. })
    };
    assert_eq!(pair.events.iter().filter(ends).count(), 1, "{:?}", pair.events);
    assert_eq!((pair.sessions(), pair.dialler().tally().pending), (1, 0));
}

#[test]
fn a_dial_that_finds_no_room_for_the_lane_has_failed() {
    let limits = Limits { peers_max: 2, ..Limits::default() };
    let mut pair = Pair::with(4, limits);
    pair.dialler().add_peer(Identity::from_seed(&[7; 32]).public_key(), None).unwrap();
    let mut flow = pair.flow("a0");
    pair.send(&mut flow, b"x", Service::Acknowledged, 0).unwrap();
    pair.hellos_to = Some(0);
    pair.run(500);
    assert_eq!(pair.sessions(), 1);
    pair.restart(4);
    // The lane that there is leads to shard 0; whoever is asked for, shard 3 answers.
    pair.hellos_to = Some(3);
    pair.send(&mut flow, b"y", Service::Acknowledged, 0).unwrap();
    pair.run(3_000);
    let no_room = |event: &Event| match event {
        Event::DialFailed { error, .. } => error.to_string().contains("raise peers_max"),
        _ => false,
    };
    assert!(pair.events.iter().any(no_room), "{:?}", pair.events);
}
