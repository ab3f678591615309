//! A restarted peer is noticed by its answer to the next datagram; whoever forges such answers gets nothing for it.

use cubed_transport::{EndCause, Event, Limits};

use crate::wire::{Wire, address, ms};

const AB: (usize, usize) = (0, 1);

fn begun(limits: Limits) -> Wire {
    let mut wire = Wire::new(2, limits);
    for number in 0..10 {
        wire.send(AB, number, 100);
    }
    wire.run(ms(100));
    wire.assert_arrived(AB, 0..10);
    wire.is_recording = true;
    wire
}

fn is_replaced(wire: &Wire) -> bool {
    let ended = |event: &Event| {
        matches!(event, Event::SessionEnded { cause: EndCause::NewIncarnation, .. })
    };
    wire.ends[0].events.iter().any(ended) && wire.counters(0).sessions_begun == 2
}

#[test]
fn a_restart_is_noticed_by_the_next_datagram() {
    let mut wire = begun(Limits::default());
    wire.restart(1);
    wire.run(ms(1_000));
    assert!(!is_replaced(&wire), "nobody sent anything");
    wire.send(AB, 10, 100);
    // 2 ms to the notice and back, 2 ms for HELLO and REPLY, 2 ms for FINISH and GREETING.
    wire.run(ms(7));
    assert!(is_replaced(&wire), "{:?}", wire.counters(0));
    let notices = wire.recorded.iter().filter(|sent| sent.bytes[0] == 5);
    assert!(notices.clone().count() > 0 && notices.clone().all(|sent| sent.bytes.len() == 16));
    wire.send(AB, 11, 100);
    wire.run(ms(100));
    assert_eq!(wire.ends[1].app.arrived.get(&11), Some(&1));
    assert_eq!((wire.counters(1).restarts_told, wire.counters(0).restarts_heard), (1, 1));
}

#[test]
fn a_restart_within_a_handshake_is_noticed_by_the_greeting() {
    let mut wire = Wire::new(2, Limits::default());
    wire.is_recording = true;
    wire.send(AB, 0, 100);
    // HELLO and REPLY took a millisecond each; FINISH and the greeting are on their way to a start that knows neither.
    wire.run(ms(2));
    wire.restart(1);
    // 2 ms to the notice and back, 4 ms for the handshake, 1 ms for the message.
    wire.run(ms(10));
    let counters = wire.counters(0);
    assert_eq!(wire.ends[1].app.arrived.get(&0), Some(&1), "{counters:?}");
    assert_eq!((counters.restarts_heard, counters.dials_begun), (1, 2));

    // Forged by somebody on the path, it makes us dial again and ends nothing: the handshake under way still counts.
    let mut wire = Wire::new(2, Limits::default());
    wire.is_recording = true;
    wire.send(AB, 0, 100);
    wire.run(ms(2));
    let greeting = wire.recorded.iter().rev().find(|sent| sent.is_lane()).unwrap();
    let tag = &greeting.bytes[greeting.bytes.len() - 16..][..8];
    let forged = [&[5, 0], &greeting.bytes[2..6], &[0, 1], tag].concat();
    wire.inject(0, address(1), &forged);
    wire.run(ms(100));
    assert_eq!(wire.ends[1].app.arrived.get(&0), Some(&1));
    let counters = wire.counters(0);
    assert_eq!((counters.restarts_heard, counters.sessions_begun), (1, 1), "{counters:?}");
}

#[test]
fn forged_notices_are_counted_and_ignored() {
    let mut wire = begun(Limits::default());
    wire.send(AB, 10, 100);
    wire.run(ms(100));
    let sent: Vec<_> = wire.recorded.iter().filter(|sent| sent.from == 0).cloned().collect();
    let before = wire.counters(0);
    let mut injected = 0;
    for sent in &sent {
        let tag = sent.bytes[sent.bytes.len() - 16..][..8].to_vec();
        let genuine = [&[5, 0], &sent.bytes[2..6], &[0, 1], &tag[..]].concat();
        for bit in 16..128 {
            let mut forged = genuine.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            if bit / 8 == 6 {
                continue; // The answering shard proves nothing.
            }
            wire.inject(0, address(1), &forged);
            injected += 1;
        }
    }
    wire.run(ms(2_000));
    let after = wire.counters(0);
    let dropped = after.dropped_restarted + after.dropped_handshake + after.dropped_malformed;
    assert_eq!(dropped, injected);
    assert_eq!((after.restarts_heard, after.dials_begun), (0, before.dials_begun));

    // One that somebody on the path forges makes us dial once a second, and ends nothing.
    for _ in 0..3_000 {
        wire.send(AB, 11, 100);
        wire.run(ms(1));
        let last =
            wire.recorded.iter().rev().find(|sent| sent.from == 0 && sent.is_lane()).unwrap();
        let tag = &last.bytes[last.bytes.len() - 16..][..8];
        let forged = [&[5, 0], &last.bytes[2..6], &[0, 1], tag].concat();
        wire.inject(0, address(1), &forged);
    }
    wire.run(ms(1_000));
    let after = wire.counters(0);
    assert!((2..=4).contains(&after.restarts_heard), "{after:?}");
    assert!(after.dials_begun - before.dials_begun <= 4);
    assert_eq!((after.sessions_begun, after.sessions_ended), (1, 0));
    assert_eq!(wire.ends[1].app.arrived.get(&11), Some(&3_000));
}

#[test]
fn notices_are_never_answered_and_never_more_than_allowed() {
    let mut wire = Wire::new(2, Limits { restarts_told_per_second: 8, ..Limits::default() });
    wire.is_recording = true;
    let mut lane = vec![0x40, 0, 1, 2, 3, 4, 0, 0];
    lane.resize(60, 1);
    for _ in 0..1_000 {
        wire.inject(1, address(0), &lane);
    }
    wire.run(ms(100));
    assert_eq!(wire.recorded.len(), 2, "a quarter of a second's worth");
    assert!(wire.recorded.iter().all(|sent| sent.from == 1 && sent.bytes.len() == 16));
    assert_eq!(wire.counters(1).restarts_told, 2);
    assert_eq!(wire.counters(1).dropped_unknown_association, 1_000);
    assert_eq!(wire.counters(0).dropped_restarted, 2);
    for kind in 0..=255 {
        let mut other = lane.clone();
        other[0] = kind;
        other[7] = 1;
        if kind != 0x40 && kind != 0x41 {
            wire.inject(1, address(0), &other);
        }
    }
    wire.inject(1, address(0), &lane[..31]);
    wire.run(ms(1_000));
    assert_eq!(wire.recorded.len(), 2, "only lane datagrams are answered");
}

/// A node with many peers restarts, and every one of them has something to say.
#[test]
fn a_storm_of_redials_is_over_within_seconds() {
    const PEERS: usize = 200;
    let limits = Limits { half_open_max: 64, ..Limits::default() };
    let mut wire = Wire::new(PEERS + 1, limits);
    for peer in 1..=PEERS {
        wire.send((peer, 0), peer as u64, 100);
    }
    wire.run(ms(20_000));
    wire.restart(0);
    wire.ends[0].app.arrived.clear();
    for peer in 1..=PEERS {
        wire.send((peer, 0), 1_000 + peer as u64, 100);
    }
    // What was sent into the old session ends as unknown; this waits for the new one.
    wire.run(ms(200));
    for peer in 1..=PEERS {
        wire.send((peer, 0), 2_000 + peer as u64, 100);
    }
    wire.run(ms(9_800));
    let arrived = &wire.ends[0].app.arrived;
    let back = (1..=PEERS).filter(|peer| wire.counters(*peer).sessions_begun == 2).count();
    assert_eq!(back, PEERS);
    let twice = arrived.values().any(|count| *count > 1);
    assert!(!twice);
    let dials: u64 = (1..=PEERS).map(|peer| wire.counters(peer).dials_begun).sum();
    assert!(dials <= 3 * PEERS as u64, "{dials} dials");
}
