//! Owns whether a peer seems alive: when it was last heard, whether somebody watches it, and when to ask it for a sign of life.
//!
//! What always holds: states of a watched peer alternate, so each transition is told once; a peer that is not watched has a
//! state only while there is a session, and owes us a word only while something waits for one.

use std::time::Duration;

use crate::endpoint::{DownCause, PeerState};
use crate::limits::{HEARTBEAT_INTERVAL_MAX, HEARTBEAT_JITTER_MAX};
use crate::time::Instant;

/// Time beyond the heartbeat in which its answer should be here, at least; then a watched peer is dialled as well, because a
/// restarted one answers hellos only.
const ANSWER_DELAY_MIN: Duration = Duration::from_millis(250);

/// A change of a watched peer, or of one that owes us a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Up,
    Down(DownCause),
}

/// What we know of one peer's life.
#[derive(Debug)]
pub(crate) struct Presence {
    state: PeerState,
    /// When the state began.
    since: Instant,
    /// Since when it is watched.
    watched_since: Option<Instant>,
    last_heard: Instant,
    /// Since when we wait for its word, unwatched.
    awaiting_since: Option<Instant>,
    /// The last heartbeat, and the pause before the next.
    last_beat: Instant,
    beat_pause: Duration,
    pub(crate) arrivals: u64,
    pub(crate) departures: u64,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self {
            state: PeerState::Unknown,
            since: Instant::default(),
            watched_since: None,
            last_heard: Instant::default(),
            awaiting_since: None,
            last_beat: Instant::default(),
            beat_pause: HEARTBEAT_INTERVAL_MAX,
            arrivals: 0,
            departures: 0,
        }
    }

    // -- what changes it

    /// Somebody wants to know from here on. A word heard just before counts.
    pub(crate) fn watch(&mut self, now: Instant, is_connected: bool) -> Option<Change> {
        if self.watched_since.is_some() {
            return None;
        }
        self.watched_since = Some(now);
        self.last_beat = Instant::default();
        if !matches!(self.state, PeerState::Down(_)) {
            self.state = PeerState::Unknown;
            self.since = now;
        }
        let is_fresh = is_connected && now < self.last_heard + HEARTBEAT_INTERVAL_MAX;
        if is_fresh { self.rise(now) } else { None }
    }

    /// Nobody wants to know any more.
    pub(crate) fn unwatch(&mut self) {
        self.watched_since = None;
        self.awaiting_since = None;
    }

    /// An authenticated datagram of the peer's present incarnation arrived.
    #[inline]
    pub(crate) fn on_heard(&mut self, now: Instant) -> Option<Change> {
        self.last_heard = now;
        if self.state == PeerState::Up { None } else { self.rise(now) }
    }

    #[cold]
    fn rise(&mut self, now: Instant) -> Option<Change> {
        let is_told = self.is_watched() || self.is_down();
        if self.state == PeerState::Up {
            return None;
        }
        self.state = PeerState::Up;
        self.since = now;
        self.arrivals += 1;
        is_told.then_some(Change::Up)
    }

    /// It is down; `None` when that is known, or nobody is to be told.
    pub(crate) fn on_down(&mut self, now: Instant, cause: DownCause) -> Option<Change> {
        if self.is_down() {
            return None;
        }
        let was_up = self.state == PeerState::Up;
        let is_told = self.is_watched() || matches!(cause, DownCause::Silence | DownCause::Closed);
        self.state = PeerState::Down(cause);
        self.since = now;
        self.departures += u64::from(was_up);
        is_told.then_some(Change::Down(cause))
    }

    /// The session is over: unwatched, nothing is known any more.
    pub(crate) fn on_session_ended(&mut self) {
        self.awaiting_since = None;
        if !self.is_watched() {
            self.state = PeerState::Unknown;
        }
    }

    /// A heartbeat leaves now; `random` places the next one.
    pub(crate) fn on_beat(&mut self, now: Instant, random: u64) {
        let jitter = random % (HEARTBEAT_JITTER_MAX.as_nanos() as u64 + 1);
        self.last_beat = now;
        self.beat_pause = HEARTBEAT_INTERVAL_MAX.saturating_sub(Duration::from_nanos(jitter));
    }

    // -- what it says

    /// Since when nothing came although a word is due; `is_owed` tells whether something waits for the peer.
    pub(crate) fn silent_since(&mut self, now: Instant, is_owed: bool) -> Option<Instant> {
        if let Some(watched) = self.watched_since {
            return Some(watched.max(self.last_heard));
        }
        if !is_owed {
            self.awaiting_since = None;
            return None;
        }
        let since = *self.awaiting_since.get_or_insert(now);
        Some(since.max(self.last_heard))
    }

    /// When the next heartbeat is due, in a silence that began at `since`.
    pub(crate) fn beat_at(&self, since: Instant) -> Instant {
        if self.is_watched() && self.state == PeerState::Unknown && self.last_beat < since {
            // Watched just now, in the middle of an idle session: ask at once.
            return since;
        }
        since.max(self.last_beat) + self.beat_pause
    }

    /// When a watched peer's silence is suspicious enough to dial, if heartbeats are answered after `answer_delay`.
    pub(crate) fn suspect_at(&self, since: Instant, answer_delay: Duration) -> Option<Instant> {
        let wait = HEARTBEAT_INTERVAL_MAX + answer_delay.max(ANSWER_DELAY_MIN);
        self.is_watched().then_some(since + wait)
    }

    /// When its last word came.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Whether somebody watches it.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched_since.is_some()
    }

    /// Whether it is known to be down.
    #[inline]
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, PeerState::Down(_))
    }

    /// The state, and since when.
    pub(crate) fn state(&self) -> (PeerState, Instant) {
        (self.state, self.since)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: transitions alternate; heartbeats are spread; an unwatched peer is asked for nothing.
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn transitions_of_a_watched_peer_alternate() {
        let mut presence = Presence::new();
        assert_eq!(presence.watch(at(0), false), None);
        assert_eq!(presence.on_heard(at(1)), Some(Change::Up));
        assert_eq!(presence.on_heard(at(2)), None);
        let down = Change::Down(DownCause::Restarted);
        assert_eq!(presence.on_down(at(3), DownCause::Restarted), Some(down));
        assert_eq!(presence.on_down(at(4), DownCause::Silence), None);
        presence.on_session_ended();
        assert_eq!(presence.state(), (PeerState::Down(DownCause::Restarted), at(3)));
        assert_eq!(presence.on_heard(at(5)), Some(Change::Up));
        assert_eq!((presence.arrivals, presence.departures), (2, 1));
    }

    #[test]
    fn an_unwatched_peer_tells_only_of_a_silence_that_somebody_waits_in() {
        let mut presence = Presence::new();
        assert_eq!(presence.on_heard(at(0)), None);
        assert_eq!(presence.silent_since(at(9_000), false), None);
        assert_eq!(presence.silent_since(at(9_000), true), Some(at(9_000)));
        assert_eq!(presence.silent_since(at(9_500), true), Some(at(9_000)));
        assert_eq!(presence.on_down(at(9_500), DownCause::Restarted), None);
        presence.on_session_ended();
        assert_eq!(presence.on_heard(at(9_600)), None);
    }

    #[test]
    fn watching_an_idle_session_asks_at_once_and_a_busy_one_believes_its_last_word() {
        let mut idle = Presence::new();
        idle.on_heard(at(0));
        assert_eq!(idle.watch(at(60_000), true), None);
        let since = idle.silent_since(at(60_000), false).unwrap();
        assert_eq!((since, idle.beat_at(since)), (at(60_000), at(60_000)));
        let mut busy = Presence::new();
        busy.on_heard(at(0));
        assert_eq!(busy.watch(at(500), true), Some(Change::Up));
    }

    #[test]
    fn heartbeats_are_spread_and_never_later_than_their_interval() {
        let mut presence = Presence::new();
        presence.watch(at(0), false);
        presence.on_heard(at(0));
        let mut pauses = Vec::new();
        for random in (0..1_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            presence.on_beat(at(500), random);
            let pause = presence.beat_at(at(0)).saturating_duration_since(at(500));
            assert!(pause <= HEARTBEAT_INTERVAL_MAX);
            assert!(pause + HEARTBEAT_JITTER_MAX >= HEARTBEAT_INTERVAL_MAX);
            pauses.push(pause);
        }
        pauses.sort();
        assert!(pauses[0] + HEARTBEAT_JITTER_MAX * 9 / 10 < pauses[999], "{pauses:?}");
    }
}
