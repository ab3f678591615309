//! Who may have a session on a channel, and what for: policy, configured peers and keep, asked in this order.
//!
//! Always holds: what the policy says of a key goes before everything else; each channel answers for itself.

use std::collections::HashSet;
use std::sync::Arc;

use cubed_router::keep::{Arrival, Change, Keep, KeepError, KeyState, Portrait, Ruling};
use cubed_router::policy::{Policy, Verb};
use cubed_transport::identity::PublicKey;
use cubed_transport::{Newcomer, Verdict};

use crate::keep_writer::{KeepWriter, Stored};

/// The trust of one channel.
pub(crate) struct ChannelTrust {
    pub(crate) policy: Arc<Policy>,
    /// Peers that this node knows by configuration or has resolved: they may have a session, whatever the policy lets them
    /// do in it.
    pub(crate) known: HashSet<PublicKey>,
    pub(crate) kept: Option<Kept>,
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
    /// Whether this key may say who it is.
    pub(crate) fn admits(&self, key: &PublicKey) -> bool {
        self.kept.is_some() || self.known.contains(key) || self.policy.admits(key)
    }

    /// Whether this key may do `verb` to `flow`.
    pub(crate) fn allows(&self, key: &PublicKey, verb: Verb, flow: &str) -> bool {
        self.policy.allows(key, verb, flow)
            || (self.policy.allows_accepted(verb, flow) && self.has_accepted(key))
    }

    fn has_accepted(&self, key: &PublicKey) -> bool {
        let state = self.kept.as_ref().and_then(|kept| kept.keep.state(key));
        state == Some(KeyState::Accepted)
    }

    /// Whether a session with this key may stay: the policy or this node knows it, or the keep has accepted it.
    pub(crate) fn may_stay(&self, key: &PublicKey) -> bool {
        self.policy.admits(key) || self.known.contains(key) || self.has_accepted(key)
    }

    /// What becomes of somebody who has said who it is, and who else lost its place by it.
    pub(crate) fn judge(&mut self, newcomer: &Newcomer<'_>) -> (Verdict, Vec<PublicKey>) {
        let key = *newcomer.key;
        if self.policy.admits(&key) {
            return (Verdict::Accepted, Vec::new());
        }
        let is_vouched = self.known.contains(&key);
        let Some(Kept { keep, writer }) = &mut self.kept else {
            let verdict = if is_vouched { Verdict::Accepted } else { Verdict::NotAdmitted };
            return (verdict, Vec::new());
        };
        let Newcomer { name, role, mode, kind, address, .. } = *newcomer;
        let (name, role, mode) = (name.to_owned(), role.to_owned(), mode.bits());
        let portrait = Portrait { name, role, mode, kind };
        let arrival = Arrival { key, portrait, address, is_vouched };
        let mut changes = Vec::new();
        let ruling = keep.judge(&arrival, &mut changes);
        let is_new = changes.iter().any(|change| matches!(change, Change::Set(_)));
        let removed = changes.iter().filter_map(|change| match change {
            Change::Removed(key) => Some(*key),
            Change::Set(_) => None,
        });
        let removed = removed.collect();
        writer.store(changes);
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
}

impl Kept {
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
    pub(crate) address: Option<std::net::SocketAddr>,
    pub(crate) removed: Vec<PublicKey>,
    pub(crate) stored: Stored,
}
