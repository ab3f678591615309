//! Goal: any size in any datagram comes out whole and in order, and losses cost only what they hit.
use proptest::prelude::*;

use super::*;
use crate::tag::TagChecker;

/// Packs `count` payloads of `payload_bytes` with messages of `size` bytes.
fn packed(size: usize, payload_bytes: usize, count: usize) -> (Vec<(u16, Vec<u8>)>, u64) {
    let mut packer = Packer::new(size);
    let payloads = (0..count)
        .map(|_| {
            let mut payload = vec![0xEE; payload_bytes];
            (packer.fill(&mut payload), payload)
        })
        .collect();
    (payloads, packer.completed())
}

fn expected_body(size: usize, sequence: u64) -> Vec<u8> {
    let mut body = Packer::new(size).body;
    write_tag(&mut body, sequence);
    body
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(size in 0_usize..5000, payload_bytes in 5_usize..3000) {
        let (payloads, completed) = packed(size, payload_bytes, 40);
        let mut unpacker = Unpacker::new(size);
        let mut bodies = Vec::new();
        for (first_frame, payload) in &payloads {
            unpacker
                .unpack(payload, *first_frame, true, |body| bodies.push(body.to_vec()))
                .unwrap();
        }
        prop_assert_eq!(bodies.len() as u64, completed);
        for (sequence, body) in bodies.iter().enumerate() {
            prop_assert_eq!(body, &expected_body(size, sequence as u64));
        }
    }

    #[test]
    fn a_lost_datagram_costs_only_the_messages_it_carried(
        size in 0_usize..2000,
        payload_bytes in 5_usize..1500,
        lost in 1_usize..38,
    ) {
        // Found with seed a149c9f4: 639 bytes hold 128 messages of one byte, more than tags of one byte can tell from none.
        prop_assume!(size != 1 || payload_bytes / (FRAME_BYTES + size) + 2 < 128);
        let (payloads, completed) = packed(size, payload_bytes, 40);
        let mut unpacker = Unpacker::new(size);
        let mut checker = TagChecker::new();
        let mut is_next = true;
        for (index, (first_frame, payload)) in payloads.iter().enumerate() {
            if index == lost {
                is_next = false;
                continue;
            }
            unpacker.unpack(payload, *first_frame, is_next, |body| checker.check(body)).unwrap();
            is_next = true;
        }
        // A payload touches at most its whole frames, one that ended in it and one that began.
        let hit_max = (payload_bytes / (FRAME_BYTES + size) + 2) as u64;
        prop_assert_eq!(checker.duplicated(), 0);
        prop_assert!(checker.delivered() <= completed);
        prop_assert!(checker.delivered() + hit_max >= completed);
    }

    #[test]
    fn any_bytes_are_an_error_or_messages_and_never_a_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        first_frame in any::<u16>(),
        is_next in any::<bool>(),
        size_max in 0_usize..300,
    ) {
        let mut unpacker = Unpacker::new(size_max);
        for _ in 0..3 {
            let result = unpacker.unpack(&payload, first_frame, is_next, |body| {
                assert!(body.len() <= payload.len().max(size_max));
            });
            if result.is_err() {
                break;
            }
            prop_assert!(unpacker.body.capacity() <= size_max.max(8));
        }
    }

    #[test]
    fn headers_survive_the_wire(first_frame: u16, slice: u32, number: u64) {
        for header in [
            Header::Data { first_frame, slice, number },
            Header::Progress { slice, next: number },
        ] {
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }
    }
}

#[test]
fn small_messages_share_datagrams_to_the_last_byte() {
    // 1,420 payload bytes hold 20 frames of 68 bytes and 60 bytes of the next one.
    let (_, completed) = packed(64, 1420, 17);
    assert_eq!(completed, 17 * 1420 / 68);
}

#[test]
fn a_first_frame_that_contradicts_the_unfinished_body_is_an_error() {
    let (payloads, _) = packed(100, 60, 2);
    let mut unpacker = Unpacker::new(100);
    unpacker.unpack(&payloads[0].1, payloads[0].0, true, |_| {}).unwrap();
    let wrong = payloads[1].0 - 1;
    let result = unpacker.unpack(&payloads[1].1, wrong, true, |_| {});
    assert_eq!(result, Err(FrameError::FirstFrame));
}

#[test]
fn short_and_unknown_headers_are_refused() {
    assert_eq!(Header::decode(&[KIND_DATA; 15]), None);
    assert_eq!(Header::decode(&[0; 16]), None);
}
