//! Executors of glommio: its task queue and little else.
//!
//! Nothing of ours waits on its reactor, so its timer and memory are set to their least. Threads are
//! started and pinned here and not by its builder, so that a failed start is told by `launch`.

use std::future::Future;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};

use super::error::{ExecutorError, TaskError};
use super::task::Counted;
use super::{Executor, ExecutorOptions, ExecutorThread};
use crate::affinity::pin_current_thread;
use crate::ring_error::RingError;

/// How often glommio looks at its rings while tasks run; its own default is 100 ms.
///
/// Nothing of ours waits on these rings, so: never, in practice. A short timer is also a danger. If it
/// fires between being armed and the first task (the thread was descheduled there), glommio 0.9 runs
/// no task, takes that for having none, and sleeps although tasks are ready, for ever. With 1 ms on a
/// busy machine this happened within seconds.
const PREEMPT_TIMER: Duration = Duration::from_hours(1);

/// What glommio sets aside for file buffers; it takes no less. Its own default is 10 MiB.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Launches glommio executors. Needs `io_uring` and 512 KiB of lockable memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlommioExecutor;

impl Executor for GlommioExecutor {
    fn launch<F, Fut>(
        &self,
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
            .spawn(move || run(options.core, &report, start))
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
}

/// Runs `future` as a task of this thread's executor.
pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// The body of an executor's thread.
fn run<F, Fut>(core: Option<usize>, report: &SyncSender<()>, start: F) -> Result<(), ExecutorError>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    if let Some(core) = core {
        pin_current_thread(core).map_err(ExecutorError::Affinity)?;
    }
    let executor = make()?;
    // If nobody listens, whoever launched us is gone, and this thread is on its own anyway.
    let _ = report.send(());
    executor.run(Counted::new(async move { start().await })).map_err(|error| match error {
        TaskError::Panicked { message } => ExecutorError::Panicked { message },
        TaskError::Cancelled => ExecutorError::Other { message: error.to_string() },
    })
}

/// Locked memory that glommio asks for before it starts, whatever its options say.
const LOCKED_BYTES_NEEDED: u64 = 512 << 10;

/// glommio panics where a ring is refused and buries a low limit in its own error, so both are asked for first.
fn check_rings() -> Result<(), ExecutorError> {
    io_uring::IoUring::new(2)
        .map_err(RingError::at("a first ring"))
        .map_err(ExecutorError::Ring)?;
    let limit_bytes = locked_bytes_limit();
    if limit_bytes < LOCKED_BYTES_NEEDED {
        return Err(ExecutorError::MemlockTooLow {
            limit_bytes,
            needed_bytes: LOCKED_BYTES_NEEDED,
        });
    }
    Ok(())
}

/// The soft limit on locked memory; no limit is the largest number.
fn locked_bytes_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call, which only writes to it.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { u64::MAX }
}

fn make() -> Result<LocalExecutor, ExecutorError> {
    check_rings()?;
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(explain)
}

fn explain(error: GlommioError<()>) -> ExecutorError {
    match error {
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit_bytes, needed_bytes)) => {
            ExecutorError::MemlockTooLow { limit_bytes, needed_bytes }
        }
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            ExecutorError::Ring(RingError::new("the executor's rings", source))
        }
        other => ExecutorError::Other { message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::{GlommioError, ReactorErrorKind, explain};
    use std::io;

    #[test]
    fn refusals_name_their_remedies() {
        let kind = ReactorErrorKind::MemLockLimit(65_536, 524_288);
        let text = explain(GlommioError::ReactorError(kind)).to_string();
        assert!(text.contains("is 65536 bytes") && text.contains("ulimit -l 512"), "{text}");
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let text = explain(GlommioError::IoError(refused)).to_string();
        assert!(text.contains("seccomp"), "{text}");
    }
}
