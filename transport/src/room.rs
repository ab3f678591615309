//! Owns how much a peer may still make us hold in a session: messages in fragments, refusals, sequences given up.
//!
//! What always holds: what was taken out is given back when it is freed; a session begins with a fresh room.

use crate::common::Fault;
use crate::limits::{
    FRAGMENTS_SLACK_BYTES, Limits, PEER_FIXED_BYTES, REFUSALS_MAX, REFUSALS_OVERDRAFT_MAX,
    REFUSALS_PER_BLOCK_MAX, SEQUENCES_GONE_MAX,
};

/// What is left of a peer's budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes for acknowledged messages in fragments.
    pub(crate) fragments: usize,
    /// Bytes for best-effort messages in fragments.
    pub(crate) best_effort_fragments: usize,
    /// Refusals that may be remembered; below zero for a block that had to be taken, down to [`REFUSALS_OVERDRAFT_MAX`]. A message
    /// whose answer was put off takes the place of a refusal until it is answered.
    pub(crate) refusals: isize,
    /// Runs of sequences given up that may be remembered.
    pub(crate) gone: usize,
    fragments_tight: usize,
}

impl Room {
    /// The room of a session that begins. A fifth of what may be assembled is for best effort: four messages of the longest
    /// kind and one, as long as `peer_bytes_max` has its default.
    pub(crate) fn new(limits: &Limits) -> Self {
        let longest = limits.message_bytes_max.max(1 << 20) as usize;
        let assembled = (limits.peer_bytes_max.saturating_sub(PEER_FIXED_BYTES)).min(5 * longest);
        let fragments = assembled / 5 * 4;
        Self {
            fragments: fragments + FRAGMENTS_SLACK_BYTES,
            best_effort_fragments: assembled / 5 + FRAGMENTS_SLACK_BYTES,
            refusals: REFUSALS_MAX as isize,
            gone: SEQUENCES_GONE_MAX,
            fragments_tight: fragments / 2,
        }
    }

    /// Whether a block must be looked at before it is taken.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.fragments < self.fragments_tight || self.is_short_of_refusals()
    }

    /// Whether the refusals of one block might not find room.
    #[inline]
    pub(crate) fn is_short_of_refusals(&self) -> bool {
        self.refusals < REFUSALS_PER_BLOCK_MAX as isize
    }

    /// Tells whether more refusals were remembered than any sender needs that acknowledges what it is told. Messages `unanswered`
    /// are none yet, and wait for us.
    ///
    /// # Errors
    /// The session is to end.
    pub(crate) fn check_refusals(&self, unanswered: usize) -> Result<(), Fault> {
        if self.refusals + (unanswered as isize) < -(REFUSALS_OVERDRAFT_MAX as isize) {
            return Err(Fault::OverMemory("refusals that cannot be told"));
        }
        Ok(())
    }
}
