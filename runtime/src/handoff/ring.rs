//! A ring of slots for one producer and one consumer, who hand each slot to and fro and keep what lies in it.
//!
//! A slot's stamp says whose it is, and lies beside its content: a consumer that waits finds both by one look at one cache
//! line. The consumer gives slots back by a number of its own, which the producer reads only when the ring looks full.
//!
//! Always holds: slot *n* modulo the ring's length belongs to the producer until it stamps it *n* + 1, then to the consumer
//! until it says that it has released *n* + 1 slots. `Producer::publish` and `Consumer::release` keep this, and assert that the
//! slot that they give away is theirs; so nobody ever has a slot at the same time as another. `tests/parking.rs` has loom try
//! the orders of their steps on this very file.

use crate::sync::{Arc, AtomicU64, OnceLock, Ordering, SlotCell};

/// One slot. Two cache lines, as processors fetch them in pairs.
#[derive(Debug)]
#[repr(C, align(128))]
struct Slot<S> {
    /// The number of slots published when this one was, itself included.
    stamp: AtomicU64,
    content: SlotCell<S>,
}

/// A number on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Released(AtomicU64);

/// What both ends share.
#[derive(Debug)]
struct Shared<S> {
    /// Made by the producer when it first needs one, so that pairs that hand nothing over cost little.
    slots: OnceLock<Box<[Slot<S>]>>,
    /// How many slots the consumer has given back.
    released: Released,
}

// SAFETY: a slot's content is reached by one thread at a time, as the header says: the producer's store of the stamp comes before
// the consumer's load of it, and the consumer's store of `released` before the producer's load, both release to acquire. So a
// content only has to be one that may move between threads.
unsafe impl<S: Send> Sync for Shared<S> {}

/// A ring of `len` slots.
pub(crate) fn ring<S: Default>(len: usize) -> (Producer<S>, Consumer<S>) {
    let released = Released(AtomicU64::new(0));
    let shared = Arc::new(Shared { slots: OnceLock::new(), released });
    let producer = Producer { shared: Arc::clone(&shared), len, next: 0, place: 0, released: 0 };
    (producer, Consumer { shared, next: 0, place: 0 })
}

/// The end that fills slots.
#[derive(Debug)]
pub(crate) struct Producer<S> {
    shared: Arc<Shared<S>>,
    len: usize,
    /// The number of the slot to fill, which is how many were published, and its place.
    next: u64,
    place: usize,
    /// How many were given back, as last read.
    released: u64,
}

impl<S: Default> Producer<S> {
    /// Whether the next slot is here.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        if self.next - self.released == self.len as u64 {
            self.released = self.shared.released.0.load(Ordering::Acquire);
        }
        self.next - self.released < self.len as u64
    }

    /// The slot to fill, with whatever was left in it; `None` while the consumer has them all.
    #[inline]
    pub(crate) fn slot(&mut self) -> Option<&mut S> {
        if !self.has_room() {
            return None;
        }
        let len = self.len;
        let slots = self.shared.slots.get_or_init(|| {
            let slot = || Slot { stamp: AtomicU64::new(0), content: SlotCell::new(S::default()) };
            (0..len).map(|_| slot()).collect()
        });
        let slot = &slots[self.place];
        // SAFETY: the consumer has released slot `next` - `len`, read by acquire in `has_room`: `Consumer::release` says so only of
        // slots that were its own. It takes this one only when `publish` has stamped it, which needs `self`, as does this borrow.
        Some(unsafe { slot.content.get_mut() })
    }

    /// Gives the slot that was filled to the consumer. Only after `slot` has given it.
    ///
    /// # Panics
    ///
    /// If all slots are the consumer's.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let Some(slots) = self.shared.slots.get() else { return };
        assert!(self.next - self.released < self.len as u64, "`slot` gave it");
        self.next += 1;
        slots[self.place].stamp.store(self.next, Ordering::Release);
        self.place = if self.place + 1 == self.len { 0 } else { self.place + 1 };
    }
}

/// The end that empties slots.
#[derive(Debug)]
pub(crate) struct Consumer<S> {
    shared: Arc<Shared<S>>,
    /// The number of the slot to empty, which is how many were given back, and its place.
    next: u64,
    place: usize,
}

impl<S> Consumer<S> {
    /// Whether a slot is here.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        let Some(slots) = self.shared.slots.get() else { return false };
        slots[self.place].stamp.load(Ordering::Acquire) == self.next + 1
    }

    /// The slot to empty, if it is here.
    #[inline]
    pub(crate) fn slot(&mut self) -> Option<&mut S> {
        if !self.is_ready() {
            return None;
        }
        let slot = &self.shared.slots.get()?[self.place];
        // SAFETY: the producer has stamped this slot, read by acquire in `is_ready`: `Producer::publish` stamps only what was its own.
        // It takes it again only when `release` has counted it, which needs `self`, as does this borrow.
        Some(unsafe { slot.content.get_mut() })
    }

    /// Gives the slot that was emptied back. Only after `slot` has given it.
    ///
    /// # Panics
    ///
    /// If it is the producer's.
    #[inline]
    pub(crate) fn release(&mut self) {
        assert!(self.is_ready(), "`slot` gave it");
        let len = self.shared.slots.get().map_or(1, |slots| slots.len());
        self.place = if self.place + 1 == len { 0 } else { self.place + 1 };
        self.next += 1;
        self.shared.released.0.store(self.next, Ordering::Release);
    }
}
