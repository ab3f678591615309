//! Owns blocks that come in parts until they are whole, and what a lost packet means for those that left.
//!
//! What always holds: a part that was acknowledged stays until its block is whole or settled otherwise; the blocks being put
//! together add up to at most [`BYTES_MAX`]; one of them counts as not arrived.

use std::collections::BTreeMap;

use super::{Lane, Receiving};
use crate::common::Fault;
use crate::endpoint::Application;
use crate::frame::Part;
use crate::limits::{BLOCK_CONTENT_BYTES_MAX, block_bytes};
use crate::sent::{Cargo, NO_BLOCK, SentPacket};
use crate::slots::SlotPool;
use crate::varint::Reader;

/// Bytes of all blocks being put together on one lane: about 180 of 1,420 bytes, more than a window loses parts of at once.
/// What does not fit is not acknowledged and comes again when others are whole; their missing parts always fit.
const BYTES_MAX: usize = 256 * 1024;
/// Stretches of one block that may be here with gaps between them. A sender cuts a block into 8 at most.
const STRETCHES_MAX: usize = 8;

/// Blocks being put together on one lane.
#[derive(Debug, Default)]
pub(super) struct BlockParts {
    blocks: BTreeMap<u64, Partial>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    /// What lies outside of the stretches means nothing.
    content: Vec<u8>,
    /// From and to, ascending, with gaps between them.
    stretches: Vec<(usize, usize)>,
}

/// What a part did.
#[derive(Debug, PartialEq, Eq)]
enum Put {
    Waiting,
    Whole,
    /// No room to begin another block.
    Full,
    /// Contradicts what is here, or the format.
    Contradiction,
}

impl BlockParts {
    fn put(&mut self, number: u64, total: usize, offset: usize, bytes: &[u8]) -> Put {
        if !self.blocks.contains_key(&number) {
            if self.bytes + total > BYTES_MAX {
                return Put::Full;
            }
            self.bytes += total;
            let partial = Partial { content: vec![0; total], stretches: Vec::new() };
            self.blocks.insert(number, partial);
        }
        match self.blocks.get_mut(&number) {
            Some(partial) if partial.content.len() == total => partial.put(offset, bytes),
            _ => Put::Contradiction,
        }
    }

    /// Bytes of all blocks being put together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, number: u64) -> Option<Partial> {
        let partial = self.blocks.remove(&number)?;
        self.bytes -= partial.content.len();
        Some(partial)
    }
}

impl Partial {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> Put {
        let (mut from, mut to) = (offset, offset + bytes.len());
        let agrees = |&(a, b): &(usize, usize)| {
            let (a, b) = (a.max(from), b.min(to));
            a >= b || self.content[a..b] == bytes[a - from..b - from]
        };
        if !self.stretches.iter().all(agrees) {
            return Put::Contradiction;
        }
        self.content[from..to].copy_from_slice(bytes);
        self.stretches.retain(|&(a, b)| {
            let apart = b < from || a > to;
            if !apart {
                (from, to) = (from.min(a), to.max(b));
            }
            apart
        });
        let place = self.stretches.partition_point(|stretch| stretch.0 < from);
        self.stretches.insert(place, (from, to));
        match &self.stretches[..] {
            [(0, end)] if *end == self.content.len() => Put::Whole,
            stretches if stretches.len() > STRETCHES_MAX => Put::Contradiction,
            _ => Put::Waiting,
        }
    }
}

impl Lane {
    /// Datagrams of the path are at most this long from here on.
    pub(crate) fn set_datagram_bytes(&mut self, datagram_bytes: u16) {
        self.log.set_block_bytes(block_bytes(datagram_bytes));
        self.best_effort.set_block_bytes(block_bytes(datagram_bytes));
    }

    /// A packet was lost: what it carried of a block goes out again. Returns the length that a lost size probe had.
    #[cold]
    pub(crate) fn on_lost(&mut self, packet: &SentPacket, pool: &mut SlotPool) -> Option<u16> {
        match packet.cargo {
            Cargo::Whole if packet.block != NO_BLOCK => self.log.on_lost(packet.block, pool),
            Cargo::Whole => {}
            Cargo::Part(index) => self.log.on_part_lost(packet.block, index, pool),
            Cargo::SizeProbe => return Some(packet.block as u16),
        }
        None
    }

    /// Takes a part of a block; with the last of them the block is taken as if it had come whole.
    #[cold]
    pub(crate) fn handle_part<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        reader: &mut Reader<'_>,
    ) -> Result<(), Fault> {
        let Part { block, offset, total } = Part::read(reader).ok_or(MALFORMED)?;
        let bytes = reader.bytes(reader.remaining()).ok_or(MALFORMED)?;
        let length = bytes.len() as u64;
        let fits = offset.checked_add(length).is_some_and(|end| end <= total);
        if total > BLOCK_CONTENT_BYTES_MAX as u64 || !fits || length == 0 || length == total {
            return Err(MALFORMED);
        }
        if self.window.contains(block) {
            rx.common.counters.dropped_duplicate_block += 1;
            self.block_parts.as_mut().and_then(|parts| parts.remove(block));
            return Ok(());
        }
        if block >= self.blocks_end() {
            return Err(Fault::BlockWindow);
        }
        rx.common.counters.parts_received += 1;
        let mut parts = self.block_parts.take().unwrap_or_default();
        let before = parts.blocks.get(&block).map(|partial| partial.stretches.clone());
        let mut put = parts.put(block, total as usize, offset as usize, bytes);
        if put == Put::Full {
            self.forget_arrived(&mut parts);
            put = parts.put(block, total as usize, offset as usize, bytes);
        }
        let result = match put {
            Put::Waiting => Ok(()),
            Put::Full => Err(Fault::AssemblyLimit),
            Put::Contradiction => Err(CONTRADICTION),
            Put::Whole => {
                let whole = parts.remove(block);
                let content = whole.map(|partial| partial.content).unwrap_or_default();
                let taken = self.handle_block(rx, block, &content);
                if let (Err(_), Some(stretches)) = (taken, before) {
                    // Not acknowledged, so this part comes again; the others do not.
                    parts.bytes += content.len();
                    parts.blocks.insert(block, Partial { content, stretches });
                }
                taken
            }
        };
        self.block_parts = (!parts.blocks.is_empty()).then_some(parts);
        result
    }

    /// Forgets what was begun of blocks that arrived whole meanwhile, or were given up by the sender.
    fn forget_arrived(&self, parts: &mut BlockParts) {
        let arrived = parts.blocks.keys().filter(|number| self.window.contains(**number));
        for number in arrived.copied().collect::<Vec<_>>() {
            parts.remove(number);
        }
    }
}

const MALFORMED: Fault = Fault::Violation("malformed part of a block");
const CONTRADICTION: Fault = Fault::Violation("parts of a block contradict each other");

#[cfg(test)]
mod tests {
    //! Goal: any order, repetition and overlap gives the block; limits hold; contradictions are seen.
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cover_gives_the_block(content in proptest::collection::vec(any::<u8>(), 2..400), cuts in proptest::collection::vec((0usize..400, 1usize..200), 0..12), each in 60usize..200, seed: u64) {
            let total = content.len();
            let mut pieces: Vec<_> = (0..total).step_by(each).map(|from| (from, (from + each).min(total))).collect();
            pieces.extend(cuts.iter().map(|(from, length)| (from % total, (from % total + length).min(total))));
            let count = pieces.len();
            pieces.rotate_left(seed as usize % count);
            let mut parts = BlockParts::default();
            let mut covered = vec![false; total];
            for (from, to) in pieces {
                let put = parts.put(7, total, from, &content[from..to]);
                covered[from..to].fill(true);
                let expected = if covered.iter().all(|byte| *byte) { Put::Whole } else { Put::Waiting };
                prop_assert_eq!(put, expected);
            }
            prop_assert_eq!(parts.bytes, total);
            prop_assert_eq!(parts.remove(7).unwrap().content, content);
            prop_assert_eq!(parts.bytes, 0);
        }
    }

    #[test]
    fn contradictions_and_limits() {
        let mut parts = BlockParts::default();
        assert_eq!(parts.put(1, 100, 0, &[1; 50]), Put::Waiting);
        assert_eq!(parts.put(1, 101, 50, &[1; 50]), Put::Contradiction, "another length");
        assert_eq!(parts.put(1, 100, 49, &[2; 50]), Put::Contradiction, "another byte");
        assert_eq!(parts.put(1, 100, 49, &[1; 50]), Put::Waiting, "the same byte twice");
        assert_eq!(parts.put(1, 100, 99, &[1; 1]), Put::Whole);
        let mut spread = (0..20).map(|n| parts.put(2, 100, 2 * n, &[1]));
        assert_eq!(spread.find(|put| *put != Put::Waiting), Some(Put::Contradiction));
        let begun = (10..1_000).take_while(|n| parts.put(*n, 1_400, 0, &[1; 700]) == Put::Waiting);
        assert_eq!(begun.count(), (BYTES_MAX - 200) / 1_400);
        assert_eq!(parts.put(10, 1_400, 700, &[1; 700]), Put::Whole, "what was begun can be ended");
    }
}
