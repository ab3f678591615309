//! The words of the keep: modes, states, what is known of a key, what is said of an arrival.

use std::fmt;
use std::net::SocketAddr;

use cubed_transport::identity::PublicKey;

/// What happens to keys that nobody decided about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trust {
    /// They wait for the operator.
    #[default]
    Never,
    /// They are accepted, and hold their role from then on.
    Once,
    /// They are accepted, and may take over a role.
    Always,
}

/// What was decided of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyState {
    /// Nothing yet.
    Pending,
    /// It may have a session.
    Accepted,
    /// It may not, and the operator said so.
    Rejected,
}

impl KeyState {
    /// All states, in the order of their text forms in messages.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Accepted, Self::Rejected];

    /// The text form, as written in a keep.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Portrait {
    /// Its name; may be empty.
    pub name: String,
    /// Its role; an empty one belongs to nobody.
    pub role: String,
    /// Its flags.
    pub mode: u8,
    /// The application's number.
    pub kind: u8,
}

impl Portrait {
    /// What has changed first, if anything.
    pub(super) fn change(&self, now: &Self) -> Option<Cause> {
        [
            (self.name != now.name, Cause::Name),
            (self.role != now.role, Cause::Role),
            (self.mode != now.mode, Cause::Mode),
            (self.kind != now.kind, Cause::Kind),
        ]
        .into_iter()
        .find_map(|(changed, cause)| changed.then_some(cause))
    }
}

/// One key and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: PublicKey,
    /// What was decided.
    pub state: KeyState,
    /// What it said of itself; `None` when the operator decided before it ever came.
    pub portrait: Option<Portrait>,
    /// Where it was seen last.
    pub address: Option<SocketAddr>,
}

/// Somebody whose key is proven and whose greeting has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The key.
    pub key: PublicKey,
    /// What it says of itself.
    pub portrait: Portrait,
    /// Where it is.
    pub address: SocketAddr,
    /// This node's own configuration or code named the key: it need not wait for the operator.
    pub is_vouched: bool,
}

/// What becomes of an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It may have a session.
    Accepted,
    /// It waits for the operator.
    Pending,
    /// It may not, and why.
    Rejected(Cause),
}

/// Why somebody is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The operator said so.
    Operator,
    /// Another key holds its role.
    Key,
    /// It has another name than before.
    Name,
    /// It has another role than before.
    Role,
    /// It has other flags than before.
    Mode,
    /// It has another kind than before.
    Kind,
    /// The keep has [`super::ENTRIES_MAX`] keys.
    Full,
}

impl Cause {
    /// In words that end the sentence "not accepted, for ...".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "the operator rejected its key",
            Self::Key => "its role belongs to another key",
            Self::Name => "its name has changed",
            Self::Role => "its role has changed",
            Self::Mode => "its mode has changed",
            Self::Kind => "its kind has changed",
            Self::Full => "the keep is full",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An entry to store, or to remove from the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is new or has changed.
    Set(Entry),
    /// It is gone.
    Removed(PublicKey),
}
