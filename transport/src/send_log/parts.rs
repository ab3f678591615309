//! Owns the blocks that are longer than a datagram may be now, because the path's limit fell after they were cut: each goes
//! out in parts, short enough for every path.
//!
//! What always holds: how a block is cut follows from its length alone, so its parts are the same each time; a block leaves
//! the log when all its parts were acknowledged, or one whole copy.

use std::collections::{BTreeMap, VecDeque};

use super::{Pick, SendLog};
use crate::frame::{PADDING, PART_HEAD_BYTES_MAX, Part};
use crate::limits::{DATAGRAM_BYTES_FLOOR, payload_bytes};
use crate::slots::SlotPool;
use crate::varint;

/// Bytes of a block that one part takes, at most.
const PART_BYTES_MAX: usize = payload_bytes(DATAGRAM_BYTES_FLOOR) - PART_HEAD_BYTES_MAX;
/// Parts of the longest block: which of them arrived is a byte of bits.
const PARTS_MAX: usize = payload_bytes(9_000).div_ceil(PART_BYTES_MAX);

const _: () = assert!(PARTS_MAX <= 8);

/// Blocks of one log that go out in parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// By block: the parts acknowledged, as bits.
    acked: BTreeMap<u64, u8>,
    /// Block and part, in the order in which they are to be sent.
    due: VecDeque<(u64, u8)>,
    scratch: Vec<u8>,
}

/// Where one part lies in its block's content. All parts of a block are equally long but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    count: usize,
    each: usize,
}

impl Cut {
    fn of(total: usize) -> Self {
        // Two at least: a part is never a whole block.
        let count = total.div_ceil(PART_BYTES_MAX).max(2);
        Self { count, each: total.div_ceil(count) }
    }
}

impl SendLog {
    /// Blocks opened from here on are full at `bytes`, at most the `slot_bytes` of [`SendLog::new`].
    pub(crate) fn set_block_bytes(&mut self, bytes: usize) {
        self.block_bytes = bytes.min(self.slot_bytes);
    }

    /// Takes a block that [`SendLog::peek`] offers off its list: it goes out in parts. Returns whether it had been sent before.
    #[cold]
    pub(crate) fn cut_block(&mut self, pick: Pick) -> bool {
        let mut parts = self.parts.take().unwrap_or_default();
        parts.scratch.clear();
        let (number, was_sent) = self.write(pick, &mut parts.scratch);
        let count =
            self.block(number).map_or(0, |block| Cut::of(block.content_bytes(number)).count);
        let acked = *parts.acked.entry(number).or_insert(0);
        let missing = (0..count as u8).filter(|index| acked & (1 << index) == 0);
        for part in missing.map(|index| (number, index)) {
            if !parts.due.contains(&part) {
                parts.due.push_back(part);
            }
        }
        self.parts = Some(parts);
        was_sent
    }

    /// Whether parts are to be sent.
    #[inline]
    pub(crate) fn has_parts_due(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| !parts.due.is_empty())
    }

    /// The next part to send: its block, its place, and the bytes that [`SendLog::write_part`] appends for it.
    #[cold]
    pub(crate) fn peek_part(&mut self) -> Option<(u64, u8, usize)> {
        loop {
            let (number, index) = *self.parts.as_ref()?.due.front()?;
            match self.block(number).filter(|block| !block.is_released()) {
                Some(block) => {
                    let total = block.content_bytes(number);
                    return Some((number, index, part_bytes(number, total)));
                }
                // Some copy of it arrived whole, or it was given up.
                None => self.forget_block(number),
            }
        }
    }

    /// Appends a part that [`SendLog::peek_part`] offered. Padding in front makes all parts of a block equally long, so that
    /// they share a run.
    #[cold]
    pub(crate) fn write_part(&mut self, number: u64, index: u8, out: &mut Vec<u8>) {
        let Some(mut parts) = self.parts.take() else { return };
        parts.due.pop_front();
        parts.scratch.clear();
        if let Some(block) = self.block(number) {
            block.write_content(number, &mut parts.scratch);
        }
        let content = &parts.scratch[..];
        let (total, offset) = (content.len(), usize::from(index) * Cut::of(content.len()).each);
        let bytes = Cut::of(total).each.min(total - offset);
        let head = Part { block: number, offset: offset as u64, total: total as u64 };
        let used =
            1 + varint::size(number) + varint::size(head.offset) + varint::size(head.total) + bytes;
        out.resize(out.len() + part_bytes(number, total) - used, PADDING);
        head.write(out);
        out.extend_from_slice(&content[offset..offset + bytes]);
        self.parts = Some(parts);
    }

    /// A datagram with a part was acknowledged; with the last of them the block is released.
    #[cold]
    pub(crate) fn on_part_acked(
        &mut self,
        (number, index): (u64, u8),
        pool: &mut SlotPool,
        bound: impl FnMut(u32),
    ) {
        let Some(block) = self.block(number).filter(|block| !block.is_released()) else {
            return self.forget_block(number);
        };
        let count = Cut::of(block.content_bytes(number)).count;
        let Some(parts) = &mut self.parts else { return };
        let Some(acked) = parts.acked.get_mut(&number) else { return };
        *acked |= 1 << index;
        if acked.count_ones() as usize == count {
            self.on_acked(number, pool, bound);
            self.forget_block(number);
        } else {
            parts.due.retain(|part| *part != (number, index));
        }
    }

    /// A datagram with a part was lost: it goes out again unless it arrived meanwhile, or the block's terms forbid it.
    #[cold]
    pub(crate) fn on_part_lost(&mut self, number: u64, index: u8, pool: &mut SlotPool) {
        let Some(block) = self.block(number).filter(|block| !block.is_released()) else {
            return self.forget_block(number);
        };
        let (group, sends) = (block.group, block.sends);
        let Some(parts) = &mut self.parts else { return };
        let arrived = parts.acked.get(&number).is_some_and(|acked| acked & (1 << index) != 0);
        if arrived || parts.due.contains(&(number, index)) {
            return;
        }
        if group != 0 && !self.may_repeat(group, sends) {
            self.give_up(group, pool);
            return self.forget_block(number);
        }
        self.blocks[(number - self.base) as usize].sends = sends.saturating_add(1);
        if let Some(parts) = &mut self.parts {
            parts.due.push_back((number, index));
        }
    }

    /// A block needs no sending any more; blocks below the log's base never do.
    fn forget_block(&mut self, number: u64) {
        let base = self.base;
        let Some(parts) = &mut self.parts else { return };
        parts.due.retain(|part| part.0 != number && part.0 >= base);
        parts.acked.remove(&number);
        parts.acked = parts.acked.split_off(&base);
        if parts.due.is_empty() && parts.acked.is_empty() {
            self.parts = None;
        }
    }
}

/// Bytes that every part of a block with `total` bytes of content takes in a datagram.
fn part_bytes(number: u64, total: usize) -> usize {
    let Cut { each, .. } = Cut::of(total);
    1 + varint::size(number) + 2 * varint::size(total as u64) + each
}

#[cfg(test)]
mod tests {
    //! Goal: the parts of any block are equally long, fit every path and make the block again; it is released by the last.
    use super::super::{Asked, Route};
    use super::*;
    use crate::flows::OutFlow;
    use crate::varint::Reader;

    /// A log whose only block has `content` bytes, and was not sent yet.
    fn log_with_one_block(content: usize) -> (SendLog, SlotPool) {
        let mut pool = SlotPool::new(content + 9);
        let mut log = SendLog::new(content + 9, 1 << 20);
        let body: Vec<u8> = (0..content - 4).map(|n| (n % 251) as u8 + 1).collect();
        let mut flow = OutFlow::new("x");
        flow.bound = true;
        let asked = Asked::default();
        assert!(log.push(&mut pool, &mut Route::Flow(&mut flow, 0), asked, &body));
        (log, pool)
    }

    fn cut_next(log: &mut SendLog, pool: &mut SlotPool) -> (u64, bool) {
        let pick = log.peek(pool).unwrap().0;
        let was_sent = log.cut_block(pick);
        (log.peek_part().unwrap().0, was_sent)
    }

    /// Writes the next part and reads it back: its bytes in the datagram, its head, its content.
    fn next_part(log: &mut SendLog) -> Option<(usize, u8, Part, Vec<u8>)> {
        let (number, index, bytes) = log.peek_part()?;
        let mut out = Vec::new();
        log.write_part(number, index, &mut out);
        assert_eq!(out.len(), bytes);
        let padding = out.iter().take_while(|byte| **byte == PADDING).count();
        let mut reader = Reader::new(&out[padding + 1..]);
        let part = Part::read(&mut reader).unwrap();
        Some((bytes, index, part, reader.rest().to_vec()))
    }

    #[test]
    fn parts_make_the_block_again() {
        for total in [1_155, 1_260, 1_420, 2_400, 4_001, payload_bytes(9_000) - 9] {
            let (mut log, mut pool) = log_with_one_block(total);
            let (number, was_sent) = cut_next(&mut log, &mut pool);
            assert!(!was_sent);
            let (mut content, mut lengths) = (Vec::new(), Vec::new());
            while let Some((bytes, index, part, piece)) = next_part(&mut log) {
                assert_eq!((part.block, part.offset), (number, content.len() as u64));
                assert_eq!((usize::from(index), part.total), (lengths.len(), total as u64));
                content.extend_from_slice(&piece);
                lengths.push(bytes);
            }
            assert!(lengths.iter().all(|bytes| *bytes == lengths[0]), "{lengths:?}");
            assert!(lengths[0] <= payload_bytes(DATAGRAM_BYTES_FLOOR), "{lengths:?}");
            assert!(lengths.len() >= 2, "a part is never a whole block");
            let mut block = Vec::new();
            log.block(number).unwrap().write_content(number, &mut block);
            assert!(content == block);
        }
    }

    #[test]
    fn the_last_acknowledgement_releases_the_block() {
        let (mut log, mut pool) = log_with_one_block(1_420);
        let (number, _) = cut_next(&mut log, &mut pool);
        while next_part(&mut log).is_some() {}
        log.on_part_acked((number, 1), &mut pool, |_| {});
        assert!(log.payload_bytes(number).is_some());
        log.on_part_lost(number, 1, &mut pool);
        assert!(!log.has_parts_due(), "it arrived");
        log.on_part_lost(number, 0, &mut pool);
        log.on_part_lost(number, 0, &mut pool);
        assert_eq!(next_part(&mut log).unwrap().1, 0);
        assert!(!log.has_parts_due());
        // A probe offers the block again: only what is missing goes.
        log.on_lost(number, &mut pool);
        assert_eq!(cut_next(&mut log, &mut pool), (number, true));
        assert_eq!(next_part(&mut log).unwrap().1, 0);
        assert!(next_part(&mut log).is_none());
        log.on_part_acked((number, 0), &mut pool, |_| {});
        assert!(log.payload_bytes(number).is_none());
        assert!(log.parts.is_none(), "nothing is remembered of it");
    }

    #[test]
    fn a_whole_copy_that_arrived_ends_the_parts() {
        let (mut log, mut pool) = log_with_one_block(1_420);
        let (number, _) = cut_next(&mut log, &mut pool);
        assert!(log.has_unsent());
        log.on_acked(number, &mut pool, |_| {});
        assert!(log.peek_part().is_none());
        assert!(log.parts.is_none() && !log.has_unsent());
        log.on_part_acked((number, 0), &mut pool, |_| {});
        log.on_part_lost(number, 1, &mut pool);
        assert!(!log.has_parts_due());
    }
}
