//! Owns SETTLED, the frame that tells which blocks need no more sending and which of their messages were not delivered.
//!
//! What always holds: all that is written fits the room given; each reason of a block is one entry, and only one order of the
//! entries is read.

use super::SETTLED;
use crate::endpoint::Refusal;
use crate::limits::{DATAGRAM_BYTES_FLOOR, REFUSALS_PER_BLOCK_MAX, payload_bytes};
use crate::varint::{self, Reader};

/// Places of messages that an entry may speak of: they are counted in 16 bits.
const PLACES_MAX: usize = 1 << 16;

/// Why messages that end in a block are not called delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The receiver did not take one of them.
    Refused(Refusal),
    /// The sender gave the block up before it arrived: none of them was delivered.
    Skipped,
}

impl Reason {
    const SKIPPED: u8 = 8;
    const CODE_MAX: u8 = Self::SKIPPED;

    fn code(self) -> u8 {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Skipped => Self::SKIPPED,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        if code == Self::SKIPPED {
            return Some(Self::Skipped);
        }
        Refusal::from_code(code).map(Self::Refused)
    }
}

/// One refused message: its block, its place among those that end there, the reason. A block skipped stands here once.
pub(crate) type RefusedMessage = (u64, u16, Reason);

/// Room in which at least one block's refusals are always told: what a control datagram of the shortest limit has left beside
/// an acknowledgement, which takes at most half.
const SETTLED_ROOM_MIN: usize = (payload_bytes(DATAGRAM_BYTES_FLOOR) - 1) / 2;
/// SETTLED without its entries, at most.
const SETTLED_HEAD_BYTES_MAX: usize = 1 + 2 * varint::SIZE_MAX;
/// An entry without its bitmap, at most: distance, reason, length.
const ENTRY_HEAD_BYTES_MAX: usize = varint::SIZE_MAX + 3;
/// Most that the entries of one block take; beyond it they are told as one, under one reason.
const ENTRIES_BYTES_MAX: usize = SETTLED_ROOM_MIN - SETTLED_HEAD_BYTES_MAX;
const _: () = {
    let bitmap = REFUSALS_PER_BLOCK_MAX.div_ceil(8);
    assert!(
        ENTRY_HEAD_BYTES_MAX + bitmap <= ENTRIES_BYTES_MAX,
        "all messages of a block can be refused at once"
    );
};

/// Appends SETTLED within `room` bytes: all blocks below `floor` are settled but the given refusals (ascending). Each
/// refusing reason of a block is one entry: the block's distance from the floor, the reason, a bitmap of the messages'
/// places. When not all of them fit, the floor told is the first block left out. Returns how many refusals were told.
pub(crate) fn write_settled(
    floor: u64,
    refusals: &[RefusedMessage],
    room: usize,
    out: &mut Vec<u8>,
) -> usize {
    let below = refusals.partition_point(|refusal| refusal.0 < floor);
    let refusals = &refusals[..below];
    let mut room = room.saturating_sub(SETTLED_HEAD_BYTES_MAX);
    let (mut told, mut entries, mut told_floor) = (0, 0, floor);
    for block in refusals.chunk_by(|a, b| a.0 == b.0) {
        let (count, bytes) = size_of_entries(&block_entries(block));
        if bytes > room {
            told_floor = block[0].0;
            break;
        }
        room -= bytes;
        told += block.len();
        entries += count;
    }
    out.push(SETTLED);
    varint::write(told_floor, out);
    varint::write(entries, out);
    for block in refusals[..told].chunk_by(|a, b| a.0 == b.0) {
        for (reason, bitmap) in block_entries(block) {
            varint::write(told_floor - block[0].0, out);
            out.push(reason);
            varint::write(bitmap.len() as u64, out);
            out.extend_from_slice(&bitmap);
        }
    }
    told
}

/// The entries of one block: each reason that occurs, ascending, with the bitmap of its messages. Should they be too long to be
/// told in any datagram, all messages are refused for the reason of the first.
fn block_entries(block: &[RefusedMessage]) -> Vec<(u8, Vec<u8>)> {
    let codes = (1..=Reason::CODE_MAX).filter_map(|code| {
        let mut places = block.iter().filter(|refusal| refusal.2.code() == code).peekable();
        places.peek()?;
        Some((code, if code == Reason::SKIPPED { Vec::new() } else { bitmap(places) }))
    });
    let entries: Vec<_> = codes.collect();
    if size_of_entries(&entries).1 <= ENTRIES_BYTES_MAX {
        return entries;
    }
    block.first().map(|first| (first.2.code(), bitmap(block.iter()))).into_iter().collect()
}

/// A set bit for the place of each message.
fn bitmap<'a>(refusals: impl Iterator<Item = &'a RefusedMessage>) -> Vec<u8> {
    let mut bitmap = Vec::new();
    for (_, place, _) in refusals {
        let byte = usize::from(place / 8);
        if byte >= bitmap.len() {
            bitmap.resize(byte + 1, 0);
        }
        bitmap[byte] |= 1 << (place % 8);
    }
    bitmap
}

/// How many entries, and the bytes that they take at most.
fn size_of_entries(entries: &[(u8, Vec<u8>)]) -> (u64, usize) {
    let bytes = entries.iter().map(|(_, bitmap)| ENTRY_HEAD_BYTES_MAX + bitmap.len()).sum();
    (entries.len() as u64, bytes)
}

/// Reads SETTLED into `refusals` (cleared first, then ascending); returns the floor.
pub(crate) fn read_settled(
    reader: &mut Reader<'_>,
    refusals: &mut Vec<RefusedMessage>,
) -> Option<u64> {
    refusals.clear();
    let floor = reader.varint()?;
    let entries = reader.varint()?;
    let mut last = None;
    for _ in 0..entries {
        let block = floor.checked_sub(reader.varint()?)?;
        let code = reader.u8()?;
        let reason = Reason::from_code(code)?;
        let length = usize::try_from(reader.varint()?).ok()?;
        if length > PLACES_MAX / 8 {
            return None;
        }
        let bitmap = reader.bytes(length)?;
        let is_skip = reason == Reason::Skipped;
        let is_shortest = bitmap.last().map_or(is_skip, |&byte| byte != 0 && !is_skip);
        // Nothing that ends in a skipped block was delivered: there is no more to say of it. Its reason is the largest.
        let is_said = is_skip && last.is_some_and(|(other, _)| other == block);
        if block == floor || last >= Some((block, code)) || !is_shortest || is_said {
            return None;
        }
        last = Some((block, code));
        let places = (0..length * 8).filter(|place| bitmap[place / 8] & (1 << (place % 8)) != 0);
        refusals.extend(places.map(|place| (block, place as u16, reason)));
        if is_skip {
            refusals.push((block, 0, reason));
        }
    }
    refusals.sort_unstable_by_key(|refusal| (refusal.0, refusal.1));
    let is_once = refusals.windows(2).all(|pair| (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1));
    is_once.then_some(floor)
}

#[cfg(test)]
mod tests {
    //! Goal: what is settled comes back as written, in one encoding, and random bytes never panic.
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_beyond_16_bits_are_refused() {
        let settled = |bytes: usize| {
            let mut frame = vec![2, 1, 1, 1];
            varint::write(bytes as u64, &mut frame);
            frame.extend(vec![0; bytes - 1]);
            frame.push(1);
            read_settled(&mut Reader::new(&frame), &mut Vec::new())
        };
        assert_eq!((settled(8_192), settled(8_193)), (Some(2), None));
    }

    #[test]
    fn a_skipped_block_has_one_entry() {
        let settled = |frame: &[u8]| read_settled(&mut Reader::new(frame), &mut Vec::new());
        assert_eq!(settled(&[10, 2, 4, 1, 1, 2, 3, 8, 0]), Some(10), "another block");
        assert_eq!(
            settled(&[10, 2, 3, 1, 1, 1, 3, 8, 0]),
            None,
            "message 0 is refused and skipped"
        );
        assert_eq!(
            settled(&[10, 2, 3, 1, 1, 2, 3, 8, 0]),
            None,
            "message 1 is refused, all are skipped"
        );
    }

    proptest! {
        #[test]
        fn settled_comes_back(floor in 10u64..50, places in 1u16..REFUSALS_PER_BLOCK_MAX as u16, picks in proptest::collection::btree_map((0u64..50, any::<u16>()), 1u8..8, 0..400), room in 40usize..1400) {
            let picks: std::collections::BTreeMap<_, _> = picks.into_iter().map(|((b, i), code)| ((b, i % places), code)).collect();
            let mut refusals: Vec<_> = picks.into_iter().map(|((b, i), code)| (b, i, Reason::from_code(code).unwrap())).collect();
            let skipped: Vec<u64> = refusals.iter().filter(|r| r.1 % 7 == 0).map(|r| r.0).collect();
            refusals.retain(|r| !skipped.contains(&r.0));
            refusals.extend(skipped.into_iter().map(|block| (block, 0, Reason::Skipped)));
            refusals.sort_by_key(|r| (r.0, r.1));
            refusals.dedup();
            prop_assume!(!refusals.is_empty());
            let mut bytes = Vec::new();
            let told = write_settled(floor, &refusals, room, &mut bytes);
            prop_assert!(bytes.len() <= room);
            let mut again = Vec::new();
            let mut reader = Reader::new(&bytes[1..]);
            let read = read_settled(&mut reader, &mut again).unwrap();
            prop_assert!(read <= floor && reader.is_empty());
            let places = |refusals: &[RefusedMessage]| refusals.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>();
            prop_assert_eq!(places(&again), places(&refusals[..told]));
            for (read, written) in again.chunk_by(|a, b| a.0 == b.0).zip(refusals.chunk_by(|a, b| a.0 == b.0)) {
                let is_one = read.iter().all(|r| r.2 == written[0].2);
                let reasons = written.iter().map(|r| r.2.code()).collect::<std::collections::BTreeSet<_>>().len();
                let last = usize::from(written.iter().map(|r| r.1).max().unwrap());
                let is_short = reasons * (ENTRY_HEAD_BYTES_MAX + last / 8 + 1) <= ENTRIES_BYTES_MAX;
                prop_assert!(read == written || (is_one && !is_short), "reasons are told whenever they fit");
            }
            prop_assert!(refusals[told..].iter().all(|r| r.0 >= read));
            let first = refusals.iter().take_while(|r| r.0 == refusals[0].0).count();
            prop_assert!(told >= first || refusals[0].0 >= floor || room < SETTLED_ROOM_MIN, "a control datagram always tells of one block");
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_settled(&mut Reader::new(&bytes), &mut Vec::new());
        }
    }
}
