//! How a handshake step can fail. A step either drops one datagram and leaves the attempt as it
//! was, or ends the attempt; nothing in between.

use std::{error, fmt};

use super::{CHANNEL_NAME_BYTES_MAX, DATAGRAM_BYTES_MAX, DropReason};
use crate::identity::Fingerprint;

/// Why a step of a handshake did not happen.
#[derive(Clone, Debug, PartialEq)]
pub enum StepError {
    /// Peer or network: this datagram is ignored, the attempt goes on.
    Drop(DropReason),
    /// This attempt is over: begin a fresh one or report it.
    Failed(HandshakeError),
}

impl From<DropReason> for StepError {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl From<HandshakeError> for StepError {
    fn from(error: HandshakeError) -> Self {
        Self::Failed(error)
    }
}

impl From<rustls::Error> for StepError {
    fn from(error: rustls::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(reason) => write!(f, "datagram dropped: {reason}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl error::Error for StepError {}

/// Why an attempt at a handshake is over, or could not begin.
#[derive(Clone, Debug, PartialEq)]
pub enum HandshakeError {
    /// Caller: the channel's name is too long.
    ChannelName {
        /// Its bytes.
        bytes: usize,
    },
    /// Caller: what TLS has to say does not fit into one datagram, because of a larger key exchange
    /// than this version of the handshake carries.
    FlightTooLong {
        /// Bytes that the datagram would have.
        bytes: usize,
    },
    /// Peer: another key answered than the one dialled.
    WrongKey {
        /// Whom we wanted.
        dialled: Fingerprint,
        /// Who was there.
        answered: Fingerprint,
    },
    /// Peer: it sent less, or something else, than this step of TLS needs.
    Incomplete,
    /// Peer or system: TLS refused.
    Tls(rustls::Error),
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        let other = match &error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => &other.0,
            _ => return Self::Tls(error),
        };
        match other.downcast_ref::<Self>() {
            Some(ours) => ours.clone(),
            None => Self::Tls(error),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChannelName { bytes } => write!(
                f,
                "the channel's name has {bytes} bytes and may have \
                 {CHANNEL_NAME_BYTES_MAX}: shorten it"
            ),
            Self::FlightTooLong { bytes } => write!(
                f,
                "a flight of {bytes} bytes does not fit into {DATAGRAM_BYTES_MAX}: \
                 use the X25519 key exchange"
            ),
            Self::WrongKey { dialled, answered } => write!(
                f,
                "dialled {dialled} but {answered} answered: correct the peer's key or its \
                 address, and if both were right before, suspect that \
                 somebody else uses the address"
            ),
            Self::Incomplete => {
                f.write_str("the peer's TLS flight is incomplete: check that it runs this version")
            }
            Self::Tls(error) => write!(f, "TLS refused the handshake: {error}; dial again"),
        }
    }
}

impl error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            _ => None,
        }
    }
}
