//! Owns the measuring of what a session makes us hold, and the end of a peer's patience with unacknowledged datagrams.
//!
//! What always holds: measuring walks, and is done when somebody asks; what bounds memory on the way is [`crate::room::Room`].

use super::Session;
use crate::endpoint::{Limits, PeerMemory};
use crate::limits::SENT_RECORDS_MAX;
use crate::space::PacketSpace;

impl Session {
    /// What this session holds now.
    pub(crate) fn memory(&self) -> PeerMemory {
        let mut memory = PeerMemory::default();
        for lane in &self.lanes {
            lane.add_memory(&mut memory);
        }
        for space in self.previous.iter().chain([&self.current]).flat_map(|other| &other.spaces) {
            memory.keys += size_of::<PacketSpace>() + space.window_bytes();
            memory.sent += space.sent.held_bytes();
        }
        memory
    }

    /// Whether the peer lets records of what we sent pile up: more than its datagrams and our log explain.
    #[inline]
    pub(crate) fn is_ignored(&self, limits: &Limits) -> bool {
        let spaces = &self.current.spaces;
        spaces.iter().any(|space| space.sent.records() > SENT_RECORDS_MAX)
            && spaces.iter().any(|space| space.sent.records() > records_max(limits))
    }
}

#[cold]
fn records_max(limits: &Limits) -> usize {
    SENT_RECORDS_MAX + 4 * limits.log_bytes_max / limits.payload_bytes()
}
