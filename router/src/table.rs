//! The peers of this node: what is known of each, keyed by public key.
//!
//! Owns names and addresses of peers. Every key and every name occurs once, and the limits hold at all
//! times. What a look-up, an insertion or a removal costs does not grow with the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use cubed_transport::identity::PublicKey;

use crate::address::{NameError, NodeName, check_label, has_key_shape};

/// Most peers in one table; at some 250 B each they take 256 MB.
pub const PEERS_MAX: usize = 1 << 20;
/// Most addresses of one peer: both families on a few interfaces.
pub const ADDRESSES_PER_PEER_MAX: usize = 8;

/// What is known of one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    key: PublicKey,
    name: Option<String>,
    addresses: Vec<SocketAddr>,
}

impl Peer {
    /// Its identity.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What this node's configuration calls it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it may be reached, best first; empty when it must dial us.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Peers by key, with a second index by name.
#[derive(Clone, Debug, Default)]
pub struct Table {
    peers: HashMap<PublicKey, Peer>,
    keys_by_name: HashMap<String, PublicKey>,
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a peer; one that is known keeps its name and addresses.
    ///
    /// # Errors
    ///
    /// [`TableError::Full`] at [`PEERS_MAX`] peers.
    pub fn add(&mut self, key: PublicKey) -> Result<(), TableError> {
        let is_full = self.peers.len() >= PEERS_MAX;
        if let Entry::Vacant(place) = self.peers.entry(key) {
            if is_full {
                return Err(TableError::Full);
            }
            place.insert(Peer { key, name: None, addresses: Vec::new() });
        }
        Ok(())
    }

    /// Gives a peer a name, instead of an earlier one.
    ///
    /// # Errors
    ///
    /// The name is not one, or another peer has it, or the peer is unknown.
    pub fn set_name(&mut self, key: &PublicKey, name: &str) -> Result<(), TableError> {
        check_label(name).map_err(TableError::Name)?;
        if has_key_shape(name) {
            return Err(TableError::NameIsKey);
        }
        if self.keys_by_name.get(name).is_some_and(|owner| owner != key) {
            return Err(TableError::NameTaken);
        }
        let peer = self.peers.get_mut(key).ok_or(TableError::UnknownPeer)?;
        if let Some(earlier) = peer.name.replace(name.to_owned()) {
            self.keys_by_name.remove(&earlier);
        }
        self.keys_by_name.insert(name.to_owned(), *key);
        Ok(())
    }

    /// Puts `address` first among the peer's; beyond the limit the last is forgotten.
    ///
    /// # Errors
    ///
    /// [`TableError::UnknownPeer`].
    pub fn prefer_address(
        &mut self,
        key: &PublicKey,
        address: SocketAddr,
    ) -> Result<(), TableError> {
        let peer = self.peers.get_mut(key).ok_or(TableError::UnknownPeer)?;
        if peer.addresses.first() == Some(&address) {
            return Ok(());
        }
        peer.addresses.retain(|known| *known != address);
        peer.addresses.insert(0, address);
        peer.addresses.truncate(ADDRESSES_PER_PEER_MAX);
        Ok(())
    }

    /// Forgets a peer and its name; returns what was known.
    pub fn remove(&mut self, key: &PublicKey) -> Option<Peer> {
        let peer = self.peers.remove(key)?;
        if let Some(name) = &peer.name {
            self.keys_by_name.remove(name);
        }
        Some(peer)
    }

    /// The peer with this key.
    pub fn get(&self, key: &PublicKey) -> Option<&Peer> {
        self.peers.get(key)
    }

    /// The peer that a node part of an address means. A key need not be in the table to be a valid
    /// address, but is not found here then.
    pub fn find(&self, node: &NodeName) -> Option<&Peer> {
        match node {
            NodeName::Key(key) => self.get(key),
            NodeName::Name(name) => self.keys_by_name.get(name).and_then(|key| self.get(key)),
        }
    }

    /// All peers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is no peer.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

/// Why the table did not take a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// Caller: no peer with this key; add it first.
    UnknownPeer,
    /// Caller: the name breaks the grammar of addresses.
    Name(NameError),
    /// Caller: the name has the shape of a public key.
    NameIsKey,
    /// Caller: another peer has this name.
    NameTaken,
    /// Resource: [`PEERS_MAX`] peers are known.
    Full,
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPeer => formatter.write_str("no peer has this key; add the peer first"),
            Self::Name(error) => write!(formatter, "the peer's name {error}"),
            Self::NameIsKey => {
                formatter.write_str("the peer's name looks like a public key; choose another")
            }
            Self::NameTaken => formatter.write_str("another peer has this name; choose another"),
            Self::Full => write!(formatter, "{PEERS_MAX} peers are known; remove one first"),
        }
    }
}

impl Error for TableError {}

#[cfg(test)]
mod tests {
    //! Goal: keys and names stay consistent through every change.
    use super::*;
    use crate::policy::tests::key;

    fn table_with(keys: &[u8]) -> Table {
        let mut table = Table::new();
        for byte in keys {
            table.add(key(*byte)).unwrap();
        }
        table
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], port))
    }

    #[test]
    fn peers_are_found_by_key_and_by_name() {
        let mut table = table_with(&[1, 2]);
        table.set_name(&key(1), "alice").unwrap();
        let by_name = table.find(&NodeName::Name("alice".into())).unwrap();
        assert_eq!(by_name.key(), &key(1));
        assert_eq!(table.find(&NodeName::Key(key(2))).unwrap().name(), None);
        assert!(table.find(&NodeName::Name("bob".into())).is_none());
        assert!(table.find(&NodeName::Key(key(3))).is_none());
    }

    #[test]
    fn a_name_belongs_to_one_peer() {
        let mut table = table_with(&[1, 2]);
        table.set_name(&key(1), "alice").unwrap();
        assert_eq!(table.set_name(&key(2), "alice"), Err(TableError::NameTaken));
        table.set_name(&key(1), "anna").unwrap();
        assert!(table.find(&NodeName::Name("alice".into())).is_none(), "the old name is free");
        table.set_name(&key(2), "alice").unwrap();
        assert_eq!(table.set_name(&key(3), "carol"), Err(TableError::UnknownPeer));
        assert_eq!(table.set_name(&key(1), &key(9).to_string()), Err(TableError::NameIsKey));
        assert_eq!(table.set_name(&key(1), ""), Err(TableError::Name(NameError::Empty)));
    }

    #[test]
    fn the_newest_address_comes_first_and_the_list_is_bounded() {
        let mut table = table_with(&[1]);
        for port in 0..20 {
            table.prefer_address(&key(1), address(port)).unwrap();
        }
        table.prefer_address(&key(1), address(15)).unwrap();
        let ports: Vec<u16> =
            table.get(&key(1)).unwrap().addresses().iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [15, 19, 18, 17, 16, 14, 13, 12]);
        assert_eq!(table.prefer_address(&key(2), address(1)), Err(TableError::UnknownPeer));
    }

    #[test]
    fn removing_frees_the_name() {
        let mut table = table_with(&[1, 2]);
        table.set_name(&key(1), "alice").unwrap();
        assert_eq!(table.remove(&key(1)).unwrap().name(), Some("alice"));
        assert!(table.remove(&key(1)).is_none());
        table.set_name(&key(2), "alice").unwrap();
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_limit_holds_and_a_place_that_is_given_up_can_be_had() {
        let numbered = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            PublicKey::from_bytes(bytes)
        };
        let mut table = Table::new();
        for number in 0..PEERS_MAX {
            table.add(numbered(number)).unwrap();
        }
        assert_eq!(table.add(numbered(PEERS_MAX)), Err(TableError::Full));
        assert_eq!(table.add(numbered(7)), Ok(()), "known already");
        assert!(table.remove(&numbered(7)).is_some());
        assert_eq!(table.add(numbered(PEERS_MAX)), Ok(()));
        assert_eq!(table.len(), PEERS_MAX);
    }
}
