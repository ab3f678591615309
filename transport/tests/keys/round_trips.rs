//! The round trip is that of the path, whatever was lost of the handshake and whoever did not run meanwhile.

use std::time::Duration;

use cubed_transport::{Limits, PathStats, PeerId};

use crate::wire::{DELAY, Wire, ms};

const AB: (usize, usize) = (0, 1);

fn path(wire: &Wire, end: usize) -> PathStats {
    wire.ends[end].endpoint.path(PeerId(0)).expect("a session")
}

/// Sends a message over a wire that drops what this says of a datagram's kind and how many of that kind came before.
fn dropping(is_dropped: fn(u8, u32) -> bool) -> Wire {
    let mut wire = Wire::new(2, Limits::default());
    let mut seen = [0; 256];
    wire.drops = Box::new(move |sent| {
        let kind = sent.bytes[0];
        seen[usize::from(kind)] += 1;
        is_dropped(kind, seen[usize::from(kind)] - 1)
    });
    wire.send(AB, 0, 100);
    wire
}

/// The responder saw one REPLY leave and one FINISH come, and took the time between them for a round trip.
#[test]
fn a_finish_that_was_repeated_measures_nothing() {
    let mut wire = dropping(|kind, before| kind == 3 && before < 6);
    wire.run(ms(4_000));
    wire.assert_arrived(AB, 0..1);
    let path = path(&wire, 1);
    assert!(path.rtt_smoothed <= ms(333), "{path}");
}

/// With a hello sent twice the round trip is unknown, and half a second passed before a lost greeting came again.
#[test]
fn a_lost_greeting_comes_again_soon_though_no_round_trip_is_known() {
    // The first hello, and the first lane datagram, which greets.
    let mut wire = dropping(|kind, before| matches!(kind, 1 | 0x40) && before == 0);
    // At most 125 ms to the second hello, 100 ms to the second greeting, and three round trips.
    wire.run(ms(125) + ms(100) + 6 * DELAY);
    wire.assert_arrived(AB, 0..1);
}

/// Of a process that was stopped, the acknowledgement waited in the socket.
fn sleeps(asleep: Duration, is_timer_first: bool) -> PathStats {
    let mut wire = Wire::new(2, Limits::default());
    for number in 0..100 {
        wire.send(AB, number, 100);
        wire.run(ms(10));
    }
    wire.send(AB, 100, 100);
    wire.run(Duration::from_micros(1));
    wire.now += asleep;
    if is_timer_first {
        let end = &mut wire.ends[0];
        end.endpoint.handle_timeout(wire.now, &mut end.app);
    }
    wire.run(ms(1_000));
    wire.assert_arrived(AB, 0..101);
    assert!(wire.counters(0).absences > 0);
    path(&wire, 0)
}

#[test]
fn a_sleep_is_not_part_of_a_round_trip() {
    for is_timer_first in [false, true] {
        let path = sleeps(Duration::from_mins(1), is_timer_first);
        assert!(path.rtt_smoothed <= ms(5), "{path}");
    }
}
