//! Fresh keys by time and by count: when they come, what they cost, what becomes of the old ones.

use std::cell::Cell;
use std::rc::Rc;

use cubed_transport::Limits;

use crate::wire::{Wire, address, ms};

const AB: (usize, usize) = (0, 1);

#[test]
fn keys_are_replaced_by_time_while_traffic_flows_and_not_when_idle() {
    let limits = Limits { rekey_after: ms(1_000), ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    for number in 0..1_000 {
        wire.send(AB, number, 100);
        wire.run(ms(10));
    }
    wire.run(ms(100));
    wire.assert_arrived(AB, 0..1_000);
    let counters = [0, 1].map(|end| wire.counters(end));
    for counters in counters {
        assert!((8..=12).contains(&counters.rekeys), "{counters:?}");
        assert_eq!(counters.associations_erased, counters.rekeys);
        assert_eq!((counters.blocks_resent, counters.packets_lost), (0, 0));
        assert_eq!(counters.sessions_begun, 1);
    }
    let dials = counters[0].dials_begun + counters[1].dials_begun;
    assert!(dials <= counters[0].rekeys + 2, "{dials} dials for {} rekeys", counters[0].rekeys);
    wire.run(ms(600_000));
    for (end, before) in counters.into_iter().enumerate() {
        assert_eq!(wire.counters(end).dials_begun, before.dials_begun, "{end} dials when idle");
    }
    wire.send(AB, 1_000, 100);
    wire.run(ms(100));
    // Both sides see traffic under old keys at once, so both may dial.
    let more = wire.counters(0).rekeys - counters[0].rekeys;
    assert!((1..=2).contains(&more), "{more} rekeys when there is traffic again");
}

#[test]
fn a_rekey_under_load_sends_nothing_again() {
    let limits = Limits { packets_per_key: 1 << 10, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    for number in 0..20_000 {
        wire.send(AB, number, 1_000);
    }
    wire.run(ms(1_000));
    wire.assert_arrived(AB, 0..20_000);
    for end in [0, 1] {
        let counters = wire.counters(end);
        assert!(counters.rekeys >= 8, "{counters:?}");
        assert_eq!((counters.blocks_resent, counters.packets_lost), (0, 0), "{counters:?}");
        assert_eq!(counters.dropped_duplicate_block, 0);
        assert_eq!(counters.associations_erased, counters.associations_established - 1);
    }
}

#[test]
fn sending_stops_where_the_key_ends_and_goes_on_with_the_next() {
    let limits = Limits { packets_per_key: 500, packets_per_key_stop: 1_000, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.send(AB, 0, 8);
    wire.run(ms(100));
    wire.is_recording = true;
    wire.drops = Box::new(|sent| !sent.is_lane());
    let flow = wire.flow(0, 1);
    for number in 1..5_000u64 {
        let body = [&number.to_le_bytes()[..], &[0; 1_000]].concat();
        let service = cubed_transport::Service::Acknowledged;
        while wire.ends[0].endpoint.send(wire.now, flow, &body, service, None).is_err() {
            wire.run(ms(10));
            if wire
                .recorded
                .iter()
                .any(|sent| sent.from == 0 && sent.is_lane() && sent.number() >= 995)
            {
                wire.drops = Box::new(|_| false);
            }
        }
    }
    wire.run(ms(5_000));
    wire.assert_arrived(AB, 0..5_000);
    let lanes = wire.recorded.iter().filter(|sent| sent.is_lane() && sent.from == 0);
    // The sender leaves out a number now and then.
    let highest = lanes.map(super::wire::Sent::number).max().unwrap();
    assert!((995..1_000).contains(&highest), "{highest}");
}

#[test]
fn old_keys_open_nothing_once_they_are_erased() {
    let limits = Limits { rekey_after: ms(1_000), ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.is_recording = true;
    let mut number = 0;
    while wire.counters(1).rekeys == 0 {
        wire.send(AB, number, 100);
        wire.run(ms(10));
        number += 1;
    }
    let old = wire.recorded.iter().find(|sent| sent.is_lane() && sent.to == 1).unwrap().clone();
    let before = wire.counters(1);
    wire.inject(1, address(0), &old.bytes);
    assert_eq!(wire.counters(1).dropped_replayed, before.dropped_replayed + 1, "still known");
    // Three probe timeouts at a round trip of 2 ms, with room for the estimate and the last timer.
    wire.run(ms(50));
    wire.inject(1, address(0), &old.bytes);
    let after = wire.counters(1);
    assert_eq!(after.dropped_unknown_association, before.dropped_unknown_association + 1);
    assert_eq!((after.associations_erased, wire.counters(0).associations_erased), (1, 1));
}

/// The receiver's greetings come through and the sender's do not, so one side changes keys and the other cannot.
#[test]
fn keys_that_the_peer_still_sends_on_outlive_any_number_of_handshakes() {
    let limits = Limits { packets_per_key: 64, packets_per_key_stop: 100_000, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.send(AB, 0, 8);
    wire.run(ms(5));
    wire.is_recording = true;
    wire.send(AB, 1, 8);
    wire.run(ms(5));
    let first = wire.recorded.iter().find(|sent| sent.is_lane() && sent.from == 0).unwrap();
    let first = [first.index(), {
        let back = wire.recorded.iter().find(|sent| sent.is_lane() && sent.from == 1);
        back.unwrap().index()
    }];
    // Of the lane datagrams from 1 to 0, only those under the first association pass.
    wire.drops = Box::new(move |sent| sent.is_lane() && sent.from == 1 && sent.index() != first[1]);
    for number in 2..3_000 {
        wire.send(AB, number, 1_000);
        wire.run(ms(10));
        if number == 2_000 {
            let established = wire.counters(1).associations_established;
            assert!(established > 3, "only {established} handshakes overlap");
        }
    }
    wire.run(ms(100));
    wire.assert_arrived(AB, 0..3_000);
    assert_eq!(wire.counters(0).sessions_begun, 1);
    wire.drops = Box::new(|_| false);
    for number in 3_000..4_000 {
        wire.send(AB, number, 1_000);
        wire.run(ms(1));
    }
    wire.run(ms(1_000));
    wire.assert_arrived(AB, 0..4_000);
    assert!(wire.counters(0).rekeys > 0);
}

/// One side moves on and the other cannot: it gets the first datagram under each new association, a greeting, and no other.
#[test]
fn keys_that_the_peer_still_sends_on_are_never_erased() {
    let limits = Limits { packets_per_key: 64, packets_per_key_stop: 100_000, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.send(AB, 0, 8);
    wire.run(ms(5));
    wire.is_recording = true;
    wire.send(AB, 1, 8);
    wire.run(ms(5));
    let index = |wire: &Wire, from| {
        wire.recorded.iter().find(|sent| sent.is_lane() && sent.from == from).unwrap().index()
    };
    let first = [index(&wire, 0), index(&wire, 1)];
    wire.drops = Box::new(move |sent| {
        let is_new = sent.is_lane() && sent.index() != first[sent.from];
        is_new && (sent.from == 0) == (sent.number() == 0)
    });
    wire.is_recording = false;
    // What the receiver says of messages and credit goes by its new keys, so this is all that fits.
    for number in 2..500 {
        wire.send(AB, number, 1_000);
        wire.run(ms(10));
    }
    wire.run(ms(100));
    let arrived = &wire.ends[1].app.arrived;
    assert!((0..500).all(|number| arrived.get(&number) == Some(&1)), "{}", arrived.len());
    let counters = wire.counters(1);
    assert!(counters.rekeys >= 3, "{counters:?}");
    assert_eq!(wire.counters(0).rekeys, 0);
}

/// Thousands of keys, an end of the session, and a lane that idles and is used again: the wire checks every number.
#[test]
fn no_number_is_used_twice_under_a_key() {
    let limits = Limits { packets_per_key: 64, packets_per_key_stop: 256, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    let (mut number, mut first) = (0, 0);
    for round in 0..4 {
        let rekeys = wire.counters(0).rekeys;
        while wire.counters(0).rekeys < rekeys + 500 {
            for way in [AB, (1, 0)] {
                wire.send(way, number, 1_400);
            }
            number += 1;
            if number % 16 == 0 {
                wire.run(ms(1));
            }
        }
        wire.run(ms(10_000));
        wire.assert_arrived(AB, first..number);
        wire.assert_arrived((1, 0), 0..number);
        if round == 1 {
            wire.restart(1);
            first = number;
            // This one finds out, and ends as unknown.
            wire.send(AB, u64::MAX, 8);
            wire.run(ms(100));
        }
    }
    assert!(wire.counters(0).rekeys >= 2_000 && wire.sealed > 100_000, "{}", wire.sealed);
}

/// What is sent while the dialler's greeting is lost must not ask for yet other keys.
#[test]
fn a_rekey_costs_one_dial() {
    let limits = Limits { rekey_after: ms(10_000), ..Limits::default() };
    for unlucky in [0, 1] {
        let mut wire = Wire::new(2, limits.clone());
        wire.send(AB, 0, 100);
        wire.run(ms(100));
        wire.drops =
            Box::new(move |sent| sent.is_lane() && sent.from == unlucky && sent.number() == 0);
        let dials = |wire: &Wire| wire.counters(0).dials_begun + wire.counters(1).dials_begun;
        let (before, mut number) = (dials(&wire), 1);
        while wire.now.as_nanos() < 1_016_000_000_000 {
            wire.send(AB, number, 100);
            wire.run(ms(1));
            number += 1;
        }
        assert_eq!([0, 1].map(|end| wire.counters(end).rekeys), [1, 1]);
        assert_eq!(dials(&wire) - before, 1, "dials for keys that are 5 s old");
        wire.drops = Box::new(|_| false);
        wire.run(ms(100));
        wire.assert_arrived(AB, 0..number);
    }
}

/// Within a second of the smaller key's handshake the other side wears out its keys and dials: it takes those for newer, and the
/// smaller key's side for dialled at once. Then nobody speaks.
#[test]
fn sides_that_chose_differently_agree_although_nothing_is_sent() {
    for packets_per_key_stop in [70, 100_000] {
        let limits = Limits { packets_per_key: 64, packets_per_key_stop, ..Limits::default() };
        let mut wire = Wire::new(2, limits);
        let keys = [0, 1].map(|end: usize| wire.ends[end].endpoint.public_key());
        let smaller = usize::from(keys[1] < keys[0]);
        let (back, way) = ((smaller, 1 - smaller), (1 - smaller, smaller));
        wire.send(back, 0, 8);
        wire.run(ms(100));
        let mut number = 0;
        while wire.counters(way.0).rekeys == 0 {
            for _ in 0..8 {
                wire.send(way, number, 1_400);
                number += 1;
            }
            wire.run(ms(5));
        }
        assert_eq!(wire.counters(smaller).rekeys, 0, "the other side stays");
        wire.run(ms(3_000));
        let counters = [0, 1].map(|end| wire.counters(end));
        for counters in counters {
            let left = counters.associations_established - counters.associations_erased;
            assert_eq!(left, 1, "{counters:?}");
        }
        let dials = counters[0].dials_begun + counters[1].dials_begun;
        assert_eq!(dials, 3, "the first, that of the worn keys, and one to agree");
        wire.is_recording = true;
        wire.run(ms(600_000));
        assert_eq!(wire.recorded.len(), 0, "nothing more is to be said");
        wire.send(way, number, 8);
        wire.send(back, 1, 8);
        wire.run(ms(100));
        wire.assert_arrived(way, 0..number + 1);
        wire.assert_arrived(back, 0..2);
    }
}

/// Both dial at once. Of the smaller key's handshake nothing comes through that its dialler seals, so it hears its peer under
/// other keys only, and its peer hears nothing that it says but acknowledgements.
#[test]
fn keys_under_which_nothing_comes_back_are_replaced() {
    let mut wire = Wire::new(2, Limits::default());
    let keys = [0, 1].map(|end: usize| wire.ends[end].endpoint.public_key());
    let smaller = usize::from(keys[1] < keys[0]);
    let larger = 1 - smaller;
    let is_start = Rc::new(Cell::new(true));
    let mut first: [Option<u32>; 2] = [None; 2];
    let starting = Rc::clone(&is_start);
    wire.drops = Box::new(move |sent| match sent.bytes[0] {
        // FINISH names the association as lane datagrams of its sender do.
        3 => {
            first[sent.from].get_or_insert(sent.index());
            false
        }
        // Notices of restarts would tell.
        5 => true,
        0x40 if first[sent.from] == Some(sent.index()) => sent.from == smaller || starting.get(),
        _ => false,
    });
    for way in [(smaller, larger), (larger, smaller)] {
        wire.send(way, 0, 8);
    }
    wire.run(ms(700));
    is_start.set(false);
    for way in [(smaller, larger), (larger, smaller)] {
        wire.send(way, 1, 8);
    }
    wire.is_recording = true;
    wire.run(ms(2_500));
    // The larger key's side was heard all the time.
    assert!([0, 1].map(|end| wire.counters(end).sessions_begun) == [1, 1]);
    assert_eq!(wire.ends[smaller].app.arrived.get(&1), Some(&1));
    assert_eq!(wire.ends[larger].app.arrived.get(&1), None);
    // It hears that its message arrived and not how it ended, and asks ever less often.
    assert!(wire.recorded.len() < 200, "{} datagrams", wire.recorded.len());
    wire.run(ms(8_000));
    wire.assert_arrived((smaller, larger), 0..2);
    wire.assert_arrived((larger, smaller), 0..2);
}
