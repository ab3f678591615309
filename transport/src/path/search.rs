//! Owns the search for the longest datagram that a path carries (RFC 8899), and notices when it carries less than it did.
//!
//! What always holds: the limit in use lies between [`DATAGRAM_BYTES_FLOOR`] and the ceiling, and it rises only when a probe
//! of the new length was acknowledged; at most one probe is on its way. Nothing here believes ICMP: only arrivals count.

use std::time::Duration;

use crate::limits::DATAGRAM_BYTES_FLOOR;
use crate::time::Instant;

/// Probes of one length that must be lost before it counts as too long (`MAX_PROBES`, RFC 8899 section 5.1.2).
const PROBES_MAX: u8 = 3;
/// The search ends when the limit is known to this many bytes.
const PRECISION_BYTES: u16 = 8;
/// How long a limit below the ceiling is kept before longer datagrams are tried again (`PMTU_RAISE_TIMER`, RFC 8899
/// section 5.1.1).
const RAISE_AFTER: Duration = Duration::from_mins(10);
/// Long datagrams lost since the last that arrived, with shorter ones sent later that did arrive, that make a black hole. A
/// false alarm costs one round trip of short datagrams, so a few are proof enough.
const LONG_LOST_MAX: u32 = 3;
/// A limit that falls again within this time is one that single probes pass and traffic does not.
const RELAPSE: Duration = Duration::from_mins(1);
/// Pause before the search after a second fall; doubles with each further one.
const RELAPSE_PAUSE: Duration = Duration::from_secs(1);
/// Doublings of that pause: at most 64 s.
const RELAPSE_DOUBLINGS_MAX: u32 = 6;

/// The state of one path's search.
#[derive(Clone, Debug)]
pub(crate) struct SizeSearch {
    current: u16,
    ceiling: u16,
    /// Shortest length that was tried in vain; above the ceiling while none was.
    failed: u16,
    /// Length of the probe on its way.
    probe: Option<u16>,
    /// Lost probes of the length being tried.
    losses: u8,
    /// When the next probe may leave.
    next_at: Instant,
    /// The search is over for now; what comes next is the raise timer, which wakes nobody.
    is_resting: bool,
    /// Send time of the newest datagram above the floor that arrived.
    long_arrived: Instant,
    /// Datagrams above the floor sent later than that and lost.
    long_lost: u32,
    fell_at: Option<Instant>,
    relapses: u32,
}

impl SizeSearch {
    /// A search that begins at `now` with `current` bytes in use.
    pub(crate) fn new(now: Instant, current: u16, ceiling: u16) -> Self {
        Self {
            current,
            ceiling,
            failed: ceiling + 1,
            probe: None,
            losses: 0,
            next_at: now,
            is_resting: current == ceiling,
            long_arrived: Instant::default(),
            long_lost: 0,
            fell_at: None,
            relapses: 0,
        }
    }

    /// Longest datagram to send now.
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// Length of the probe that should leave now.
    #[inline]
    pub(crate) fn due(&self, now: Instant) -> Option<u16> {
        if self.current == self.ceiling || self.probe.is_some() || self.next_at > now {
            return None;
        }
        Some(self.next_length())
    }

    /// When a probe is due although nothing else happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let waits = self.current == self.ceiling || self.probe.is_some() || self.is_resting;
        (!waits).then_some(self.next_at)
    }

    /// The ceiling first: most paths carry it, and one round trip then ends the search. After that, halves.
    fn next_length(&self) -> u16 {
        if self.failed > self.ceiling {
            self.ceiling
        } else {
            self.current + (self.failed - self.current) / 2
        }
    }

    /// A probe of this length left.
    pub(crate) fn on_probe_sent(&mut self, bytes: u16) {
        self.probe = Some(bytes);
        self.is_resting = false;
    }

    /// A probe arrived. Returns whether the limit rose.
    pub(crate) fn on_probe_acked(&mut self, now: Instant, bytes: u16) -> bool {
        if self.probe != Some(bytes) {
            return false;
        }
        self.probe = None;
        self.losses = 0;
        self.current = bytes;
        self.long_lost = 0;
        self.go_on(now);
        true
    }

    /// A probe was lost, and something sent after it arrived.
    pub(crate) fn on_probe_lost(&mut self, now: Instant, bytes: u16) {
        if self.probe != Some(bytes) {
            return;
        }
        self.probe = None;
        self.losses += 1;
        if self.losses >= PROBES_MAX {
            self.losses = 0;
            self.failed = bytes;
        }
        self.go_on(now);
    }

    fn go_on(&mut self, now: Instant) {
        self.next_at = now;
        if self.current < self.ceiling && self.failed - self.current <= PRECISION_BYTES {
            self.failed = self.ceiling + 1;
            self.next_at = now + RAISE_AFTER;
            self.is_resting = true;
        }
    }

    /// The probe on its way will be neither acknowledged nor declared lost: its keys are given up.
    pub(crate) fn forget_probe(&mut self) {
        self.probe = None;
    }

    /// A datagram above the floor, sent at `sent`, arrived.
    #[inline]
    pub(crate) fn on_long_arrived(&mut self, sent: Instant) {
        if sent > self.long_arrived {
            self.long_arrived = sent;
            self.long_lost = 0;
        }
    }

    /// A datagram of the path was lost; a later one arrived. True when that proves a black hole: then the limit has fallen to
    /// the floor, and the search begins anew.
    pub(crate) fn on_lost(&mut self, now: Instant, sent: Instant, bytes: u16) -> bool {
        if bytes <= DATAGRAM_BYTES_FLOOR
            || sent <= self.long_arrived
            || self.current == DATAGRAM_BYTES_FLOOR
        {
            return false;
        }
        self.long_lost += 1;
        if self.long_lost < LONG_LOST_MAX {
            return false;
        }
        let is_again = self.fell_at.is_some_and(|at| at + RELAPSE > now);
        self.relapses = if is_again { self.relapses + 1 } else { 0 };
        let pause = match self.relapses {
            0 => Duration::ZERO,
            n => RELAPSE_PAUSE * (1 << (n - 1).min(RELAPSE_DOUBLINGS_MAX)),
        };
        let (fell_at, relapses) = (Some(now), self.relapses);
        let anew = Self::new(now + pause, DATAGRAM_BYTES_FLOOR, self.ceiling);
        *self = Self { fell_at, relapses, long_arrived: self.long_arrived, ..anew };
        true
    }
}

#[cfg(test)]
mod tests {
    //! Goal: any limit of a path is found, one that falls is noticed, and one that carries everything costs one probe.
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    fn at(millis: u64) -> Instant {
        NOW + Duration::from_millis(millis)
    }

    /// Runs the search over a path that carries `limit` bytes; returns how many probes it took.
    fn search(search: &mut SizeSearch, now: Instant, limit: u16) -> u32 {
        let mut probes = 0;
        while let Some(bytes) = search.due(now) {
            probes += 1;
            assert!(probes < 60, "the search does not end: {search:?}");
            search.on_probe_sent(bytes);
            assert_eq!(search.due(now), None, "one probe at a time");
            if bytes <= limit {
                assert!(search.on_probe_acked(now, bytes));
            } else {
                search.on_probe_lost(now, bytes);
            }
        }
        probes
    }

    proptest! {
        #[test]
        fn every_limit_is_found_to_the_precision(limit in DATAGRAM_BYTES_FLOOR..9_001, ceiling in DATAGRAM_BYTES_FLOOR..9_001) {
            let mut found = SizeSearch::new(NOW, DATAGRAM_BYTES_FLOOR, ceiling);
            search(&mut found, NOW, limit);
            let best = limit.min(ceiling);
            prop_assert!(found.current() <= best && best - found.current() <= PRECISION_BYTES, "{found:?}");
        }
    }

    #[test]
    fn a_path_that_carries_everything_costs_one_probe() {
        let mut found = SizeSearch::new(NOW, DATAGRAM_BYTES_FLOOR, 1_452);
        assert_eq!(search(&mut found, NOW, 1_500), 1);
        assert_eq!(found.current(), 1_452);
        assert_eq!(found.due(at(10_000_000)), None);
    }

    #[test]
    fn a_lost_probe_or_two_decide_nothing() {
        let mut found = SizeSearch::new(NOW, DATAGRAM_BYTES_FLOOR, 1_452);
        for _ in 0..2 {
            found.on_probe_sent(1_452);
            found.on_probe_lost(NOW, 1_452);
            assert_eq!(found.due(NOW), Some(1_452));
        }
        found.on_probe_sent(1_452);
        assert!(found.on_probe_acked(NOW, 1_452));
    }

    #[test]
    fn a_limit_below_the_ceiling_is_tried_again_after_ten_minutes_without_a_timer() {
        let mut found = SizeSearch::new(NOW, DATAGRAM_BYTES_FLOOR, 1_452);
        search(&mut found, NOW, 1_300);
        assert!((1_292..=1_300).contains(&found.current()));
        assert_eq!((found.due(at(599_999)), found.next_timeout()), (None, None));
        assert_eq!(found.due(at(600_000)), Some(1_452));
        search(&mut found, at(600_000), 1_452);
        assert_eq!(found.current(), 1_452);
    }

    #[test]
    fn long_losses_between_arrivals_are_no_black_hole() {
        let mut found = SizeSearch::new(NOW, 1_452, 1_452);
        for round in 0..100 {
            assert!(!found.on_lost(at(round), at(10 * round + 1), 1_452));
            assert!(!found.on_lost(at(round), at(10 * round + 2), 1_452));
            assert!(!found.on_lost(at(round), at(10 * round + 3), 1_200), "short ones say nothing");
            found.on_long_arrived(at(10 * round + 5));
            assert!(!found.on_lost(at(round), at(10 * round + 4), 1_452), "sent before an arrival");
        }
        assert_eq!(found.current(), 1_452);
    }

    #[test]
    fn a_black_hole_brings_the_floor_and_a_new_search() {
        let mut found = SizeSearch::new(NOW, 1_452, 1_452);
        found.on_long_arrived(at(10));
        let lost: Vec<_> = (11..14).map(|n| found.on_lost(at(20), at(n), 1_452)).collect();
        assert_eq!(lost, [false, false, true]);
        assert_eq!((found.current(), found.due(at(20))), (1_200, Some(1_452)));
        search(&mut found, at(20), 1_400);
        assert!((1_392..=1_400).contains(&found.current()));
    }

    #[test]
    fn a_path_that_passes_probes_only_is_searched_less_and_less_often() {
        let mut found = SizeSearch::new(NOW, 1_452, 1_452);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..4 {
            (1..=3).for_each(|n| {
                found.on_lost(at(now), at(now + n), 1_452);
            });
            let due = found.next_timeout().unwrap().saturating_duration_since(at(now));
            pauses.push(due.as_millis());
            now += due.as_millis() as u64;
            search(&mut found, at(now), 1_500);
        }
        assert_eq!(pauses, [0, 1_000, 2_000, 4_000]);
    }

    #[test]
    fn a_probe_of_before_the_fall_raises_nothing() {
        let mut found = SizeSearch::new(NOW, 1_300, 1_452);
        found.on_probe_sent(1_452);
        (1..=3).for_each(|n| {
            found.on_lost(at(n), at(n), 1_300);
        });
        assert!(!found.on_probe_acked(at(9), 1_452));
        assert_eq!(found.current(), DATAGRAM_BYTES_FLOOR);
    }
}
