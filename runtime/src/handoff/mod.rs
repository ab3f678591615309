//! The hand-off: batches that move from shard to shard, and come back empty.
//!
//! A mesh of N shards has one ring of batches for each ordered pair. A producer fills the batch that is next in the ring, a
//! flush publishes it and ends the destination's sleep if it sleeps. The consumer takes items out in place and gives the batch
//! back to its producer: vectors, and what items still own, are made and freed on the producer's core. So a steady flow
//! allocates nothing.
//!
//! Always holds:
//! - items of one producer arrive in the order they were pushed;
//! - a pair owns `batches_max` batches: a producer that has none left is told at the push, keeps the item, and is woken when
//!   one has come back;
//! - one wake per sleep of the consumer, none for one that is awake (see `parking`);
//! - whoever is gone is told as [`PushError::Closed`]; what it had not drained is counted by nobody but its producer,
//!   who learns from [`Outbound::is_closed`].

mod batch;
mod inbound;
mod outbound;
mod ring;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::driver::DriverWaker;
use crate::parking::Starved;

pub use inbound::{Drained, Inbound, InboundStats};
pub use outbound::{Outbound, OutboundStats, PushError};

/// How much a pair of shards may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOffOptions {
    /// Items of one batch; at least 1. A batch that is full leaves at once, without waiting for the flush.
    pub batch_items_max: usize,
    /// Batches of one ordered pair, wherever they are; at least 1.
    pub batches_max: usize,
}

impl Default for HandOffOptions {
    /// 1,024 items: more than one turn receives (256), so that a producer is turned away only by a consumer that is
    /// several turns behind.
    fn default() -> Self {
        Self { batch_items_max: 64, batches_max: 16 }
    }
}

/// What all shards of a mesh know of one of them.
#[derive(Debug, Default)]
struct Place {
    /// Absent until its driver is made; until then it has not slept either.
    waker: OnceLock<DriverWaker>,
    /// It takes no more.
    closed: AtomicBool,
}

impl Place {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends its sleep, if it sleeps; whether it did. A sequentially consistent fence came before.
    fn wake_fenced(&self) -> bool {
        self.waker.get().is_some_and(DriverWaker::wake_fenced)
    }
}

type Places = Arc<[Place]>;

/// Both ends of one shard of a mesh.
#[derive(Debug)]
pub struct HandOff<T> {
    /// What this shard hands to others.
    pub outbound: Outbound<T>,
    /// What others hand to this shard.
    pub inbound: Inbound<T>,
}

/// A mesh between `shards` shards: the ends of each, in order. They are made before the threads, and moved to them.
///
/// A shard may hand items to itself; that takes the same way.
///
/// # Panics
///
/// If there is no shard, or an option is 0.
pub fn mesh<T: Send>(shards: usize, options: HandOffOptions) -> Vec<HandOff<T>> {
    assert!(shards > 0, "a mesh has at least one shard");
    assert!(options.batch_items_max > 0 && options.batches_max > 0, "a pair has room for an item");
    let places: Places = (0..shards).map(|_| Place::default()).collect();
    let mut outbound: Vec<Vec<_>> = (0..shards).map(|_| Vec::with_capacity(shards)).collect();
    let mut inbound: Vec<Vec<_>> = (0..shards).map(|_| Vec::with_capacity(shards)).collect();
    for from in &mut outbound {
        for to in &mut inbound {
            let (producer, consumer) = ring::ring(options.batches_max);
            let starved = Arc::new(Starved::new());
            from.push(outbound::Outlet::new(producer, Arc::clone(&starved)));
            to.push(inbound::Inlet::new(consumer, starved));
        }
    }
    let ends = outbound.into_iter().zip(inbound).enumerate();
    ends.map(|(shard, (out, into))| HandOff {
        outbound: Outbound::new(shard, Arc::clone(&places), out, options),
        inbound: Inbound::new(shard, Arc::clone(&places), into),
    })
    .collect()
}

#[cfg(test)]
mod tests;
