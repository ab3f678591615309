//! One executor per thread and core: launch it, spawn tasks on it, yield on it.
//!
//! User code sees only what is here, so that either library can stand behind it. Always
//! holds: tasks stay on the thread that spawned them; a panic ends its task only and reaches whoever joins
//! it; every poll of every task counts in [`polls`], by which a pump sees whether others ran.

mod error;
mod task;

mod glommio;

mod portable;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::affinity::pin_current_thread;
use task::Counted;

pub use error::{ExecutorError, TaskError};
pub use task::{JoinHandle, panic_message, polls, yield_now};

/// How to launch one executor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// Name of the thread, for panics and tools; Linux shows its first 15 bytes.
    pub name: String,
    /// The core to pin the thread to; `None` lets the system move it.
    pub core: Option<usize>,
}

/// What runs a shard's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// glommio's. Needs `io_uring` and 512 KiB of lockable memory.
    Glommio,
    /// `async-executor`'s. Needs nothing of the system but the thread.
    Portable,
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Glommio => "glommio",
            Self::Portable => "portable",
        })
    }
}

impl Executor {
    /// Starts a thread, pins it, makes the executor and runs the future that `start` returns there.
    /// Returns when the executor runs or has failed to.
    ///
    /// When that future ends, the thread ends, and tasks still running on it are dropped.
    ///
    /// # Errors
    /// [`ExecutorError`], whose text names the remedy.
    pub fn launch<F, Fut>(
        self,
        options: ExecutorOptions,
        start: F,
    ) -> Result<ExecutorThread, ExecutorError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let (report, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(options.name)
            .spawn(move || self.run(options.core, &report, start))
            .map_err(ExecutorError::Thread)?;
        let executor = ExecutorThread { thread };
        match started.recv() {
            Ok(()) => Ok(executor),
            // The thread ended without a report, so its result is an error or a panic.
            Err(_) => match executor.join() {
                Err(error) => Err(error),
                Ok(()) => Err(ExecutorError::Other {
                    message: "the thread ended before its executor ran".to_owned(),
                }),
            },
        }
    }

    /// Finds out, on the calling thread, whether such executors can be had here.
    ///
    /// # Errors
    /// Those of [`Executor::launch`] that are the machine's.
    pub(crate) fn probe(self) -> Result<(), ExecutorError> {
        match self {
            Self::Glommio => glommio::check_rings(),
            Self::Portable => Ok(()),
        }
    }

    /// The body of an executor's thread.
    fn run<F, Fut>(
        self,
        core: Option<usize>,
        report: &SyncSender<()>,
        start: F,
    ) -> Result<(), ExecutorError>
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if let Some(core) = core {
            pin_current_thread(core).map_err(ExecutorError::Affinity)?;
        }
        let main = Counted::new(async move { start().await });
        let ended = match self {
            Self::Glommio => {
                let executor = glommio::make()?;
                tell(report);
                executor.run(main)
            }
            Self::Portable => {
                tell(report);
                portable::run(main)
            }
        };
        ended.map_err(|error| match error {
            TaskError::Panicked { message } => ExecutorError::Panicked { message },
            TaskError::Cancelled => ExecutorError::Other { message: error.to_string() },
        })
    }
}

/// Tells the launcher that the executor runs. If it is gone, this thread is on its own anyway.
fn tell(report: &SyncSender<()>) {
    let _ = report.send(());
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
    if let Err(task) = portable::try_spawn(task) {
        glommio::spawn(task);
    }
    handle
}
