//! Owns the 16-byte header of a lane datagram (docs/PROTOCOL.md, "Lane datagram").
//!
//! What always holds: `decode(encode(h)) == h`, and no other bytes decode to `h`.

use crate::limits::HEADER_BYTES;
use crate::varint;

/// First byte of a lane datagram, key phase bit clear.
const KIND_LANE: u8 = 0x40;
/// Key phase bit of the first byte.
const KEY_PHASE: u8 = 0x01;
/// Bit of the eighth byte that asks for an acknowledgement at once.
const ACK_NOW: u8 = 0x01;

/// Header of one lane datagram: which keys open it, which shards it joins, its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneHeader {
    /// Key phase of RFC 9001 section 6.
    pub(crate) key_phase: bool,
    /// The receiver's shard; steers the datagram to that shard's socket.
    pub(crate) steering: u8,
    /// The receiver's index of the association.
    pub(crate) association: u32,
    /// The sender's shard.
    pub(crate) sender_shard: u8,
    /// The sender wants an acknowledgement at the end of the receiver's turn.
    pub(crate) ack_now: bool,
    /// Packet number, counted per association, lane and direction; below 2^62, so that an acknowledgement can name it.
    pub(crate) packet_number: u64,
}

impl LaneHeader {
    /// The header's only encoding.
    #[inline]
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0] = KIND_LANE | if self.key_phase { KEY_PHASE } else { 0 };
        out[1] = self.steering;
        out[2..6].copy_from_slice(&self.association.to_le_bytes());
        out[6] = self.sender_shard;
        out[7] = u8::from(self.ack_now);
        out[8..16].copy_from_slice(&self.packet_number.to_le_bytes());
        out
    }

    /// Asks in a header that [`LaneHeader::encode`] wrote for an acknowledgement at once.
    #[inline]
    pub(crate) fn ask_ack_now(encoded: &mut [u8]) {
        encoded[7] |= ACK_NOW;
    }

    /// Reads the header in front of `datagram`; `None` when it is no lane datagram, too short, or has no number that could be.
    #[inline]
    #[must_use]
    pub(crate) fn decode(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<HEADER_BYTES>()?;
        if header[0] & !KEY_PHASE != KIND_LANE || header[7] & !ACK_NOW != 0 {
            return None;
        }
        let packet_number = u64::from_le_bytes(*header.last_chunk()?);
        if packet_number > varint::VALUE_MAX {
            // An acknowledgement could not name it.
            return None;
        }
        Some(Self {
            key_phase: header[0] & KEY_PHASE != 0,
            steering: header[1],
            association: u32::from_le_bytes([header[2], header[3], header[4], header[5]]),
            sender_shard: header[6],
            ack_now: header[7] & ACK_NOW != 0,
            packet_number,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: one encoding only.
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in proptest::array::uniform16(any::<u8>()), kind in 0x3eu8..0x44, number in any::<u64>(), shift in 0u32..64) {
            let mut bytes = bytes;
            bytes[0] = kind;
            bytes[7] &= 3;
            let number = number >> shift;
            bytes[8..].copy_from_slice(&number.to_le_bytes());
            let is_lane = kind & !KEY_PHASE == KIND_LANE && bytes[7] <= 1 && number >> 62 == 0;
            let header = LaneHeader::decode(&bytes);
            prop_assert_eq!(header.is_some(), is_lane);
            prop_assert!(header.is_none_or(|header| header.encode() == bytes));
        }
    }

    #[test]
    fn the_largest_packet_number_is_the_largest_that_an_acknowledgement_can_name() {
        let header = |packet_number| LaneHeader {
            key_phase: false,
            steering: 1,
            association: 2,
            sender_shard: 3,
            ack_now: true,
            packet_number,
        };
        let last = header(varint::VALUE_MAX);
        assert_eq!(LaneHeader::decode(&last.encode()), Some(last));
        for number in [varint::VALUE_MAX + 1, 1 << 63, u64::MAX] {
            assert_eq!(LaneHeader::decode(&header(number).encode()), None, "{number}");
        }
    }

    #[test]
    fn an_acknowledgement_may_be_asked_for_later() {
        let mut bytes = [0x40, 1, 2, 3, 4, 5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 15];
        let header = LaneHeader::decode(&bytes).unwrap();
        assert!(!header.ack_now);
        LaneHeader::ask_ack_now(&mut bytes);
        assert_eq!(LaneHeader { ack_now: true, ..header }.encode(), bytes);
    }

    #[test]
    fn short_input_is_no_header() {
        assert_eq!(LaneHeader::decode(&[0x40; 15]), None);
    }
}
