//! The producer's end of a mesh: the batch of each destination that is being filled.
//!
//! Always holds: a batch is filled only while it is the producer's, so publishing it finds room; an item that is not taken is
//! given back, and counted.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::batch::Batch;
use super::ring::Producer;
use super::{HandOffOptions, Places};
use crate::parking::Starved;

/// What one shard has handed to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboundStats {
    /// Items taken by `push`.
    pub items: u64,
    /// Items that found no room, and stayed with the caller.
    pub full: u64,
    /// Items whose shard was gone, at the push or between push and flush.
    pub closed: u64,
    /// Batches sent.
    pub batches: u64,
    /// Of these, those that found their shard asleep and cost a system call.
    pub wakes: u64,
}

/// Why an item was not taken; it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// Resource: every batch of the pair is under way. This shard is woken when one has come back.
    Full(T),
    /// System: that shard has ended.
    Closed(T),
}

impl<T> PushError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => {
                "the other shard is behind: keep the item and push it again when woken"
            }
            Self::Closed(_) => "the other shard has ended: nothing reaches it any more",
        })
    }
}

impl<T: fmt::Debug> Error for PushError<T> {}

/// What goes to one consumer.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    ring: Producer<Batch<T>>,
    starved: Arc<Starved>,
    /// Items in the batch that is next.
    filled: usize,
    /// It is in `unflushed`.
    is_unannounced: bool,
    is_starved: bool,
}

impl<T> Outlet<T> {
    pub(super) fn new(ring: Producer<Batch<T>>, starved: Arc<Starved>) -> Self {
        Self { ring, starved, filled: 0, is_unannounced: false, is_starved: false }
    }
}

/// The producer's end of one shard.
#[derive(Debug)]
pub struct Outbound<T> {
    shard: usize,
    places: Places,
    outlets: Vec<Outlet<T>>,
    options: HandOffOptions,
    /// Destinations whose open batch was asked for since the last flush.
    unflushed: Vec<usize>,
    stats: OutboundStats,
}

impl<T> Outbound<T> {
    pub(super) fn new(
        shard: usize,
        places: Places,
        outlets: Vec<Outlet<T>>,
        options: HandOffOptions,
    ) -> Self {
        let unflushed = Vec::with_capacity(outlets.len());
        Self { shard, places, outlets, options, unflushed, stats: OutboundStats::default() }
    }

    /// The number of the shard that this is the end of.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards the mesh has.
    pub fn shards(&self) -> usize {
        self.outlets.len()
    }

    /// Puts an item into the open batch for shard `to`. It is on its way when the batch is full, else at the next
    /// [`Outbound::flush`].
    ///
    /// An old item in its place, which has come back, is dropped here.
    ///
    /// # Errors
    ///
    /// [`PushError`] says why not, and holds the item.
    ///
    /// # Panics
    ///
    /// If there is no shard `to`.
    #[inline]
    pub fn push(&mut self, to: usize, item: T) -> Result<(), PushError<T>> {
        let places = self.options.batch_items_max;
        match self.open(to) {
            Ok((batch, place)) => batch.put(place, places, item),
            Err(Unopened::Full) => return Err(PushError::Full(item)),
            Err(Unopened::Closed) => return Err(PushError::Closed(item)),
        }
        self.filled(to);
        Ok(())
    }

    /// As [`Outbound::push`], for items that keep their memory: `fill` writes over one that came back, or a fresh one.
    ///
    /// # Errors
    ///
    /// As there; `fill` has not been called then.
    ///
    /// # Panics
    ///
    /// As there.
    #[inline]
    pub fn push_with(&mut self, to: usize, fill: impl FnOnce(&mut T)) -> Result<(), PushError<()>>
    where
        T: Default,
    {
        let places = self.options.batch_items_max;
        match self.open(to) {
            Ok((batch, place)) => fill(batch.old(place, places)),
            Err(Unopened::Full) => return Err(PushError::Full(())),
            Err(Unopened::Closed) => return Err(PushError::Closed(())),
        }
        self.filled(to);
        Ok(())
    }

    /// Whether a push to `to` would find room now. If not, it counts as one that did not, and this shard is woken when
    /// there is.
    ///
    /// # Panics
    ///
    /// If there is no shard `to`.
    pub fn has_room(&mut self, to: usize) -> bool {
        self.open(to).is_ok()
    }

    /// Sends every open batch and ends the sleep of those that sleep; whether a batch left. At the end of each turn, and
    /// before parking.
    #[inline]
    pub fn flush(&mut self) -> bool {
        if self.unflushed.is_empty() {
            return false;
        }
        let mut sent = std::mem::take(&mut self.unflushed);
        sent.retain(|to| {
            self.outlets[*to].is_unannounced = false;
            self.send(*to)
        });
        let has_sent = !sent.is_empty();
        if has_sent {
            // One fence for all: after every batch was published, before any flag is read (see `parking`).
            fence(Ordering::SeqCst);
        }
        for to in sent.drain(..) {
            self.announce(to);
        }
        self.unflushed = sent;
        has_sent
    }

    /// Whether shard `to` has ended. Items that it had not drained by then are lost: whoever waits for an answer to one
    /// learns here that none will come.
    pub fn is_closed(&self, to: usize) -> bool {
        self.places[to].is_closed()
    }

    /// What was handed over so far.
    pub fn stats(&self) -> OutboundStats {
        self.stats
    }

    /// The open batch for `to`, and the place for the next item.
    #[inline]
    fn open(&mut self, to: usize) -> Result<(&mut Batch<T>, usize), Unopened> {
        if self.outlets[to].filled == 0 {
            self.begin(to)?;
        }
        let outlet = &mut self.outlets[to];
        if !outlet.is_unannounced {
            outlet.is_unannounced = true;
            self.unflushed.push(to);
        }
        outlet.ring.slot().map(|batch| (batch, outlet.filled)).ok_or(Unopened::Full)
    }

    /// Whether a batch may be opened.
    #[inline]
    fn begin(&mut self, to: usize) -> Result<(), Unopened> {
        if self.places[to].is_closed() {
            self.stats.closed += 1;
            return Err(Unopened::Closed);
        }
        let outlet = &mut self.outlets[to];
        if !outlet.ring.has_room() {
            // Says that it waits, then looks once more: one may have come back in between.
            outlet.starved.set();
            outlet.is_starved = true;
            if !outlet.ring.has_room() {
                self.stats.full += 1;
                return Err(Unopened::Full);
            }
        }
        if std::mem::take(&mut outlet.is_starved) {
            outlet.starved.clear();
        }
        Ok(())
    }

    /// Counts the item that was just written, and sends the batch if that was its last.
    #[inline]
    fn filled(&mut self, to: usize) {
        self.stats.items += 1;
        self.outlets[to].filled += 1;
        if self.outlets[to].filled == self.options.batch_items_max {
            self.send(to);
            fence(Ordering::SeqCst);
            self.announce(to);
        }
    }

    /// Sends the open batch, if there is one; whether it left.
    #[inline]
    fn send(&mut self, to: usize) -> bool {
        let outlet = &mut self.outlets[to];
        let filled = std::mem::take(&mut outlet.filled);
        if filled == 0 {
            return false;
        }
        if self.places[to].is_closed() {
            self.stats.closed += filled as u64;
            return false;
        }
        let Some(batch) = outlet.ring.slot() else { return false };
        batch.filled = filled;
        outlet.ring.publish();
        self.stats.batches += 1;
        true
    }

    fn announce(&mut self, to: usize) {
        self.stats.wakes += u64::from(self.places[to].wake_fenced());
    }
}

/// Why there is no open batch.
enum Unopened {
    Full,
    Closed,
}
