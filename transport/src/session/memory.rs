//! Owns the measuring of what a session makes us hold, and the end of a peer's patience with unacknowledged datagrams.
//!
//! What always holds: measuring walks, and is done when somebody asks; what bounds memory on the way is [`crate::room::Room`].

use super::Session;
use crate::association::Association;
use crate::endpoint::{Limits, PeerMemory};
use crate::limits::{ASSOCIATIONS_KEPT_MAX, BLOCK_WINDOW, KEYS_BYTES_MAX, SENT_RECORDS_MAX};
use crate::replay::REPLAY_PACKETS_MAX;
use crate::space::RANGES_BYTES;

impl Session {
    /// What this session holds now.
    pub(crate) fn memory(&self) -> PeerMemory {
        let mut memory = PeerMemory::default();
        self.lane.add_memory(&mut memory);
        memory.keys += size_of::<Self>() + self.previous.capacity() * size_of::<Association>();
        for Association { space, .. } in self.previous.iter().chain([&self.current]) {
            memory.keys += space.window_bytes();
            memory.sent += space.sent.held_bytes();
        }
        memory
    }

    /// Whether the peer lets records of what we sent pile up: more than its datagrams and our log explain.
    #[inline]
    pub(crate) fn is_ignored(&self, limits: &Limits) -> bool {
        self.records() > SENT_RECORDS_MAX && self.records() > self.records_max(limits)
    }

    /// Records under all keys.
    #[inline]
    fn records(&self) -> usize {
        let associations = self.previous.iter().chain([&self.current]);
        associations.map(|association| association.space.sent.records()).sum()
    }

    #[cold]
    fn records_max(&self, limits: &Limits) -> usize {
        let logged = self.lane.log.held_bytes();
        SENT_RECORDS_MAX + 4 * logged.max(limits.log_bytes_max) / limits.payload_bytes()
    }
}

/// Windows under one association at their longest.
const WINDOWS_BYTES: usize = REPLAY_PACKETS_MAX / 8 + RANGES_BYTES;
/// As much as a session and its keys can come to, under all keys that are kept. A list that grew may have twice the places that
/// it needs.
const KEYS_BYTES: usize = size_of::<Session>()
    + BLOCK_WINDOW as usize / 8
    + 2 * (ASSOCIATIONS_KEPT_MAX + 1) * size_of::<Association>()
    + (ASSOCIATIONS_KEPT_MAX + 2) * WINDOWS_BYTES;
const _: () = assert!(KEYS_BYTES <= KEYS_BYTES_MAX);
