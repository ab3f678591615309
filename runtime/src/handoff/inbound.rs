//! The consumer's end of a mesh: takes batches of each producer in turn and sends them back.
//!
//! Always holds: a batch that was taken is drained in order and goes back whole; one that a budget cut stays here until
//! the next drain; nothing is freed here but what the caller takes out of an item.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crossbeam_channel::{Receiver, Sender};

use super::{Batch, Places};
use crate::driver::DriverWaker;
use crate::parking::Starved;

/// What one shard took from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InboundStats {
    /// Items drained.
    pub items: u64,
    /// Batches drained to their end and sent back.
    pub batches: u64,
    /// Producers that waited for room, slept, and were woken at the cost of a system call.
    pub wakes: u64,
}

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Items given to the caller.
    pub items: usize,
    /// The budget ended the drain and more may be there: do not park before the next one.
    pub has_more: bool,
}

/// One producer.
#[derive(Debug)]
pub(super) struct Way<T> {
    batches: Receiver<Batch<T>>,
    empties: Sender<Batch<T>>,
    starved: Arc<Starved>,
    /// A batch that a budget cut, and its next item.
    begun: Option<(Batch<T>, usize)>,
    /// A batch went back in this drain.
    has_returned: bool,
}

impl<T> Way<T> {
    pub(super) fn new(
        batches: Receiver<Batch<T>>,
        empties: Sender<Batch<T>>,
        starved: Arc<Starved>,
    ) -> Self {
        Self { batches, empties, starved, begun: None, has_returned: false }
    }

    /// The batch to go on with. The look at the channel's ends costs two loads where receiving costs a fence.
    #[inline]
    fn next(&mut self) -> Option<(Batch<T>, usize)> {
        if let Some(begun) = self.begun.take() {
            return Some(begun);
        }
        if self.batches.is_empty() {
            return None;
        }
        self.batches.try_recv().ok().map(|batch| (batch, 0))
    }
}

/// The consumer's end of one shard. Dropped, it wakes all others, and they are told that this shard is closed.
#[derive(Debug)]
pub struct Inbound<T> {
    shard: usize,
    places: Places,
    ways: Vec<Way<T>>,
    /// The producer to begin with, so that a budget is no one's privilege.
    next: usize,
    stats: InboundStats,
}

impl<T> Inbound<T> {
    pub(super) fn new(shard: usize, places: Places, ways: Vec<Way<T>>) -> Self {
        Self { shard, places, ways, next: 0, stats: InboundStats::default() }
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
        let (mut items, mut idle, mut has_returned) = (0, 0, false);
        let ways = self.ways.len();
        while idle < ways && items < items_max {
            let from = self.next;
            self.next = if from + 1 == ways { 0 } else { from + 1 };
            let way = &mut self.ways[from];
            let Some((mut batch, begin)) = way.next() else {
                idle += 1;
                continue;
            };
            idle = 0;
            let end = batch.filled.min(begin + (items_max - items));
            for item in &mut batch.items[begin..end] {
                take(from, item);
            }
            items += end - begin;
            if end < batch.filled {
                way.begun = Some((batch, end));
                continue;
            }
            self.stats.batches += 1;
            // There is room for every batch of the pair; a producer that is gone needs none.
            let _ = way.empties.try_send(batch);
            way.has_returned = true;
            has_returned = true;
        }
        self.stats.items += items as u64;
        if has_returned {
            self.wake_the_starved();
        }
        Drained { items, has_more: idle < ways }
    }

    /// Whether a batch is waiting here.
    pub fn is_empty(&self) -> bool {
        self.ways.iter().all(|way| way.begun.is_none() && way.batches.is_empty())
    }

    /// What was drained so far.
    pub fn stats(&self) -> InboundStats {
        self.stats
    }

    /// Ends the sleep of producers that wait for a batch and have one back.
    fn wake_the_starved(&mut self) {
        // One fence for all: after every return, before any flag is read (see `parking`).
        fence(Ordering::SeqCst);
        for (from, way) in self.ways.iter_mut().enumerate() {
            if std::mem::take(&mut way.has_returned) && way.starved.take_fenced() {
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
