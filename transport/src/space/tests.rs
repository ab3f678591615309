//! Goal: what an acknowledgement told is told again until the peer is known to have heard it, and no longer.
use std::time::Duration;

use super::*;
use crate::keys::{AssociationSecret, Role};
use crate::ranges::decode_ack;
use crate::varint::Reader;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// A space that has received every other number up to 20.
fn space() -> PacketSpace {
    let (secret, suite) = (AssociationSecret::from_bytes([7; 32]), Suite::Aes128Gcm);
    let keys = secret.lane_keys(suite, Role::Dialler, 0, 0);
    let mut space = PacketSpace::new(keys, KeyLimits::new(suite, &Limits::default()), 1_000);
    for number in 0..=10 {
        receive(&mut space, 2 * number);
    }
    space
}

/// The header of a datagram of the lane, without flags.
pub(super) fn header(packet_number: u64) -> LaneHeader {
    LaneHeader {
        key_phase: false,
        steering: 0,
        association: 1,
        sender_shard: 0,
        ack_now: false,
        packet_number,
    }
}

fn receive(space: &mut PacketSpace, packet_number: u64) {
    space.on_received(NOW, &header(packet_number), true, Duration::ZERO);
}

/// Sends a datagram that acknowledges within `room` bytes; the ranges that it names.
fn tell(space: &mut PacketSpace, room: usize) -> Vec<(u64, u64)> {
    let mut frame = Vec::new();
    assert!(space.write_ack(NOW, room, &mut frame));
    space.sent.on_sent(NOW, 100, crate::sent::NO_BLOCK, 0);
    decode_ack(&mut Reader::new(&frame[1..])).unwrap().ranges().collect()
}

/// The peer acknowledges these of our numbers, highest first.
fn hear(space: &mut PacketSpace, numbers: &[u64]) {
    let (mut ranges, mut frame) = (RangeSet::new(8), Vec::new());
    for number in numbers {
        assert!(ranges.insert(*number));
    }
    encode_ack(&ranges, 0, 8, &mut frame);
    space.on_heard(&decode_ack(&mut Reader::new(&frame)).unwrap());
}

#[test]
fn ranges_that_the_peer_has_heard_of_are_told_no_more() {
    let mut space = space();
    assert_eq!(tell(&mut space, 500).len(), 11);
    receive(&mut space, 21);
    assert_eq!(tell(&mut space, 500).len(), 11, "nothing is known to have been heard");
    hear(&mut space, &[0]);
    assert_eq!(tell(&mut space, 500), [(20, 21)]);
}

#[test]
fn a_late_number_below_what_was_heard_is_told() {
    let mut space = space();
    tell(&mut space, 500);
    hear(&mut space, &[0]);
    receive(&mut space, 5);
    assert_eq!(tell(&mut space, 500), [(20, 20), (5, 5)]);
}

#[test]
fn what_a_lost_datagram_told_is_told_again() {
    let mut space = space();
    tell(&mut space, 500);
    tell(&mut space, 500);
    hear(&mut space, &[1]);
    assert_eq!(tell(&mut space, 500).len(), 11, "the first was lost, the second named no more");
    hear(&mut space, &[2, 1]);
    assert_eq!(tell(&mut space, 500), [(20, 20)]);
}

#[test]
fn what_found_no_room_is_kept() {
    let mut space = space();
    assert!(tell(&mut space, 60).len() < 11);
    hear(&mut space, &[0]);
    assert_eq!(tell(&mut space, 500).len(), 11);
}
