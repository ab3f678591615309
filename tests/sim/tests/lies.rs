//! Goal: an acknowledgement that cannot be ends the session and says why, through whole endpoints; one that is merely useless
//! changes nothing.

use cubed_transport::testing::Pair;
use cubed_transport::{EndCause, Event, Limits, varint};

/// An ACK frame: largest, delay in microseconds, then how far the first range and further ones reach.
fn ack(largest: u64, delay_us: u64, first: u64, further: &[(u64, u64)]) -> Vec<u8> {
    let mut frame = vec![0x02];
    for field in [largest, delay_us, further.len() as u64, first] {
        varint::write(field, &mut frame);
    }
    for (gap, length) in further {
        varint::write(*gap, &mut frame);
        varint::write(*length, &mut frame);
    }
    frame
}

fn why_it_ended(payload: &[u8]) -> Option<&'static str> {
    let mut pair = Pair::connected(&Limits::default());
    pair.events();
    assert!(pair.inject(payload));
    pair.events().into_iter().find_map(|event| match event {
        Event::SessionEnded { cause: EndCause::Violation(why), .. } => Some(why),
        _ => None,
    })
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    for largest in [100, 1 << 40, varint::VALUE_MAX] {
        let why = why_it_ended(&ack(largest, 0, 0, &[]));
        assert_eq!(why, Some("acknowledged what was never sent"), "{largest}");
    }
}

#[test]
fn a_datagram_acknowledges_once_and_in_32_ranges_at_most() {
    let one = ack(0, 0, 0, &[]);
    assert_eq!(why_it_ended(&one), None);
    let two = [one.as_slice(), &one].concat();
    assert_eq!(why_it_ended(&two), Some("two acknowledgements in one datagram"));
    let many = ack(100, 0, 0, &[(0, 0); 32]);
    assert_eq!(why_it_ended(&many), Some("an acknowledgement of too many ranges"));
}

#[test]
fn a_flood_of_repeated_acknowledgements_changes_neither_window_nor_round_trip() {
    let mut pair = Pair::connected(&Limits::default());
    let hostile = pair.hostile();
    let before = pair.ends[1].0.path(hostile).unwrap();
    for delay in 0..10_000 {
        assert!(pair.inject(&ack(0, delay << 40, 0, &[])));
    }
    assert!(pair.is_connected());
    assert_eq!(pair.ends[1].0.path(hostile).unwrap(), before);
}
