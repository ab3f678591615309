//! Owns why a dial made no session: a cause, and words that say what to do about it.
//!
//! What always holds: each text names the address, whom we dialled and what to check.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::identity::Fingerprint;

/// Why a dial made no session. Each text names the address, whom we dialled and what to check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// No answer that we could believe.
    Timeout {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// Who we are.
        local: Fingerprint,
        /// How long we tried.
        after: Duration,
    },
    /// Another key answered.
    WrongKey {
        /// Where.
        address: SocketAddr,
        /// Whom we dialled.
        dialled: Fingerprint,
        /// Who answered.
        answered: Fingerprint,
    },
    /// The peer's policy does not admit our key.
    NotAdmitted {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// Who we are.
        local: Fingerprint,
    },
    /// Our key waits there until an operator accepts it; dialled again by and by.
    Pending {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// Who we are.
        local: Fingerprint,
    },
    /// The peer rejects our key, or what we say of ourselves; dialled again by and by while messages wait.
    Rejected {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// Who we are.
        local: Fingerprint,
    },
    /// We do not accept what the dialled node says of itself.
    NotAccepted {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// TLS refused.
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Whom.
        dialled: Fingerprint,
        /// What TLS says.
        reason: String,
    },
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { address, dialled, local, after } => write!(
                f,
                "no answer from {address} within {after:?}: nobody listens there, or the node there does not hold \
                 the key {dialled} that was dialled (our own is {local}), or a firewall drops UDP"
            ),
            Self::WrongKey { address, dialled, answered } => write!(
                f,
                "the node at {address} holds the key {answered}, not {dialled} that was dialled: correct the \
                 peer's key or address; if both were right before, somebody else uses the address"
            ),
            Self::NotAdmitted { address, dialled, local } => write!(
                f,
                "{dialled} at {address} does not admit our key {local}: add a rule for it to the policy there"
            ),
            Self::Pending { address, dialled, local } => write!(
                f,
                "our key {local} waits at {dialled}, {address}: ask an operator there to accept it; the dial is \
                 repeated until then"
            ),
            Self::Rejected { address, dialled, local } => write!(
                f,
                "{dialled} at {address} rejects our key {local}, or a name, role, mode or kind of ours that has \
                 changed: ask an operator there to accept it or to forget what was known"
            ),
            Self::NotAccepted { address, dialled, reason } => write!(
                f,
                "{dialled} at {address} is not accepted here, for {reason}: accept its key here, or forget what \
                 was known of it"
            ),
            Self::Handshake { address, dialled, reason } => {
                write!(f, "handshake with {dialled} at {address} failed: {reason}")
            }
        }
    }
}

impl std::error::Error for DialFailure {}
