//! Whether an idle shard polls on or sleeps: pure policy, time as an argument.
//!
//! Always holds: an idle period of any length costs at most the policy's bound in polling, once; a wake
//! that brings no work does not begin a new one. So an idle shard uses no CPU.

use std::time::Duration;

/// Longest polling of the adaptive policy in one idle period: about what falling asleep and being
/// woken costs here, so polling never costs more than twice the best choice made in hindsight.
const ADAPTIVE_SPIN_NANOS: u64 = 50_000;

/// What being woken adds to a gap that was slept through: 25 us here (parked echo 59 us, polled 7).
/// Polling would have seen the gap shorter by that, and it is polling that is to be decided on.
const WAKE_NANOS: u64 = 25_000;

/// An idle gap counts as at most this long, so that a few short ones make up for a long one.
const GAP_NANOS_MAX: u64 = 4 * ADAPTIVE_SPIN_NANOS;

/// New gaps weigh one part in this many in the average.
const GAP_WEIGHT: u64 = 4;

/// How an idle shard waits for work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpinPolicy {
    /// Sleep at once: least CPU, and each message that finds the shard idle pays a wake-up.
    Never,
    /// Poll this long, then sleep: lowest latency for the price of a busy core.
    For(Duration),
    /// Poll up to 50 us, and only while recent idle gaps were shorter than that.
    #[default]
    Adaptive,
}

/// What to do now that there is no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpinDecision {
    /// Poll again.
    Spin,
    /// Sleep until something happens.
    Park,
}

/// A [`SpinPolicy`] with its memory of the idle gaps so far.
#[derive(Debug, Clone)]
pub struct Spinner {
    policy: SpinPolicy,
    idle_since_nanos: Option<u64>,
    gap_average_nanos: u64,
    slept: bool,
}

impl Spinner {
    /// A spinner that has seen nothing yet; the adaptive one begins by sleeping.
    pub fn new(policy: SpinPolicy) -> Self {
        Self { policy, idle_since_nanos: None, gap_average_nanos: GAP_NANOS_MAX, slept: false }
    }

    /// A turn found nothing to do; `now_nanos` as of [`crate::clock::Clock`].
    #[inline]
    pub fn on_idle(&mut self, now_nanos: u64) -> SpinDecision {
        let idle_since = *self.idle_since_nanos.get_or_insert(now_nanos);
        if now_nanos.saturating_sub(idle_since) < self.spin_nanos() {
            SpinDecision::Spin
        } else {
            self.slept = true;
            SpinDecision::Park
        }
    }

    /// A turn did something; ends the idle period, if there was one.
    #[inline]
    pub fn on_work(&mut self, now_nanos: u64) {
        let Some(idle_since) = self.idle_since_nanos.take() else {
            return;
        };
        let woken_nanos = if self.slept { WAKE_NANOS } else { 0 };
        self.slept = false;
        let gap =
            now_nanos.saturating_sub(idle_since.saturating_add(woken_nanos)).min(GAP_NANOS_MAX);
        let kept = self.gap_average_nanos - self.gap_average_nanos / GAP_WEIGHT;
        self.gap_average_nanos = kept + gap / GAP_WEIGHT;
    }

    /// The policy this spinner follows.
    pub fn policy(&self) -> SpinPolicy {
        self.policy
    }

    /// How long the current idle period may be polled through.
    fn spin_nanos(&self) -> u64 {
        match self.policy {
            SpinPolicy::For(duration) => u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            SpinPolicy::Adaptive if self.gap_average_nanos < ADAPTIVE_SPIN_NANOS => {
                ADAPTIVE_SPIN_NANOS
            }
            SpinPolicy::Never | SpinPolicy::Adaptive => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADAPTIVE_SPIN_NANOS, SpinDecision, SpinPolicy, Spinner};
    use std::time::Duration;

    /// Plays an idle period: polls each microsecond while told to spin; returns the time spent so.
    fn idle(spinner: &mut Spinner, now_nanos: &mut u64, gap_nanos: u64) -> u64 {
        let begin = *now_nanos;
        let mut spun = 0;
        while *now_nanos < begin + gap_nanos && spinner.on_idle(*now_nanos) == SpinDecision::Spin {
            *now_nanos += 1_000;
            spun += 1_000;
        }
        *now_nanos = begin + gap_nanos;
        spinner.on_work(*now_nanos);
        spun
    }

    #[test]
    fn never_parks_at_once() {
        let mut spinner = Spinner::new(SpinPolicy::Never);
        assert_eq!(spinner.on_idle(5), SpinDecision::Park);
    }

    #[test]
    fn a_fixed_time_is_polled_once_per_idle_period() {
        let mut spinner = Spinner::new(SpinPolicy::For(Duration::from_micros(10)));
        assert_eq!(spinner.on_idle(1_000), SpinDecision::Spin);
        assert_eq!(spinner.on_idle(10_999), SpinDecision::Spin);
        assert_eq!(spinner.on_idle(11_000), SpinDecision::Park);
        // Woken for nothing: the idle period goes on, and is not polled a second time.
        assert_eq!(spinner.on_idle(90_000), SpinDecision::Park);
        spinner.on_work(95_000);
        assert_eq!(spinner.on_idle(96_000), SpinDecision::Spin);
    }

    #[test]
    fn the_longest_time_polls_for_ever() {
        let mut spinner = Spinner::new(SpinPolicy::For(Duration::MAX));
        assert_eq!(spinner.on_idle(0), SpinDecision::Spin);
        assert_eq!(spinner.on_idle(u64::MAX - 1), SpinDecision::Spin);
    }

    #[test]
    fn two_sleepers_who_answer_each_other_come_to_poll() {
        let mut spinner = Spinner::new(SpinPolicy::Adaptive);
        let mut now = 0;
        // An echo parked on both sides takes 59 us, most of it waking up.
        let spun: u64 = (0..20).map(|_| idle(&mut spinner, &mut now, 59_000)).sum();
        assert!(spun > 0);
    }

    #[test]
    fn adaptive_polls_once_gaps_are_short_and_stops_when_they_are_long() {
        let mut spinner = Spinner::new(SpinPolicy::Adaptive);
        let mut now = 0;
        assert_eq!(idle(&mut spinner, &mut now, 10_000), 0, "nothing is known yet");
        for _ in 0..20 {
            idle(&mut spinner, &mut now, 10_000);
        }
        assert_eq!(idle(&mut spinner, &mut now, 10_000), 10_000, "gaps are short");
        assert_eq!(idle(&mut spinner, &mut now, 1_000_000_000), ADAPTIVE_SPIN_NANOS, "bounded");
        let spun: u64 = (0..100).map(|_| idle(&mut spinner, &mut now, 1_000_000)).sum();
        assert!(spun <= ADAPTIVE_SPIN_NANOS, "long gaps are slept through, but {spun} ns were not");
    }
}
