//! Owns how a message ends, why its receiver refuses it, and why it is not taken for sending.
//!
//! What always holds: codes that travel on the wire are given once, here.

use std::fmt;

use super::FlowId;

/// How one acknowledged message ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Authorised and accepted by its flow.
    Delivered,
    /// Refused by the receiver.
    Refused(Refusal),
    /// Given up before it was delivered: past its deadline, out of repetitions, or replaced by a newer value.
    Expired,
    /// The peer did not answer for `give_up`, or this node closed or forgot it while the message waited for a session. What was
    /// sent to it may have arrived all the same.
    PeerLost,
    /// Sent, unanswered, and the session ended: it may have been delivered or not.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Expired => f.write_str("expired: given up before it was delivered"),
            Self::PeerLost => f.write_str(
                "peer lost: no word from it until the node gave up; what was sent may have arrived",
            ),
            Self::Unknown => {
                f.write_str("unknown: the session ended before the peer told; it may have arrived")
            }
        }
    }
}

/// Why the receiver refused a message. Travels on the wire by [`Refusal::code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Refusal {
    /// Nobody registered the flow.
    NoSuchFlow,
    /// The receiver's policy does not let our key use the flow.
    Denied,
    /// Longer than the flow takes.
    TooLarge,
    /// The flow's queue has no room.
    QueueFull,
    /// The flow takes no requests.
    NotAServer,
    /// The receiver is shutting down.
    Closing,
    /// The receiver has a newer value of the flow.
    Superseded,
}

impl Refusal {
    /// The code on the wire; never zero.
    pub const fn code(self) -> u8 {
        match self {
            Self::NoSuchFlow => 1,
            Self::Denied => 2,
            Self::TooLarge => 3,
            Self::QueueFull => 4,
            Self::NotAServer => 5,
            Self::Closing => 6,
            Self::Superseded => 7,
        }
    }

    /// The refusal with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::NoSuchFlow,
            2 => Self::Denied,
            3 => Self::TooLarge,
            4 => Self::QueueFull,
            5 => Self::NotAServer,
            6 => Self::Closing,
            7 => Self::Superseded,
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchFlow => "the peer has no such flow: register it there or correct the name",
            Self::Denied => {
                "the peer's policy does not allow this key to use the flow: add a rule there"
            }
            Self::TooLarge => "longer than the flow takes: raise its limit there or send less",
            Self::QueueFull => "the flow's queue is full: read it faster or give it more room",
            Self::NotAServer => "the flow takes no requests: register a handler that answers",
            Self::Closing => "the peer is shutting down",
            Self::Superseded => "the peer has a newer value of the flow",
        })
    }
}

/// Why a message was not taken. Nothing was sent and nothing will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// Resource: log, credit or queue is full. Wait for [`Event::Writable`](crate::Event::Writable) of this peer, then try again.
    Full,
    /// Caller: longer than sender or receiver allow.
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Best effort has no session to leave by; a dial was begun.
    NotConnected,
    /// Caller: no session, and no address to dial.
    NoAddress,
    /// Caller: no such peer or flow, or it was forgotten: [`Endpoint::forget_peer`](crate::Endpoint::forget_peer).
    UnknownPeer,
    /// Caller: the flow's name is empty or longer than 255 bytes.
    FlowName,
    /// Resource: this peer has all the flows, or this node all the peers, that the limits allow.
    TooMany,
    /// Caller: this node takes no more messages.
    Closing,
    /// Resource: as many requests wait as `requests_max` allows.
    TooManyRequests,
    /// Peer: it takes no messages on this flow.
    Refused(Refusal),
    /// The flow is another shard's of the peer than was thought before the peer's greeting: send to this one from here on.
    Moved(FlowId),
}

impl SendError {
    /// The outcome of a message that waited and then could not be sent.
    pub(crate) fn as_outcome(self) -> Outcome {
        match self {
            Self::Refused(refusal) => Outcome::Refused(refusal),
            _ => Outcome::Refused(Refusal::TooLarge),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                f.write_str("no room now: wait until the peer is writable, then send again")
            }
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "message of {bytes} bytes, at most {bytes_max} are allowed: send less")
            }
            Self::NotConnected => {
                f.write_str("no session with the peer: best effort was dropped and a dial begun")
            }
            Self::NoAddress => f.write_str("no address known for the peer: add it to the node"),
            Self::UnknownPeer => f.write_str(
                "no such peer or flow at this node: if it was forgotten, resolve it again",
            ),
            Self::FlowName => f.write_str("a flow's name has 1 to 255 bytes"),
            Self::TooMany => f.write_str("no room for another peer or flow: raise the limit"),
            Self::Closing => f.write_str("this node is closing and takes no new messages"),
            Self::TooManyRequests => f.write_str(
                "too many requests wait for an answer: wait for some, or raise requests_max",
            ),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Moved(_) => {
                f.write_str("another shard of the peer has the flow: send to the flow named here")
            }
        }
    }
}

impl std::error::Error for SendError {}
