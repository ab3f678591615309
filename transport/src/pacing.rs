//! Pacing: when bytes that the congestion window allows may leave (RFC 9002 section 7.7).
//!
//! A token bucket that fills at 5/4 of the window per round trip and holds one burst. It is asked
//! once per run of datagrams and works in `f64`, which costs two divisions and no rounding loss.
//! Always true: the bucket never holds more than one burst and never owes more than one.

use std::time::Duration;

use crate::time::{Instant, nanos_saturating};

/// How much faster than window per round trip bytes may leave: `N` of RFC 9002 section 7.7.
const GAIN: f64 = 1.25;

/// A burst is at least this many datagrams, the initial window of RFC 9002 section 7.2.
const BURST_DATAGRAMS_MIN: u64 = 10;

/// A burst is at least what leaves in this time: a sender that is woken late catches up.
const BURST_NANOS: f64 = 1_000_000.0;

/// The pacer of one path.
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    /// Bytes that may leave; negative after probes, which wait for nobody.
    tokens: f64,
    /// When `tokens` was brought up to date; none before the first question.
    filled: Option<Instant>,
    /// As of the latest question: bytes per nanosecond, most bytes at once, bytes worth leaving.
    rate: f64,
    burst: f64,
    datagram: f64,
}

impl Pacer {
    /// A pacer with a full burst to spend.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that may leave at `now`, given the congestion `window` in bytes, the smoothed round
    /// trip and the size of a datagram. 0 when not even one full datagram may: then
    /// [`next_release`](Self::next_release) says when to come back.
    #[inline]
    pub fn available(
        &mut self,
        now: Instant,
        window: u64,
        smoothed_rtt: Duration,
        datagram_bytes: u64,
    ) -> u64 {
        // A window or a round trip of zero would stop the clock or divide by it.
        self.rate = GAIN * window.max(1) as f64 / nanos_saturating(smoothed_rtt).max(1) as f64;
        self.datagram = datagram_bytes as f64;
        self.burst = ((BURST_DATAGRAMS_MIN * datagram_bytes) as f64).max(self.rate * BURST_NANOS);
        self.tokens = match self.filled {
            Some(filled) => {
                let elapsed = now.as_nanos().saturating_sub(filled.as_nanos());
                (self.tokens + elapsed as f64 * self.rate).clamp(-self.burst, self.burst)
            }
            None => self.burst,
        };
        self.filled = self.filled.max(Some(now));
        if self.tokens < self.datagram { 0 } else { self.tokens as u64 }
    }

    /// Records that `bytes` left. May be more than was available (probes, acknowledgements); what
    /// is owed then is at most one burst.
    #[inline]
    pub fn on_sent(&mut self, bytes: u64) {
        self.tokens = (self.tokens - bytes as f64).max(-self.burst);
    }

    /// When [`available`](Self::available) will next allow `bytes_wanted`, by the rate it was last
    /// asked with; `None` when it does at `now`. Never asks for less than a datagram nor for more
    /// than a burst, so wanting 0 means the earliest moment at which anything may leave.
    #[inline]
    pub fn next_release(&self, now: Instant, bytes_wanted: u64) -> Option<Instant> {
        let filled = self.filled?;
        let missing = (bytes_wanted as f64).min(self.burst).max(self.datagram) - self.tokens;
        if missing <= 0.0 {
            return None;
        }
        // A nanosecond more than it takes, so that rounding cannot wake the sender in vain.
        let nanos = (missing / self.rate).ceil() as u64;
        let release = filled + Duration::from_nanos(nanos.saturating_add(1));
        (release > now).then_some(release)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATAGRAM: u64 = 1_000;
    const RTT: Duration = Duration::from_millis(100);
    /// 100 datagrams a round trip: 1.25 bytes per microsecond with the gain.
    const WINDOW: u64 = 100 * DATAGRAM;
    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn available(pacer: &mut Pacer, now: Instant) -> u64 {
        pacer.available(now, WINDOW, RTT, DATAGRAM)
    }

    #[test]
    fn a_new_pacer_allows_one_burst_and_no_more() {
        let mut pacer = Pacer::new();
        assert_eq!(available(&mut pacer, START), 10 * DATAGRAM);
        assert_eq!(pacer.next_release(START, 0), None);
        pacer.on_sent(10 * DATAGRAM);
        assert_eq!(available(&mut pacer, START), 0);
        // One datagram at 1.25 bytes per microsecond, and the nanosecond for rounding.
        let release = START + Duration::from_nanos(800_001);
        assert_eq!(pacer.next_release(START, 0), Some(release));
        assert_eq!(pacer.next_release(release, 0), None);
    }

    #[test]
    fn an_idle_pacer_saves_up_one_burst_only() {
        let mut pacer = Pacer::new();
        available(&mut pacer, START);
        assert_eq!(available(&mut pacer, START + Duration::from_mins(1)), 10 * DATAGRAM);
    }

    #[test]
    fn fast_paths_burst_one_millisecond() {
        let mut pacer = Pacer::new();
        // 1.25 * 1 MB / 1 ms.
        let bytes = pacer.available(START, 1_000_000, Duration::from_millis(1), DATAGRAM);
        assert_eq!(bytes, 1_250_000);
    }

    #[test]
    fn a_sender_that_obeys_leaves_at_five_quarters_of_the_window() {
        let mut pacer = Pacer::new();
        let (mut now, mut sent) = (START, 0);
        while now < START + RTT * 10 {
            let bytes = available(&mut pacer, now);
            pacer.on_sent(bytes);
            sent += bytes;
            now = pacer.next_release(now, 0).unwrap();
        }
        let expected = WINDOW * 10 * 5 / 4 + 10 * DATAGRAM;
        assert!(sent.abs_diff(expected) <= 2 * DATAGRAM, "{sent} against {expected}");
    }

    #[test]
    fn a_release_for_a_run_waits_for_the_run_but_not_beyond_a_burst() {
        let mut pacer = Pacer::new();
        available(&mut pacer, START);
        pacer.on_sent(10 * DATAGRAM);
        let micros = |micros| Some(START + Duration::from_micros(micros) + Duration::from_nanos(1));
        assert_eq!(pacer.next_release(START, 5 * DATAGRAM), micros(4_000));
        assert_eq!(pacer.next_release(START, u64::MAX), micros(8_000));
    }

    #[test]
    fn probes_run_up_a_bounded_debt() {
        let mut pacer = Pacer::new();
        available(&mut pacer, START);
        pacer.on_sent(1_000 * DATAGRAM);
        // Ten datagrams owed and one wanted: eleven times 800 us.
        let release = START + Duration::from_nanos(8_800_001);
        assert_eq!(pacer.next_release(START, 0), Some(release));
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_gives_nothing() {
        let mut pacer = Pacer::new();
        available(&mut pacer, START);
        pacer.on_sent(10 * DATAGRAM);
        assert_eq!(available(&mut pacer, START - Duration::from_secs(1)), 0);
        assert_eq!(available(&mut pacer, START), 0, "time already counted does not count twice");
    }

    #[test]
    fn zero_window_and_zero_round_trip_are_survived() {
        let mut pacer = Pacer::new();
        assert_eq!(pacer.next_release(START, 0), None);
        pacer.available(START, 0, Duration::MAX, DATAGRAM);
        pacer.on_sent(u64::MAX);
        assert!(pacer.next_release(START, 0).is_some());
        let later = START + Duration::from_micros(1);
        assert!(pacer.available(later, u64::MAX, Duration::ZERO, DATAGRAM) > 0);
    }

    proptest! {
        #[test]
        fn a_release_is_neither_in_vain_nor_later_than_needed(
            window in 2_400_u64..1 << 30,
            rtt_ns in 1_000_u64..2_000_000_000,
            datagram_bytes in 1_200_u64..9_000,
            sent in prop::collection::vec((0_u64..1 << 20, 0_u64..10_000_000), 1..20),
        ) {
            let rtt = Duration::from_nanos(rtt_ns);
            let mut pacer = Pacer::new();
            let mut now = START;
            for (bytes, pause) in sent {
                pacer.available(now, window, rtt, datagram_bytes);
                pacer.on_sent(bytes);
                let Some(release) = pacer.next_release(now, 0) else { continue };
                let at = |when| pacer.clone().available(when, window, rtt, datagram_bytes);
                prop_assert!(at(release) >= datagram_bytes);
                prop_assert_eq!(at(release - Duration::from_nanos(3)), 0);
                now += Duration::from_nanos(pause);
            }
        }
    }
}
