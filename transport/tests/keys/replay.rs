//! Whatever was captured and whenever it comes again, it is delivered no second time and counted each time.

use cubed_transport::{Counters, Limits};

use crate::wire::{Wire, address, ms};

const AB: (usize, usize) = (0, 1);

fn dropped(counters: &Counters) -> u64 {
    let drops = counters.iter().filter(|(name, _)| name.starts_with("dropped_"));
    drops.map(|(_, count)| count).sum()
}

/// Gives the receiver every captured lane datagram again, from its sender's address and from another.
fn replay(wire: &mut Wire, when: &str) {
    let captured: Vec<_> = wire.recorded.iter().filter(|sent| sent.is_lane()).cloned().collect();
    assert!(captured.len() > 100);
    let arrived = wire.ends.iter().map(|end| end.app.arrived.clone()).collect::<Vec<_>>();
    for from in [None, Some(9)] {
        let before = [0, 1].map(|end| dropped(&wire.counters(end)));
        let mut injected = [0, 0];
        for sent in &captured {
            wire.inject(sent.to, address(from.unwrap_or(sent.from)), &sent.bytes);
            injected[sent.to] += 1;
        }
        for end in [0, 1] {
            let drops = dropped(&wire.counters(end)) - before[end];
            assert_eq!(drops, injected[end], "{when}, at {end}, from {from:?}");
        }
    }
    for (end, before) in wire.ends.iter().zip(&arrived) {
        assert!(end.app.arrived == *before, "{when}: something was delivered again");
    }
}

#[test]
fn nothing_is_delivered_twice_at_any_age() {
    let limits = Limits { packets_per_key: 1_000, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.is_recording = true;
    for number in 0..300 {
        wire.send(AB, number, 500);
        wire.send((1, 0), number, 500);
        wire.run(ms(1));
    }
    wire.run(ms(20));
    let rekeys = wire.counters(1).rekeys;
    wire.is_recording = false;
    replay(&mut wire, "at once");
    wire.run(ms(1_000));
    replay(&mut wire, "after 1 s");
    wire.run(ms(600_000));
    replay(&mut wire, "after 601 s");
    wire.run(ms(86_400_000 - 601_000));
    replay(&mut wire, "after a day");
    for number in 300..1_300 {
        wire.send(AB, number, 1_400);
        wire.run(ms(1));
    }
    assert!(wire.counters(1).rekeys > rekeys);
    replay(&mut wire, "after a rekey");
    wire.restart(1);
    wire.ends[1].app.arrived.clear();
    replay(&mut wire, "after a restart");
    wire.run(ms(10_000));
    assert!(wire.ends[1].app.arrived.is_empty());
}

#[test]
fn what_comes_8_000_packets_late_is_still_taken() {
    let limits = Limits { log_bytes_max: 64 << 20, ..Limits::default() };
    let mut wire = Wire::new(2, limits);
    wire.send(AB, 0, 8);
    wire.run(ms(100));
    wire.is_recording = true;
    let mut is_first = true;
    wire.drops = Box::new(move |sent| sent.from == 0 && std::mem::take(&mut is_first));
    wire.send(AB, 1, 64);
    wire.run(ms(1));
    let late = wire.recorded[0].clone();
    assert_eq!((late.from, late.is_lane()), (0, true));
    let highest = |wire: &Wire| {
        let sent = wire.recorded.iter().filter(|sent| sent.from == 0 && sent.is_lane());
        sent.map(super::wire::Sent::number).max().unwrap()
    };
    let mut number = 2;
    while highest(&wire) < late.number() + 8_000 {
        wire.send(AB, number, 1_000);
        number += 1;
    }
    let before = wire.counters(1);
    wire.inject(1, address(0), &late.bytes);
    let after = wire.counters(1);
    // Its block came again meanwhile; the datagram itself opens and counts as a duplicate block.
    assert_eq!(after.dropped_duplicate_block, before.dropped_duplicate_block + 1);
    assert_eq!(after.dropped_too_old + after.dropped_replayed, 0);
    wire.run(ms(1_000));
    wire.assert_arrived(AB, 0..number);
}
