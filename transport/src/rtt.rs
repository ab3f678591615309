//! The round-trip estimate of a path: RFC 9002 section 5, and the two timeouts made of it.
//!
//! Kept in whole nanoseconds, so that paths of a few microseconds are measured as well as slow
//! ones. A sample is clamped on entry, which keeps all later sums within 64 bits.

use std::time::Duration;

use crate::time::nanos_saturating;

/// The estimate before the first sample: `kInitialRtt`, RFC 9002 section 6.2.2.
pub const INITIAL_DEFAULT: Duration = Duration::from_millis(333);

/// The least time by which timeouts exceed what was measured: `kGranularity`, RFC 9002 section
/// 6.1.2. On loopback it is fifty round trips; it still has to cover a scheduler's pauses.
pub const GRANULARITY_DEFAULT: Duration = Duration::from_millis(1);

/// Samples above this count as this: 2^59 ns, 18 years, so that nine times it fits 64 bits.
const SAMPLE_NANOS_MAX: u64 = 1 << 59;

/// Round-trip time of one path: smoothed, variation, minimum and latest.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    smoothed_nanos: u64,
    variance_nanos: u64,
    min_nanos: u64,
    latest_nanos: u64,
    granularity_nanos: u64,
    has_sample: bool,
}

impl Default for RttEstimator {
    /// An estimator that starts at [`INITIAL_DEFAULT`].
    fn default() -> Self {
        Self::new(INITIAL_DEFAULT)
    }
}

impl RttEstimator {
    /// An estimator that says `initial` until its first sample, with [`GRANULARITY_DEFAULT`].
    pub const fn new(initial: Duration) -> Self {
        Self::with_granularity(initial, GRANULARITY_DEFAULT)
    }

    /// The same with another granularity: how late the caller's timers may fire.
    pub const fn with_granularity(initial: Duration, granularity: Duration) -> Self {
        let initial = clamped(initial);
        Self {
            smoothed_nanos: initial,
            // RFC 9002 section 5.3: half the initial round trip.
            variance_nanos: initial / 2,
            min_nanos: initial,
            latest_nanos: initial,
            granularity_nanos: clamped(granularity),
            has_sample: false,
        }
    }

    /// Takes in a sample: `latest` from sending a packet to its acknowledgement, of which the peer
    /// says it spent `ack_delay` waiting.
    ///
    /// RFC 9002 section 5.1 says which acknowledgements give a sample. The caller caps `ack_delay`
    /// at what the peer promised; here it is left out when it would put the path below its
    /// minimum (section 5.3), so a lying peer cannot make the estimate smaller than that.
    pub fn update(&mut self, latest: Duration, ack_delay: Duration) {
        let (latest, ack_delay) = (clamped(latest), clamped(ack_delay));
        self.latest_nanos = latest;
        if !self.has_sample {
            self.has_sample = true;
            self.min_nanos = latest;
            self.smoothed_nanos = latest;
            self.variance_nanos = latest / 2;
            return;
        }
        self.min_nanos = self.min_nanos.min(latest);
        let adjusted =
            if latest >= self.min_nanos + ack_delay { latest - ack_delay } else { latest };
        let deviation = self.smoothed_nanos.abs_diff(adjusted);
        self.variance_nanos = (3 * self.variance_nanos + deviation) / 4;
        self.smoothed_nanos = (7 * self.smoothed_nanos + adjusted) / 8;
    }

    /// The smoothed round trip (`smoothed_rtt`).
    #[inline]
    pub const fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed_nanos)
    }

    /// The mean deviation of samples from it (`rttvar`).
    #[inline]
    pub const fn variance(&self) -> Duration {
        Duration::from_nanos(self.variance_nanos)
    }

    /// The smallest sample (`min_rtt`), or the initial value before there is one.
    #[inline]
    pub const fn min(&self) -> Duration {
        Duration::from_nanos(self.min_nanos)
    }

    /// The latest sample (`latest_rtt`), or the initial value before there is one.
    #[inline]
    pub const fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest_nanos)
    }

    /// Whether anything was measured yet.
    #[inline]
    pub const fn has_sample(&self) -> bool {
        self.has_sample
    }

    /// The probe timeout before back-off and without the peer's ack delay: smoothed + max(4 *
    /// variance, granularity), RFC 9002 section 6.2.1.
    #[inline]
    pub fn pto_base(&self) -> Duration {
        let margin = (4 * self.variance_nanos).max(self.granularity_nanos);
        Duration::from_nanos(self.smoothed_nanos + margin)
    }

    /// How long after sending a packet counts as lost once a later one was acknowledged: max(9/8 *
    /// max(smoothed, latest), granularity), RFC 9002 section 6.1.2.
    #[inline]
    pub fn loss_delay(&self) -> Duration {
        let longest = self.smoothed_nanos.max(self.latest_nanos);
        Duration::from_nanos((9 * longest / 8).max(self.granularity_nanos))
    }
}

/// `duration` in nanoseconds, at most [`SAMPLE_NANOS_MAX`].
#[inline]
const fn clamped(duration: Duration) -> u64 {
    let nanos = nanos_saturating(duration);
    if nanos < SAMPLE_NANOS_MAX { nanos } else { SAMPLE_NANOS_MAX }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn before_a_sample_the_initial_value_stands() {
        let rtt = RttEstimator::default();
        assert!(!rtt.has_sample());
        assert_eq!(rtt.smoothed(), micros(333_000));
        assert_eq!(rtt.variance(), micros(166_500));
        // RFC 9002 section 6.2.2: a first probe timeout of about one second.
        assert_eq!(rtt.pto_base(), micros(999_000));
    }

    #[test]
    fn the_first_sample_replaces_the_initial_value() {
        let mut rtt = RttEstimator::default();
        rtt.update(micros(80), micros(30));
        assert!(rtt.has_sample());
        assert_eq!((rtt.smoothed(), rtt.variance()), (micros(80), micros(40)));
        assert_eq!((rtt.min(), rtt.latest()), (micros(80), micros(80)));
    }

    #[test]
    fn later_samples_are_weighed_as_section_5_3_says() {
        let mut rtt = RttEstimator::default();
        rtt.update(micros(800), Duration::ZERO);
        rtt.update(micros(1_700), micros(100));
        // Adjusted 1600; variance 3/4 * 400 + 1/4 * 800; smoothed 7/8 * 800 + 1/8 * 1600.
        assert_eq!((rtt.smoothed(), rtt.variance()), (micros(900), micros(500)));
        assert_eq!((rtt.min(), rtt.latest()), (micros(800), micros(1_700)));
    }

    #[test]
    fn an_ack_delay_that_reaches_below_the_minimum_is_left_out() {
        let mut rtt = RttEstimator::default();
        rtt.update(micros(800), Duration::ZERO);
        rtt.update(micros(880), micros(81));
        assert_eq!(rtt.smoothed(), micros(810));
        rtt.update(micros(810), Duration::MAX);
        assert_eq!(rtt.smoothed(), micros(810));
    }

    #[test]
    fn granularity_is_the_floor_on_fast_paths() {
        let mut rtt = RttEstimator::default();
        let mut precise = RttEstimator::with_granularity(INITIAL_DEFAULT, micros(50));
        for _ in 0..100 {
            rtt.update(micros(20), Duration::ZERO);
            precise.update(micros(20), Duration::ZERO);
        }
        assert_eq!((rtt.pto_base(), rtt.loss_delay()), (micros(1_020), micros(1_000)));
        assert_eq!((precise.pto_base(), precise.loss_delay()), (micros(70), micros(50)));
    }

    #[test]
    fn loss_delay_is_nine_eighths_of_the_longer_measure() {
        let mut rtt = RttEstimator::default();
        rtt.update(micros(8_000), Duration::ZERO);
        assert_eq!(rtt.loss_delay(), micros(9_000));
        rtt.update(micros(80_000), Duration::ZERO);
        assert_eq!(rtt.loss_delay(), micros(90_000));
    }

    proptest! {
        #[test]
        fn the_estimate_stays_between_its_samples(
            samples in prop::collection::vec((any::<u64>(), 0_u32..64, any::<u64>()), 1..50),
        ) {
            let mut rtt = RttEstimator::default();
            let (mut low, mut high) = (Duration::MAX, Duration::ZERO);
            for (nanos, shift, delay) in samples {
                let latest = Duration::from_nanos(nanos >> shift);
                rtt.update(latest, Duration::from_nanos(delay >> shift));
                low = low.min(latest);
                high = high.max(latest);
                prop_assert_eq!(rtt.min(), low.min(Duration::from_nanos(SAMPLE_NANOS_MAX)));
                // Rounding down may cost one nanosecond a step, never more in total than eight.
                prop_assert!(rtt.smoothed() + Duration::from_nanos(8) >= rtt.min());
                prop_assert!(rtt.smoothed() <= high);
                prop_assert!(rtt.pto_base() >= rtt.smoothed() + GRANULARITY_DEFAULT);
                prop_assert!(rtt.loss_delay() >= rtt.smoothed().max(GRANULARITY_DEFAULT));
            }
        }
    }
}
