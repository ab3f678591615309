//! What changed for all shards of a node: a short log that each of them follows by itself.
//!
//! Always holds: who reads after a change was added sees it, and what it is about, which was changed before; a reader
//! that is up to date pays one atomic load; the log is bounded, and whoever fell behind its beginning is told so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cubed_transport::ChannelId;
use cubed_transport::identity::PublicKey;
use std::net::SocketAddr;

use crate::limits::CHANGES_MAX;

/// One change that concerns every shard. What is now, the reader looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Somebody may do more than before: bindings are asked for again.
    Rights,
    /// A channel has another policy.
    Policy(ChannelId),
    /// This key has lost its place: its sessions end, unless the policy names it.
    Ended(ChannelId, PublicKey),
    /// This peer was added, or has other addresses.
    Peer(ChannelId, PublicKey),
    /// This peer was forgotten, whatever was added since.
    Forgotten(ChannelId, PublicKey),
    /// This key was accepted while it waited, and is told by being dialled there.
    Accepted(ChannelId, PublicKey, SocketAddr),
    /// The reader fell behind: anything may have changed.
    Everything,
}

/// The log.
#[derive(Default)]
pub(crate) struct Changes {
    /// How many were ever added: the position of the end.
    end: AtomicU64,
    newest: Mutex<VecDeque<Change>>,
}

impl Changes {
    /// Adds changes; what they are about has been changed by now.
    pub(crate) fn add(&self, changes: impl IntoIterator<Item = Change>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = newest.len();
        newest.extend(changes);
        let added = newest.len() - before;
        let excess = newest.len().saturating_sub(CHANGES_MAX);
        newest.drain(..excess);
        self.end.fetch_add(added as u64, Ordering::Release);
    }

    /// Whether something was added beyond `position`.
    #[inline]
    pub(crate) fn is_ahead_of(&self, position: u64) -> bool {
        self.end.load(Ordering::Acquire) != position
    }

    /// Copies at most `max` changes beyond `position` to `out`, and moves it.
    pub(crate) fn read(&self, position: &mut u64, max: usize, out: &mut Vec<Change>) {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.end.load(Ordering::Relaxed);
        let behind = (end - *position) as usize;
        let Some(from) = newest.len().checked_sub(behind) else {
            *position = end;
            out.push(Change::Everything);
            return;
        };
        let taken = behind.min(max);
        out.extend(newest.range(from..from + taken));
        *position += taken as u64;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every reader sees every change once and in order, or is told that it missed some.
    use super::*;

    fn policy(number: u8) -> Change {
        Change::Policy(ChannelId(number))
    }

    #[test]
    fn readers_follow_at_their_own_pace() {
        let changes = Changes::default();
        let (mut fast, mut slow, mut out) = (0, 0, Vec::new());
        assert!(!changes.is_ahead_of(fast));
        for number in 0..10 {
            changes.add([policy(number)]);
            changes.read(&mut fast, 8, &mut out);
            assert!(!changes.is_ahead_of(fast) && changes.is_ahead_of(slow));
        }
        let all: Vec<_> = (0..10).map(policy).collect();
        assert_eq!(std::mem::take(&mut out), all);
        while changes.is_ahead_of(slow) {
            changes.read(&mut slow, 3, &mut out);
        }
        assert_eq!(out, all);
    }

    #[test]
    fn the_log_is_bounded_and_says_what_was_missed() {
        let changes = Changes::default();
        let (mut position, mut out) = (0, Vec::new());
        changes.add((0..CHANGES_MAX).map(|_| policy(1)));
        changes.add([policy(2)]);
        changes.read(&mut position, 1, &mut out);
        assert_eq!(out, [Change::Everything]);
        assert!(!changes.is_ahead_of(position), "everything covers the rest");
        changes.add((0..CHANGES_MAX).map(|_| policy(3)));
        out.clear();
        changes.read(&mut position, usize::MAX, &mut out);
        assert_eq!(out.len(), CHANGES_MAX);
    }
}
