//! Owns whether a peer seems alive, over all its lanes: when it was last heard, whether somebody watches it; and beside it
//! each lane's own silence, and when to ask for a sign of life.
//!
//! What always holds: states of a watched peer alternate, so each transition is told once, whichever lane showed it; a peer that
//! is not watched has a state only while there is a session, and owes us a word only while something waits for one.

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
    /// The lane that keeps it connected while it is watched, and that is dialled when none is asked for.
    pub(crate) home: u32,
    state: PeerState,
    /// When the state began.
    since: Instant,
    /// Since when it is watched.
    watched_since: Option<Instant>,
    /// On any lane.
    last_heard: Instant,
    /// Sessions with it, one for each lane at most.
    sessions: u32,
    pub(crate) arrivals: u64,
    pub(crate) departures: u64,
}

impl Presence {
    pub(crate) fn new(home: u32) -> Self {
        Self {
            home,
            state: PeerState::Unknown,
            since: Instant::default(),
            watched_since: None,
            last_heard: Instant::default(),
            sessions: 0,
            arrivals: 0,
            departures: 0,
        }
    }

    // -- what changes it

    /// Somebody wants to know from here on. A word heard just before counts.
    pub(crate) fn watch(&mut self, now: Instant) -> Option<Change> {
        if self.watched_since.is_some() {
            return None;
        }
        self.watched_since = Some(now);
        if !self.is_down() {
            self.state = PeerState::Unknown;
            self.since = now;
        }
        let is_fresh = self.sessions > 0 && now < self.last_heard + HEARTBEAT_INTERVAL_MAX;
        if is_fresh { self.rise(now) } else { None }
    }

    /// Nobody wants to know any more.
    pub(crate) fn unwatch(&mut self) {
        self.watched_since = None;
        self.forget_state();
    }

    /// An authenticated datagram of the peer's present incarnation arrived.
    #[inline]
    pub(crate) fn on_heard(&mut self, now: Instant) -> Option<Change> {
        self.last_heard = now;
        if self.state == PeerState::Up { None } else { self.on_word(now) }
    }

    #[cold]
    fn on_word(&mut self, now: Instant) -> Option<Change> {
        match self.state {
            // What other lanes still say of an end that one of them told changes nothing: a new greeting does.
            PeerState::Down(cause) if cause != DownCause::Silence => None,
            _ => self.rise(now),
        }
    }

    /// A session began.
    pub(crate) fn on_session_begun(&mut self) {
        self.sessions += 1;
    }

    /// The peer greeted: it lives, whatever was known of it.
    pub(crate) fn on_greeted(&mut self, now: Instant) -> Option<Change> {
        self.last_heard = now;
        self.rise(now)
    }

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

    /// A session is over: after the last, nothing is known any more of a peer that is not watched.
    pub(crate) fn on_session_ended(&mut self) {
        self.sessions -= 1;
        self.forget_state();
    }

    fn forget_state(&mut self) {
        if self.sessions == 0 && !self.is_watched() {
            self.state = PeerState::Unknown;
        }
    }

    // -- what it says

    /// When its last word came, on any lane.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Sessions with it.
    pub(crate) fn sessions(&self) -> u32 {
        self.sessions
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

/// How long one lane has said nothing, and when it is asked for a sign of life.
#[derive(Debug)]
pub(crate) struct Silence {
    last_heard: Instant,
    /// Since when we wait for its word.
    awaiting_since: Option<Instant>,
    /// The last heartbeat, and the pause before the next.
    last_beat: Instant,
    beat_pause: Duration,
}

/// Since when nothing came although a word is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    /// From the peer, on any lane.
    pub(crate) peer: Instant,
    /// On this lane.
    pub(crate) lane: Instant,
}

impl Silence {
    pub(crate) fn new() -> Self {
        Self {
            last_heard: Instant::default(),
            awaiting_since: None,
            last_beat: Instant::default(),
            beat_pause: HEARTBEAT_INTERVAL_MAX,
        }
    }

    /// An authenticated datagram came on this lane.
    #[inline]
    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Watching begins, or the session ended: nothing is awaited.
    pub(crate) fn forget(&mut self) {
        self.awaiting_since = None;
    }

    /// Watching begins: an idle session is to be asked at once.
    pub(crate) fn forget_beat(&mut self) {
        self.last_beat = Instant::default();
    }

    /// A heartbeat leaves now; `random` places the next one.
    pub(crate) fn on_beat(&mut self, now: Instant, random: u64) {
        let jitter = random % (HEARTBEAT_JITTER_MAX.as_nanos() as u64 + 1);
        self.last_beat = now;
        self.beat_pause = HEARTBEAT_INTERVAL_MAX.saturating_sub(Duration::from_nanos(jitter));
    }

    /// Since when nothing came although a word is due. `is_watching`: this lane is the one that asks for the peer's signs of life;
    /// `is_owed`: something waits for this lane's word.
    pub(crate) fn silent_since(
        &mut self,
        now: Instant,
        presence: &Presence,
        is_watching: bool,
        is_owed: bool,
    ) -> Option<Silent> {
        let watched = presence.watched_since.filter(|_| is_watching);
        if !is_owed {
            self.awaiting_since = None;
            let peer = watched?.max(presence.last_heard);
            return Some(Silent { peer, lane: peer });
        }
        let since = *self.awaiting_since.get_or_insert(now);
        let peer = watched.unwrap_or(since).max(presence.last_heard);
        // What a lane waits for now does not excuse a peer that was silent before.
        let lane = since.max(self.last_heard);
        Some(Silent { peer, lane: if watched.is_some() { lane.min(peer) } else { lane } })
    }

    /// When the next heartbeat is due, in a silence that began at `since`.
    pub(crate) fn beat_at(&self, presence: &Presence, since: Instant) -> Instant {
        let is_unknown = presence.is_watched() && presence.state == PeerState::Unknown;
        if is_unknown && self.last_beat < since {
            // Watched just now, in the middle of an idle session: ask at once.
            return since;
        }
        since.max(self.last_beat) + self.beat_pause
    }

    /// When a watched peer's silence is suspicious enough to dial, if heartbeats are answered after `answer_delay`.
    pub(crate) fn suspect_at(since: Instant, answer_delay: Duration) -> Instant {
        since + HEARTBEAT_INTERVAL_MAX + answer_delay.max(ANSWER_DELAY_MIN)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: transitions alternate, whichever lane shows them; heartbeats are spread; an unwatched peer is asked for nothing.
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn transitions_of_a_watched_peer_alternate() {
        let mut presence = Presence::new(0);
        assert_eq!(presence.watch(at(0)), None);
        presence.on_session_begun();
        assert_eq!(presence.on_greeted(at(1)), Some(Change::Up));
        assert_eq!(presence.on_heard(at(2)), None);
        let down = Change::Down(DownCause::Restarted);
        assert_eq!(presence.on_down(at(3), DownCause::Restarted), Some(down));
        assert_eq!(presence.on_down(at(4), DownCause::Silence), None);
        presence.on_session_ended();
        assert_eq!(presence.state(), (PeerState::Down(DownCause::Restarted), at(3)));
        assert_eq!(presence.on_greeted(at(5)), Some(Change::Up));
        assert_eq!((presence.arrivals, presence.departures), (2, 1));
    }

    #[test]
    fn one_lane_raises_a_silent_peer_but_not_one_that_closed() {
        let mut presence = Presence::new(0);
        presence.watch(at(0));
        presence.on_session_begun();
        presence.on_session_begun();
        assert_eq!(presence.on_greeted(at(1)), Some(Change::Up));
        presence.on_down(at(3_001), DownCause::Silence);
        assert_eq!(presence.on_heard(at(3_002)), Some(Change::Up));
        presence.on_down(at(3_003), DownCause::Closed);
        presence.on_session_ended();
        assert_eq!(presence.on_heard(at(3_004)), None, "another lane's last words");
        presence.on_session_ended();
        assert_eq!(presence.on_greeted(at(3_005)), Some(Change::Up));
    }

    #[test]
    fn an_unwatched_peer_tells_only_of_a_silence_that_somebody_waits_in() {
        let (mut presence, mut lane) = (Presence::new(0), Silence::new());
        presence.on_session_begun();
        assert_eq!(presence.on_greeted(at(0)), None);
        lane.on_heard(at(0));
        assert_eq!(lane.silent_since(at(9_000), &presence, true, false), None);
        let silent = Silent { peer: at(9_000), lane: at(9_000) };
        assert_eq!(lane.silent_since(at(9_000), &presence, true, true), Some(silent));
        assert_eq!(lane.silent_since(at(9_500), &presence, true, true), Some(silent));
        presence.on_heard(at(9_400));
        let elsewhere = Silent { peer: at(9_400), lane: at(9_000) };
        assert_eq!(lane.silent_since(at(9_500), &presence, true, true), Some(elsewhere));
        assert_eq!(presence.on_down(at(9_500), DownCause::Restarted), None);
        presence.on_session_ended();
        assert_eq!(presence.on_heard(at(9_600)), None);
    }

    #[test]
    fn watching_an_idle_session_asks_at_once_and_a_busy_one_believes_its_last_word() {
        let (mut idle, mut lane) = (Presence::new(0), Silence::new());
        idle.on_session_begun();
        idle.on_greeted(at(0));
        assert_eq!(idle.watch(at(60_000)), None);
        let since = lane.silent_since(at(60_000), &idle, true, false).unwrap().peer;
        assert_eq!((since, lane.beat_at(&idle, since)), (at(60_000), at(60_000)));
        let mut busy = Presence::new(0);
        busy.on_session_begun();
        busy.on_greeted(at(0));
        assert_eq!(busy.watch(at(500)), Some(Change::Up));
    }

    #[test]
    fn heartbeats_are_spread_and_never_later_than_their_interval() {
        let (mut presence, mut lane) = (Presence::new(0), Silence::new());
        presence.watch(at(0));
        presence.on_greeted(at(0));
        let mut pauses = Vec::new();
        for random in (0..1_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            lane.on_beat(at(500), random);
            let pause = lane.beat_at(&presence, at(0)).saturating_duration_since(at(500));
            assert!(pause <= HEARTBEAT_INTERVAL_MAX);
            assert!(pause + HEARTBEAT_JITTER_MAX >= HEARTBEAT_INTERVAL_MAX);
            pauses.push(pause);
        }
        pauses.sort();
        assert!(pauses[0] + HEARTBEAT_JITTER_MAX * 9 / 10 < pauses[999], "{pauses:?}");
    }
}
