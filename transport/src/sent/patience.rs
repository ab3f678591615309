//! Owns how long a missing packet is waited for: packets above it, and time (RFC 9002 section 6.1; RFC 8985 section 6.2
//! for the time).
//!
//! What always holds: patience grows only by reordering that an acknowledgement proved, by at least a factor of two and up
//! to a ceiling, so that a peer which claims reordering is believed a few times and no more.

use std::time::Duration;

use crate::rtt::RttEstimator;

/// RFC 9002 section 6.1.1: packets acknowledged above a missing one before it counts as lost.
const PACKETS_INITIAL: u64 = 3;
/// Beyond this, time decides.
const PACKETS_MAX: u64 = 1_024;
/// Two round trips. RFC 8985 section 6.2 stops at one, but does not undo what it learns from.
const EIGHTHS_MAX: u32 = 16;
/// After this many losses without a spurious one the network counts as changed, and patience is halved.
const LOSSES_UNTIL_RELAXED: u32 = 256;

/// How long a packet is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    packets: u64,
    /// Eighths of a round trip waited beyond RFC 9002's one: none at first, two round trips at most.
    eighths: u32,
    losses: u32,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { packets: PACKETS_INITIAL, eighths: 0, losses: 0 }
    }

    /// Packets acknowledged above a missing one before it counts as lost.
    #[inline]
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    /// Time to wait beyond [`RttEstimator::loss_delay`].
    #[inline]
    pub(super) fn extra(&self, rtt: &RttEstimator) -> Duration {
        if self.eighths == 0 { Duration::ZERO } else { rtt.smoothed() * self.eighths / 8 }
    }

    /// A packet counted as lost turned out to have arrived, `late` after it was sent, when the largest acknowledged was
    /// `distance` above it (none when time had decided). Returns whether patience grew.
    pub(super) fn on_spurious(
        &mut self,
        distance: Option<u64>,
        late: Duration,
        rtt: &RttEstimator,
    ) -> bool {
        self.losses = 0;
        match distance {
            Some(distance) if self.packets < PACKETS_MAX => {
                if distance < self.packets {
                    return false;
                }
                self.packets = (2 * self.packets).max(distance + 1).min(PACKETS_MAX);
                true
            }
            None if self.eighths < EIGHTHS_MAX => {
                if late < rtt.loss_delay() + self.extra(rtt) {
                    return false;
                }
                self.eighths = (2 * self.eighths).clamp(1, EIGHTHS_MAX);
                true
            }
            _ => false,
        }
    }

    /// A packet counts as lost.
    pub(super) fn on_lost(&mut self) {
        self.losses += 1;
        if self.losses >= LOSSES_UNTIL_RELAXED {
            self.losses = 0;
            self.packets = (self.packets / 2).max(PACKETS_INITIAL);
            self.eighths /= 2;
        }
    }
}
