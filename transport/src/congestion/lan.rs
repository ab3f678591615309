//! The `lan` profile: congestion control for a network whose links and queues were provisioned for its load, and nothing else.
//!
//! The window starts large, grows by an eighth or more a round trip until the queue shows in the round trip, tolerates
//! losses of up to 2 % of a round, and gives way in proportion to what is lost beyond. **It does not share with others**: beside
//! CUBIC or TCP flows on a congested link it keeps what they give up. What always holds: the window is at least four
//! datagrams, and changes once per round trip.

use std::time::Duration;

use crate::rtt::RttEstimator;
use crate::time::Instant;

/// The first window: 93 KB at 1,452 bytes, which is 3.7 Gbit/s at 0.2 ms.
const INITIAL_DATAGRAMS: u64 = 64;
/// The least window.
const MINIMUM_DATAGRAMS: u64 = 4;
/// What may be lost of a round, as on a link with errors, before the window gives way.
const LOSS_TOLERATED: f64 = 0.02;
/// A cut takes at least this part of the window, and at most half.
const CUT_MIN: f64 = 0.15;
const CUT_MAX: f64 = 0.5;
/// Growth per round before the first cut, and after it, in parts of the window.
const GROWTH_FIRST: f64 = 0.5;
const GROWTH: f64 = 0.125;
/// The queue shows when the round trip is longer than one and a half of the shortest and this.
const QUEUE_MARGIN: Duration = Duration::from_micros(50);

/// The window of one path under the `lan` profile.
#[derive(Clone, Debug)]
pub struct Lan {
    datagram_bytes: u64,
    window: f64,
    has_cut: bool,
    /// The round under way ends when something sent after this is acknowledged.
    round_begun: Instant,
    acked_bytes: u64,
    lost_bytes: u64,
    /// Whether the window limited the round.
    was_full: bool,
    cut_at: Option<Instant>,
}

impl Lan {
    /// A controller for datagrams of `datagram_bytes`.
    pub fn new(datagram_bytes: u64) -> Self {
        Self {
            datagram_bytes,
            window: (INITIAL_DATAGRAMS * datagram_bytes) as f64,
            has_cut: false,
            round_begun: Instant::default(),
            acked_bytes: 0,
            lost_bytes: 0,
            was_full: false,
            cut_at: None,
        }
    }

    /// Makes this one of so many lanes: the first window is shared out. Growth and cuts are parts of the window, so that many lanes do
    /// as one does.
    pub fn set_lanes(&mut self, lanes: u16) {
        if !self.has_cut && self.round_begun == Instant::default() {
            let datagrams = (INITIAL_DATAGRAMS / u64::from(lanes.max(1))).max(MINIMUM_DATAGRAMS);
            self.window = (datagrams * self.datagram_bytes) as f64;
        }
    }

    /// Records that `bytes` were acknowledged at `now`, the newest of them sent at `sent`.
    pub fn on_acked(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        rtt: &RttEstimator,
        app_limited: bool,
    ) {
        self.acked_bytes += bytes;
        self.was_full |= !app_limited;
        if sent < self.round_begun {
            return;
        }
        let total = (self.acked_bytes + self.lost_bytes).max(1);
        let lost = self.lost_bytes as f64 / total as f64;
        if lost > LOSS_TOLERATED {
            self.cut(now, lost.clamp(CUT_MIN, CUT_MAX));
        } else if self.was_full && rtt.latest() <= rtt.min() * 3 / 2 + QUEUE_MARGIN {
            let part = if self.has_cut { GROWTH } else { GROWTH_FIRST };
            self.window += (self.window * part).min(self.acked_bytes as f64);
        }
        self.round_begun = now;
        (self.acked_bytes, self.lost_bytes, self.was_full) = (0, 0, false);
    }

    /// Records that `bytes` were lost.
    pub fn on_lost(&mut self, bytes: u64) {
        self.lost_bytes += bytes;
    }

    /// Nothing got through for several probe timeouts.
    pub fn on_persistent_congestion(&mut self, now: Instant) {
        self.cut(now, 1.0);
    }

    /// Takes over a new datagram size.
    pub fn on_datagram_bytes_changed(&mut self, datagram_bytes: u64) {
        self.datagram_bytes = datagram_bytes;
        self.window = self.window.max(self.window_min());
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn window(&self) -> u64 {
        self.window as u64
    }

    /// Whether the window was never cut.
    pub fn in_slow_start(&self) -> bool {
        !self.has_cut
    }

    /// When it was last cut.
    pub fn recovery_start(&self) -> Option<Instant> {
        self.cut_at
    }

    fn cut(&mut self, now: Instant, part: f64) {
        self.window = (self.window * (1.0 - part)).max(self.window_min());
        self.has_cut = true;
        self.cut_at = Some(now);
    }

    fn window_min(&self) -> f64 {
        (MINIMUM_DATAGRAMS * self.datagram_bytes) as f64
    }
}

#[cfg(test)]
mod tests {
    //! Goal: random loss leaves the window, a queue stops it, an overrun queue cuts it.
    use super::*;

    const DATAGRAM: u64 = 1_000;
    const RTT: Duration = Duration::from_micros(200);

    /// Rounds of one window each, with what of a thousand is lost and how long the round trip is.
    fn rounds(lan: &mut Lan, count: u32, lost_of_1000: u64, rtt: Duration) {
        let mut estimator = RttEstimator::default();
        estimator.update(RTT, Duration::ZERO);
        estimator.update(rtt, Duration::ZERO);
        for _ in 0..count {
            let (begun, window) = (lan.round_begun, lan.window());
            let lost = window * lost_of_1000 / 1_000;
            lan.on_lost(lost);
            lan.on_acked(begun + rtt, begun, window - lost, &estimator, false);
        }
    }

    #[test]
    fn one_in_a_hundred_lost_leaves_it_growing() {
        let mut lan = Lan::new(DATAGRAM);
        rounds(&mut lan, 3, 10, RTT);
        assert_eq!(lan.window(), 64_000 * 27 / 8);
        assert!(lan.in_slow_start());
    }

    #[test]
    fn a_queue_in_the_round_trip_stops_growth() {
        let mut lan = Lan::new(DATAGRAM);
        rounds(&mut lan, 5, 0, RTT * 2);
        assert_eq!(lan.window(), 64_000);
    }

    #[test]
    fn losses_beyond_what_is_tolerated_cut_in_proportion_down_to_a_floor() {
        let mut lan = Lan::new(DATAGRAM);
        rounds(&mut lan, 1, 30, RTT);
        assert_eq!(lan.window(), 54_400);
        rounds(&mut lan, 1, 400, RTT);
        assert_eq!(lan.window(), 32_640);
        rounds(&mut lan, 1, 900, RTT);
        assert_eq!(lan.window(), 16_320);
        rounds(&mut lan, 1, 0, RTT);
        assert_eq!(lan.window(), 18_360, "an eighth a round after a cut");
        lan.on_persistent_congestion(Instant::default());
        assert_eq!(lan.window(), 4 * DATAGRAM);
    }

    #[test]
    fn an_application_that_sends_little_does_not_grow_it() {
        let mut lan = Lan::new(DATAGRAM);
        let rtt = RttEstimator::new(RTT);
        for round in 1..10 {
            let now = Instant::default() + RTT * round;
            lan.on_acked(now, now, 1_000, &rtt, true);
        }
        assert_eq!(lan.window(), 64_000);
    }
}
