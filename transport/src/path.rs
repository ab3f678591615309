//! Owns what a session knows of the network between two hosts: address, round-trip time, congestion window, pacing, the
//! longest datagram, and the address that the peer may be moving to.
//!
//! What always holds: the address is one that the peer has proven, by a handshake or by answering a challenge.

mod dormant;
mod prospect;
mod search;
mod stats;

use std::net::SocketAddr;
use std::time::Duration;

use crate::absence::Absence;
use crate::congestion::Controller;
use crate::limits::{ACK_DELAY_MAX, Limits, full_bytes};
use crate::pacing::Pacer;
use crate::rtt::{INITIAL_DEFAULT, RttEstimator};
use crate::sent::{AckSummary, Losses};
use crate::time::Instant;

pub use stats::PathStats;

pub(crate) use dormant::DormantPath;
pub(crate) use prospect::{CHALLENGE_BYTES, Prospect};
pub(crate) use search::SizeSearch;

/// A challenge of the peer, to be answered where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) to: SocketAddr,
    pub(crate) data: [u8; CHALLENGE_BYTES],
    /// Length of the datagram that brought it; the answer is no longer.
    pub(crate) bytes: usize,
}

/// What the frames of one datagram said about paths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathFrames {
    pub(crate) challenge: Option<[u8; CHALLENGE_BYTES]>,
    pub(crate) response: Option<[u8; CHALLENGE_BYTES]>,
}

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) address: SocketAddr,
    /// What was sent before belongs to another path and says nothing of this one.
    pub(crate) since: Instant,
    pub(crate) rtt: RttEstimator,
    pub(crate) congestion: Controller,
    /// From a window of so many datagrams on they leave in pairs.
    pairs_datagrams: u64,
    /// Lanes that share the way to the peer as one flow, this one among them.
    lanes: u16,
    pub(crate) pacer: Pacer,
    /// Bytes in flight under all keys.
    pub(crate) bytes_in_flight: u64,
    /// Longest datagram now; that of `search`.
    pub(crate) datagram_bytes: u64,
    /// When an acknowledgement first gave a sample of the round trip.
    sampled_since: Option<Instant>,
    pub(crate) search: SizeSearch,
    pub(crate) prospect: Option<Box<Prospect>>,
    /// The address in use when the latest prospect appeared, asked whether the peer is still there.
    pub(crate) incumbent: Option<Box<Prospect>>,
    /// No other address is challenged before.
    pub(crate) prospect_after: Instant,
    /// The address before this one, and until when datagrams from there count as late ones.
    pub(crate) former: Option<(SocketAddr, Instant)>,
    pub(crate) answer: Option<Answer>,
    /// Told by the datagram being read.
    pub(crate) told: Option<PathFrames>,
}

/// From this window on datagrams leave in pairs; in a smaller one the place that waits for its neighbour would be missed.
const PAIRS_WINDOW_DATAGRAMS: u64 = 16;
/// A lane among many sends in pairs from this window on: a pair leaves half of it to others.
const PAIRS_DATAGRAMS_MIN: u64 = 4;
/// `kPersistentCongestionThreshold`: RFC 9002 section 7.6.1.
const PERSISTENT_PROBES: u32 = 3;

impl Path {
    /// A path whose first round trip, if known, was that of the handshake.
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        limits: &Limits,
        rtt: Option<Duration>,
    ) -> Self {
        let datagram_bytes = full_bytes(limits.datagram_bytes_initial);
        let congestion = Controller::new(limits.congestion, datagram_bytes.into());
        let search = SizeSearch::new(now, datagram_bytes, full_bytes(limits.datagram_bytes));
        Self::quiet(address, estimator(rtt), congestion, search, 1)
    }

    /// A path on which nothing is under way: nothing in flight, nothing asked, no other address in question.
    fn quiet(
        address: SocketAddr,
        rtt: RttEstimator,
        congestion: Controller,
        search: SizeSearch,
        lanes: u16,
    ) -> Self {
        Self {
            address,
            since: Instant::default(),
            rtt,
            congestion,
            pairs_datagrams: pairs_datagrams(lanes),
            lanes,
            pacer: Pacer::new(),
            bytes_in_flight: 0,
            datagram_bytes: search.current().into(),
            sampled_since: None,
            search,
            prospect: None,
            incumbent: None,
            prospect_after: Instant::default(),
            former: None,
            answer: None,
            told: None,
        }
    }

    /// The peer is at `address` now. A new port alone is a new mapping of the same way there: what is known of it stays (RFC
    /// 9000 section 9.4). Another host address is another path, of which nothing is known but one round trip.
    pub(crate) fn move_to(
        &mut self,
        now: Instant,
        address: SocketAddr,
        limits: &Limits,
        rtt: Option<Duration>,
    ) {
        let former = Some((self.address, now + 3 * self.probe_timeout()));
        if self.address.ip() == address.ip() {
            self.address = address;
            self.former = former;
            self.prospect = None;
            return;
        }
        let Self { bytes_in_flight, prospect_after, lanes, .. } = *self;
        let incumbent = self.incumbent.take();
        let new = Self::new(now, address, limits, rtt);
        *self = Self { since: now, bytes_in_flight, prospect_after, former, incumbent, ..new };
        self.set_lanes(lanes);
    }

    /// Takes what an acknowledgement says about this path, leaving out what was sent on another.
    #[inline]
    pub(crate) fn on_acked(
        &mut self,
        now: Instant,
        summary: &AckSummary,
        delay_us: u64,
        absence: &Absence,
        limited_by_window: bool,
    ) {
        let since = self.since;
        if let Some(sent) = summary.rtt_from.filter(|sent| *sent >= since) {
            // The acknowledgement may have come at any time of an absence: such a wait measures nothing.
            if absence.since(sent).is_zero() {
                self.on_rtt_sample(now, sent, delay_us);
            }
        }
        if let Some(newest) = summary.newest.filter(|sent| *sent >= since) {
            self.congestion.on_acked(now, newest, summary.bytes, &self.rtt, !limited_by_window);
        }
    }

    /// The packet sent at `sent` was acknowledged now, by a peer that says it waited for `delay_us`; it may say no more than
    /// it may wait.
    pub(crate) fn on_rtt_sample(&mut self, now: Instant, sent: Instant, delay_us: u64) {
        let delay = Duration::from_micros(delay_us).min(ACK_DELAY_MAX);
        self.rtt.update(now.saturating_duration_since(sent), delay);
        self.sampled_since.get_or_insert(now);
    }

    /// Packets were lost: the window is cut, and falls to its least when nothing got through for several probe timeouts
    /// (RFC 9002 section 7.6).
    #[cold]
    pub(crate) fn on_lost(&mut self, now: Instant, losses: &Losses) {
        let Some(newest) = losses.newest.filter(|sent| *sent >= self.since) else { return };
        self.congestion.on_lost(now, newest, losses.bytes);
        let period = (self.rtt.pto_base() + ACK_DELAY_MAX) * PERSISTENT_PROBES;
        // Packets sent before the first sample went by a guess of the round trip.
        let is_measured = self.sampled_since.is_some_and(|since| losses.span_begun > since);
        if losses.span > period && is_measured {
            self.congestion.on_persistent_congestion(now);
        }
    }

    /// So many lanes share the path as one flow, this one among them. What is a large window is one for all of them.
    pub(crate) fn set_lanes(&mut self, lanes: u16) {
        let lanes = lanes.max(1);
        self.lanes = lanes;
        self.congestion.set_lanes(lanes);
        self.pairs_datagrams = pairs_datagrams(lanes);
    }

    /// Bytes that congestion window and pacing let go now.
    #[inline]
    pub(crate) fn budget(&mut self, now: Instant) -> u64 {
        let window = self.congestion.window();
        let free = window.saturating_sub(self.bytes_in_flight);
        let least = self.release_bytes(window);
        if free < least {
            return 0;
        }
        free.min(self.pacer.available(now, window, self.rtt.smoothed(), least))
    }

    /// When pacing lets more go, if the window would.
    pub(crate) fn next_release(&self, now: Instant) -> Option<Instant> {
        let window = self.congestion.window();
        let free = window.saturating_sub(self.bytes_in_flight);
        if free < self.release_bytes(window) { None } else { self.pacer.next_release(now, 0) }
    }

    /// How long an acknowledgement that nobody asked for at once may wait.
    #[inline]
    pub(crate) fn ack_delay(&self) -> Duration {
        if self.rtt.has_sample() { self.rtt.smoothed() / 4 } else { Duration::ZERO }
    }

    /// A datagram that counts as in flight leaves.
    #[inline]
    pub(crate) fn on_sent(&mut self, bytes: u64) {
        self.bytes_in_flight += bytes;
        self.pacer.on_sent(bytes);
    }

    /// Whether the window is so small, or so full, that the receiver should acknowledge at once.
    #[inline]
    pub(crate) fn wants_ack(&self) -> bool {
        let window = self.congestion.window();
        window < 8 * self.datagram_bytes || self.bytes_in_flight * 2 > window
    }

    /// Bytes worth leaving. Where a window has room for it, datagrams leave in pairs, as those of a flow do that has every
    /// second one acknowledged: a smoother flow finds the free places of a full queue before one that sends in pairs, and
    /// takes twice its share.
    #[inline]
    fn release_bytes(&self, window: u64) -> u64 {
        let alone = window < self.pairs_datagrams * self.datagram_bytes;
        if alone { self.datagram_bytes } else { 2 * self.datagram_bytes }
    }

    /// One probe timeout, without back-off.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.rtt.pto_base() + ACK_DELAY_MAX
    }

    /// Whether a datagram about the path itself should leave now.
    #[inline]
    pub(crate) fn is_asking(&self, now: Instant) -> bool {
        self.answer.is_some()
            || self.challenged().any(|asked| asked.due(now).is_some())
            || self.search.due(now).is_some()
    }

    /// When the path itself is to be looked at.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let challenges = self.challenged().map(Prospect::next_timeout);
        challenges.chain(self.search.next_timeout()).min()
    }

    /// Addresses under challenge.
    fn challenged(&self) -> impl Iterator<Item = &Prospect> {
        [&self.prospect, &self.incumbent].into_iter().filter_map(Option::as_deref)
    }
}

/// The window in datagrams from which on one of so many lanes sends in pairs.
fn pairs_datagrams(lanes: u16) -> u64 {
    (PAIRS_WINDOW_DATAGRAMS / u64::from(lanes)).max(PAIRS_DATAGRAMS_MIN)
}

fn estimator(rtt: Option<Duration>) -> RttEstimator {
    let mut estimator = RttEstimator::new(INITIAL_DEFAULT);
    if let Some(rtt) = rtt {
        estimator.update(rtt, Duration::ZERO);
    }
    estimator
}

#[cfg(test)]
mod tests {
    //! Goal: nothing getting through for long empties the window, less does not; an absence shortens no round trip; lanes stay coupled
    //! on another path.
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn path() -> Path {
        let (limits, now) = (Limits::default(), Instant::default());
        let mut path = Path::new(now, "10.0.0.1:1".parse().unwrap(), &limits, Some(10 * MS));
        // Round numbers.
        path.datagram_bytes = 1_000;
        path.congestion = Controller::new(limits.congestion, 1_000);
        path
    }

    fn lose(span: Duration, begun_after_sample: bool) -> u64 {
        let mut path = path();
        let now = Instant::from_nanos(1_000_000_000);
        path.on_rtt_sample(now, now - 10 * MS, 0);
        let begun = if begun_after_sample { now + MS } else { now - MS };
        let newest = Some(begun + span);
        let losses = Losses { newest, bytes: 1_000, span, span_begun: begun };
        path.on_lost(begun + span + MS, &losses);
        path.congestion.window()
    }

    /// The round trips known after a packet of `sent` was acknowledged at 20 ms, when nobody ran from 1 ms on.
    fn acked_in_an_absence(path: &mut Path, sent: Duration) -> (Duration, Duration) {
        let begun = Instant::from_nanos(1_000_000_000);
        let (sent, now) = (begun + sent, begun + 20 * MS);
        let mut absence = Absence::default();
        absence.note(begun + MS, now);
        let summary =
            AckSummary { rtt_from: Some(sent), newest: None, bytes: 0, ..AckSummary::default() };
        path.on_acked(now, &summary, 0, &absence, false);
        (path.rtt.min(), path.rtt.latest())
    }

    #[test]
    fn a_wait_in_which_nobody_ran_is_no_round_trip() {
        let mut unmeasured = path();
        unmeasured.rtt = estimator(None);
        assert_eq!(acked_in_an_absence(&mut unmeasured, Duration::ZERO).0, INITIAL_DEFAULT);
        let mut path = path();
        assert_eq!(acked_in_an_absence(&mut path, Duration::ZERO), (10 * MS, 10 * MS));
        assert_eq!(acked_in_an_absence(&mut path, 12 * MS), (10 * MS, 10 * MS));
    }

    #[test]
    fn lanes_stay_coupled_on_another_path() {
        let limits = Limits::default();
        let elsewhere = "10.0.0.2:1".parse().unwrap();
        let mut moved = path();
        moved.set_lanes(4);
        moved.move_to(Instant::default(), elsewhere, &limits, None);
        let mut alone = path();
        alone.move_to(Instant::default(), elsewhere, &limits, None);
        assert_eq!((moved.lanes, alone.lanes), (4, 1));
        assert_eq!(moved.pairs_datagrams, 4);
        assert!(moved.congestion.window() < alone.congestion.window());
    }

    #[test]
    fn persistent_congestion_takes_three_probe_timeouts_after_a_sample() {
        // Smoothed 10 ms, variance 3.75 ms: three times 10 + 15 + 1 ms.
        assert_eq!(lose(78 * MS, true), 7_000);
        assert_eq!(lose(79 * MS, true), 2_000);
        assert_eq!(lose(79 * MS, false), 7_000);
    }

    #[test]
    fn a_claimed_delay_counts_up_to_what_is_allowed() {
        let now = Instant::from_nanos(1_000_000_000);
        let mut path = path();
        path.on_rtt_sample(now, now - 26 * MS, u64::MAX >> 2);
        // 7/8 of 10 ms and 1/8 of 26 ms less 1 ms.
        assert_eq!(path.rtt.smoothed(), Duration::from_micros(11_875));
    }

    #[test]
    fn large_windows_let_pairs_go_and_small_ones_single_datagrams() {
        let mut path = path();
        let now = Instant::from_nanos(1_000_000_000);
        assert_eq!(path.congestion.window(), 10_000);
        path.bytes_in_flight = 9_000;
        assert_eq!(path.budget(now), 1_000);
        path.congestion.on_acked(now, now, 6_000, &path.rtt, false);
        path.bytes_in_flight = 15_000;
        assert_eq!((path.congestion.window(), path.budget(now)), (16_000, 0));
        path.bytes_in_flight = 14_000;
        assert_eq!(path.budget(now), 2_000);
    }
}
