//! Owns what is kept of a packet number space in which nothing is under way: keys as they were agreed, and numbers.
//!
//! What always holds: no number is sealed twice, none is opened twice, and forgeries are counted on. What is under way while the
//! space rests and is older than what came counts as seen.

use super::{KeyLimits, PacketSpace, SKIP_EVERY};
use crate::keys::{OpeningKey, RawKey, SealingKey};
use crate::replay::ReplayWindow;
use crate::sent::{DormantSent, SentPackets};

/// What a packet number space comes to in which nothing is under way.
#[derive(Debug)]
pub(crate) struct DormantSpace {
    sealing: RawKey,
    opening: RawKey,
    /// So many numbers may be sealed until the next is left out.
    skip_in: u16,
    sent: DormantSent,
    /// Numbers below this count as seen: one more than the highest that was opened.
    seen: u64,
    /// One more than the highest to acknowledge. A number that was declined is not among those.
    received: u64,
    limits: KeyLimits,
    forged: u64,
}

const _: () = assert!(2 * SKIP_EVERY <= u16::MAX as u64);

impl PacketSpace {
    /// Whether nothing that was sent or received calls for more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sent.is_quiet()
            && !self.has_ack()
            && !self.ack_now
            && self.ack_deadline.is_none()
            && self.window_wanted.is_none()
            && self.forged < self.limits.forgeries
    }

    /// Keeps what [`PacketSpace::wake`] needs. What is still under way and comes later than this counts as seen.
    pub(crate) fn rest(self) -> DormantSpace {
        debug_assert!(self.is_quiet(), "nothing is lost");
        let Self { sealing, opening, sent, replay, received, skip_in, limits, forged, .. } = self;
        DormantSpace {
            sealing: sealing.raw(),
            opening: opening.raw(),
            skip_in: skip_in as u16,
            sent: sent.rest(),
            seen: replay.highest().map_or(0, |highest| highest + 1),
            received: received.largest().map_or(0, |largest| largest + 1),
            limits,
            forged,
        }
    }

    /// The space as it was, with its keys expanded again. When the largest number came it has forgotten, since the next to be
    /// acknowledged is larger.
    pub(crate) fn wake(dormant: DormantSpace) -> Self {
        let DormantSpace { sealing, opening, skip_in, sent, seen, received, .. } = dormant;
        let DormantSpace { limits, forged, .. } = dormant;
        let keys = (SealingKey::expand(sealing), OpeningKey::expand(opening));
        let new = Self::new(keys, limits, 0);
        let mut space =
            Self { sent: SentPackets::wake(sent), skip_in: skip_in.into(), forged, ..new };
        if let Some(highest) = seen.checked_sub(1) {
            space.replay = ReplayWindow::seen_up_to(highest);
        }
        if let Some(largest) = received.checked_sub(1) {
            space.received.insert(largest);
            space.rate_mark.1 = largest;
        }
        space
    }
}
