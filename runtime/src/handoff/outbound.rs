//! The producer's end of a mesh: open batches, full ones on their way, and those that came back.
//!
//! Always holds: a batch is made only while its pair owns fewer than `batches_max`, so sending one finds room; an item
//! that is not taken is given back, and counted.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crossbeam_channel::{Receiver, Sender};

use super::{Batch, HandOffOptions, Places};
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
    /// Vectors made; never more than `batches_max` of each pair.
    pub batches_made: u64,
    /// Batches that came back.
    pub batches_returned: u64,
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

/// One destination.
#[derive(Debug)]
pub(super) struct Way<T> {
    batches: Sender<Batch<T>>,
    returned: Receiver<Batch<T>>,
    starved: Arc<Starved>,
    open: Option<Batch<T>>,
    made: usize,
    /// It is in `unflushed`.
    is_unannounced: bool,
    is_starved: bool,
}

impl<T> Way<T> {
    pub(super) fn new(
        batches: Sender<Batch<T>>,
        returned: Receiver<Batch<T>>,
        starved: Arc<Starved>,
    ) -> Self {
        Self {
            batches,
            returned,
            starved,
            open: None,
            made: 0,
            is_unannounced: false,
            is_starved: false,
        }
    }
}

/// The producer's end of one shard.
#[derive(Debug)]
pub struct Outbound<T> {
    shard: usize,
    places: Places,
    ways: Vec<Way<T>>,
    options: HandOffOptions,
    /// Destinations whose open batch was asked for since the last flush.
    unflushed: Vec<usize>,
    stats: OutboundStats,
}

impl<T> Outbound<T> {
    pub(super) fn new(
        shard: usize,
        places: Places,
        ways: Vec<Way<T>>,
        options: HandOffOptions,
    ) -> Self {
        let unflushed = Vec::with_capacity(ways.len());
        Self { shard, places, ways, options, unflushed, stats: OutboundStats::default() }
    }

    /// The number of the shard that this is the end of.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards the mesh has.
    pub fn shards(&self) -> usize {
        self.ways.len()
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
        match self.open(to) {
            Ok(batch) => match batch.items.get_mut(batch.filled) {
                Some(slot) => *slot = item,
                None => batch.items.push(item),
            },
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
        match self.open(to) {
            Ok(batch) => {
                if batch.filled == batch.items.len() {
                    batch.items.push(T::default());
                }
                fill(&mut batch.items[batch.filled]);
            }
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
        let batches = self.stats.batches;
        let mut unflushed = std::mem::take(&mut self.unflushed);
        for to in &unflushed {
            self.send(*to);
        }
        // One fence for all: after every batch was published, before any flag is read (see `parking`).
        fence(Ordering::SeqCst);
        for to in unflushed.drain(..) {
            self.ways[to].is_unannounced = false;
            self.announce(to);
        }
        self.unflushed = unflushed;
        self.stats.batches > batches
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

    /// The open batch for `to`, with room for an item.
    #[inline]
    fn open(&mut self, to: usize) -> Result<&mut Batch<T>, Unopened> {
        if self.ways[to].open.is_none() {
            self.begin(to)?;
        }
        if !self.ways[to].is_unannounced {
            self.ways[to].is_unannounced = true;
            self.unflushed.push(to);
        }
        self.ways[to].open.as_mut().ok_or(Unopened::Full)
    }

    /// Opens a batch: one that came back, or a new one.
    fn begin(&mut self, to: usize) -> Result<(), Unopened> {
        if self.places[to].is_closed() {
            self.stats.closed += 1;
            return Err(Unopened::Closed);
        }
        let way = &mut self.ways[to];
        let mut returned = way.returned.try_recv().ok();
        if returned.is_none() && way.made == self.options.batches_max {
            // Says that it waits, then looks once more: the way back may have been used in between.
            way.starved.set();
            way.is_starved = true;
            returned = way.returned.try_recv().ok();
            if returned.is_none() {
                self.stats.full += 1;
                return Err(Unopened::Full);
            }
        }
        if std::mem::take(&mut way.is_starved) {
            way.starved.clear();
        }
        let batch = if let Some(batch) = returned {
            self.stats.batches_returned += 1;
            Batch { filled: 0, ..batch }
        } else {
            way.made += 1;
            self.stats.batches_made += 1;
            Batch { items: Vec::with_capacity(self.options.batch_items_max), filled: 0 }
        };
        way.open = Some(batch);
        Ok(())
    }

    /// Counts the item that was just written, and sends the batch if that was its last.
    #[inline]
    fn filled(&mut self, to: usize) {
        self.stats.items += 1;
        let Some(batch) = &mut self.ways[to].open else { return };
        batch.filled += 1;
        if batch.filled == self.options.batch_items_max {
            self.send(to);
            fence(Ordering::SeqCst);
            self.announce(to);
        }
    }

    /// Sends the open batch, if there is one.
    fn send(&mut self, to: usize) {
        let Some(batch) = self.ways[to].open.take_if(|batch| batch.filled > 0) else { return };
        let items = batch.filled as u64;
        // The pair has no more batches than the channel has room, so the only error is that nobody is left.
        if self.ways[to].batches.try_send(batch).is_err() {
            self.stats.closed += items;
        } else {
            self.stats.batches += 1;
        }
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
