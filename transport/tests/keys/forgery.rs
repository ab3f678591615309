//! Forgers wear keys out; they get fresh ones, and no storm.

use cubed_transport::Limits;

use crate::wire::{Sent, Wire, address, ms};

const AB: (usize, usize) = (0, 1);
const FORGERIES: u64 = 64;

/// A datagram that names the association newest on the wire and does not open.
fn forged(wire: &Wire, number: u64) -> Vec<u8> {
    let newest =
        wire.recorded.iter().rev().find(|sent| sent.is_lane() && (sent.from, sent.to) == AB);
    let mut bytes = newest.expect("something was sent").bytes[..16].to_vec();
    bytes[8..16].copy_from_slice(&(1_000_000 + number).to_le_bytes());
    bytes.resize(60, 0x66);
    bytes
}

fn begun() -> Wire {
    let mut wire = Wire::new(3, Limits { forgeries_per_key: FORGERIES, ..Limits::default() });
    wire.is_recording = true;
    wire.send(AB, 0, 8);
    wire.send((2, 1), 999, 8);
    wire.run(ms(2_000));
    wire
}

#[test]
fn a_flood_of_forgeries_costs_one_rekey_a_second_and_no_message() {
    let mut wire = begun();
    let dials = wire.counters(1).dials_begun + wire.counters(0).dials_begun;
    for number in 0..10_000 {
        let bytes = forged(&wire, number);
        wire.inject(1, address(0), &bytes);
        if number % 20 == 0 {
            wire.send(AB, 1 + number / 20, 100);
            wire.send((2, 1), 1_000 + number / 20, 100);
        }
        wire.run(ms(1));
    }
    wire.run(ms(2_000));
    wire.assert_arrived(AB, 0..501);
    wire.assert_arrived((2, 1), 999..1_500);
    let counters = wire.counters(1);
    let dials = counters.dials_begun + wire.counters(0).dials_begun - dials;
    assert!((8..=12).contains(&dials), "{dials} dials in 10 s of forgeries");
    // What was sent under worn keys before the next came goes with the forgeries.
    assert!(counters.dropped_forged + counters.dropped_key_worn >= 10_000, "{counters:?}");
    assert!(counters.dropped_forged <= FORGERIES * (counters.rekeys + 1), "{counters:?}");
    assert_eq!(wire.counters(2).rekeys, 0, "the other peer's keys are as good as ever");
}

#[test]
fn a_worn_key_opens_nothing_and_the_next_one_does() {
    let mut wire = begun();
    wire.drops = Box::new(|sent: &Sent| !sent.is_lane());
    for number in 0..FORGERIES - 1 {
        let bytes = forged(&wire, number);
        wire.inject(1, address(0), &bytes);
    }
    wire.send(AB, 1, 100);
    wire.run(ms(100));
    assert_eq!(wire.ends[1].app.arrived.get(&1), Some(&1), "one forgery below the limit it opens");
    let bytes = forged(&wire, FORGERIES);
    wire.inject(1, address(0), &bytes);
    wire.send(AB, 2, 100);
    wire.run(ms(500));
    assert_eq!(wire.ends[1].app.arrived.get(&2), None, "at the limit it does not");
    assert!(wire.counters(1).dropped_key_worn > 0);
    wire.drops = Box::new(|_| false);
    wire.run(ms(3_000));
    wire.assert_arrived(AB, 0..3);
    assert_eq!(wire.counters(0).sessions_begun, 1);
}
