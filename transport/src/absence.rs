//! Owns the latest time in which nobody ran this endpoint although a timer of its was due: the process was stopped, or its
//! machine slept.
//!
//! What always holds: only what an absence and a wait have in common is taken off the wait, so what the network took stays
//! (RFC 9002 section 5.3 asks to leave local delays out of round trips).

use std::time::Duration;

use crate::time::Instant;

/// A timer that fires less late than this tells nothing: turns of a busy shard take milliseconds.
const LATE_MIN: Duration = Duration::from_millis(10);

/// An absence; the default is one without length, long ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Absence {
    from: Instant,
    until: Instant,
}

impl Absence {
    /// Somebody calls at `now`, when a timer had been due at `due`. Returns whether that shows another absence than the latest.
    #[inline]
    pub(crate) fn note(&mut self, due: Instant, now: Instant) -> bool {
        if now <= due + LATE_MIN {
            return false;
        }
        let is_new = self.from != due;
        *self = Self { from: due, until: now };
        is_new
    }

    /// How much of the time since `begun` it took.
    #[inline]
    pub(crate) fn since(&self, begun: Instant) -> Duration {
        self.until.saturating_duration_since(self.from.max(begun))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an absence is noticed once and counts as far as it lies within a wait.
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_timer_is_an_absence_and_a_busy_turn_is_none() {
        let mut absence = Absence::default();
        assert!(!absence.note(at(100), at(110)));
        assert_eq!(absence.since(at(0)), Duration::ZERO);
        assert!(absence.note(at(100), at(150)));
        assert!(!absence.note(at(100), at(151)), "another datagram before the timer is served");
        assert!(absence.note(at(200), at(250)));
    }

    #[test]
    fn only_what_lies_within_the_wait_is_taken_off() {
        let mut absence = Absence::default();
        absence.note(at(100), at(150));
        assert_eq!(absence.since(at(90)), 50 * MS);
        assert_eq!(absence.since(at(130)), 20 * MS);
        assert_eq!(absence.since(at(150)), Duration::ZERO);
        assert_eq!(absence.since(at(170)), Duration::ZERO);
    }
}
