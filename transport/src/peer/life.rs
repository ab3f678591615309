//! Owns what follows from a peer's silence or word: heartbeats, dials, *down*, *up* and *peer lost*.
//!
//! What always holds: *down* ends nothing; only `give_up` does. A watched peer without a session is dialled again within
//! [`REDIAL`] of the last dial's beginning or at its end.

use std::time::Duration;

use super::{Peer, REDIAL};
use crate::common::Common;
use crate::endpoint::{DownCause, EndCause, Event, Outcome};
use crate::limits::ACK_DELAY_MAX;
use crate::presence::Change;
use crate::sent::SentPackets;
use crate::time::Instant;

impl Peer {
    /// See [`Endpoint::watch`](crate::Endpoint::watch).
    pub(crate) fn watch(&mut self, common: &mut Common, now: Instant) {
        let change = self.presence.watch(now, self.session.is_some());
        self.tell(common, change);
        self.keep_connected(now);
    }

    /// See [`Endpoint::unwatch`](crate::Endpoint::unwatch).
    pub(crate) fn unwatch(&mut self) {
        let was_watched = self.presence.is_watched();
        self.presence.unwatch();
        if was_watched && self.session.is_none() {
            self.presence.on_session_ended();
            if self.wanted_since.is_none() {
                self.redial_at = None;
            }
        }
    }

    /// Marks a sign of life under the keys that we send on.
    #[inline]
    pub(super) fn on_heard(&mut self, common: &mut Common, now: Instant) {
        if let Some(change) = self.presence.on_heard(now) {
            self.redial_at = None;
            self.tell(common, Some(change));
        }
    }

    /// Marks that the peer is down, and tells of it once.
    pub(super) fn on_down(&mut self, common: &mut Common, now: Instant, cause: DownCause) {
        let change = self.presence.on_down(now, cause);
        self.tell(common, change);
    }

    #[cold]
    fn tell(&self, common: &mut Common, change: Option<Change>) {
        let peer = self.id;
        let event = match change {
            None => return,
            Some(Change::Up) => {
                common.counters.peers_up += 1;
                Event::Up { peer }
            }
            Some(Change::Down(cause)) => {
                common.counters.peers_down += 1;
                Event::Down { peer, cause }
            }
        };
        common.ends.events.push_back(event);
    }

    /// Whether a word of the peer is due, and since when none came.
    fn silent_since(&mut self, now: Instant) -> Option<Instant> {
        let session = self.session.as_ref()?;
        // The peer answers our greeting as soon as it has these keys; if it never does, they are ours alone.
        let is_ungreeted = session.current.greeting_due().is_some();
        let is_owed = session.is_awaiting() || is_ungreeted || self.requests_pending > 0;
        self.presence.silent_since(now, is_owed)
    }

    /// When [`Peer::check_life`] has something to do.
    pub(super) fn life_at(&mut self, common: &Common, now: Instant) -> Option<Instant> {
        self.keep_connected(now);
        let since = self.silent_since(now)?;
        let limits = &common.limits;
        let mark = if self.presence.is_down() { limits.give_up } else { limits.down_after };
        let next = (since + mark).min(self.presence.beat_at(since));
        match self.suspect_at(since) {
            Some(at) if self.dialling.is_none() && self.redial_at.is_none() => Some(next.min(at)),
            _ => Some(next),
        }
    }

    /// When a watched peer's silence is reason enough to dial it beside its session.
    fn suspect_at(&self, since: Instant) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let answer_delay = 2 * SentPackets::probe_delay(&session.path.rtt, ACK_DELAY_MAX);
        self.presence.suspect_at(since, answer_delay)
    }

    /// Does what a silence calls for by now.
    pub(super) fn check_life(&mut self, common: &mut Common, now: Instant) {
        let Some(since) = self.silent_since(now) else { return };
        let silence = now.saturating_duration_since(since);
        if silence >= common.limits.give_up {
            self.on_down(common, now, DownCause::Silence);
            self.end_session(common, now, EndCause::GaveUp, Outcome::PeerLost);
            self.abandon_waiting(common, Outcome::PeerLost);
            return;
        }
        if silence >= common.limits.down_after && !self.presence.is_down() {
            self.on_down(common, now, DownCause::Silence);
            self.redial_at.get_or_insert(now);
        }
        if self.suspect_at(since).is_some_and(|at| at <= now) && self.dialling.is_none() {
            let at = self.next_dial(now);
            self.redial_at.get_or_insert(at);
        }
        if self.presence.beat_at(since) <= now {
            self.presence.on_beat(now, common.entropy.next_u64());
            self.beat(common);
        }
    }

    fn beat(&mut self, common: &mut Common) {
        let Some(session) = &mut self.session else { return };
        // Unsettled data is probed for anyway; a watched peer is asked in any case.
        if self.presence.is_watched() || !session.is_awaiting() {
            common.counters.heartbeats_sent += 1;
            session.ping();
        }
    }

    /// A watched peer without a session or a dial is to be dialled.
    fn keep_connected(&mut self, now: Instant) {
        let is_idle = self.session.is_none() && self.dialling.is_none();
        if self.presence.is_watched() && is_idle && self.redial_at.is_none() {
            self.redial_at = Some(self.next_dial(now));
        }
    }

    /// When the next dial may begin: at most one per [`REDIAL`].
    pub(super) fn next_dial(&self, now: Instant) -> Instant {
        let paced = self.dialled_at.map_or(now, |at| at + REDIAL);
        if self.presence.is_watched() { paced.max(now) } else { now + REDIAL }
    }

    /// How long a handshake that awaits its greeting keeps a further dial from beginning.
    pub(super) fn greeting_patience(&self, dial_timeout: Duration) -> Duration {
        if self.presence.is_watched() { REDIAL } else { dial_timeout }
    }
}
