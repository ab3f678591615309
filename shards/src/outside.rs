//! Calls from other threads: a bounded channel of closures into the shard, and futures that end with
//! their results.
//!
//! Always holds: each call ends, with a result or with [`Stopped`] once the shard is gone; a call whose
//! future is dropped is cancelled on the shard, and its task with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};
use cubed_runtime::DriverWaker;

use crate::error::Stopped;
use crate::limits::COMMANDS_MAX;
use crate::shard::Shard;
use crate::tasks::TaskId;

type Command = Box<dyn FnOnce(&Shard, &Calls) + Send>;

/// The sending end, held by nodes.
pub(crate) struct Gate {
    commands: Sender<Command>,
    cancels: Sender<u64>,
    queue: Arc<Waiting>,
    waker: DriverWaker,
    next_call: AtomicU64,
}

/// The receiving end, on its way to the shard's thread.
pub(crate) struct Inlet {
    commands: Receiver<Command>,
    /// Unbounded, but one entry at most for each call that passed the bounded channel.
    cancels: Receiver<u64>,
    queue: Arc<Waiting>,
}

/// The receiving end, on the shard.
pub(crate) struct Calls {
    inlet: Inlet,
    running: Rc<RefCell<HashMap<u64, TaskId>>>,
}

/// Futures that found the channel full.
#[derive(Default)]
struct Waiting {
    any: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

/// Both ends, before the shard's waker is known.
pub(crate) fn channel() -> (impl FnOnce(DriverWaker) -> Gate, Inlet) {
    let (commands, commands_out) = bounded(COMMANDS_MAX);
    let (cancels, cancels_out) = unbounded();
    let queue = Arc::new(Waiting::default());
    let inlet = Inlet { commands: commands_out, cancels: cancels_out, queue: Arc::clone(&queue) };
    let gate = move |waker| Gate { commands, cancels, queue, waker, next_call: AtomicU64::new(0) };
    (gate, inlet)
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// Runs `call` as a task of the shard.
    pub(crate) fn call<T, F, Fut>(self: &Arc<Self>, call: F) -> Call<T>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::default());
        let completer = Completer { slot: Arc::clone(&slot) };
        let command: Command = Box::new(move |shard, calls| {
            let future = call(shard.clone());
            calls.start(shard, id, future, completer);
        });
        Call { gate: Arc::clone(self), id, slot, command: Some(command), ended: false }
    }

    /// Ends a call's task. A shard that is gone has ended it already.
    fn cancel(&self, id: u64) {
        if self.cancels.send(id).is_ok() {
            self.waker.wake();
        }
    }

    /// Hands over a command; gives it back when there is no room, and the waker is called when there is.
    fn push(&self, command: Command, context: &Context<'_>) -> Result<Option<Command>, Stopped> {
        let mut command = command;
        for attempt in 0..2 {
            command = match self.commands.try_send(command) {
                Ok(()) => {
                    self.waker.wake();
                    return Ok(None);
                }
                Err(TrySendError::Disconnected(_)) => return Err(Stopped),
                Err(TrySendError::Full(command)) => command,
            };
            if attempt == 0 {
                // Then tried once more: the shard may have made room before it could know of us.
                lock(&self.queue.wakers).push(context.waker().clone());
                self.queue.any.store(true, Ordering::Release);
            }
        }
        Ok(Some(command))
    }
}

impl Calls {
    pub(crate) fn new(inlet: Inlet) -> Self {
        let running = Rc::default();
        Self { inlet, running }
    }

    /// Runs what other threads asked for, at most `max` calls; how many.
    pub(crate) fn run(&self, shard: &Shard, max: usize) -> usize {
        let mut done = 0;
        while done < max {
            match self.inlet.commands.try_recv() {
                Ok(command) => command(shard, self),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            done += 1;
        }
        // A call that is cancelled before it has started finds its slot abandoned when it does.
        while let Ok(id) = self.inlet.cancels.try_recv() {
            done += 1;
            self.cancel(shard, id);
        }
        if done > 0 && self.inlet.queue.any.swap(false, Ordering::AcqRel) {
            for waker in lock(&self.inlet.queue.wakers).drain(..) {
                waker.wake();
            }
        }
        done
    }

    fn cancel(&self, shard: &Shard, id: u64) {
        let task = self.running.borrow_mut().remove(&id);
        if let Some(task) = task {
            shard.shared.tasks.cancel(task);
        }
    }

    fn start<T, Fut>(&self, shard: &Shard, id: u64, future: Fut, completer: Completer<T>)
    where
        T: Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        if completer.is_abandoned() {
            return;
        }
        let started = Started { running: Rc::clone(&self.running), id };
        // Dropped or panicking, the task drops the completer, which tells the caller.
        let (task, _) = shard.shared.tasks.spawn(async move {
            let (_started, completer) = (started, completer);
            let result = future.await;
            completer.complete(result);
        });
        self.running.borrow_mut().insert(id, task);
    }
}

/// A call's place among those that run, given up when its task ends, be it by a panic.
struct Started {
    running: Rc<RefCell<HashMap<u64, TaskId>>>,
    id: u64,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.running.borrow_mut().remove(&self.id);
    }
}

/// A call that runs on a shard; may be awaited on any thread and any executor.
#[must_use = "nothing is called until this is awaited"]
pub(crate) struct Call<T> {
    gate: Arc<Gate>,
    id: u64,
    slot: Arc<Slot<T>>,
    command: Option<Command>,
    ended: bool,
}

impl<T> Future for Call<T> {
    type Output = Result<T, Stopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(command) = self.command.take()
            && let Some(command) = self.gate.push(command, context)?
        {
            self.command = Some(command);
            return Poll::Pending;
        }
        let mut slot = lock(&self.slot.state);
        let ended = match slot.result.take() {
            Some(result) => Poll::Ready(Ok(result)),
            None if slot.over => Poll::Ready(Err(Stopped)),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        };
        drop(slot);
        self.ended = ended.is_ready();
        ended
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if self.ended || self.command.is_some() {
            return;
        }
        lock(&self.slot.state).abandoned = true;
        self.gate.cancel(self.id);
    }
}

/// Waits for all of these calls, which run at once; their results in order.
pub(crate) async fn all<T>(calls: Vec<Call<T>>) -> Result<Vec<T>, Stopped> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (call, None)).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for (call, result) in calls.iter_mut().filter(|(_, result)| result.is_none()) {
            match Pin::new(call).poll(context) {
                Poll::Ready(ended) => *result = Some(ended),
                Poll::Pending => is_over = false,
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().map(|(_, result)| result.unwrap_or(Err(Stopped))).collect()
}

/// Where a call's result is left.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
}

struct SlotState<T> {
    result: Option<T>,
    waker: Option<Waker>,
    /// The shard's side is done, with a result or without.
    over: bool,
    /// The caller's side is gone.
    abandoned: bool,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(SlotState {
                result: None,
                waker: None,
                over: false,
                abandoned: false,
            }),
        }
    }
}

/// The shard's end of a slot; dropped without a result, it says that there will be none.
struct Completer<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Completer<T> {
    fn complete(self, result: T) {
        lock(&self.slot.state).result = Some(result);
    }

    fn is_abandoned(&self) -> bool {
        lock(&self.slot.state).abandoned
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.slot.state);
        slot.over = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A panic while the lock was held leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
