//! Owns best-effort messages of one lane between `send` and the datagram that takes them: a short queue of datagram-sized
//! slots, kept by nobody afterwards.
//!
//! What always holds: at most [`SLOTS_MAX`] slots wait; a message up to one datagram is never split.

use std::collections::VecDeque;

use crate::frame::BEST_EFFORT;
use crate::message::{Continue, FORM_FIRST, FORM_WHOLE, Head, Output};
use crate::slots::{self, SlotPool};

/// Slots that may wait; about 360 KiB of full datagrams.
const SLOTS_MAX: usize = 256;

/// What became of a message offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    /// No room now.
    Full,
    /// Longer than the whole queue.
    TooLong,
}

/// Queue of best-effort datagrams.
#[derive(Debug)]
pub(crate) struct BestEffortQueue {
    slots: VecDeque<Slot>,
    open: Slot,
    /// Number of the next message in fragments.
    next: u64,
    block_bytes: usize,
}

#[derive(Debug, Default)]
struct Slot {
    bytes: slots::Slot,
    /// Messages that end in it.
    ends: u32,
}

impl BestEffortQueue {
    pub(crate) fn new(block_bytes: usize) -> Self {
        Self { slots: VecDeque::new(), open: Slot::default(), next: 1, block_bytes }
    }

    /// The number of the next message in fragments.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Bytes of a slot.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// An empty queue that goes on counting where another stopped.
    pub(crate) fn resume(next: u64, block_bytes: usize) -> Self {
        Self { next, ..Self::new(block_bytes) }
    }

    /// Slots opened from here on are full at `bytes`.
    pub(crate) fn set_block_bytes(&mut self, bytes: usize) {
        self.block_bytes = bytes;
    }

    /// Gives the next content up: the path carries less than when it was written. The rest of a message in fragments goes with it.
    /// Returns how many messages that were.
    #[cold]
    pub(crate) fn drop_next(&mut self, pool: &mut SlotPool) -> u32 {
        while let Some(slot) = self.slots.pop_front() {
            pool.give(slot.bytes);
            if slot.ends > 0 {
                return slot.ends;
            }
        }
        0
    }

    /// Longest message that could be taken.
    pub(crate) fn body_bytes_max(&self) -> usize {
        (SLOTS_MAX - 2) * (self.block_bytes - crate::limits::HEAD_SLACK)
    }

    /// Offers one message.
    #[inline]
    pub(crate) fn push(&mut self, pool: &mut SlotPool, head: &Head<'_>, body: &[u8]) -> Offer {
        let whole = head.size() + body.len();
        if !self.open.bytes.is_empty() && self.open.bytes.len() + whole > self.block_bytes {
            self.close();
        }
        if self.open.bytes.is_empty() {
            let slots = 1 + whole / (self.block_bytes - crate::limits::HEAD_SLACK);
            if slots > SLOTS_MAX - 2 {
                return Offer::TooLong;
            }
            if self.slots.len() + slots > SLOTS_MAX {
                return Offer::Full;
            }
            self.open_slot(pool);
        }
        if 1 + whole > self.block_bytes {
            self.push_fragments(pool, head, body);
            return Offer::Taken;
        }
        head.write(FORM_WHOLE, &mut self.open.bytes);
        self.open.bytes.extend_from_slice(body);
        self.open.ends += 1;
        Offer::Taken
    }

    fn push_fragments(&mut self, pool: &mut SlotPool, head: &Head<'_>, body: &[u8]) {
        let number = self.next;
        self.next += 1;
        head.write(FORM_FIRST, &mut self.open.bytes);
        self.open.bytes.varint(number);
        let mut cut = (self.block_bytes - self.open.bytes.len()).min(body.len() - 1);
        self.open.bytes.extend_from_slice(&body[..cut]);
        while cut < body.len() {
            self.close();
            self.open_slot(pool);
            let (offset, total) = (cut as u64, body.len() as u64);
            Continue { origin: number, offset, total }.write(&mut self.open.bytes);
            let taken = (self.block_bytes - self.open.bytes.len()).min(body.len() - cut);
            self.open.bytes.extend_from_slice(&body[cut..cut + taken]);
            cut += taken;
        }
        self.open.ends += 1;
        self.close();
    }

    fn open_slot(&mut self, pool: &mut SlotPool) {
        self.open = Slot { bytes: pool.take(), ends: 0 };
        self.open.bytes.push(BEST_EFFORT);
    }

    fn close(&mut self) {
        self.slots.push_back(std::mem::take(&mut self.open));
    }

    /// Bytes of the next datagram's content, if any.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<usize> {
        if self.slots.is_empty() {
            if self.open.bytes.is_empty() {
                return None;
            }
            self.close();
        }
        self.slots.front().map(|slot| slot.bytes.len())
    }

    /// Appends the next content to a datagram; returns how many messages end in it.
    #[inline]
    pub(crate) fn write(&mut self, pool: &mut SlotPool, out: &mut Vec<u8>) -> u32 {
        let Some(slot) = self.slots.pop_front() else {
            return 0;
        };
        out.extend_from_slice(&slot.bytes);
        pool.give(slot.bytes);
        slot.ends
    }

    /// Whether anything waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.open.bytes.is_empty()
    }

    /// Messages that have not left, or whose last fragment has not.
    pub(crate) fn pending(&self) -> u64 {
        let slots = self.slots.iter().chain([&self.open]);
        slots.map(|slot| u64::from(slot.ends)).sum()
    }

    /// Forgets everything; returns how many messages had not left.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.close();
        self.slots.drain(..).map(|slot| u64::from(slot.ends)).sum()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a message that lost a fragment is dropped as a whole and counted; its neighbours are not.
    use super::*;
    use crate::message::Target;

    #[test]
    fn what_lost_a_part_for_its_length_is_dropped_whole() {
        let (mut pool, mut queue) = (SlotPool::new(1_420), BestEffortQueue::new(1_420));
        let mut push = |queue: &mut BestEffortQueue, bytes: usize| {
            let total = bytes as u64;
            let head =
                Head { target: Target::Flow(1), name: None, request: None, sequence: None, total };
            assert_eq!(queue.push(&mut pool, &head, &vec![7; bytes]), Offer::Taken);
        };
        for bytes in [100, 3_000, 200, 1_300, 4_300] {
            push(&mut queue, bytes);
        }
        assert_eq!(queue.pending(), 5);
        let (mut sent, mut dropped, mut out) = (0, 0, Vec::new());
        while let Some(bytes) = queue.peek() {
            if bytes > 1_168 {
                dropped += queue.drop_next(&mut pool);
            } else {
                sent += queue.write(&mut pool, &mut out);
            }
        }
        assert_eq!((sent, dropped), (2, 3), "those of 100 and 200 bytes are sent");
        assert!(out.len() < 320, "nothing of the others: {} B", out.len());
    }
}
