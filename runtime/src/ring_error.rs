//! Why the kernel would not give us an `io_uring`, in words that say what to do.
//!
//! One mapping from errno to remedy, used by the datagram driver and by the executor.

use std::fmt;
use std::io;

/// An `io_uring` could not be set up.
#[derive(Debug)]
pub enum RingError {
    /// `EPERM`, `EACCES`: a seccomp profile or the sysctl forbids it.
    Forbidden,
    /// `ENOSYS`, `EINVAL`, `EOPNOTSUPP`: the kernel has no `io_uring` or lacks a feature of it.
    NotSupported {
        /// What was being set up.
        step: &'static str,
    },
    /// `ENOMEM`: the limit on locked memory, or the memory itself, is used up.
    NoMemory {
        /// What was being set up.
        step: &'static str,
    },
    /// `EMFILE`, `ENFILE`: no file descriptor is left.
    NoDescriptors,
    /// Anything else.
    System {
        /// What was being set up.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RingError {
    /// Sorts the error that the kernel gave at `step`.
    pub(crate) fn new(step: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden,
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => Self::NotSupported { step },
            Some(libc::ENOMEM) => Self::NoMemory { step },
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors,
            _ => Self::System { step, source },
        }
    }

    /// For use with `map_err`.
    pub(crate) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(step, source)
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str(
                "io_uring is forbidden here: in a container, run it with a seccomp profile that \
                 allows io_uring_setup, io_uring_enter and io_uring_register (Docker's default \
                 does not; --security-opt seccomp=FILE); on a host, check that \
                 `sysctl kernel.io_uring_disabled` is 0",
            ),
            Self::NotSupported { step } => write!(
                f,
                "this kernel's io_uring cannot do what Cubed needs ({step}): Linux 6.0 or later is \
                 needed, 6.1 or later is best; a sandbox such as gVisor has no io_uring at all"
            ),
            Self::NoMemory { step } => write!(
                f,
                "no memory for an io_uring ({step}): raise the limit on locked memory \
                 (`ulimit -l`, LimitMEMLOCK= in systemd, --ulimit memlock=-1 in Docker)"
            ),
            Self::NoDescriptors => f.write_str(
                "no file descriptor is left for an io_uring: raise the limit (`ulimit -n`) or \
                 close some",
            ),
            Self::System { step, source } => write!(f, "io_uring failed ({step}): {source}"),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RingError;
    use std::io;

    fn text(errno: i32) -> String {
        RingError::new("setup", io::Error::from_raw_os_error(errno)).to_string()
    }

    #[test]
    fn each_cause_names_its_remedy() {
        assert!(text(libc::EPERM).contains("seccomp") && text(libc::EPERM).contains("sysctl"));
        assert!(text(libc::ENOSYS).contains("Linux 6.0"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(text(libc::EMFILE).contains("ulimit -n"));
        assert!(text(libc::EIO).starts_with("io_uring failed (setup): "));
    }
}
