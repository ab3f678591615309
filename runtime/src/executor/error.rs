//! Why an executor did not start or a task did not finish.

use std::fmt;
use std::io;

use crate::affinity::AffinityError;
use crate::ring_error::RingError;

/// An executor could not be launched, or did not end well.
#[derive(Debug)]
pub enum ExecutorError {
    /// The thread could not be pinned.
    Affinity(AffinityError),
    /// The limit on locked memory is too low for the executor's rings.
    MemlockTooLow {
        /// The limit in force.
        limit_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// The kernel refused an `io_uring`.
    Ring(RingError),
    /// The thread could not be started.
    Thread(io::Error),
    /// The first future, or the executor itself, panicked.
    Panicked {
        /// What it said.
        message: String,
    },
    /// Anything else that the executor library says.
    Other {
        /// Its words.
        message: String,
    },
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Affinity(error) => error.fmt(f),
            Self::MemlockTooLow { limit_bytes, needed_bytes } => write!(
                f,
                "the limit on locked memory is {limit_bytes} bytes and each executor needs \
                 {needed_bytes}: raise it (`ulimit -l {}`, LimitMEMLOCK= in systemd, \
                 --ulimit memlock=-1 in Docker)",
                needed_bytes / 1_024
            ),
            Self::Ring(error) => write!(f, "the executor cannot start: {error}"),
            Self::Thread(error) => write!(
                f,
                "cannot start a thread ({error}): check the limits on processes (`ulimit -u`) and \
                 memory"
            ),
            Self::Panicked { message } => write!(f, "an executor panicked: {message}"),
            Self::Other { message } => write!(f, "the executor failed: {message}"),
        }
    }
}

impl std::error::Error for ExecutorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Affinity(error) => Some(error),
            Self::Ring(error) => Some(error),
            Self::Thread(error) => Some(error),
            _ => None,
        }
    }
}

/// A task ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// It panicked.
    Panicked {
        /// What it said.
        message: String,
    },
    /// Its executor ended first.
    Cancelled,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { message } => write!(f, "a task panicked: {message}"),
            Self::Cancelled => f.write_str("a task was dropped because its executor ended"),
        }
    }
}

impl std::error::Error for TaskError {}
