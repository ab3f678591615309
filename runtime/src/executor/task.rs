//! A task's future, wrapped: its polls are counted, its panic is caught, its result can be awaited.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::error::TaskError;

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// How often tasks were polled on this thread so far, the caller's own polls included.
///
/// A pump that yields once per turn is polled once per turn: a difference of 1 between two turns means
/// that no other task ran in between.
#[inline]
pub fn polls() -> u64 {
    POLLS.get()
}

/// Lets every other task that is ready run once before the caller goes on.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The words of a panic that was caught.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

/// Counts the polls of a future and turns its panic into an error.
pub(crate) struct Counted<F> {
    // Emptied by a panic, since a future that panicked must not be polled again.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Counted<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = Result<F::Output, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        POLLS.set(POLLS.get() + 1);
        let Some(future) = &mut self.future else {
            return Poll::Ready(Err(TaskError::Cancelled));
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => {
                self.future = None;
                let message = panic_message(&*panic);
                tracing::error!(%message, "a task panicked");
                Poll::Ready(Err(TaskError::Panicked { message }))
            }
        }
    }
}

/// What a task and its handle share.
struct Slot<T> {
    result: Option<Result<T, TaskError>>,
    joiner: Option<Waker>,
    finished: bool,
}

/// Puts the result where the handle finds it; if dropped before, says so.
struct Finisher<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Finisher<T> {
    fn finish(&self, result: Result<T, TaskError>) {
        let mut slot = self.slot.borrow_mut();
        if slot.finished {
            return;
        }
        slot.finished = true;
        slot.result = Some(result);
        let joiner = slot.joiner.take();
        drop(slot);
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

impl<T> Drop for Finisher<T> {
    fn drop(&mut self) {
        self.finish(Err(TaskError::Cancelled));
    }
}

/// Splits a future into the task to run and the handle to await.
pub(crate) fn joinable<F: Future>(future: F) -> (impl Future<Output = ()>, JoinHandle<F::Output>) {
    let slot = Rc::new(RefCell::new(Slot { result: None, joiner: None, finished: false }));
    let finisher = Finisher { slot: Rc::clone(&slot) };
    let counted = Counted::new(future);
    let task = async move { finisher.finish(counted.await) };
    (task, JoinHandle { slot })
}

/// Awaits a task's result. Dropping it neither stops the task nor loses its panic, which is logged.
pub struct JoinHandle<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> JoinHandle<T> {
    /// Whether the task has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.slot.borrow().finished
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskError>;

    /// # Panics
    /// When polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.borrow_mut();
        if let Some(result) = slot.result.take() {
            return Poll::Ready(result);
        }
        assert!(!slot.finished, "a join handle was polled after it gave the task's result");
        slot.joiner = Some(context.waker().clone());
        Poll::Pending
    }
}
