//! Points in time as the protocol sees them: nanoseconds on a monotonic clock whose origin nobody
//! needs to know.
//!
//! The crate reads no clock; every entry point is given `now`. Arithmetic saturates, so that no
//! clock and no duration computed from a peer's bytes can panic.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point on a monotonic clock, in nanoseconds since an origin that the clock's owner chose.
///
/// Instants of different clocks must not be compared. 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after the clock's origin.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, zero when `earlier` is in fact the later one.
    #[inline]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// The later instant, at most the last one the clock can name.
    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_saturating(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// The earlier instant, at least the clock's origin.
    #[inline]
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos_saturating(duration)))
    }
}

/// `duration` in nanoseconds; `u64::MAX` when it is longer than 64 bits can say.
#[inline]
pub(crate) const fn nanos_saturating(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_moves_by_nanoseconds() {
        let mut at = Instant::from_nanos(1_000);
        assert_eq!(at + Duration::from_micros(2), Instant::from_nanos(3_000));
        assert_eq!(at - Duration::from_nanos(400), Instant::from_nanos(600));
        at += Duration::from_secs(1);
        assert_eq!(at.as_nanos(), 1_000_001_000);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let last = Instant::from_nanos(u64::MAX);
        assert_eq!(last + Duration::from_nanos(1), last);
        assert_eq!(Instant::default() + Duration::MAX, last);
        assert_eq!(last - Duration::MAX, Instant::default());
        assert_eq!(Instant::from_nanos(5) - Duration::from_nanos(6), Instant::default());
    }

    #[test]
    fn duration_since_a_later_instant_is_zero() {
        let (early, late) = (Instant::from_nanos(10), Instant::from_nanos(35));
        assert_eq!(late.saturating_duration_since(early), Duration::from_nanos(25));
        assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
    }
}
