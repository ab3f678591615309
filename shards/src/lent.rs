//! Queues of a shard that other threads read: each with the batch that its reader has.
//!
//! Always holds: a reader has one batch at a time, whose credit is held until it asks for the next.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::queue::{Batch, Queue};

/// The lent queues of one shard, by number.
pub(crate) type LentQueues = RefCell<HashMap<u64, Rc<RefCell<Lent>>>>;

/// One of them.
pub(crate) struct Lent {
    queue: Queue,
    /// The batch that the reader has, or is about to get.
    given: Option<Batch>,
    /// Batches given so far.
    count: u64,
}

impl Lent {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, given: None, count: 0 }
    }

    /// Makes sure that the batch after the `seen` that the reader got is there; false when none will come. A batch that was taken
    /// for a reader that did not wait is still there.
    pub(crate) fn poll_batch(&mut self, seen: u64, context: &Context<'_>) -> Poll<bool> {
        if self.count > seen {
            return Poll::Ready(true);
        }
        // The reader is done with the one before.
        self.given = None;
        let batch = ready!(self.queue.poll_next_batch(context));
        self.count += u64::from(batch.is_some());
        self.given = batch;
        Poll::Ready(self.given.is_some())
    }

    /// What the reader is to get.
    pub(crate) fn given(&self) -> Option<&Batch> {
        self.given.as_ref()
    }
}
