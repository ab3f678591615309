//! The keep: which keys a channel takes beside those that its policy names.
//!
//! Owns what was decided of each key, and what each key said of itself when that was decided. It is given newcomers whose
//! key is proven, and the operator's words; it answers with a ruling and with the entries that changed, for whoever
//! stores them. No clock, no file, no chance.
//!
//! What always holds: a key that the operator rejected stays rejected until the operator says otherwise; in the mode
//! [`Trust::Never`] a key is accepted only because the operator said so; a role belongs to one key at a time, rejected
//! ones aside; at most [`PENDING_MAX`] keys wait.
//!
//! | | first contact | known key, nothing changed | another key for a known role |
//! | --- | --- | --- | --- |
//! | never | pends | as it stands | rejected |
//! | once | accepted | accepted, unless rejected | rejected |
//! | always | accepted | accepted, unless rejected | replaced if mutable, else rejected |
//!
//! A known key that says something else of itself (name, role, mode, kind) is rejected, unless the keep is mutable. Its
//! address may change at any time: the key says who it is, and peers move. A rejection by these rules is not stored; it
//! ends when the cause does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use cubed_transport::identity::PublicKey;

pub use text::KeepTextError;
pub use words::{Arrival, Cause, Change, Entry, KeyState, Portrait, Ruling, Trust};

mod text;
mod words;

/// Most keys that wait for the operator; the oldest makes room.
pub const PENDING_MAX: usize = 256;
/// Most of them from one network (IPv4 /24, IPv6 /48), so that one neighbour cannot push out all others.
pub const PENDING_PER_NETWORK_MAX: usize = 16;
/// Most keys in one keep.
pub const ENTRIES_MAX: usize = 65_536;

/// Which keys a channel takes.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    trust: Trust,
    is_mutable: bool,
    entries: BTreeMap<PublicKey, Entry>,
    by_role: HashMap<String, Vec<PublicKey>>,
    /// Keys that wait, oldest first.
    pending: VecDeque<PublicKey>,
    pending_dropped: u64,
}

impl Keep {
    /// An empty keep.
    pub fn new(trust: Trust, is_mutable: bool) -> Self {
        Self { trust, is_mutable, ..Self::default() }
    }

    /// These entries under other rules.
    #[must_use]
    pub fn with_rules(mut self, trust: Trust, is_mutable: bool) -> Self {
        (self.trust, self.is_mutable) = (trust, is_mutable);
        self
    }

    /// Rules on an arrival, and appends what changed to `changes`.
    pub fn judge(&mut self, arrival: &Arrival, changes: &mut Vec<Change>) -> Ruling {
        let Some(entry) = self.entries.get(&arrival.key) else {
            return self.judge_new(arrival, changes);
        };
        if entry.state == KeyState::Rejected {
            return Ruling::Rejected(Cause::Operator);
        }
        let (before, state) = (entry.portrait.as_ref(), entry.state);
        let change = before.and_then(|before| before.change(&arrival.portrait));
        if let Some(cause) = change
            && !self.is_mutable
        {
            return Ruling::Rejected(cause);
        }
        let takes_role = before.is_none_or(|before| before.role != arrival.portrait.role);
        if takes_role && !self.make_way(arrival, before.is_none(), changes) {
            return Ruling::Rejected(Cause::Key);
        }
        let is_decided = arrival.is_vouched || self.trust != Trust::Never;
        let state = if is_decided { KeyState::Accepted } else { state };
        self.set(Self::entry(arrival, state), changes);
        if state == KeyState::Accepted { Ruling::Accepted } else { Ruling::Pending }
    }

    fn judge_new(&mut self, arrival: &Arrival, changes: &mut Vec<Change>) -> Ruling {
        if !self.make_way(arrival, false, changes) {
            return Ruling::Rejected(Cause::Key);
        }
        if arrival.is_vouched || self.trust != Trust::Never {
            if self.entries.len() >= ENTRIES_MAX {
                return Ruling::Rejected(Cause::Full);
            }
            self.set(Self::entry(arrival, KeyState::Accepted), changes);
            return Ruling::Accepted;
        }
        self.make_room_to_pend(arrival.address, changes);
        if self.entries.len() >= ENTRIES_MAX {
            // Nobody who waits is near, and all other places are decided.
            return Ruling::Rejected(Cause::Full);
        }
        self.set(Self::entry(arrival, KeyState::Pending), changes);
        Ruling::Pending
    }

    /// Whether the arrival may have its role; whoever has to give it up for that is removed. The operator's word for a key
    /// that had not come yet goes before those who merely wait.
    fn make_way(
        &mut self,
        arrival: &Arrival,
        is_expected: bool,
        changes: &mut Vec<Change>,
    ) -> bool {
        let holders = self.holders(&arrival.portrait.role, &arrival.key);
        let may_replace = self.trust == Trust::Always && self.is_mutable;
        let gives_way = |state| may_replace || (is_expected && state != KeyState::Accepted);
        if !holders.iter().all(|(_, state)| gives_way(*state)) {
            return false;
        }
        self.remove_holders(&holders, changes);
        true
    }

    /// The other keys with this role.
    fn holders(&self, role: &str, key: &PublicKey) -> Vec<(PublicKey, KeyState)> {
        let holders = self.by_role.get(role).into_iter().flatten();
        let others = holders.filter(|holder| *holder != key);
        others.filter_map(|holder| Some((*holder, self.entries.get(holder)?.state))).collect()
    }

    /// Removes keys that lost their role. A rejection is kept: it is of the key.
    fn remove_holders(&mut self, holders: &[(PublicKey, KeyState)], changes: &mut Vec<Change>) {
        for (key, state) in holders {
            if *state != KeyState::Rejected {
                self.remove(key, changes);
            }
        }
    }

    fn make_room_to_pend(&mut self, address: SocketAddr, changes: &mut Vec<Change>) {
        let network = Network::of(address.ip());
        let is_near = |key: &&PublicKey| {
            let address = self.entries.get(*key).and_then(|entry| entry.address);
            address.is_some_and(|address| Network::of(address.ip()) == network)
        };
        let near = self.pending.iter().filter(is_near).count();
        let oldest = if near >= PENDING_PER_NETWORK_MAX {
            self.pending.iter().find(is_near)
        } else if self.pending.len() >= PENDING_MAX {
            self.pending.front()
        } else {
            None
        };
        if let Some(key) = oldest.copied() {
            self.pending_dropped += 1;
            self.remove(&key, changes);
        }
    }

    // -- the operator

    /// The operator accepts a key, known or not. Returns where it was seen last, if it waited.
    ///
    /// # Errors
    ///
    /// [`KeepError::Full`].
    pub fn accept(
        &mut self,
        key: &PublicKey,
        changes: &mut Vec<Change>,
    ) -> Result<Option<SocketAddr>, KeepError> {
        let has_waited = self.state(key) == Some(KeyState::Pending);
        let entry = self.decide(key, KeyState::Accepted, changes)?;
        let role = entry.portrait.as_ref().map(|portrait| portrait.role.clone());
        let address = entry.address.filter(|_| has_waited);
        // There is one of each role, and the operator has just said which.
        let holders = self.holders(role.as_deref().unwrap_or_default(), key);
        self.remove_holders(&holders, changes);
        Ok(address)
    }

    /// The operator rejects a key, known or not.
    ///
    /// # Errors
    ///
    /// [`KeepError::Full`].
    pub fn reject(&mut self, key: &PublicKey, changes: &mut Vec<Change>) -> Result<(), KeepError> {
        self.decide(key, KeyState::Rejected, changes).map(|_| ())
    }

    /// The operator wants nothing known of a key: its next contact is its first.
    ///
    /// # Errors
    ///
    /// [`KeepError::Unknown`].
    pub fn forget(&mut self, key: &PublicKey, changes: &mut Vec<Change>) -> Result<(), KeepError> {
        if self.remove(key, changes) { Ok(()) } else { Err(KeepError::Unknown) }
    }

    fn decide(
        &mut self,
        key: &PublicKey,
        state: KeyState,
        changes: &mut Vec<Change>,
    ) -> Result<Entry, KeepError> {
        let entry = match self.entries.get(key) {
            Some(entry) => Entry { state, ..entry.clone() },
            None if self.entries.len() >= ENTRIES_MAX => return Err(KeepError::Full),
            None => Entry { key: *key, state, portrait: None, address: None },
        };
        self.set(entry.clone(), changes);
        Ok(entry)
    }

    // -- what is known

    /// What was decided of a key; `None` when it never came.
    pub fn state(&self, key: &PublicKey) -> Option<KeyState> {
        self.entries.get(key).map(|entry| entry.state)
    }

    /// What is known of a key.
    pub fn get(&self, key: &PublicKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries: those decided on by key, then those that wait, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let decided = self.entries.values().filter(|entry| entry.state != KeyState::Pending);
        decided.chain(self.pending())
    }

    /// The keys that wait, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.pending.iter().filter_map(|key| self.entries.get(key))
    }

    /// Keys that waited and had to make room.
    pub fn pending_dropped(&self) -> u64 {
        self.pending_dropped
    }

    /// Makes a change that another copy of this keep told of.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Set(entry) => self.set(entry, &mut Vec::new()),
            Change::Removed(key) => {
                self.remove(&key, &mut Vec::new());
            }
        }
    }

    // -- inside

    fn entry(arrival: &Arrival, state: KeyState) -> Entry {
        let (portrait, address) = (Some(arrival.portrait.clone()), Some(arrival.address));
        Entry { key: arrival.key, state, portrait, address }
    }

    /// Stores an entry. A new address alone is not worth telling.
    fn set(&mut self, entry: Entry, changes: &mut Vec<Change>) {
        let before = self.entries.get(&entry.key);
        let is_same =
            before.is_some_and(|b| (b.state, &b.portrait) == (entry.state, &entry.portrait));
        let was_pending = before.is_some_and(|before| before.state == KeyState::Pending);
        if !is_same {
            self.release_role(&entry.key);
            if let Some(role) = role_of(&entry) {
                self.by_role.entry(role.to_owned()).or_default().push(entry.key);
            }
            changes.push(Change::Set(entry.clone()));
        }
        match (was_pending, entry.state == KeyState::Pending) {
            (false, true) => self.pending.push_back(entry.key),
            (true, false) => self.pending.retain(|key| *key != entry.key),
            _ => {}
        }
        self.entries.insert(entry.key, entry);
    }

    fn remove(&mut self, key: &PublicKey, changes: &mut Vec<Change>) -> bool {
        self.release_role(key);
        if self.entries.remove(key).is_none() {
            return false;
        }
        self.pending.retain(|pending| pending != key);
        changes.push(Change::Removed(*key));
        true
    }

    fn release_role(&mut self, key: &PublicKey) {
        let Some(role) = self.entries.get(key).and_then(role_of) else { return };
        if let Some(holders) = self.by_role.get_mut(role) {
            holders.retain(|holder| holder != key);
            if holders.is_empty() {
                self.by_role.remove(role);
            }
        }
    }
}

fn role_of(entry: &Entry) -> Option<&str> {
    entry.portrait.as_ref().map(|portrait| portrait.role.as_str()).filter(|role| !role.is_empty())
}

/// Where an address comes from, as coarsely as one neighbour can have many.
#[derive(PartialEq, Eq)]
enum Network {
    V4([u8; 3]),
    V6([u16; 3]),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Self::V6([a, b, c])
            }
        }
    }
}

/// Why the operator's word was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepError {
    /// Caller: nothing is known of the key.
    Unknown,
    /// Resource: the keep has [`ENTRIES_MAX`] keys.
    Full,
}

impl fmt::Display for KeepError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("nothing is known of this key; list what is"),
            Self::Full => {
                write!(formatter, "the keep has {ENTRIES_MAX} keys; forget some of them first")
            }
        }
    }
}

impl std::error::Error for KeepError {}

#[cfg(test)]
mod tests;
