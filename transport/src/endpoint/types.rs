//! Owns the small words between an endpoint and its application: numbers of lanes, flows and messages, sums, sends.
//!
//! What always holds: the number of a lane that was forgotten means nobody.

use std::net::SocketAddr;

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

/// How acknowledged messages stand: `offered` = all the others together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Taken by `send`, `request` and `reply`.
    pub offered: u64,
    /// Ended as [`Outcome::Delivered`](crate::Outcome::Delivered).
    pub delivered: u64,
    /// Ended as [`Outcome::Refused`](crate::Outcome::Refused).
    pub refused: u64,
    /// Ended as [`Outcome::Expired`](crate::Outcome::Expired).
    pub expired: u64,
    /// Ended as [`Outcome::PeerLost`](crate::Outcome::PeerLost).
    pub peer_lost: u64,
    /// Those of `peer_lost` that certainly did not arrive: they still waited for a session. Not a part of the sum.
    pub peer_lost_unsent: u64,
    /// Ended as [`Outcome::Unknown`](crate::Outcome::Unknown).
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
