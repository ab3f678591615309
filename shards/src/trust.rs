//! Who may have a session on a channel, and what for: policy, known peers and keep, asked in this order.
//!
//! The keep and the table of peers are the node's, one of each per channel, behind locks that are taken only when somebody is
//! judged, a flow is bound or a peer resolved. Each shard has the policy at hand.
//!
//! Always holds: what the policy says of a key goes before everything else; each channel answers for itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cubed_router::keep::{Arrival, Change, Keep, KeepError, KeyState, Portrait, Ruling};
use cubed_router::policy::{Policy, Verb};
use cubed_router::table::{Table, TableError};
use cubed_runtime::Port;
use cubed_transport::identity::PublicKey;
use cubed_transport::{Newcomer, Verdict};

use crate::keep_writer::{KeepWriter, Stored};
use crate::ports::{plain, reached_from};

/// The trust of one channel, for all shards.
pub(crate) struct ChannelTrust {
    policy: Mutex<Arc<Policy>>,
    /// Peers that this node knows by configuration or has resolved: they may have a session, whatever the policy lets them
    /// do in it.
    peers: RwLock<Table>,
    has_keep: bool,
    /// Gone once the node has ended.
    kept: Mutex<Option<Kept>>,
}

/// A keep and whoever stores it.
pub(crate) struct Kept {
    pub(crate) keep: Keep,
    pub(crate) writer: KeepWriter,
}

/// What the operator says of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Accept,
    Reject,
    Forget,
}

impl ChannelTrust {
    pub(crate) fn new(policy: Policy, kept: Option<Kept>) -> Self {
        Self {
            policy: Mutex::new(Arc::new(policy)),
            peers: RwLock::new(Table::new()),
            has_keep: kept.is_some(),
            kept: Mutex::new(kept),
        }
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&lock(&self.policy))
    }

    /// Puts another policy in force; the shards have to be told.
    pub(crate) fn set_policy(&self, policy: Policy) {
        *lock(&self.policy) = Arc::new(policy);
    }

    /// Whether there is a keep.
    pub(crate) fn has_keep(&self) -> bool {
        self.has_keep
    }

    /// The keep; `None` if the channel has none or the node has ended.
    pub(crate) fn with_keep<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        if !self.has_keep {
            return None;
        }
        lock(&self.kept).as_mut().map(look)
    }

    /// Stores what is not stored yet and frees the keep's file.
    pub(crate) fn close(&self) {
        let kept = lock(&self.kept).take();
        // Waits for the disk, and nobody has to wait for that.
        drop(kept);
    }

    // -- peers

    /// Where this peer may be reached, best first; `None` if it is not known.
    pub(crate) fn addresses(&self, key: &PublicKey) -> Option<Vec<SocketAddr>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(key).map(|peer| peer.addresses().to_vec())
    }

    /// Whether this peer is known.
    pub(crate) fn knows(&self, key: &PublicKey) -> bool {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(key).is_some()
    }

    /// Makes a peer known, if it is not, and says where it may be reached.
    ///
    /// # Errors
    ///
    /// [`TableError::Full`].
    pub(crate) fn resolve(&self, key: &PublicKey) -> Result<Option<SocketAddr>, TableError> {
        if let Some(addresses) = self.addresses(key) {
            return Ok(addresses.first().copied());
        }
        self.change_peers(|peers| peers.add(*key))?;
        Ok(None)
    }

    /// Changes the table of peers; the shards have to be told.
    pub(crate) fn change_peers<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.peers.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The trust of one channel, as one shard has it at hand.
pub(crate) struct ShardTrust {
    pub(crate) policy: Arc<Policy>,
    pub(crate) channel: Arc<ChannelTrust>,
    /// The port that this shard dials from.
    source: Port,
}

impl ShardTrust {
    pub(crate) fn new(channel: &Arc<ChannelTrust>, source: Port) -> Self {
        Self { policy: channel.policy(), channel: Arc::clone(channel), source }
    }

    /// Where this shard may dial a peer, best first; `None` if it is not known.
    pub(crate) fn addresses(&self, key: &PublicKey) -> Option<Vec<SocketAddr>> {
        let addresses = self.channel.addresses(key)?.into_iter();
        Some(addresses.map(|address| reached_from(self.source, address)).collect())
    }

    /// As [`ChannelTrust::resolve`], for this shard to dial.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn resolve(&self, key: &PublicKey) -> Result<Option<SocketAddr>, TableError> {
        let address = self.channel.resolve(key)?;
        Ok(address.map(|address| reached_from(self.source, address)))
    }

    /// Whether this key may say who it is.
    pub(crate) fn admits(&self, key: &PublicKey) -> bool {
        self.channel.has_keep || self.policy.admits(key) || self.channel.knows(key)
    }

    /// Whether this key may do `verb` to `flow`.
    pub(crate) fn allows(&self, key: &PublicKey, verb: Verb, flow: &str) -> bool {
        self.policy.allows(key, verb, flow)
            || (self.policy.allows_accepted(verb, flow)
                && self.state(key) == Some(KeyState::Accepted))
    }

    /// Whether a session with this key may stay: the policy or this node knows it, or the keep has accepted it. Whom the
    /// keep rejects only the policy can help.
    pub(crate) fn may_stay(&self, key: &PublicKey) -> bool {
        self.policy.admits(key)
            || match self.state(key) {
                Some(KeyState::Accepted) => true,
                Some(KeyState::Rejected) => false,
                Some(KeyState::Pending) | None => self.channel.knows(key),
            }
    }

    /// Whether a session with this key may stay although the node's table has it no more.
    pub(crate) fn has_right(&self, key: &PublicKey) -> bool {
        self.policy.admits(key) || self.state(key) == Some(KeyState::Accepted)
    }

    /// What the keep says of a key.
    fn state(&self, key: &PublicKey) -> Option<KeyState> {
        self.channel.with_keep(|kept| kept.keep.state(key)).flatten()
    }

    /// What becomes of somebody who has said who it is, and who else lost its place by it.
    pub(crate) fn judge(&self, newcomer: &Newcomer<'_>) -> (Verdict, Vec<PublicKey>) {
        if self.policy.admits(newcomer.key) {
            return (Verdict::Accepted, Vec::new());
        }
        let is_vouched = self.channel.knows(newcomer.key);
        let by_keep = self.channel.with_keep(|kept| kept.judge(newcomer, is_vouched));
        by_keep.unwrap_or_else(|| {
            let verdict = if is_vouched { Verdict::Accepted } else { Verdict::NotAdmitted };
            (verdict, Vec::new())
        })
    }
}

impl Kept {
    fn judge(&mut self, newcomer: &Newcomer<'_>, is_vouched: bool) -> (Verdict, Vec<PublicKey>) {
        let Newcomer { key, name, role, mode, kind, address, .. } = *newcomer;
        let address = plain(address);
        let (name, role, mode) = (name.to_owned(), role.to_owned(), mode.bits());
        let portrait = Portrait { name, role, mode, kind };
        let arrival = Arrival { key: *key, portrait, address, is_vouched };
        let mut changes = Vec::new();
        let ruling = self.keep.judge(&arrival, &mut changes);
        let is_new = changes.iter().any(|change| matches!(change, Change::Set(_)));
        // Who made room for somebody that waits only waited itself, and has no session.
        let removed = changes.iter().filter_map(|change| match change {
            Change::Removed(key) if ruling == Ruling::Accepted => Some(*key),
            Change::Removed(_) | Change::Set(_) => None,
        });
        let removed = removed.collect();
        self.writer.store(changes);
        let verdict = match ruling {
            Ruling::Accepted => Verdict::Accepted,
            Ruling::Pending => {
                if is_new {
                    let Portrait { name, role, .. } = &arrival.portrait;
                    tracing::warn!(%key, %address, ?name, ?role, "a key waits to be accepted");
                }
                Verdict::Pending
            }
            Ruling::Rejected(cause) => {
                tracing::warn!(%key, %address, %cause, "rejected");
                Verdict::Rejected(cause.as_str())
            }
        };
        (verdict, removed)
    }

    /// Does what the operator says. Returns where the key was seen last, who else was removed, and when all is stored.
    ///
    /// # Errors
    ///
    /// [`KeepError`]; nothing has changed.
    pub(crate) fn decide(&mut self, key: &PublicKey, word: Word) -> Result<Decided, KeepError> {
        let mut changes = Vec::new();
        let address = match word {
            Word::Accept => self.keep.accept(key, &mut changes)?,
            Word::Reject => self.keep.reject(key, &mut changes).map(|()| None)?,
            Word::Forget => self.keep.forget(key, &mut changes).map(|()| None)?,
        };
        let removed = changes.iter().filter_map(|change| match change {
            Change::Removed(key) => Some(*key),
            Change::Set(entry) => (entry.state == KeyState::Rejected).then_some(entry.key),
        });
        let removed = removed.collect();
        self.writer.store(changes);
        Ok(Decided { address, removed, stored: self.writer.stored() })
    }
}

/// What follows from the operator's word.
pub(crate) struct Decided {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) removed: Vec<PublicKey>,
    pub(crate) stored: Stored,
}

/// A panic while the lock was held leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    //! Goal: only who had a session is told of as removed, and a rejection goes before what the node knows.
    use super::*;
    use cubed_router::keep::{PENDING_PER_NETWORK_MAX, Trust};
    use cubed_transport::{ChannelId, NodeMode};

    use crate::keep_file::KeepFile;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn channel(folder: &tempfile::TempDir, trust: Trust) -> ShardTrust {
        let file = KeepFile::open(folder.path().join("keep.toml"), "").unwrap();
        let keep = file.keep().clone().with_rules(trust, true);
        let kept = Kept { keep, writer: KeepWriter::start(file).unwrap() };
        let channel = Arc::new(ChannelTrust::new(Policy::deny(), Some(kept)));
        ShardTrust::new(&channel, Port::Shared)
    }

    fn judge(trust: &ShardTrust, key: &PublicKey, role: &str) -> (Verdict, Vec<PublicKey>) {
        trust.judge(&Newcomer {
            channel: ChannelId::DEFAULT,
            key,
            address: "10.0.0.1:1".parse().unwrap(),
            name: "",
            role,
            mode: NodeMode::PLAIN,
            kind: 0,
            is_dialled: false,
        })
    }

    #[test]
    fn who_makes_room_for_one_that_waits_is_nobody_to_the_shards() {
        let folder = tempfile::tempdir().unwrap();
        let trust = channel(&folder, Trust::Never);
        for number in 0..4 * PENDING_PER_NETWORK_MAX as u8 {
            let role = format!("role {number}");
            let judged = judge(&trust, &key(number), &role);
            assert_eq!(judged, (Verdict::Pending, Vec::new()));
        }
        let dropped = trust.channel.with_keep(|kept| kept.keep.pending_dropped());
        assert!(dropped > Some(0), "places had to be made");
    }

    #[test]
    fn who_loses_its_role_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let trust = channel(&folder, Trust::Always);
        assert_eq!(judge(&trust, &key(1), "sensor"), (Verdict::Accepted, Vec::new()));
        assert_eq!(judge(&trust, &key(2), "sensor"), (Verdict::Accepted, vec![key(1)]));
    }

    #[test]
    fn a_rejection_holds_for_known_peers_too() {
        let folder = tempfile::tempdir().unwrap();
        let trust = channel(&folder, Trust::Never);
        trust.channel.resolve(&key(1)).unwrap();
        assert!(trust.may_stay(&key(1)), "known");
        trust.channel.with_keep(|kept| kept.decide(&key(1), Word::Reject)).unwrap().unwrap();
        assert!(!trust.may_stay(&key(1)), "known and rejected");
        trust.channel.with_keep(|kept| kept.decide(&key(1), Word::Accept)).unwrap().unwrap();
        assert!(trust.may_stay(&key(1)));
    }
}
