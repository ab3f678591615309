//! Owns the measuring of what a session makes us hold, and the end of a peer's patience with unacknowledged datagrams.
//!
//! What always holds: measuring walks, and is done when somebody asks; what bounds memory on the way is [`crate::room::Room`].

use super::Session;
use crate::endpoint::{Limits, PeerMemory};
use crate::lane::Lane;
use crate::limits::{
    ASSOCIATIONS_KEPT_MAX, BLOCK_WINDOW, KEYS_BYTES_MAX, SENT_RECORDS_MAX, WINDOW_GROWTH_BYTES_MAX,
};
use crate::replay::PACKETS_DEFAULT;
use crate::space::{PacketSpace, RANGES_BYTES};
use crate::work;

impl Session {
    /// What this session holds now.
    pub(crate) fn memory(&self) -> PeerMemory {
        let mut memory = PeerMemory::default();
        for lane in &self.lanes {
            lane.add_memory(&mut memory);
        }
        memory.keys += self.lanes.capacity() * size_of::<Lane>();
        for space in self.previous.iter().chain([&self.current]).flat_map(|other| &other.spaces) {
            memory.keys += size_of::<PacketSpace>() + space.window_bytes();
            memory.sent += space.sent.held_bytes();
        }
        memory
    }

    /// Whether the peer lets records of what we sent pile up: more than its datagrams and our log explain.
    #[inline]
    pub(crate) fn is_ignored(&self, limits: &Limits) -> bool {
        self.records() > SENT_RECORDS_MAX && self.records() > self.records_max(limits)
    }

    /// Records of all lanes under all keys: a peer with many shards may leave no more of them than one with few.
    #[inline]
    fn records(&self) -> usize {
        let associations = self.previous.iter().chain([&self.current]);
        let spaces = associations.flat_map(|association| &association.spaces);
        work::count(self.lanes.len());
        spaces.map(|space| space.sent.records()).sum()
    }

    #[cold]
    fn records_max(&self, limits: &Limits) -> usize {
        let logged: usize = self.lanes.iter().map(|lane| lane.log.held_bytes()).sum();
        SENT_RECORDS_MAX + 4 * logged.max(limits.log_bytes_max) / limits.payload_bytes()
    }
}

/// One lane's keys and windows under one association, before its window grows.
const SPACE_BYTES: usize = size_of::<PacketSpace>() + PACKETS_DEFAULT / 8 + RANGES_BYTES;
/// As much as lanes and their keys can come to: all shards that a peer may have, under all keys that are kept. A list that
/// grew may have twice the places that it needs.
const KEYS_BYTES: usize = 255 * (2 * size_of::<Lane>() + BLOCK_WINDOW as usize / 8)
    + (ASSOCIATIONS_KEPT_MAX + 1) * (255 * SPACE_BYTES + WINDOW_GROWTH_BYTES_MAX);
const _: () = assert!(KEYS_BYTES <= KEYS_BYTES_MAX);
