//! Owns the notice with which a node answers a lane datagram of which it knows nothing: its bytes, how its reader proves
//! that it answers something.
//!
//! What always holds: a notice is shorter than what it answers and is never an answer to anything but a lane datagram; one
//! that does not repeat the tag of a datagram sent just now changes nothing.

use crate::header::LaneHeader;
use crate::limits::{HEADER_BYTES, TAG_BYTES};

/// First byte of a notice.
const KIND_RESTARTED: u8 = 0x05;
/// Version of the layout, where a handshake datagram has it.
const VERSION: u8 = 1;
/// Runs whose first and last datagram are remembered per association. A peer that is gone acknowledges nothing, so the
/// last runs before the window is full, and every probe after them, stay remembered.
const REMEMBERED: usize = 16;
/// Shortest lane datagram that has a tag.
const ANSWERED_BYTES_MIN: usize = HEADER_BYTES + TAG_BYTES;

/// "I know nothing of the association that you use": all of the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Shard of the receiver, which sent what is answered.
    pub(crate) steering: u8,
    /// The index that the answered datagram named.
    pub(crate) index: u32,
    /// Shard that got it.
    pub(crate) sender_shard: u8,
    /// First half of its tag.
    pub(crate) tag: [u8; 8],
}

impl Notice {
    /// The answer to a lane datagram; `None` when it is too short to have a tag.
    pub(crate) fn answering(header: &LaneHeader, datagram: &[u8]) -> Option<Self> {
        let tag = tag_of(datagram)?;
        let &LaneHeader { steering, association: index, sender_shard, .. } = header;
        Some(Self { steering: sender_shard, index, sender_shard: steering, tag })
    }

    /// The notice's only encoding.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0] = KIND_RESTARTED;
        out[1] = self.steering;
        out[2..6].copy_from_slice(&self.index.to_le_bytes());
        out[6] = self.sender_shard;
        out[7] = VERSION;
        out[8..].copy_from_slice(&self.tag);
        out
    }

    /// Reads a notice; `None` when it is something else.
    pub(crate) fn decode(datagram: &[u8]) -> Option<Self> {
        let &[KIND_RESTARTED, steering, i0, i1, i2, i3, sender_shard, VERSION, ref tag @ ..] =
            datagram
        else {
            return None;
        };
        let tag = tag.try_into().ok()?;
        Some(Self { steering, index: u32::from_le_bytes([i0, i1, i2, i3]), sender_shard, tag })
    }
}

/// First half of a sealed datagram's tag.
fn tag_of(datagram: &[u8]) -> Option<[u8; 8]> {
    if datagram.len() < ANSWERED_BYTES_MIN {
        return None;
    }
    datagram[datagram.len() - TAG_BYTES..].first_chunk().copied()
}

/// What is remembered of the datagrams last sent under an association.
#[derive(Debug, Default)]
pub(crate) struct SentTags {
    /// Twice [`REMEMBERED`] once so many were sent, then the oldest makes room.
    tags: Vec<[u8; 8]>,
    next: usize,
}

impl SentTags {
    /// Remembers the first and the last datagram of a run.
    #[inline]
    pub(crate) fn on_run(&mut self, run: &[u8], segment_bytes: usize) {
        for datagram in [&run[..segment_bytes.min(run.len())], run] {
            if let Some(tag) = tag_of(datagram) {
                match self.tags.get_mut(self.next) {
                    Some(oldest) => *oldest = tag,
                    None => self.tags.push(tag),
                }
                self.next = (self.next + 1) % (2 * REMEMBERED);
            }
        }
    }

    /// Whether a datagram with this tag is remembered.
    pub(crate) fn contains(&self, tag: [u8; 8]) -> bool {
        self.tags.contains(&tag)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: one encoding, answers only to what has a tag.
    use super::*;

    fn notice() -> Notice {
        Notice { steering: 3, index: 0x0102_0304, sender_shard: 5, tag: *b"tag half" }
    }

    #[test]
    fn a_notice_has_one_encoding() {
        let bytes = notice().encode();
        assert_eq!(Notice::decode(&bytes), Some(notice()));
        assert_eq!(Notice::decode(&bytes[..15]), None);
        assert_eq!(Notice::decode(&[&bytes[..], &[0]].concat()), None);
        for (index, value) in [(0, 4), (0, 6), (0, 0x40), (7, 0), (7, 2)] {
            let mut other = bytes;
            other[index] = value;
            assert_eq!(Notice::decode(&other), None);
        }
        assert_eq!(LaneHeader::decode(&bytes), None, "so it is never answered");
    }

    #[test]
    fn what_has_no_tag_is_not_answered() {
        let header = LaneHeader {
            key_phase: false,
            steering: 5,
            association: 0x0102_0304,
            sender_shard: 3,
            ack_now: false,
            packet_number: 9,
        };
        let mut datagram = vec![0; ANSWERED_BYTES_MIN];
        datagram[HEADER_BYTES..][..8].copy_from_slice(b"tag half");
        assert_eq!(Notice::answering(&header, &datagram), Some(notice()));
        assert_eq!(Notice::answering(&header, &datagram[1..]), None);
    }

    #[test]
    fn first_and_last_of_the_last_runs_are_remembered() {
        let mut tags = SentTags::default();
        let run = |number: u8| [[number; 40], [number + 100; 40], [number + 200; 40]].concat();
        for number in 1..=20 {
            tags.on_run(&run(number), 40);
        }
        assert!(tags.contains([20; 8]) && tags.contains([220; 8]) && !tags.contains([120; 8]));
        assert!(tags.contains([5; 8]) && !tags.contains([4; 8]));
        assert!(!SentTags::default().contains([0; 8]));
    }
}
