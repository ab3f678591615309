//! Owns the frames of a lane datagram's payload other than messages: their types and encodings (docs/PROTOCOL.md, "Frames").
//!
//! What always holds: each frame has one encoding, and what does not decode is the peer's fault, since it was authenticated.

mod record;
mod settled;
mod skip;

pub(crate) use record::{Bind, Close, Greeting, Record};
pub(crate) use settled::{Reason, RefusedMessage, read_settled, write_settled};
pub(crate) use skip::{Run, SkipHead, read_skip, write_skip};

use crate::endpoint::Refusal;
use crate::varint::{self, Reader};

/// One byte of padding.
pub(crate) const PADDING: u8 = 0x00;
/// Asks for an acknowledgement, says nothing else.
pub(crate) const PING: u8 = 0x01;
/// Packet numbers received.
pub(crate) const ACK: u8 = 0x02;
/// Blocks settled.
pub(crate) const SETTLED: u8 = 0x03;
/// Grant of credit to one flow.
pub(crate) const CREDIT: u8 = 0x04;
/// A flow waits for credit.
pub(crate) const BLOCKED: u8 = 0x05;
/// Blocks given up: they count as arrived.
pub(crate) const SKIP: u8 = 0x07;
/// A control record: type, length, postcard body.
pub(crate) const RECORD: u8 = 0x06;
/// Messages to the datagram's end, kept by nobody.
pub(crate) const BEST_EFFORT: u8 = 0x09;
/// A piece of a block that is longer than a datagram may be now, to the datagram's end.
pub(crate) const PART: u8 = 0x0a;
/// Asks whoever is at an address to answer from there; 8 random bytes follow.
pub(crate) const PATH_CHALLENGE: u8 = 0x0b;
/// Answers a `PATH_CHALLENGE` with its bytes.
pub(crate) const PATH_RESPONSE: u8 = 0x0c;
pub(crate) use crate::send_log::FRAME_BLOCK as BLOCK;

/// A grant: the flow's absolute limit, its longest message, and whether it takes messages at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) alias: u32,
    pub(crate) limit: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) refusal: Option<Refusal>,
}

/// Longest CREDIT frame.
pub(crate) const CREDIT_BYTES_MAX: usize = 1 + 4 + 8 + 8 + 1;

impl Credit {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(CREDIT);
        varint::write(self.alias.into(), out);
        varint::write(self.limit, out);
        varint::write(self.message_bytes_max, out);
        out.push(self.refusal.map_or(0, Refusal::code));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let alias = u32::try_from(reader.varint()?).ok()?;
        let (limit, message_bytes_max) = (reader.varint()?, reader.varint()?);
        let refusal = match reader.u8()? {
            0 => None,
            code => Some(Refusal::from_code(code)?),
        };
        Some(Self { alias, limit, message_bytes_max, refusal })
    }
}

/// Longest BLOCKED frame.
pub(crate) const BLOCKED_BYTES_MAX: usize = 1 + 4 + 8;

/// Appends BLOCKED: `alias` waits for an absolute limit of `wanted`.
pub(crate) fn write_blocked(alias: u32, wanted: u64, out: &mut Vec<u8>) {
    out.push(BLOCKED);
    varint::write(alias.into(), out);
    varint::write(wanted, out);
}

/// Reads alias and wanted limit.
pub(crate) fn read_blocked(reader: &mut Reader<'_>) -> Option<(u32, u64)> {
    Some((u32::try_from(reader.varint()?).ok()?, reader.varint()?))
}

/// What stands in front of a part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) block: u64,
    /// Where its bytes belong in the block's content.
    pub(crate) offset: u64,
    /// Length of the block's content.
    pub(crate) total: u64,
}

/// Longest head of a PART of a block as long as a datagram can be.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 1 + varint::SIZE_MAX + 4 + 4;

impl Part {
    /// Appends the head, type byte included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(PART);
        varint::write(self.block, out);
        varint::write(self.offset, out);
        varint::write(self.total, out);
    }

    /// Reads what follows the type byte.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { block: reader.varint()?, offset: reader.varint()?, total: reader.varint()? })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: random bytes never panic, and what is read has one encoding.
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut reader = Reader::new(&bytes);
            if let Some(credit) = Credit::read(&mut reader) {
                let mut again = Vec::new();
                credit.write(&mut again);
                prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
            }
            let mut reader = Reader::new(&bytes);
            if let Some(part) = Part::read(&mut reader) {
                let mut again = Vec::new();
                part.write(&mut again);
                prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }
}
