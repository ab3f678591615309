//! Owns everything about one lane to a peer: whose and which shard's it is, our dial, associations that wait for their greeting,
//! the session, messages that wait for a session, and how long it has been silent. The endpoint knows which lanes lead to one peer.
//!
//! What always holds: a message offered is in exactly one of `waiting`, the session's logs, or the tally.

mod alarm;
mod backlog;
mod end;
mod flows;
mod greeting;
mod life;
mod receive;
mod requests;
mod rest;
mod rows;
mod send;
mod waiting;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::association::Association;
use crate::common::Common;
use crate::endpoint::{ChannelId, EndCause, Limits, Outcome, PeerId, SendOptions};
use crate::flows::OutFlow;
use crate::frame::Close;
use crate::handshake::Dial;
use crate::identity::PublicKey;
use crate::limits::GREETINGS_PENDING_MAX;
use crate::presence::Silence;
use crate::restarted::Notice;
use crate::room::Room;
use crate::send_log::Waiter;
use crate::session::{DormantSession, Session, write_association_datagram, write_close};
use crate::time::Instant;
use crate::values::Values;
use alarm::Alarm;

pub(crate) use greeting::open_greeting;
pub(crate) use receive::Received;
pub(crate) use send::Source;
use waiting::Waiting;

/// A peer that is down, or that messages wait for, is dialled again this often.
const REDIAL: Duration = Duration::from_secs(1);
/// First pause before a peer that turned us away is dialled again; doubles up to [`REFUSED_PAUSE_MAX`].
const REFUSED_PAUSE_MIN: Duration = Duration::from_secs(1);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A dial of ours under way.
pub(crate) struct Dialling {
    pub(crate) dial: Dial,
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<[u8; 32]>,
    pub(crate) begun: Instant,
    /// When the hello (or FINISH) goes out again.
    pub(crate) resend_at: Instant,
    pub(crate) pause: Duration,
    pub(crate) hellos: u32,
    /// The reply was good: FINISH is repeated until the peer speaks on the association.
    pub(crate) is_answered: bool,
}

/// A message offered before there was a session to log it in.
#[derive(Clone)]
pub(crate) struct WaitingMessage {
    pub(crate) alias: u32,
    pub(crate) body: Bytes,
    pub(crate) options: SendOptions,
    pub(crate) request: Option<u64>,
    pub(crate) waiter: Option<Waiter>,
}

/// One lane to a peer, from before its first handshake on.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    /// The peer's first lane, by which the application knows the peer.
    pub(crate) contact: PeerId,
    /// The peer's shard; none is known before the first handshake of a contact.
    pub(crate) remote: Option<u8>,
    pub(crate) channel: ChannelId,
    /// Our key on its channel.
    pub(crate) local: PublicKey,
    pub(crate) key: PublicKey,
    pub(crate) address: Option<SocketAddr>,
    /// The application named it; others are strangers, who dialled us and may be forgotten.
    pub(crate) is_configured: bool,
    pub(crate) flows: Vec<OutFlow>,
    pub(crate) aliases: HashMap<Box<str>, u32>,
    pub(crate) dialling: Option<Box<Dialling>>,
    /// When dialling began for what waits now; failing dials are reported every `dial_timeout` and go on until `give_up`.
    pub(crate) wanted_since: Option<Instant>,
    pub(crate) redial_at: Option<Instant>,
    /// How long to wait before the next dial to a peer that turned us away.
    refused_pause: Duration,
    pub(crate) greeting_pending: Vec<Association>,
    /// The session while it is at work.
    pub(crate) session: Option<Box<Session>>,
    /// The session while nothing is under way: see [`Peer::wake`].
    dormant: Option<Box<DormantSession>>,
    pub(crate) sessions: u32,
    /// The incarnation that this peer is told, once it is no longer that of our process: see [`Peer::end_session`].
    incarnation: Option<[u8; 16]>,
    pub(crate) waiting: Waiting,
    /// Values that no newer one replaced, until they can be sent.
    pub(crate) values: Values,
    pub(crate) requests_pending: u32,
    /// A message found no room: tell when there is some.
    pub(crate) was_full: bool,
    /// What it may still make us hold in this session.
    pub(crate) room: Room,
    pub(crate) silence: Silence,
    /// See [`Endpoint::set_lanes_sending`](crate::Endpoint::set_lanes_sending).
    pub(crate) lanes_sending: u16,
    /// When the last dial of ours began.
    pub(crate) dialled_at: Option<Instant>,
    /// What the peer did wrong, if it did.
    violated: Option<&'static str>,
    /// CLOSE to be sent before the session is forgotten.
    closing: Option<Close>,
    /// When a notice of a restart last made us dial.
    noticed_at: Option<Instant>,
    /// In the endpoint's list of peers that may have something to send.
    pub(crate) is_ready: bool,
    /// The endpoint's count of lanes that last had this one: see [`Endpoint::take_sending`](crate::Endpoint::take_sending).
    pub(crate) counted_in: u32,
    /// Its entries in the endpoint's heap of timers.
    pub(crate) alarm: Alarm,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        contact: PeerId,
        channel: ChannelId,
        local: PublicKey,
        key: PublicKey,
        address: Option<SocketAddr>,
        limits: &Limits,
    ) -> Self {
        Self {
            id,
            contact,
            remote: None,
            channel,
            local,
            key,
            address,
            is_configured: false,
            flows: Vec::new(),
            aliases: HashMap::new(),
            dialling: None,
            wanted_since: None,
            redial_at: None,
            refused_pause: REFUSED_PAUSE_MIN,
            greeting_pending: Vec::new(),
            session: None,
            dormant: None,
            sessions: 0,
            incarnation: None,
            waiting: Waiting::default(),
            values: Values::default(),
            requests_pending: 0,
            was_full: false,
            room: Room::new(limits),
            silence: Silence::new(),
            lanes_sending: 1,
            dialled_at: None,
            violated: None,
            closing: None,
            noticed_at: None,
            is_ready: false,
            counted_in: 0,
            alarm: Alarm::default(),
        }
    }

    /// A lane to another peer at the place of this one, of which nothing is left but what the endpoint's lists have of its place.
    pub(crate) fn succeeded_by(
        &self,
        id: PeerId,
        channel: ChannelId,
        key: PublicKey,
        limits: &Limits,
    ) -> Self {
        let mut peer = Self::new(id, id, channel, self.local, key, None, limits);
        (peer.sessions, peer.alarm) = (self.sessions, self.alarm);
        (peer.is_ready, peer.counted_in) = (self.is_ready, self.counted_in);
        peer
    }

    /// It may be a peer that was forgotten, with a session that we ended and whose end it has not heard of: so it is told an
    /// incarnation of its own.
    pub(crate) fn draw_incarnation(&mut self, common: &mut Common) {
        self.incarnation = Some(common.draw_incarnation());
    }

    /// Whether nothing would be missed if this lane was forgotten: one to a stranger that said nothing for `give_up`, and of whom
    /// nothing is left but its key.
    pub(crate) fn is_forgettable(&self, common: &Common, now: Instant) -> bool {
        let presence = self.presence(common);
        !self.is_configured
            && !self.has_session()
            && self.dialling.is_none()
            && self.greeting_pending.is_empty()
            && self.flows.is_empty()
            && self.requests_pending == 0
            && !presence.is_watched()
            && !self.is_ready
            && presence.last_heard() + common.limits.give_up <= now
    }

    /// Whether there is a session, or a dial of ours on its way to one.
    pub(crate) fn is_engaged(&self) -> bool {
        self.has_session() || self.dialling.is_some() || !self.greeting_pending.is_empty()
    }

    /// Acknowledged messages that have not ended.
    pub(crate) fn pending(&self) -> u64 {
        let waiting = (self.waiting.len() + self.values.len()) as u64;
        waiting + self.session.as_ref().map_or(0, |session| session.pending())
    }

    /// Best-effort messages that have not left.
    pub(crate) fn best_effort_pending(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.lane.best_effort.pending())
    }

    /// A handshake with this peer finished.
    pub(crate) fn add_association(&mut self, common: &mut Common, mut association: Association) {
        let random = common.entropy.next_u64();
        association.limit_life(&common.limits, self.local < self.key, random);
        self.adopt(common, &mut association);
        if self.greeting_pending.len() == GREETINGS_PENDING_MAX {
            // But for that of our dial, which goes on until the peer speaks under it.
            let is_ours = |pending: &Association| self.is_dial_answered_by(pending.local_index());
            let oldest = self.greeting_pending.iter().position(|pending| !is_ours(pending));
            let oldest = self.greeting_pending.remove(oldest.unwrap_or(0));
            common.erase(oldest.local_index());
        }
        common.adopted.push((association.remote_index(), association.local_index()));
        self.greeting_pending.push(association);
    }

    /// What the peer is told under the keys of a finished handshake, which know their limits already.
    pub(crate) fn adopt(&self, common: &mut Common, association: &mut Association) {
        association.incarnation = self.incarnation.unwrap_or(common.greeting.incarnation);
        common.counters.associations_established += 1;
    }

    /// Builds what is to leave next to this peer; `None` when that is nothing for now.
    #[inline]
    pub(crate) fn poll_transmit(
        &mut self,
        common: &mut Common,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(SocketAddr, usize)> {
        for association in &mut self.greeting_pending {
            if let Some(bytes) = write_association_datagram(association, common, now, out) {
                return Some((association.address, bytes));
            }
        }
        if !self.waiting.is_empty()
            && let Some(session) = &self.session
            && !self.waiting.is_stuck(session.lane.log.bodies_gone())
        {
            self.log_waiting(common);
        }
        let is_ignored = |session: &Session| session.is_ignored(&common.limits);
        if self.closing.is_none() && self.session.as_deref().is_some_and(is_ignored) {
            self.over_memory(common, "it acknowledges nothing");
        }
        if !self.values.is_empty() && !self.values.is_starved {
            self.log_values(common, now);
        }
        let session = self.session.as_mut()?;
        if let Some(close) = self.closing.take() {
            let address = session.address();
            let bytes = write_close(&mut session.current, common, now, close, out);
            let cause = self.violated.take().map_or(EndCause::ClosedHere, EndCause::Violation);
            self.end_session(common, now, cause, Outcome::Unknown);
            common.counters.datagrams_sent += u64::from(bytes.is_some());
            return Some((address, bytes?));
        }
        let Session { previous, lane, .. } = &mut **session;
        for association in previous {
            if let Some(bytes) = write_association_datagram(association, common, now, out) {
                lane.settled_due = true;
                return Some((association.address, bytes));
            }
        }
        if session.current.is_greeting_due(now) {
            let bytes = write_association_datagram(&mut session.current, common, now, out)?;
            return Some((session.current.address, bytes));
        }
        session.expire(common, now);
        if session.has_ended() {
            self.tell_ended(common);
        }
        let session = self.session.as_mut()?;
        if session.path.is_asking(now)
            && let Some(written) = session.write_path_datagram(common, now, out)
        {
            return Some(written);
        }
        let segment = session.fill_run(common, &self.flows, now, out)?;
        let address = session.address();
        session.current.sent_tags.on_run(out, segment);
        if session.current.is_worn(now, common.limits.packets_per_key) && self.dialling.is_none() {
            self.want_fresh_keys(now);
        }
        Some((address, segment))
    }

    /// Dials for fresh keys: from then on, or a second after the last ones if forgers wear them out or the peer does not answer.
    #[cold]
    pub(crate) fn want_fresh_keys(&mut self, from: Instant) {
        let Some(session) = &mut self.session else { return };
        let current = &session.current;
        let forged = Some(current.since).filter(|_| current.space.is_attacked());
        let candidates = session.previous.iter().filter(|other| other.is_candidate);
        let waiting = candidates.chain(&self.greeting_pending).map(|other| other.since).max();
        let at = forged.max(waiting).map_or(from, |since| from.max(since + REDIAL));
        session.fresh_keys_at.get_or_insert(at);
    }

    /// A dial begins: it is what was waited for, whatever for.
    pub(crate) fn on_dialled(&mut self, now: Instant) {
        self.redial_at = None;
        self.dialled_at = Some(now);
        if let Some(session) = &mut self.session {
            session.fresh_keys_at = None;
        }
    }

    /// Somebody who saw a datagram of ours says that the peer does not know its keys. Whether that is so shows a dial; false
    /// when the notice answers nothing that we sent just now, or the last one is less than a second old.
    pub(crate) fn heed_notice(
        &mut self,
        common: &mut Common,
        now: Instant,
        notice: &Notice,
    ) -> bool {
        let current = self.session.iter().map(|session| &session.current);
        let is_ours = current.chain(&self.greeting_pending).any(|association| {
            let is_named = association.remote_index() == notice.index;
            is_named && association.sent_tags.contains(notice.tag)
        });
        if !is_ours || self.noticed_at.is_some_and(|at| at + REDIAL > now) {
            return false;
        }
        self.noticed_at = Some(now);
        match &mut self.dialling {
            // Our hello may have come too early for the new start: it goes out again.
            Some(dialling) if !dialling.is_answered => dialling.resend_at = now,
            // The start that answered is gone.
            Some(_) => {
                self.retire_dial(common);
                self.redial_at = Some(now);
            }
            None => self.redial_at = Some(now),
        }
        true
    }

    /// When to call [`Peer::handle_timeout`] next.
    pub(crate) fn next_timeout(&mut self, common: &Common, now: Instant) -> Option<Instant> {
        self.next_due(common, now).or_else(|| self.dormant_at())
    }

    /// When something is to be done beside resting.
    fn next_due(&mut self, common: &Common, now: Instant) -> Option<Instant> {
        let life = self.life_at(common, now);
        let limits = &common.limits;
        let session = self.session.as_ref();
        let session = session.and_then(|session| session.next_timeout(now, limits));
        let greetings = self.greeting_pending.iter().filter_map(Association::greeting_due).min();
        let expiry = self.greeting_pending.first().map(|first| first.since + limits.dial_timeout);
        let dial = self.dialling.as_ref().map(|dialling| dialling.resend_at);
        let wanted = self.wanted_since.filter(|_| !self.has_session());
        let wanted = wanted.map(|since| since + limits.give_up);
        let waiting = [self.waiting.next_deadline(), self.values.next_deadline()];
        let values = match &self.session {
            Some(session) if !self.values.is_empty() && !self.values.is_starved => {
                session.path.next_release(now)
            }
            _ => None,
        };
        let waiting = waiting.into_iter().chain([values]).flatten().min();
        let dial_at = self.dial_at(common);
        [life, session, greetings, expiry, dial, wanted, waiting, dial_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due for an established peer. Dials are the endpoint's business.
    pub(crate) fn handle_timeout(&mut self, common: &mut Common, now: Instant) {
        let dial_timeout = common.limits.dial_timeout;
        self.greeting_pending.retain(|association| {
            let keep = association.since + dial_timeout > now;
            if !keep {
                common.erase(association.local_index());
            }
            keep
        });
        if let Some(session) = &mut self.session {
            session.handle_timeout(common, now);
            let from = session.fresh_keys_from.take();
            if let Some(from) = from.filter(|_| self.dialling.is_none()) {
                self.want_fresh_keys(from.max(now));
            }
        }
        self.expire_waiting(common, now);
        if self.session.as_ref().is_some_and(|session| session.has_ended()) {
            self.tell_ended(common);
        }
        self.check_life(common, now);
        let gave_up = self.wanted_since.is_some_and(|since| since + common.limits.give_up <= now);
        if !self.has_session() && gave_up {
            self.abandon_waiting(common, Outcome::PeerLost);
        }
        self.try_rest(common, now);
    }

    /// When a dial should be begun; `None` while one is under way. It waits for a greeting that is under way, unless somebody said
    /// since that the peer knows nothing of it.
    fn dial_at(&self, common: &Common) -> Option<Instant> {
        let is_reachable = self.address.is_some() || self.has_session();
        let fresh_keys_at = self.session.as_ref().and_then(|session| session.fresh_keys_at);
        let at = self.redial_at.into_iter().chain(fresh_keys_at).min();
        let at = at.filter(|_| is_reachable && self.dialling.is_none())?;
        let greeting = self.greeting_pending.last().filter(|greeting| {
            let is_doubted = self.noticed_at.is_some_and(|at| at >= greeting.since);
            !self.has_session() && !is_doubted
        });
        let patience = self.greeting_patience(common);
        Some(greeting.map_or(at, |greeting| at.max(greeting.since + patience)))
    }

    /// Whether a dial should be begun now.
    pub(crate) fn wants_dial(&self, common: &Common, now: Instant) -> bool {
        self.dial_at(common).is_some_and(|at| at <= now)
    }

    /// Sets when to dial next while messages wait, the peer is down or its keys are worn.
    pub(crate) fn schedule_redial(&mut self, common: &Common, now: Instant) {
        self.wake();
        let at = self.next_dial(common, now);
        let (is_down, is_watching) = (self.presence(common).is_down(), self.is_watching(common));
        let wanted = match &mut self.session {
            Some(session) => {
                let is_worn = session.current.is_worn(now, common.limits.packets_per_key);
                session.fresh_keys_at = is_worn.then_some(at);
                is_down
            }
            None => self.wanted_since.is_some() || is_watching,
        };
        self.redial_at = wanted.then_some(at);
    }
}
