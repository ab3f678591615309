//! Owns the datagram-sized buffers that send logs are made of: a LIFO pool per endpoint, so the warmest is used next.
//!
//! What always holds: every slot has the same room, never another, and is empty when it is taken; the pool keeps at most
//! `SPARE_SLOTS_MAX` of them, so idle lanes hold none and the endpoint few.

use std::fmt;
use std::ops::Deref;

use crate::message::Output;

/// Slots kept for later use; 1,024 of 1,452 B are 1.4 MiB, one full log.
const SPARE_SLOTS_MAX: usize = 1_024;

/// A buffer that is filled from its front. Its room is written once when it is made, so that a few bytes more than a message
/// may be written at once and overwritten by the next.
#[derive(Default)]
pub(crate) struct Slot {
    room: Box<[u8]>,
    filled: usize,
}

impl Slot {
    /// The next `BYTES` bytes of its room, which count as filled only after [`Slot::fill`]; `None` when there is less.
    #[inline]
    pub(crate) fn place<const BYTES: usize>(&mut self) -> Option<&mut [u8; BYTES]> {
        self.room.get_mut(self.filled..)?.first_chunk_mut()
    }

    /// Its room from what is filled up to `limit`, of which counts as filled only what [`Slot::fill`] says; `None` when it is filled
    /// beyond, or has less room.
    #[inline]
    pub(crate) fn free(&mut self, limit: usize) -> Option<&mut [u8]> {
        self.room.get_mut(self.filled..limit)
    }

    /// The next `bytes` bytes of its room were written.
    #[inline]
    pub(crate) fn fill(&mut self, bytes: usize) {
        debug_assert!(self.filled + bytes <= self.room.len(), "beyond its room");
        self.filled += bytes;
    }

    /// Appends one byte.
    ///
    /// # Panics
    /// Beyond its room, which is that of the longest block.
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.room[self.filled] = byte;
        self.filled += 1;
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// As there.
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.room[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Fills it with zeros up to a length.
    pub(crate) fn fill_zeros(&mut self, upto: usize) {
        if self.filled < upto {
            self.room[self.filled..upto].fill(0);
            self.filled = upto;
        }
    }
}

impl Deref for Slot {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.room[..self.filled]
    }
}

impl Output for Slot {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Pool of send-log slots.
#[derive(Debug)]
pub(crate) struct SlotPool {
    spare: Vec<Slot>,
    slot_bytes: usize,
}

impl SlotPool {
    /// A pool of slots of `slot_bytes` each.
    pub(crate) fn new(slot_bytes: usize) -> Self {
        Self { spare: Vec::new(), slot_bytes }
    }

    /// Takes an empty slot.
    #[inline]
    pub(crate) fn take(&mut self) -> Slot {
        self.spare.pop().unwrap_or_else(|| self.make())
    }

    #[cold]
    fn make(&self) -> Slot {
        Slot { room: vec![0; self.slot_bytes].into_boxed_slice(), filled: 0 }
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give(&mut self, mut slot: Slot) {
        if self.spare.len() < SPARE_SLOTS_MAX && slot.room.len() == self.slot_bytes {
            slot.filled = 0;
            self.spare.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what was written beyond the filled part is never seen, and a slot comes back empty.
    use super::*;

    #[test]
    fn only_what_is_filled_is_seen() {
        let mut pool = SlotPool::new(16);
        let mut slot = pool.take();
        slot.free(16).unwrap()[..8].fill(1);
        assert!(slot.is_empty());
        slot.fill(3);
        slot.push(2);
        slot.extend_from_slice(&[3, 4]);
        assert_eq!(*slot, [1, 1, 1, 2, 3, 4]);
        slot.fill_zeros(4);
        assert_eq!(slot.len(), 6, "already longer");
        slot.fill_zeros(9);
        assert_eq!(*slot, [1, 1, 1, 2, 3, 4, 0, 0, 0]);
        assert!(slot.place::<7>().is_some() && slot.place::<8>().is_none());
        assert_eq!(slot.free(16).map(|room| room.len()), Some(7));
        assert!(slot.free(17).is_none() && slot.free(8).is_none());
        pool.give(slot);
        assert!(pool.take().is_empty());
        assert!(Slot::default().free(1).is_none() && Slot::default().place::<1>().is_none());
    }
}
