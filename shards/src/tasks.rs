//! The tasks of a shard, so that they end with it.
//!
//! An executor drops a task when nothing can wake it any more; but what could wake it (a timer, a
//! queue) often lies in what the task itself holds. Always holds: when the shard has ended, every
//! future spawned here has been dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cubed_runtime::{JoinHandle, TaskError, yield_now};

/// The running tasks of one shard, by number.
#[derive(Default)]
pub(crate) struct Tasks {
    running: RefCell<HashMap<u64, Rc<Running>>>,
    next: Cell<u64>,
    /// Futures that have not been dropped yet, cancelled ones included.
    live: Cell<u64>,
}

#[derive(Default)]
struct Running {
    cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A number by which a task may be cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TaskId(u64);

impl Tasks {
    /// Runs `future` as a task of the current executor.
    pub(crate) fn spawn<F: Future + 'static>(
        self: &Rc<Self>,
        future: F,
    ) -> (TaskId, Task<F::Output>) {
        let number = self.next.get();
        self.next.set(number + 1);
        self.live.set(self.live.get() + 1);
        let entry = Entry { tasks: Rc::clone(self), number, running: Rc::default() };
        let running = Rc::clone(&entry.running);
        self.running.borrow_mut().insert(number, running);
        let handle = cubed_runtime::spawn_local(run(entry, future));
        (TaskId(number), Task(handle))
    }

    /// Tasks whose futures have not been dropped.
    pub(crate) fn live(&self) -> u64 {
        self.live.get()
    }

    /// Drops a task's future, soon; one that has ended is left alone.
    pub(crate) fn cancel(&self, id: TaskId) {
        let running = self.running.borrow_mut().remove(&id.0);
        if let Some(running) = running {
            running.cancel();
        }
    }

    /// Drops every task's future, soon.
    pub(crate) fn cancel_all(&self) {
        let all = std::mem::take(&mut *self.running.borrow_mut());
        for running in all.values() {
            running.cancel();
        }
    }
}

impl Running {
    fn cancel(&self) {
        self.cancelled.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A task's place in the list, given up when it ends, be it by a panic.
struct Entry {
    tasks: Rc<Tasks>,
    number: u64,
    running: Rc<Running>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.live.set(self.tasks.live.get() - 1);
        self.tasks.running.borrow_mut().remove(&self.number);
    }
}

/// Polls `future` to its end, or drops it once it is cancelled.
async fn run<F: Future>(entry: Entry, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // The executor may poll a task where it is spawned, which may be an inline handler, where the
    // endpoint is busy: every task begins with the next round instead.
    yield_now().await;
    poll_fn(|context| {
        let running = &entry.running;
        if running.cancelled.get() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let mut waker = running.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    })
    .await
}

/// Awaits a task's result. Dropping it neither stops the task nor loses its panic, which is logged.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<Option<T>>);

impl<T> Task<T> {
    /// Whether the task has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    /// # Panics
    /// When polled again after it gave the result.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.0).poll(context);
        result.map(|ended| ended?.ok_or(TaskError::Cancelled))
    }
}
