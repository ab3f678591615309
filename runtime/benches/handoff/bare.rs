//! The least that moves messages between two threads: a ring of 64 B slots, one producer, one consumer.
//!
//! Always holds: the producer writes slots from `tail` up to `head` + its length, the consumer reads those from `head` up to `tail`;
//! each publishes its own index after it is done with the slot.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 64 bytes.
pub(crate) type Message = [u64; 8];

const SLOTS: u64 = 1_024;

#[repr(align(128))]
#[derive(Default)]
struct Index(AtomicU64);

/// What both ends share.
pub(crate) struct Ring {
    slots: Box<[UnsafeCell<Message>]>,
    head: Index,
    tail: Index,
}

// SAFETY: a slot is touched by one thread at a time: by the producer before it publishes `tail` beyond it, by the consumer after
// that and before it publishes `head` beyond it. Both keep this, see `push` and `pop`.
unsafe impl Sync for Ring {}

impl Ring {
    pub(crate) fn pair() -> (Producer, Consumer) {
        let slots = (0..SLOTS).map(|_| UnsafeCell::new([0; 8])).collect();
        let ring = Arc::new(Self { slots, head: Index::default(), tail: Index::default() });
        let producer = Producer { ring: Arc::clone(&ring), tail: 0, head_seen: 0 };
        (producer, Consumer { ring, head: 0, tail_seen: 0 })
    }
}

/// The writing end.
pub(crate) struct Producer {
    ring: Arc<Ring>,
    tail: u64,
    head_seen: u64,
}

impl Producer {
    /// Whether there was room.
    #[inline]
    pub(crate) fn push(&mut self, message: Message) -> bool {
        if self.tail - self.head_seen == SLOTS {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            if self.tail - self.head_seen == SLOTS {
                return false;
            }
        }
        let slot = &self.ring.slots[(self.tail % SLOTS) as usize];
        // SAFETY: the consumer is done with this slot (`head` was read beyond it) and does not read it before `tail` says so.
        unsafe { *slot.get() = message };
        self.tail += 1;
        self.ring.tail.0.store(self.tail, Ordering::Release);
        true
    }
}

/// The reading end.
pub(crate) struct Consumer {
    ring: Arc<Ring>,
    head: u64,
    tail_seen: u64,
}

impl Consumer {
    /// The next message, if there is one.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Message> {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let slot = &self.ring.slots[(self.head % SLOTS) as usize];
        // SAFETY: the producer has published this slot and does not write it before `head` says so.
        let message = unsafe { *slot.get() };
        self.head += 1;
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(message)
    }
}
