//! Queues: messages of a flow, copied into batches that a task takes whole.
//!
//! Bodies are copied into one chunk of the batch being filled; large ones are kept as they were
//! assembled. What a queue holds is charged to its senders' credit and given back when the batch is
//! dropped, so a slow task slows its senders and nobody else. Always holds: a message is in exactly one
//! batch, batches come in order, and the bytes held stay within the capacity, whichever shard the messages came to, and below
//! `QUEUE_HELD_BYTES_MAX` in any case.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cubed_transport::identity::PublicKey;
use cubed_transport::{Body, Incoming, Refusal, ReplyTo, SendError, Service};

use crate::handed::HERE;
use crate::limits::{
    MESSAGE_CHARGE_BYTES, OWNED_BODY_BYTES_MIN, QUEUE_BYTES_MAX, QUEUE_HELD_BYTES_MAX,
    QUEUE_SPARE_BATCHES_MAX,
};
use crate::message::Responder;
use crate::outbox::Outbox;
use crate::registry::Registration;
use crate::stalled::{Release, Target};

/// How much a queue may hold. Each message counts its body and 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub(crate) sender_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Capacity {
    /// At most `bytes` from each sender, which is the credit a sender gets, and 16 times as much in all
    /// (at most 1 GiB).
    ///
    /// At least 64 KiB. The largest message the queue takes is 64 bytes less. A sender without credit waits; only when
    /// the total is reached are messages refused, with [`Refusal::QueueFull`].
    pub const fn bytes(bytes: u64) -> Self {
        let total = bytes.saturating_mul(16);
        Self {
            sender_bytes: bytes,
            total_bytes: if total > QUEUE_BYTES_MAX { QUEUE_BYTES_MAX } else { total },
        }
    }

    /// Sets the limit over all senders, bytes: no less than each sender's. Beyond 2 GiB it is 2 GiB.
    #[must_use]
    pub const fn total(mut self, bytes: u64) -> Self {
        self.total_bytes = if bytes > QUEUE_HELD_BYTES_MAX { QUEUE_HELD_BYTES_MAX } else { bytes };
        self
    }
}

/// The receiving end of a flow. Dropped, the flow is gone: later messages are refused with
/// [`Refusal::NoSuchFlow`].
pub struct Queue {
    shared: SharedQueue,
    outbox: Rc<RefCell<Outbox>>,
    registration: Option<Rc<Registration>>,
}

impl Queue {
    pub(crate) fn new(
        shared: SharedQueue,
        outbox: Rc<RefCell<Outbox>>,
        registration: Option<Rc<Registration>>,
    ) -> Self {
        Self { shared, outbox, registration }
    }

    /// All messages that have arrived since the last call, waiting for the first; `None` once the node
    /// stops.
    ///
    /// May be dropped while it waits: nothing is lost.
    pub async fn next_batch(&mut self) -> Option<Batch> {
        poll_fn(|context| self.poll_next_batch(context)).await
    }

    pub(crate) fn poll_next_batch(&mut self, context: &Context<'_>) -> Poll<Option<Batch>> {
        if let Some(batch) = self.try_next_batch() {
            return Poll::Ready(Some(batch));
        }
        let mut state = self.shared.borrow_mut();
        if state.stopped {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// As [`Queue::next_batch`], but `None` when nothing has arrived.
    pub fn try_next_batch(&mut self) -> Option<Batch> {
        let contents = self.shared.borrow_mut().take()?;
        Some(Batch { contents, queue: Rc::clone(&self.shared), outbox: Rc::clone(&self.outbox) })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.borrow_mut().closed = true;
        if let Some(registration) = &self.registration {
            registration.withdraw();
        }
        // What nobody will read gives its credit back.
        drop(self.try_next_batch());
    }
}

/// Messages of one queue, in the order they were accepted. Dropping it gives the senders their credit
/// back.
pub struct Batch {
    contents: Contents,
    queue: SharedQueue,
    outbox: Rc<RefCell<Outbox>>,
}

impl Batch {
    /// How many messages there are; never 0.
    pub fn len(&self) -> usize {
        self.contents.entries.len()
    }

    /// Whether there are none, which never happens.
    pub fn is_empty(&self) -> bool {
        self.contents.entries.is_empty()
    }

    /// The messages, in order.
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter { batch: self, entries: self.contents.entries.iter() }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = BatchMessage<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut outbox = self.outbox.borrow_mut();
        for credit in &self.contents.credits {
            outbox.release(credit.release);
        }
        drop(outbox);
        let contents = std::mem::take(&mut self.contents);
        self.queue.borrow_mut().give_back(contents);
    }
}

/// The messages of a [`Batch`].
pub struct BatchIter<'a> {
    batch: &'a Batch,
    entries: std::slice::Iter<'a, Entry>,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = BatchMessage<'a>;

    #[inline]
    fn next(&mut self) -> Option<BatchMessage<'a>> {
        let entry = self.entries.next()?;
        Some(BatchMessage { batch: self.batch, entry })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

/// One message of a [`Batch`].
#[derive(Clone, Copy)]
pub struct BatchMessage<'a> {
    batch: &'a Batch,
    entry: &'a Entry,
}

impl<'a> BatchMessage<'a> {
    /// The key that the sender proved when its session began.
    #[inline]
    pub fn sender(&self) -> &'a PublicKey {
        &self.batch.contents.credits[self.entry.credit as usize].sender
    }

    /// The bytes that were sent.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.batch.contents.body(self.entry)
    }

    /// Whether the sender waits for a reply.
    pub fn is_request(&self) -> bool {
        self.entry.reply != NO_REPLY
    }

    /// Answers a request. The reply leaves with the shard's next turn. Answer once: a second reply to
    /// the same request is dropped by the asker.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] when the shard's outbox has no room: yield and try again.
    /// [`SendError::NotConnected`] when the message is no request.
    pub fn reply(&self, body: &[u8]) -> Result<(), SendError> {
        let to = self.reply_to().ok_or(SendError::NotConnected)?;
        self.batch.outbox.borrow_mut().push(Target::Reply(to), body)
    }

    /// Takes what is needed to answer later, when the batch is gone; `None` for a plain message.
    pub fn responder(&self) -> Option<Responder> {
        Some(Responder::new(&self.batch.outbox, self.reply_to()?))
    }

    pub(crate) fn reply_to(&self) -> Option<ReplyTo> {
        self.batch.contents.replies.get(self.entry.reply as usize).copied()
    }
}

pub(crate) type SharedQueue = Rc<RefCell<QueueState>>;

/// What the receive path and the task share.
pub(crate) struct QueueState {
    filling: Contents,
    spare: Vec<Contents>,
    waker: Option<Waker>,
    held_bytes: u64,
    held_messages: u64,
    total_bytes_max: u64,
    /// The queue was dropped.
    closed: bool,
    /// The shard stops.
    stopped: bool,
}

impl QueueState {
    pub(crate) fn new(capacity: Capacity) -> SharedQueue {
        Rc::new(RefCell::new(Self {
            filling: Contents::default(),
            spare: Vec::new(),
            waker: None,
            held_bytes: 0,
            held_messages: 0,
            total_bytes_max: capacity.total_bytes,
            closed: false,
            stopped: false,
        }))
    }

    /// Takes one message, to be held until its batch is dropped.
    pub(crate) fn push(&mut self, message: &mut Incoming<'_>) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::NoSuchFlow);
        }
        let charge = message.body.as_slice().len() as u64 + MESSAGE_CHARGE_BYTES;
        if self.held_bytes + charge > self.total_bytes_max {
            return Err(Refusal::QueueFull);
        }
        self.filling.push(message, charge);
        self.held_bytes += charge;
        self.held_messages += 1;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Messages and bytes held, batches in use included.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.held_messages, self.held_bytes)
    }

    /// No more messages will come.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn take(&mut self) -> Option<Contents> {
        if self.filling.entries.is_empty() {
            return None;
        }
        let next = self.spare.pop().unwrap_or_default();
        Some(std::mem::replace(&mut self.filling, next))
    }

    fn give_back(&mut self, mut contents: Contents) {
        self.held_messages -= contents.entries.len() as u64;
        self.held_bytes -= contents.held_bytes;
        contents.clear();
        if self.spare.len() < QUEUE_SPARE_BATCHES_MAX {
            self.spare.push(contents);
        }
    }
}

/// The messages of one batch: bodies in one chunk, 16 bytes of entry each.
#[derive(Default)]
struct Contents {
    chunk: Vec<u8>,
    owned: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    credits: Vec<Credit>,
    replies: Vec<ReplyTo>,
    /// Bodies and 64 bytes for each message, of either service.
    held_bytes: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Offset into the chunk, or `OWNED` and an index into the owned bodies.
    start: u32,
    bytes: u32,
    credit: u32,
    /// Index into the replies, or `NO_REPLY`.
    reply: u32,
}

/// What one sender's alias has in the batch.
struct Credit {
    sender: PublicKey,
    release: Release,
}

impl Contents {
    fn push(&mut self, message: &mut Incoming<'_>, charge: u64) {
        self.held_bytes += charge;
        // Best effort was sent without credit, so none goes back.
        let acknowledged = message.service != Service::BestEffort;
        let credit = self.charge(message, if acknowledged { charge } else { 0 });
        let reply = match message.request {
            None => NO_REPLY,
            Some(to) => {
                self.replies.push(to);
                (self.replies.len() - 1) as u32
            }
        };
        let bytes = message.body.as_slice().len() as u32;
        let start = match &mut message.body {
            Body::Assembled(body) if body.len() >= OWNED_BODY_BYTES_MIN => {
                self.owned.push(std::mem::take(body));
                OWNED | (self.owned.len() - 1) as u32
            }
            body => {
                let start = self.chunk.len() as u32;
                self.chunk.extend_from_slice(body.as_slice());
                start
            }
        };
        self.entries.push(Entry { start, bytes, credit, reply });
    }

    /// The index of the sender's credit, which grows by `charge`.
    #[inline]
    fn charge(&mut self, message: &Incoming<'_>, charge: u64) -> u32 {
        let release =
            Release { peer: message.peer, session: message.session, alias: message.alias, charge };
        let recent = self.credits.iter_mut().enumerate().rev();
        for (index, credit) in recent.take(CREDITS_SEARCHED_MAX) {
            // Best effort that was forwarded has one name for all senders.
            let is_same = message.peer != HERE || credit.sender == *message.sender;
            if is_same && credit.release.shares_name(&release) {
                credit.release.charge += charge;
                return index as u32;
            }
        }
        let sender = *message.sender;
        self.credits.push(Credit { sender, release });
        (self.credits.len() - 1) as u32
    }

    #[inline]
    fn body(&self, entry: &Entry) -> &[u8] {
        if entry.start & OWNED != 0 {
            return &self.owned[(entry.start & !OWNED) as usize];
        }
        let start = entry.start as usize;
        &self.chunk[start..start + entry.bytes as usize]
    }

    fn clear(&mut self) {
        self.chunk.clear();
        self.owned.clear();
        self.entries.clear();
        self.credits.clear();
        self.replies.clear();
        self.held_bytes = 0;
    }
}

/// Marks an entry whose body is kept by itself. Offsets into chunks stay below it, as do all bytes of a queue.
const OWNED: u32 = 1 << 31;
const _: () = assert!(QUEUE_HELD_BYTES_MAX <= OWNED as u64);
const NO_REPLY: u32 = u32::MAX;
/// How many senders back a message looks for its own before it opens another credit.
const CREDITS_SEARCHED_MAX: usize = 8;

#[cfg(test)]
mod tests;
