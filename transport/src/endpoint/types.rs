//! Owns the words in which an endpoint and its application speak: handles, outcomes, errors, events.
//!
//! What always holds: codes that travel on the wire are given once, here.

use std::fmt;
use std::net::SocketAddr;

use super::{ChannelId, DialFailure, Newcomer, Service, Verdict};
use crate::identity::PublicKey;
use crate::lane::Row;

/// A lane to a peer. The first lane to a peer, its *contact*, stands for the peer as a whole: it is what
/// [`Endpoint::add_peer`](crate::Endpoint::add_peer) gives and what events about the peer name.
///
/// It never comes to stand for another: once the peer is forgotten, it means nobody. A peer that the application named by `add_peer` is
/// forgotten by [`Endpoint::forget_peer`](crate::Endpoint::forget_peer) only. A stranger, who dialled us, may be forgotten once it has no
/// session and has said nothing for `give_up`: name it before keeping its number.
///
/// The lower half is the lane's place at the endpoint, from 0; the upper half says how many lanes had it before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl PeerId {
    /// The first lane at a place.
    pub(crate) const fn first(place: u32) -> Self {
        Self(place as u64)
    }

    /// The lane after this one at its place.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1 << 32))
    }

    /// Its place.
    #[inline]
    pub(crate) const fn place(self) -> u32 {
        self.0 as u32
    }
}

/// An outgoing flow: a peer and an alias. Resolve once, then send by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowId {
    /// The receiver.
    pub peer: PeerId,
    /// The flow's number among those to this peer.
    pub alias: u32,
}

/// The application's name for one message or request whose end it wants to hear of; unique among those that wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Where an answer goes. Valid while the session lives; a later answer is counted and dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplyTo {
    /// The asker.
    pub peer: PeerId,
    /// Session in which it asked.
    pub session: u32,
    /// Its number for the request.
    pub request: u64,
}

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
    /// Resource: log, credit or queue is full. Wait for [`Event::Writable`] of this peer, then try again.
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
    /// A lane for which `send` answered [`SendError::Full`] has room again, or a flow of it moved to another.
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

/// What the application says of a flow that a peer names: its own number for it, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Echoed in [`Incoming::flow`].
    pub flow: u32,
    /// Credit kept open to one sender, in charge (body + 64 B a message); at least 64 KiB is kept.
    pub window_bytes: u64,
    /// Longest message that the flow takes.
    pub message_bytes_max: u64,
}

/// A message's body.
#[derive(Debug)]
pub enum Body<'a> {
    /// It lies in the datagram: copy what you keep.
    Borrowed(&'a [u8]),
    /// It was assembled from parts: it may be taken with [`std::mem::take`].
    Assembled(&'a mut Vec<u8>),
}

impl Body<'_> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Assembled(body) => body,
        }
    }
}

/// One whole message, handed over once.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The sender.
    pub peer: PeerId,
    /// Its proven key.
    pub sender: &'a PublicKey,
    /// The application's number of the flow.
    pub flow: u32,
    /// The sender's alias, for `Endpoint::release`.
    pub alias: u32,
    /// The session, for `Endpoint::release`.
    pub session: u32,
    /// The body.
    pub body: Body<'a>,
    /// Where an answer goes, if one is expected.
    pub request: Option<ReplyTo>,
    /// The service it came by.
    pub service: Service,
}

/// When a message's credit goes back to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// At once.
    Consumed,
    /// By `Endpoint::release`. Best effort takes no credit, so this means nothing for it.
    Held,
    /// As `Held`; and whether it was accepted is said later, by `Endpoint::settle`. Until then it is not settled, nor is any
    /// message behind it on its lane. Best effort is never answered, so this is as `Consumed` for it.
    Deferred,
}

/// A message answered with [`Disposition::Deferred`]: what `Endpoint::settle` needs to know of it. There is one for each, and it is
/// given up with the answer, so that nobody answers twice.
#[derive(PartialEq, Eq, Debug)]
pub struct Deferred {
    /// Its sender.
    pub peer: PeerId,
    /// The session that it came in.
    pub session: u32,
    /// Block that it ended in, and its place there.
    pub(crate) end: (u64, u16),
}

/// Policy and flows. Called while a datagram is handled, so it cannot call the endpoint: collect answers and releases and
/// hand them over afterwards.
pub trait Application {
    /// May this proven key greet us on this channel? Asked of whoever dials; no state is kept for who may not.
    fn admit(&mut self, channel: ChannelId, key: &PublicKey) -> bool;
    /// May whoever tells this of itself have a session? Asked for each fresh set of keys, of those we dialled as well.
    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let _ = newcomer;
        Verdict::Accepted
    }
    /// Is there such a flow on this channel, and may this key use it? Asked once per alias and generation.
    ///
    /// # Errors
    /// The refusal that the sender of every message on it is told.
    fn bind(
        &mut self,
        channel: ChannelId,
        peer: PeerId,
        key: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal>;
    /// Bindings are asked for again when this number changes: flows registered or removed, policy changed. As it stands, it never
    /// does.
    fn generation(&self) -> u32 {
        0
    }
    /// One whole message, once. Called per message: keep it small.
    ///
    /// # Errors
    /// The refusal that its sender is told.
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal>;
    /// Messages that stand in a row, of one peer to one flow: each that is taken from it is delivered. The answer is that for the
    /// last one taken; those before it are consumed, but for those said to be held by [`Row::hold`]. As it stands, each goes to
    /// [`Application::deliver`].
    ///
    /// # Errors
    /// The refusal that the sender of the last one taken is told.
    #[inline]
    fn deliver_row(&mut self, row: &mut Row<'_>) -> Result<Disposition, Refusal> {
        row.deliver_each(self)
    }
    /// The message just answered with [`Disposition::Deferred`], unless it was best effort. To be settled once.
    fn defer(&mut self, message: Deferred) {
        let _ = message;
    }
    /// A request of ours ended: its answer, or how it ended without one. As it stands, for those who ask nothing.
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        let _ = (token, result);
    }
}

/// How acknowledged messages stand: `offered` = all the others together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Taken by `send`, `request` and `reply`.
    pub offered: u64,
    /// Ended as [`Outcome::Delivered`].
    pub delivered: u64,
    /// Ended as [`Outcome::Refused`].
    pub refused: u64,
    /// Ended as [`Outcome::Expired`].
    pub expired: u64,
    /// Ended as [`Outcome::PeerLost`].
    pub peer_lost: u64,
    /// Those of `peer_lost` that certainly did not arrive: they still waited for a session. Not a part of the sum.
    pub peer_lost_unsent: u64,
    /// Ended as [`Outcome::Unknown`].
    pub unknown: u64,
    /// Not ended.
    pub pending: u64,
}

/// One send: a GSO run to one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Length of every datagram of the run but the last.
    pub segment_bytes: usize,
}
