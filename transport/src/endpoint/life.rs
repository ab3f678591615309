//! Owns the words in which an endpoint tells about peers: how they are, and what they make it hold.
//!
//! What always holds: these are snapshots; nothing follows from keeping one.

use super::{DownCause, PeerId};
use crate::identity::PublicKey;
use crate::time::Instant;

/// What is known of a peer's life; see [`Endpoint::watch`](crate::Endpoint::watch).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// Never heard of since it is watched.
    Unknown,
    /// It spoke within the last `down_after`.
    Up,
    /// It is down, and why.
    Down(DownCause),
}

/// Memory that one peer makes this node hold, bytes by kind; all but `queued` together stay below `peer_bytes_max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerMemory {
    /// Messages in fragments, and blocks in parts.
    pub fragments: usize,
    /// Incoming flows, their names and grants to be told.
    pub flows: usize,
    /// Refusals that it has not acknowledged.
    pub refusals: usize,
    /// Records of datagrams sent and not acknowledged.
    pub sent: usize,
    /// Keys, replay windows and block windows.
    pub keys: usize,
    /// Its messages that the application holds, in credit: bounded by the windows of its flows, outside of `peer_bytes_max`.
    pub queued: u64,
}

impl PeerMemory {
    /// What counts towards `peer_bytes_max`.
    pub fn total(&self) -> usize {
        self.fragments + self.flows + self.refusals + self.sent + self.keys
    }
}

/// The life of one peer as seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerPresence {
    /// Who.
    pub peer: PeerId,
    /// Its key.
    pub key: PublicKey,
    /// How it is.
    pub state: PeerState,
    /// Since when.
    pub since: Instant,
    /// How often it was found up so far.
    pub arrivals: u64,
    /// How often it was found down after that.
    pub departures: u64,
}
