//! One executor per thread and core: launch it, spawn tasks on it, yield on it.
//!
//! User code sees only what is here, so that another executor can stand behind the trait. Always
//! holds: tasks stay on the thread that spawned them; a panic ends its task only and reaches whoever joins
//! it; every poll of every task counts in [`polls`], by which a pump sees whether others ran.

mod error;
mod glommio;
mod task;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::thread;

pub use error::{ExecutorError, TaskError};
pub use glommio::GlommioExecutor;
pub use task::{JoinHandle, polls, yield_now};

/// How to launch one executor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// Name of the thread, for panics and tools; Linux shows its first 15 bytes.
    pub name: String,
    /// The core to pin the thread to; `None` lets the system move it.
    pub core: Option<usize>,
}

/// Launches executors, each on a thread of its own.
pub trait Executor {
    /// Starts a thread, pins it, makes the executor and runs the future that `start` returns there.
    /// Returns when the executor runs or has failed to.
    ///
    /// When that future ends, the thread ends, and tasks still running on it are dropped.
    ///
    /// # Errors
    /// [`ExecutorError`], whose text names the remedy.
    fn launch<F, Fut>(
        &self,
        options: ExecutorOptions,
        start: F,
    ) -> Result<ExecutorThread, ExecutorError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static;
}

/// A running executor. Dropping it lets the thread run on by itself.
#[derive(Debug)]
pub struct ExecutorThread {
    thread: thread::JoinHandle<Result<(), ExecutorError>>,
}

impl ExecutorThread {
    /// Blocks until the executor's first future has ended.
    ///
    /// # Errors
    /// [`ExecutorError::Panicked`] with the message, if it panicked.
    pub fn join(self) -> Result<(), ExecutorError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => Err(ExecutorError::Panicked { message: task::panic_message(&*panic) }),
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Runs `future` as a task of the current executor. Dropping the handle lets it run on by itself.
///
/// # Panics
/// Outside of an executor.
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let (task, handle) = task::joinable(future);
    glommio::spawn(task);
    handle
}
