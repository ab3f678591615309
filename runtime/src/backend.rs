//! Which driver and which executor a node runs on: what was asked for, and what this machine has.
//!
//! Always holds: what was asked for by name is what is tried, and fails with its own error; only *auto* goes another
//! way, and then says once why and how to avoid it.

use std::fmt;
use std::str::FromStr;

use crate::driver::ring;
use crate::driver::system::DriverKind;
use crate::executor::{Executor, ExecutorError};
use crate::ring_error::RingError;

/// How a node's datagrams are moved and its threads put to sleep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// By `io_uring` where it is to be had, by epoll elsewhere.
    #[default]
    Auto,
    /// By `io_uring`, or not at all.
    Uring,
    /// By epoll: for machines and containers that forbid `io_uring`, and to compare.
    Epoll,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

impl FromStr for Backend {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(NameError { name: name.to_owned(), choices: "auto, uring or epoll" }),
        }
    }
}

impl FromStr for Executor {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match name {
            "glommio" => Ok(Self::Glommio),
            "portable" => Ok(Self::Portable),
            _ => Err(NameError { name: name.to_owned(), choices: "glommio or portable" }),
        }
    }
}

/// A text that names no backend, or no executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    name: String,
    choices: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not known: choose {}", self.name, self.choices)
    }
}

impl std::error::Error for NameError {}

/// What a node's shards run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Moves datagrams and sleeps.
    pub driver: DriverKind,
    /// Runs tasks.
    pub executor: Executor,
}

impl Backend {
    /// Chooses driver and executor; an executor that was asked for is kept. Without one, `io_uring` goes with
    /// [`Executor::Glommio`] and epoll with [`Executor::Portable`].
    ///
    /// [`Backend::Auto`] asks the kernel for a ring on the calling thread, and warns once in the log if it gets none:
    /// forbidden, not known to this kernel, or no memory to lock for it. Whatever else fails is left to be found by
    /// whoever sets up what was chosen.
    pub fn choose(self, executor: Option<Executor>) -> Machine {
        let on_ring =
            Machine { driver: DriverKind::Uring, executor: executor.unwrap_or(Executor::Glommio) };
        let on_epoll =
            Machine { driver: DriverKind::Epoll, executor: executor.unwrap_or(Executor::Portable) };
        match self {
            Self::Uring => on_ring,
            Self::Epoll => on_epoll,
            Self::Auto => match refusal(on_ring.executor) {
                None => on_ring,
                // Then the launch of what was asked for fails, and says why.
                Some(Refusal::Executor(_)) if executor.is_some() => on_ring,
                Some(refusal) => {
                    tracing::warn!(
                        driver = %on_epoll.driver,
                        executor = %on_epoll.executor,
                        "the node does without io_uring: {refusal}"
                    );
                    on_epoll
                }
            },
        }
    }
}

/// Why there is no ring, where doing without is the remedy.
enum Refusal {
    /// None for the executor.
    Executor(ExecutorError),
    /// None for the driver.
    Driver(RingError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executor(ExecutorError::Ring(error)) | Self::Driver(error) => error.fmt(f),
            Self::Executor(error) => error.fmt(f),
        }
    }
}

/// Asks for the rings that an executor and a driver would need.
fn refusal(executor: Executor) -> Option<Refusal> {
    match executor.probe() {
        Err(ExecutorError::Ring(error)) if !is_refusal(&error) => return None,
        Err(error) => return Some(Refusal::Executor(error)),
        Ok(()) => {}
    }
    ring::probe().err().filter(is_refusal).map(Refusal::Driver)
}

/// Whether a machine that says so runs without rings. One that has no descriptor left does not.
fn is_refusal(error: &RingError) -> bool {
    matches!(
        error,
        RingError::Forbidden | RingError::NotSupported { .. } | RingError::NoMemory { .. }
    )
}

#[cfg(test)]
mod tests {
    //! Goal: what is asked for by name is what is tried. (What *auto* does where rings are refused: tests/refused.rs.)
    use super::{Backend, Machine, is_refusal};
    use crate::driver::system::DriverKind;
    use crate::executor::Executor;
    use crate::ring_error::RingError;
    use std::io;

    #[test]
    fn an_executor_that_was_asked_for_is_kept() {
        for executor in [Executor::Glommio, Executor::Portable] {
            for (backend, driver) in
                [(Backend::Uring, DriverKind::Uring), (Backend::Epoll, DriverKind::Epoll)]
            {
                assert_eq!(backend.choose(Some(executor)), Machine { driver, executor });
            }
        }
        assert_eq!(Backend::Uring.choose(None).executor, Executor::Glommio);
        assert_eq!(Backend::Epoll.choose(None).executor, Executor::Portable);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for backend in [Backend::Auto, Backend::Uring, Backend::Epoll] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        for executor in [Executor::Glommio, Executor::Portable] {
            assert_eq!(executor.to_string().parse(), Ok(executor));
        }
        let error = "kqueue".parse::<Backend>().expect_err("no such backend");
        assert_eq!(error.to_string(), "\"kqueue\" is not known: choose auto, uring or epoll");
    }

    #[test]
    fn only_what_epoll_does_without_is_a_reason_for_it() {
        let is_refusal =
            |errno| is_refusal(&RingError::new("setup", io::Error::from_raw_os_error(errno)));
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOMEM] {
            assert!(is_refusal(errno), "{errno}");
        }
        assert!(!is_refusal(libc::EMFILE) && !is_refusal(libc::EIO));
    }
}
