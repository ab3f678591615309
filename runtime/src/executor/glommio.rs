//! Executors of glommio: its task queue and little else.
//!
//! Nothing of ours waits on its reactor, so its timer and memory are set to their least. Threads are
//! started and pinned by us and not by its builder, so that a failed start is told by `launch`.

use std::future::Future;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};

use super::error::ExecutorError;
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

/// Runs `future` as a task of this thread's executor.
pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Makes an executor on this thread.
///
/// # Errors
/// [`ExecutorError`] when it gets no ring or not enough lockable memory.
pub(super) fn make() -> Result<LocalExecutor, ExecutorError> {
    check_rings()?;
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(explain)
}

/// Locked memory that glommio asks for before it starts, whatever its options say.
const LOCKED_BYTES_NEEDED: u64 = 512 << 10;

/// glommio panics where its first ring is refused, which comes after an eventfd, and buries a low limit in its own error.
/// So two descriptors for rings, and the limit, are asked for first.
///
/// # Errors
/// [`ExecutorError::Ring`], [`ExecutorError::MemlockTooLow`].
pub(super) fn check_rings() -> Result<(), ExecutorError> {
    let ring =
        |step| io_uring::IoUring::new(2).map_err(RingError::at(step)).map_err(ExecutorError::Ring);
    let (_first, _second) = (ring("a first ring")?, ring("a second ring")?);
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
