//! Owns what follows from a peer's silence or word: heartbeats, dials, *down*, *up* and *peer lost*.
//!
//! What always holds: *down* ends nothing; only `give_up` does. *Up* and *down* are the peer's as a whole, told once; each lane is
//! given up by itself. The home lane of a watched peer is dialled again within [`REDIAL`] of its last dial's beginning or at its end.

use std::time::Duration;

use super::{Peer, REDIAL};
use crate::common::Common;
use crate::endpoint::{DownCause, EndCause, Event, Outcome};
use crate::limits::ACK_DELAY_MAX;
use crate::presence::{Change, Presence, Silence, Silent};
use crate::sent::SentPackets;
use crate::time::Instant;

impl Peer {
    /// See [`Endpoint::watch`](crate::Endpoint::watch).
    pub(crate) fn watch(&mut self, common: &mut Common, now: Instant) {
        self.wake();
        if !self.presence(common).is_watched() {
            self.silence.forget_beat();
        }
        let change = self.presence_mut(common).watch(now);
        self.tell(common, change);
        self.keep_connected(common, now);
    }

    /// See [`Endpoint::unwatch`](crate::Endpoint::unwatch).
    pub(crate) fn unwatch(&mut self, common: &mut Common) {
        let presence = self.presence_mut(common);
        let was_watched = presence.is_watched();
        presence.unwatch();
        self.silence.forget();
        if was_watched && !self.has_session() && self.wanted_since.is_none() {
            self.redial_at = None;
        }
    }

    /// What is known of the life of the node that this lane leads to.
    #[inline]
    pub(crate) fn presence<'a>(&self, common: &'a Common) -> &'a Presence {
        &common.presences[self.contact.place() as usize]
    }

    #[inline]
    pub(super) fn presence_mut<'a>(&self, common: &'a mut Common) -> &'a mut Presence {
        &mut common.presences[self.contact.place() as usize]
    }

    /// Whether this lane keeps a watched peer connected and asks it for signs of life.
    pub(crate) fn is_watching(&self, common: &Common) -> bool {
        self.is_home(common) && self.presence(common).is_watched()
    }

    /// Whether this lane stands for all when one will do.
    pub(crate) fn is_home(&self, common: &Common) -> bool {
        self.presence(common).home == self.id.place()
    }

    /// Marks a sign of life under the keys that we send on.
    #[inline]
    pub(super) fn on_heard(&mut self, common: &mut Common, now: Instant) {
        self.silence.on_heard(now);
        if let Some(change) = self.presence_mut(common).on_heard(now) {
            self.redial_at = None;
            self.tell(common, Some(change));
        }
    }

    /// The peer greeted under keys of this lane's session.
    pub(super) fn on_greeted(&mut self, common: &mut Common, now: Instant) {
        self.silence.on_heard(now);
        if let Some(change) = self.presence_mut(common).on_greeted(now) {
            self.redial_at = None;
            self.tell(common, Some(change));
        }
    }

    /// Marks that the peer is down, and tells of it once.
    pub(super) fn on_down(&mut self, common: &mut Common, now: Instant, cause: DownCause) {
        let change = self.presence_mut(common).on_down(now, cause);
        self.tell(common, change);
    }

    #[cold]
    fn tell(&self, common: &mut Common, change: Option<Change>) {
        let peer = self.contact;
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
    fn silent_since(&mut self, common: &Common, now: Instant) -> Option<Silent> {
        let session = self.session.as_ref()?;
        // The peer answers our greeting as soon as it has these keys; if it never does, they are ours alone.
        let is_ungreeted = session.current.greeting_due().is_some();
        let is_owed = session.is_awaiting() || is_ungreeted || self.requests_pending > 0;
        let is_watching = self.is_home(common);
        let presence = &common.presences[self.contact.place() as usize];
        self.silence.silent_since(now, presence, is_watching, is_owed)
    }

    /// When [`Peer::check_life`] has something to do.
    pub(super) fn life_at(&mut self, common: &Common, now: Instant) -> Option<Instant> {
        self.keep_connected(common, now);
        let silent = self.silent_since(common, now)?;
        let (limits, presence) = (&common.limits, self.presence(common));
        let beat = self.silence.beat_at(presence, silent.lane);
        let mut next = beat.min(silent.lane + limits.give_up);
        if !presence.is_down() {
            next = next.min(silent.peer + limits.down_after);
        }
        match self.suspect_at(common, silent.peer) {
            Some(at) if self.dialling.is_none() && self.redial_at.is_none() => Some(next.min(at)),
            _ => Some(next),
        }
    }

    /// When a watched peer's silence is reason enough to dial it beside its session.
    fn suspect_at(&self, common: &Common, since: Instant) -> Option<Instant> {
        let session = self.session.as_ref().filter(|_| self.is_watching(common))?;
        let answer_delay = 2 * SentPackets::probe_delay(&session.path.rtt, ACK_DELAY_MAX);
        Some(Silence::suspect_at(since, answer_delay))
    }

    /// Does what a silence calls for by now.
    pub(super) fn check_life(&mut self, common: &mut Common, now: Instant) {
        let Some(silent) = self.silent_since(common, now) else { return };
        let is_peer_silent = |after| now.saturating_duration_since(silent.peer) >= after;
        if now.saturating_duration_since(silent.lane) >= common.limits.give_up {
            if is_peer_silent(common.limits.down_after) {
                self.on_down(common, now, DownCause::Silence);
            }
            self.end_session(common, now, EndCause::GaveUp, Outcome::PeerLost);
            self.abandon_waiting(common, Outcome::PeerLost);
            return;
        }
        if is_peer_silent(common.limits.down_after) && !self.presence(common).is_down() {
            self.on_down(common, now, DownCause::Silence);
            self.redial_at.get_or_insert(now);
        }
        let is_suspect = self.suspect_at(common, silent.peer).is_some_and(|at| at <= now);
        if is_suspect && self.dialling.is_none() {
            let at = self.next_dial(common, now);
            self.redial_at.get_or_insert(at);
        }
        if self.silence.beat_at(self.presence(common), silent.lane) <= now {
            self.silence.on_beat(now, common.entropy.next_u64());
            self.beat(common);
        }
    }

    fn beat(&mut self, common: &mut Common) {
        let is_watching = self.is_watching(common);
        let Some(session) = &mut self.session else { return };
        // Unsettled data is probed for anyway; a watched peer is asked in any case.
        if is_watching || !session.is_awaiting() {
            common.counters.heartbeats_sent += 1;
            session.ping();
        }
    }

    /// A peer without a session or a dial is to be dialled if it is watched, or if something waits for it and no handshake is
    /// about to bring a session.
    fn keep_connected(&mut self, common: &Common, now: Instant) {
        let is_idle = !self.has_session() && self.dialling.is_none() && self.redial_at.is_none();
        let is_awaited = self.wanted_since.is_some() && self.greeting_pending.is_empty();
        if is_idle && (is_awaited || self.is_watching(common)) {
            self.redial_at = Some(self.next_dial(common, now));
        }
    }

    /// When the next dial may begin: at most one per [`REDIAL`].
    pub(super) fn next_dial(&self, common: &Common, now: Instant) -> Instant {
        let paced = self.dialled_at.map_or(now, |at| at + REDIAL);
        if self.is_watching(common) { paced.max(now) } else { now + REDIAL }
    }

    /// How long a handshake that awaits its greeting keeps a further dial from beginning.
    pub(super) fn greeting_patience(&self, common: &Common) -> Duration {
        if self.is_watching(common) { REDIAL } else { common.limits.dial_timeout }
    }
}
