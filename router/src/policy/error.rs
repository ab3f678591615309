//! Why a policy cannot be used: where, what, and what to do.
//!
//! Owns the errors of reading a policy. Wrong contents always carry a line, and a policy read from
//! a file always carries its path.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Verb;
use crate::address::NameError;

/// Why a policy cannot be used, with its file and line where known.
#[derive(Debug)]
pub struct PolicyError {
    file: Option<PathBuf>,
    line: Option<usize>,
    fault: PolicyFault,
}

/// What is wrong with a policy.
#[derive(Debug)]
pub enum PolicyFault {
    /// Caller: not TOML, or not of the documented shape.
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// Caller: `key` is not a public key.
    Key {
        /// The key parser's words.
        reason: String,
    },
    /// Caller: `flow` is neither a flow name nor a prefix and `*`.
    Flow {
        /// As written.
        pattern: String,
        /// What is wrong with the name in it.
        error: NameError,
    },
    /// Caller: a word in `verbs` is not a verb.
    Verb {
        /// As written.
        word: String,
    },
    /// Caller: `verbs` is empty, so the rule would admit a key and allow it nothing.
    NoVerbs,
    /// Caller: the file is longer than [`super::POLICY_BYTES_MAX`].
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// System: the file cannot be read.
    Unreadable(io::Error),
}

impl PolicyError {
    pub(super) fn in_file(path: &Path, fault: PolicyFault) -> Self {
        Self { file: Some(path.to_owned()), line: None, fault }
    }

    pub(super) fn at(text: &str, start: usize, fault: PolicyFault) -> Self {
        Self { file: None, line: Some(line_of(text, start)), fault }
    }

    pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        let reason = error.message().to_owned();
        Self { file: None, line, fault: PolicyFault::Syntax { reason } }
    }

    pub(super) fn with_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// The file, when the policy was read from one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line, counted from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// What is wrong.
    pub fn fault(&self) -> &PolicyFault {
        &self.fault
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(formatter, "{}", file.display())?,
            None => formatter.write_str("policy")?,
        }
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.fault)
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { reason } => write!(formatter, "{reason}"),
            Self::Key { reason } => write!(formatter, "key: {reason}"),
            Self::Flow { pattern, error } => {
                write!(formatter, "flow {pattern:?} {error}; '*' may only be the last segment")
            }
            Self::Verb { word } => {
                write!(formatter, "{word:?} is not a verb; use one of")?;
                for (index, verb) in Verb::ALL.into_iter().enumerate() {
                    write!(formatter, "{} {verb}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::NoVerbs => formatter.write_str(
                "verbs is empty, so the rule allows nothing; add a verb or remove the rule",
            ),
            Self::TooLong { bytes } => write!(
                formatter,
                "the file is {bytes} bytes long and at most {} are read; is it the right file?",
                super::POLICY_BYTES_MAX
            ),
            Self::Unreadable(error) => write!(
                formatter,
                "cannot read the policy ({error}): give the path of a TOML file of [[rule]] tables that this user may read"
            ),
        }
    }
}

impl Error for PolicyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            PolicyFault::Unreadable(error) => Some(error),
            PolicyFault::Flow { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The line of a byte, counted from 1.
pub(crate) fn line_of(text: &str, start: usize) -> usize {
    let before = &text.as_bytes()[..start.min(text.len())];
    before.split(|byte| *byte == b'\n').count()
}
