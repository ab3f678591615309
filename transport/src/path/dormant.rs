//! Owns what is kept of a path while nothing is in flight: where it leads, its round trip, window and longest datagram.
//!
//! What always holds: of these nothing is lost, so what is told of a path is the same before and after. The pacer begins anew: in
//! the time that a session is silent before it rests, it would have filled up to the same burst, which is what RFC 9002 section 7.7
//! lets leave at once.

use std::net::SocketAddr;

use super::{Path, SizeSearch};
use crate::congestion::{Controller, DormantController};
use crate::rtt::RttEstimator;
use crate::time::Instant;

/// A path with nothing in flight and no address in question.
#[derive(Clone, Debug)]
pub(crate) struct DormantPath {
    pub(crate) address: SocketAddr,
    rtt: RttEstimator,
    congestion: DormantController,
    search: SizeSearch,
    lanes: u16,
    is_sampled: bool,
}

impl Path {
    /// Whether nothing is in flight and no address in question.
    pub(crate) fn is_quiet(&self) -> bool {
        self.bytes_in_flight == 0
            && self.prospect.is_none()
            && self.incumbent.is_none()
            && self.answer.is_none()
            && self.told.is_none()
            && self.search.next_timeout().is_none()
    }

    /// Until when an address is turned down because of what was there before.
    pub(crate) fn settled_at(&self) -> Instant {
        self.former.map_or(self.prospect_after, |(_, until)| until.max(self.prospect_after))
    }

    /// Keeps what [`Path::wake`] needs.
    pub(crate) fn rest(self) -> DormantPath {
        debug_assert!(self.is_quiet(), "nothing is lost");
        let Self { address, rtt, congestion, search, lanes, sampled_since, .. } = self;
        let (congestion, is_sampled) = (congestion.rest(), sampled_since.is_some());
        DormantPath { address, rtt, congestion, search, lanes, is_sampled }
    }

    /// The path as it was. All that is sent from here on is newer than what it knows.
    pub(crate) fn wake(dormant: DormantPath) -> Self {
        let DormantPath { address, rtt, congestion, search, lanes, is_sampled } = dormant;
        let congestion = Controller::wake(congestion, search.current().into(), lanes);
        let sampled_since = is_sampled.then(Instant::default);
        Self { sampled_since, ..Self::quiet(address, rtt, congestion, search, lanes) }
    }
}

impl DormantPath {
    /// See [`Path::set_lanes`].
    pub(crate) fn set_lanes(&mut self, lanes: u16) {
        let mut path = Path::wake(self.clone());
        path.set_lanes(lanes);
        *self = path.rest();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is told of a path, and what it lets go, is the same before and after a rest.
    use std::time::Duration;

    use super::*;
    use crate::limits::Limits;
    use crate::sent::Losses;

    const MS: Duration = Duration::from_millis(1);
    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    /// Measured, grown, cut, and with a longer datagram than at first.
    fn used() -> Path {
        let limits = Limits::default();
        let mut path = Path::new(NOW, "10.0.0.1:1".parse().unwrap(), &limits, Some(10 * MS));
        let bytes = path.search.due(NOW).unwrap();
        path.search.on_probe_sent(bytes);
        path.search.on_probe_acked(NOW, bytes);
        path.datagram_bytes = bytes.into();
        path.congestion.on_datagram_bytes_changed(bytes.into());
        for (round, millis) in [(1, 20), (2, 35), (3, 12)] {
            let now = NOW + 50 * MS * round;
            path.on_rtt_sample(now, now - millis * MS, 1_000);
            path.congestion.on_acked(now, now, 14_000, &path.rtt, false);
        }
        let sent = NOW + 200 * MS;
        let losses =
            Losses { newest: Some(sent), bytes: 1_000, span: Duration::ZERO, span_begun: sent };
        path.on_lost(sent + 20 * MS, &losses);
        path
    }

    #[test]
    fn a_path_is_told_of_and_used_as_before() {
        for lanes in [1, 4] {
            let mut before = used();
            before.set_lanes(lanes);
            let mut after = Path::wake(before.clone_at_rest());
            assert_eq!(after.stats(), before.stats());
            assert_eq!(
                (after.datagram_bytes, after.address),
                (before.datagram_bytes, before.address)
            );
            assert_eq!(after.rtt.pto_base(), before.rtt.pto_base());
            assert_eq!(after.rtt.loss_delay(), before.rtt.loss_delay());
            assert_eq!(after.pairs_datagrams, before.pairs_datagrams);
            let later = NOW + Duration::from_secs(11);
            assert_eq!(after.budget(later), before.budget(later));
            assert!(after.budget(later) > 0);
        }
    }

    #[test]
    fn lanes_may_change_while_it_rests() {
        let mut awake = used();
        let mut resting = awake.clone_at_rest();
        awake.set_lanes(8);
        resting.set_lanes(8);
        assert_eq!(Path::wake(resting).stats(), awake.stats());
    }

    #[test]
    fn persistent_congestion_still_takes_a_sample() {
        let limits = Limits::default();
        let unmeasured = Path::new(NOW, "10.0.0.1:1".parse().unwrap(), &limits, Some(10 * MS));
        for (path, is_measured) in [(used(), true), (unmeasured, false)] {
            let mut path = Path::wake(path.clone_at_rest());
            let (begun, span) = (NOW + Duration::from_secs(20), Duration::from_mins(1));
            let window = path.congestion.window();
            let newest = Some(begun + span);
            path.on_lost(begun + span, &Losses { newest, bytes: 1_000, span, span_begun: begun });
            assert_eq!(path.congestion.window() < window / 2, is_measured);
        }
    }

    impl Path {
        fn clone_at_rest(&self) -> DormantPath {
            let Self { address, lanes, .. } = *self;
            let (rtt, search) = (self.rtt.clone(), self.search.clone());
            let congestion = self.congestion.clone().rest();
            let is_sampled = self.sampled_since.is_some();
            DormantPath { address, rtt, congestion, search, lanes, is_sampled }
        }
    }
}
