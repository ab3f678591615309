//! Owns how much of something is given a second, and how much of that at once.
//!
//! What always holds: in any stretch of time no more is given than its seconds' worth and what may be given at once; a clock that
//! goes back gives nothing.

use std::time::Duration;

use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// So many a second, some of them at once: a token bucket that is one point in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// What one costs; `None` when nothing is given.
    interval: Option<Duration>,
    /// So much time's worth may be given at once.
    at_once: Duration,
    /// When all of it will be there again, as seen from the last one taken.
    full_at: Instant,
}

impl Allowance {
    /// `per_second` of them, of which the worth of the time `at_once` may go at once, or one if that is less than one.
    pub(crate) fn new(per_second: u32, at_once: Duration) -> Self {
        let interval = SECOND.checked_div(per_second);
        let at_once = at_once.max(interval.unwrap_or_default());
        Self { interval, at_once, full_at: Instant::default() }
    }

    /// Whether one may be taken now.
    pub(crate) fn has_any(&self, now: Instant) -> bool {
        let missing = self.full_at.saturating_duration_since(now);
        self.interval.is_some_and(|interval| missing + interval <= self.at_once)
    }

    /// Takes one if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let has_any = self.has_any(now);
        if has_any {
            self.full_at = self.full_at.max(now) + self.interval.unwrap_or_default();
        }
        has_any
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an allowance gives its number at once and each second, whatever the clock does.
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(5_000_000_000 + millis * 1_000_000)
    }

    fn taken(allowance: &mut Allowance, now: Instant) -> usize {
        (0..1_000).take_while(|_| allowance.take(now)).count()
    }

    #[test]
    fn it_fills_in_its_time_and_no_further() {
        let mut allowance = Allowance::new(50, SECOND);
        assert_eq!(taken(&mut allowance, at(0)), 50);
        assert_eq!(taken(&mut allowance, at(0)), 0);
        assert_eq!(taken(&mut allowance, at(19)), 0);
        assert_eq!(taken(&mut allowance, at(100)), 5);
        assert_eq!(taken(&mut allowance, at(3_600_000)), 50);
        assert_eq!(taken(&mut allowance, at(0)), 0, "a clock that went back gives nothing");
    }

    #[test]
    fn a_part_of_a_second_is_given_at_once_and_then_the_rate() {
        let mut allowance = Allowance::new(100, SECOND / 4);
        assert_eq!(taken(&mut allowance, at(0)), 25);
        for step in 1..=100 {
            assert_eq!(taken(&mut allowance, at(10 * step)), 1);
        }
        assert_eq!(taken(&mut allowance, at(3_600_000)), 25);
    }

    #[test]
    fn one_goes_at_once_however_rare_and_none_of_nothing() {
        assert_eq!(taken(&mut Allowance::new(1, SECOND / 4), at(0)), 1);
        assert_eq!(taken(&mut Allowance::new(0, SECOND), at(0)), 0);
    }
}
