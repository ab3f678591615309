//! Owns the words of trust: channels, what a greeting proves of a node, and what its receiver makes of it.
//!
//! What always holds: what is said here of a peer came under keys that prove its identity.

use std::net::SocketAddr;

use crate::frame::Close;
use crate::identity::PublicKey;

/// A channel of this endpoint: 0 is the default one, the others count on in the order in which they were configured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
pub struct ChannelId(pub u8);

impl ChannelId {
    /// The channel without a name, which every node has.
    pub const DEFAULT: Self = Self(0);
}

/// Flags that a node tells of itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NodeMode(u8);

impl NodeMode {
    /// Nothing out of the ordinary.
    pub const PLAIN: Self = Self(0);
    /// The node is a meeting point of its channel: the one that others are told to dial first.
    pub const MAIN: Self = Self(1);

    /// The flags of a byte; `None` when a bit is set that means nothing.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::MAIN.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// As told in the greeting.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether [`NodeMode::MAIN`] is among the flags.
    pub const fn is_main(self) -> bool {
        self.0 & Self::MAIN.0 != 0
    }
}

/// What a peer proved and told of itself in its greeting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// Its name for people; may be empty.
    pub name: String,
    /// What it is among the nodes of the channel; its name if it says nothing else.
    pub role: String,
    /// Its flags.
    pub mode: NodeMode,
    /// The application's own number.
    pub kind: u8,
    /// The channel of the session; empty for the default one.
    pub channel: String,
    /// How many shards its node has.
    pub shards: u8,
}

/// A peer whose greeting has just come under fresh keys.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The channel that was dialled.
    pub channel: ChannelId,
    /// The proven key.
    pub key: &'a PublicKey,
    /// Where it is; an answer of ours reached it there.
    pub address: SocketAddr,
    /// Its name.
    pub name: &'a str,
    /// Its role.
    pub role: &'a str,
    /// Its flags.
    pub mode: NodeMode,
    /// The application's own number.
    pub kind: u8,
    /// We dialled it; otherwise it dialled us.
    pub is_dialled: bool,
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It gets a session.
    Accepted,
    /// No rule knows its key: told by CLOSE 1.
    NotAdmitted,
    /// It waits for an operator: told by CLOSE 3.
    Pending,
    /// It is rejected, for this reason: told by CLOSE 4, without the reason.
    Rejected(&'static str),
}

impl Verdict {
    /// The CLOSE that tells it, and the reason for people here; `None` when there is a session.
    pub(crate) fn refusal(self) -> Option<(Close, &'static str)> {
        match self {
            Self::Accepted => None,
            Self::NotAdmitted => Some((Close::NotAdmitted, "no rule names its key")),
            Self::Pending => Some((Close::Pending, "an operator has to accept its key")),
            Self::Rejected(reason) => Some((Close::Rejected, reason)),
        }
    }
}
