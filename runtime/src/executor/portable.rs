//! Executors of `async-executor`: a task queue, and nothing that a sandbox could refuse.
//!
//! Always holds: a thread has at most one; tasks run in the order in which they became ready, but for those that become
//! ready on other threads; while no task is ready, the thread sleeps until a waker is called, from wherever.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use async_executor::LocalExecutor;

thread_local! {
    /// The executor of this thread, while it runs.
    static CURRENT: RefCell<Option<Rc<LocalExecutor<'static>>>> = const { RefCell::new(None) };
}

/// Runs `main` and what it spawns on this thread until `main` has ended; what else runs then is dropped.
pub(super) fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
    let executor = Rc::new(LocalExecutor::new());
    let _current = Current::new(Rc::clone(&executor));
    // A task like the others, so that it gets its turn as they do.
    let main = executor.spawn(main);
    block_on(executor.run(main))
}

/// Runs `future` as a task of this thread's executor, if it is one of these; otherwise gives it back.
pub(super) fn try_spawn<F: Future<Output = ()> + 'static>(future: F) -> Result<(), F> {
    let current = CURRENT.with_borrow(Clone::clone);
    match current {
        Some(executor) => {
            executor.spawn(future).detach();
            Ok(())
        }
        None => Err(future),
    }
}

/// Holds the executor's place in [`CURRENT`].
struct Current;

impl Current {
    fn new(executor: Rc<LocalExecutor<'static>>) -> Self {
        CURRENT.with_borrow_mut(|current| *current = Some(executor));
        Self
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // Tasks are dropped after the place was emptied and left, so one that spawns then finds no executor.
        let executor = CURRENT.with_borrow_mut(Option::take);
        drop(executor);
    }
}

/// Ends the sleep of a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` to its end, and sleeps while it cannot go on. A wake before the sleep ends it at once.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future: Pin<&mut F> = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
