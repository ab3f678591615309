//! The consumer's end of a mesh: takes batches of each producer in turn and gives them back.
//!
//! Always holds: a batch is drained in order and goes back whole; one that a budget cut stays here until the next drain; nothing
//! is freed here but what the caller takes out of an item. Producers that wait for a batch are woken by the drain after the one
//! that gave it back, so that the fence which this takes stands in nobody's way; that drain is asked for.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::Places;
use super::batch::Batch;
use super::ring::Consumer;
use crate::driver::DriverWaker;
use crate::parking::Starved;

/// What one shard took from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InboundStats {
    /// Items drained.
    pub items: u64,
    /// Batches drained to their end and given back.
    pub batches: u64,
    /// Producers that waited for room, slept, and were woken at the cost of a system call.
    pub wakes: u64,
}

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Items given to the caller.
    pub items: usize,
    /// More may be there, or somebody waits to be told that there is room: do not park before the next drain.
    pub has_more: bool,
}

/// What comes from one producer.
#[derive(Debug)]
pub(super) struct Inlet<T> {
    ring: Consumer<Batch<T>>,
    starved: Arc<Starved>,
    /// The next item of a batch that a budget cut.
    begun: usize,
    /// A batch went back since the starved were last looked for.
    has_returned: bool,
}

impl<T> Inlet<T> {
    pub(super) fn new(ring: Consumer<Batch<T>>, starved: Arc<Starved>) -> Self {
        Self { ring, starved, begun: 0, has_returned: false }
    }
}

/// The consumer's end of one shard. Dropped, it wakes all others, and they are told that this shard is closed.
#[derive(Debug)]
pub struct Inbound<T> {
    shard: usize,
    places: Places,
    inlets: Vec<Inlet<T>>,
    /// The producer to begin with, so that a budget is no one's privilege.
    next: usize,
    /// Some producer has a batch back and was not looked for.
    has_returned: bool,
    stats: InboundStats,
}

impl<T> Inbound<T> {
    pub(super) fn new(shard: usize, places: Places, inlets: Vec<Inlet<T>>) -> Self {
        Self { shard, places, inlets, next: 0, has_returned: false, stats: InboundStats::default() }
    }

    /// Says how this shard is woken. Once, before its first sleep, and followed by a drain: what was sent before woke nobody.
    pub fn attach(&self, waker: DriverWaker) {
        let attached = self.places[self.shard].waker.set(waker);
        debug_assert!(attached.is_ok(), "a shard has one driver");
        // Between "I can be woken" and the drain, as a producer has one between its batch and the look for a waker.
        fence(Ordering::SeqCst);
    }

    /// Gives at most `items_max` items to `take`, with the number of the shard that pushed them, a batch of each in
    /// turn. What `take` leaves in an item goes back to its producer, to be used again.
    #[inline]
    pub fn drain(&mut self, items_max: usize, mut take: impl FnMut(usize, &mut T)) -> Drained {
        if self.has_returned {
            self.wake_the_starved();
        }
        let (mut items, mut idle) = (0, 0);
        let inlets = self.inlets.len();
        while idle < inlets && items < items_max {
            let from = self.next;
            self.next = if from + 1 == inlets { 0 } else { from + 1 };
            let inlet = &mut self.inlets[from];
            let begin = inlet.begun;
            let Some(batch) = inlet.ring.slot() else {
                idle += 1;
                continue;
            };
            idle = 0;
            let filled = batch.filled;
            let end = filled.min(begin.saturating_add(items_max - items));
            batch.take(begin..end, |item| take(from, item));
            items += end - begin;
            if end < filled {
                inlet.begun = end;
                continue;
            }
            inlet.begun = 0;
            inlet.ring.release();
            inlet.has_returned = true;
            self.has_returned = true;
            self.stats.batches += 1;
        }
        self.stats.items += items as u64;
        Drained { items, has_more: idle < inlets || self.has_returned }
    }

    /// Whether a batch is waiting here.
    pub fn is_empty(&self) -> bool {
        !self.inlets.iter().any(|inlet| inlet.ring.is_ready())
    }

    /// What was drained so far.
    pub fn stats(&self) -> InboundStats {
        self.stats
    }

    /// Ends the sleep of producers that wait for a batch and have one back.
    fn wake_the_starved(&mut self) {
        self.has_returned = false;
        // One fence for all: after every return, before any flag is read (see `parking`).
        fence(Ordering::SeqCst);
        for (from, inlet) in self.inlets.iter_mut().enumerate() {
            if std::mem::take(&mut inlet.has_returned) && inlet.starved.take_fenced() {
                self.stats.wakes += u64::from(self.places[from].wake_fenced());
            }
        }
    }
}

impl<T> Drop for Inbound<T> {
    fn drop(&mut self) {
        self.places[self.shard].closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        for place in self.places.iter() {
            place.wake_fenced();
        }
    }
}
