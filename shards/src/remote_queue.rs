//! A flow's queue, read from another thread: batches cross to the reader, credit stays with them until the next.
//!
//! The queue lives in a task of the shard that has the flow; the reader's calls fetch from it. Always holds: a batch
//! that a reader asked for and did not wait for is given again; the queue's task ends with its reader.

use std::cell::RefCell;
use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use cubed_transport::identity::PublicKey;
use cubed_transport::{ReplyTo, SendError};

use crate::error::{FlowError, Stopped};
use crate::lent::Lent;
use crate::message::Responder;
use crate::outside::{Call, Gate};
use crate::queue::Capacity;
use crate::shard::Shard;

/// The receiving end of a flow, for any thread and any executor; see [`crate::Node::subscribe`]. Dropped, the flow is gone.
///
/// Each batch crosses from its shard (a few microseconds); code that takes much belongs on a shard, with a [`crate::Queue`].
pub struct RemoteQueue {
    gate: Arc<Gate>,
    number: u64,
    /// Batches that the reader got.
    seen: u64,
    /// Keeps the queue's task; ends it when dropped.
    _task: Pin<Box<Call<Result<(), FlowError>>>>,
}

/// Messages of one flow, in the order they were accepted. Their senders get their credit back when the next batch is asked for.
#[derive(Clone, Debug)]
pub struct RemoteBatch {
    messages: Vec<RemoteMessage>,
}

/// One message of a [`RemoteBatch`].
#[derive(Clone, Debug)]
pub struct RemoteMessage {
    sender: PublicKey,
    body: Bytes,
    reply_to: Option<ReplyTo>,
    gate: Arc<Gate>,
}

impl RemoteQueue {
    /// Registers the flow on the shard that `gate` leads to.
    pub(crate) async fn open(
        gate: &Arc<Gate>,
        name: String,
        capacity: Capacity,
    ) -> Result<Self, FlowError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let signal = Arc::new(Signal::default());
        let told = Arc::clone(&signal);
        let task = gate.call(async move |shard: Shard| {
            let queue = shard.flow(&name).queue(capacity)?;
            let lent = Rc::new(RefCell::new(Lent::new(queue)));
            shard.shared.lent.borrow_mut().insert(number, lent);
            let _lending = Lending { shard: shard.clone(), number };
            told.set();
            pending().await
        });
        let mut task = Box::pin(task);
        poll_fn(|context| match task.as_mut().poll(context) {
            Poll::Ready(Ok(result)) => Poll::Ready(result),
            Poll::Ready(Err(Stopped)) => Poll::Ready(Err(FlowError::Stopped)),
            Poll::Pending if signal.is_set(context.waker()) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok(Self { gate: Arc::clone(gate), number, seen: 0, _task: task })
    }

    /// All messages that have arrived since the last call, waiting for the first; `None` once the node stops.
    ///
    /// May be dropped while it waits: nothing is lost.
    pub async fn next_batch(&mut self) -> Option<RemoteBatch> {
        let (number, seen, gate) = (self.number, self.seen, Arc::clone(&self.gate));
        let fetch = async move |shard: Shard| {
            let lent = shard.shared.lent.borrow().get(&number).cloned()?;
            let is_there = poll_fn(|context| lent.borrow_mut().poll_batch(seen, context)).await;
            is_there.then(|| copy(&lent.borrow(), &gate))
        };
        let batch = self.gate.call(fetch).await.ok()??;
        self.seen += 1;
        Some(batch)
    }
}

/// Copies what is given out of the shard, into one piece of memory.
fn copy(lent: &Lent, gate: &Arc<Gate>) -> RemoteBatch {
    let Some(batch) = lent.given() else { return RemoteBatch { messages: Vec::new() } };
    let mut chunk = Vec::with_capacity(batch.iter().map(|message| message.body().len()).sum());
    for message in batch {
        chunk.extend_from_slice(message.body());
    }
    let mut chunk = Bytes::from(chunk);
    let messages = batch.iter().map(|message| RemoteMessage {
        sender: *message.sender(),
        body: chunk.split_to(message.body().len()),
        reply_to: message.reply_to(),
        gate: Arc::clone(gate),
    });
    RemoteBatch { messages: messages.collect() }
}

impl RemoteBatch {
    /// How many messages there are; never 0.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none, which never happens.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, RemoteMessage> {
        self.messages.iter()
    }
}

impl<'a> IntoIterator for &'a RemoteBatch {
    type Item = &'a RemoteMessage;
    type IntoIter = std::slice::Iter<'a, RemoteMessage>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl RemoteMessage {
    /// The key that the sender proved when its session began.
    pub fn sender(&self) -> &PublicKey {
        &self.sender
    }

    /// The bytes that were sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the sender waits for a reply.
    pub fn is_request(&self) -> bool {
        self.reply_to.is_some()
    }

    /// Answers a request, waiting for room. Answer once: a second reply to the same request is dropped by the asker.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] when the message is no request, [`SendError::Closing`] when the node has stopped.
    pub async fn reply(&self, body: impl Into<Bytes>) -> Result<(), SendError> {
        let (to, body) = (self.reply_to.ok_or(SendError::NotConnected)?, body.into());
        let call = self.gate.call(async move |shard: Shard| {
            let mut responder = Responder::new(&shard.shared.outbox, to);
            loop {
                responder = match responder.reply(&body) {
                    Ok(()) => return Ok(()),
                    Err((responder, SendError::Full)) => responder,
                    Err((_, error)) => return Err(error),
                };
                shard.yield_now().await;
            }
        });
        call.await.unwrap_or(Err(SendError::Closing))
    }
}

impl fmt::Debug for RemoteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteQueue({})", self.number)
    }
}

/// Numbers the queues of this process that are read from outside.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A queue's place among those that are lent, given up with its task.
struct Lending {
    shard: Shard,
    number: u64,
}

impl Drop for Lending {
    fn drop(&mut self) {
        let lent = self.shard.shared.lent.borrow_mut().remove(&self.number);
        drop(lent);
    }
}

/// Says once, across threads, that the queue is registered.
#[derive(Default)]
struct Signal {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Signal {
    fn set(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_set(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(waker.clone());
        state.0
    }
}
