//! What can go wrong in a measurement, grouped by whose fault it is.
//!
//! A measurement that cannot be trusted is an error, never a number: a wrong sequence tag, a peer
//! process that died, a rate that nobody counted.

use std::{fmt, io};

/// Why a command of `cubed-bench` produced no result.
#[derive(Debug)]
pub enum BenchError {
    /// The caller asked for something outside the documented limits; the text says which limit.
    Argument(String),
    /// The peer process failed, or answered something else than its control protocol allows.
    Peer(String),
    /// What arrived is not what was sent. The measurement is void.
    Corrupt(String),
    /// The machine lacks or refuses something that the measurement needs; the text names it.
    Machine(String),
    /// The measurement is good and its result is not: a bound of the caller's is violated; the text names figure and bound.
    Limit(String),
    /// The user ended it before there was a result.
    Interrupted,
    /// The operating system refused; the text names the operation.
    System(String, io::Error),
}

impl BenchError {
    /// Wraps an operating system error with the operation that met it.
    pub fn system(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System(operation.into(), error)
    }
}

impl BenchError {
    /// Exit status of a process that ends by it: 2 for a mistake of the caller, as for those that the command line itself is
    /// refused for; 3 for a violated bound; 130 as of a shell's command that Ctrl-C ended; 1 for everything else that kept it from a
    /// result.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Argument(_) => 2,
            Self::Limit(_) => 3,
            Self::Interrupted => 130,
            Self::Peer(_) | Self::Corrupt(_) | Self::Machine(_) | Self::System(..) => 1,
        }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) => write!(f, "bad argument: {text}"),
            Self::Peer(text) => write!(f, "peer process: {text}"),
            Self::Machine(text) | Self::Limit(text) => f.write_str(text),
            Self::Interrupted => f.write_str(
                "interrupted: no result and no files; what was printed before is of slices that had ended (fewer --seconds end sooner)",
            ),
            Self::Corrupt(text) => write!(f, "measurement void: {text}"),
            Self::System(operation, error) => write!(f, "cannot {operation}: {error}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Result of everything that measures.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    //! Goal: messages name the operation and the cause.
    use super::*;

    #[test]
    fn system_errors_name_operation_and_cause() {
        let wrap = BenchError::system("bind a socket");
        let text = wrap(io::Error::from(io::ErrorKind::AddrInUse)).to_string();
        assert!(text.starts_with("cannot bind a socket: "), "{text}");
    }
}
