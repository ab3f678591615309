//! Owns what a send log comes to in which nothing stands: its counts.
//!
//! What always holds: numbers and serials go on where they were, so that nothing is used twice.

use super::SendLog;

/// A send log in which nothing stands.
#[derive(Debug)]
pub(crate) struct DormantLog {
    /// Number of the next block; all before it are settled.
    next: u64,
    opened: u64,
    last_group: u32,
    bodies_gone: u64,
    stamps: Vec<u64>,
    skips_next: u64,
    block_bytes: usize,
    slot_bytes: usize,
    bytes_max: usize,
}

impl SendLog {
    /// Whether nothing stands here, and nothing is to be told of what did.
    pub(crate) fn is_quiet(&self) -> bool {
        self.blocks.is_empty()
            && self.settled == self.base
            && self.pending == 0
            && self.held_bytes == 0
            && !self.classes.iter().any(super::Class::has_unsent)
            && self.groups.is_empty()
            && self.deadlines.is_empty()
            && self.parked == 0
            && self.skips.len() == 0
            && !self.has_ended()
            && self.notify.is_empty()
            && self.parts.is_none()
    }

    /// Keeps what [`SendLog::wake`] needs.
    pub(crate) fn rest(self) -> DormantLog {
        debug_assert!(self.is_quiet(), "nothing is lost");
        let Self { base: next, opened, last_group, bodies_gone, mut stamps, skips, .. } = self;
        let Self { block_bytes, slot_bytes, bytes_max, .. } = self;
        stamps.shrink_to_fit();
        let skips_next = skips.next_id();
        DormantLog {
            next,
            opened,
            last_group,
            bodies_gone,
            stamps,
            skips_next,
            block_bytes,
            slot_bytes,
            bytes_max,
        }
    }

    /// The log as it was.
    pub(crate) fn wake(dormant: DormantLog) -> Self {
        let DormantLog { next, opened, last_group, bodies_gone, stamps, .. } = dormant;
        let DormantLog { skips_next, block_bytes, slot_bytes, bytes_max, .. } = dormant;
        let mut log = Self {
            base: next,
            settled: next,
            opened,
            last_group,
            bodies_gone,
            stamps,
            block_bytes,
            ..Self::new(slot_bytes, bytes_max)
        };
        log.skips.go_on_from(skips_next);
        log
    }
}
