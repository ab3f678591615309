//! Owns the datagram-sized buffers that send logs are made of: a LIFO pool per endpoint, so the warmest is used next.
//!
//! What always holds: every slot has the same capacity and is empty when it is taken; the pool keeps at most
//! `SPARE_SLOTS_MAX` of them, so idle lanes hold none and the endpoint few.

/// Slots kept for later use; 1,024 of 1,452 B are 1.4 MiB, one full log.
const SPARE_SLOTS_MAX: usize = 1_024;

/// Pool of send-log slots.
#[derive(Debug)]
pub(crate) struct SlotPool {
    spare: Vec<Vec<u8>>,
    slot_bytes: usize,
}

impl SlotPool {
    /// A pool of slots of `slot_bytes` each.
    pub(crate) fn new(slot_bytes: usize) -> Self {
        Self { spare: Vec::new(), slot_bytes }
    }

    /// Takes an empty slot.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.slot_bytes))
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give(&mut self, mut slot: Vec<u8>) {
        if self.spare.len() < SPARE_SLOTS_MAX && slot.capacity() >= self.slot_bytes {
            slot.clear();
            self.spare.push(slot);
        }
    }
}
