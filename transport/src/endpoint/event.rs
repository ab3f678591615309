//! Owns what an endpoint tells of what happened: events, and the causes that they name.
//!
//! What always holds: an event about a peer names its contact; one about a lane says that it does.

use std::fmt;
use std::net::SocketAddr;

use super::{ChannelId, DialFailure, Outcome, PeerId, Token, Verdict};
use crate::identity::PublicKey;

/// What happened, for the application's tasks and log.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began, on some lane.
    Connected {
        /// With whom; the contact.
        peer: PeerId,
    },
    /// The peer is watched or owes an answer, and said nothing for `down_after`, closed or restarted. Fails nothing by itself.
    Down {
        /// Who.
        peer: PeerId,
        /// Why.
        cause: DownCause,
    },
    /// A peer that was down, or that is watched and was never heard of, spoke.
    Up {
        /// Who.
        peer: PeerId,
    },
    /// A dial ended without a session.
    DialFailed {
        /// Whom.
        peer: PeerId,
        /// Why; names address and fingerprints.
        error: DialFailure,
    },
    /// Somebody greeted us and was not accepted: it waits for an operator, or is rejected.
    TurnedAway {
        /// On which channel.
        channel: ChannelId,
        /// Its proven key.
        key: PublicKey,
        /// Where it is.
        address: SocketAddr,
        /// Why.
        verdict: Verdict,
    },
    /// The session of a lane ended; its unsettled messages have their outcomes.
    SessionEnded {
        /// With whom; the contact.
        peer: PeerId,
        /// Why.
        cause: EndCause,
    },
    /// A message with a token ended.
    Outcome {
        /// The token given to `send`.
        token: Token,
        /// How.
        outcome: Outcome,
    },
    /// A lane for which `send` answered [`SendError::Full`](crate::SendError::Full) has room again, or a flow of it moved to another.
    Writable {
        /// The peer named by the flow that was full.
        peer: PeerId,
    },
    /// A lane was forgotten: by [`Endpoint::forget_peer`](crate::Endpoint::forget_peer), or because its stranger's place was needed.
    /// What waited for it has its end; whatever is kept by this number may go.
    Forgotten {
        /// The number that means nobody from here on. One of each lane.
        peer: PeerId,
    },
}

/// Why a peer counts as down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownCause {
    /// Nothing came for `down_after`.
    Silence,
    /// It said that it closes.
    Closed,
    /// It runs again as another incarnation. Told of watched peers only.
    Restarted,
    /// One side broke the protocol, which ended the session. Told of watched peers only.
    Violation,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndCause {
    /// Silence for `give_up`.
    GaveUp,
    /// The peer restarted.
    NewIncarnation,
    /// The peer closed.
    ClosedByPeer,
    /// The peer no longer accepts our key, or what we say of ourselves.
    RejectedByPeer,
    /// This node closed, or it rejected or forgot the peer.
    ClosedHere,
    /// One side broke the protocol; what is said.
    Violation(&'static str),
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp => f.write_str("no word from the peer for give_up"),
            Self::NewIncarnation => f.write_str("the peer restarted"),
            Self::ClosedByPeer => f.write_str("the peer closed"),
            Self::RejectedByPeer => {
                f.write_str("the peer does not accept us: ask an operator there")
            }
            Self::ClosedHere => f.write_str("closed here"),
            Self::Violation(what) => write!(f, "protocol broken: {what}"),
        }
    }
}
