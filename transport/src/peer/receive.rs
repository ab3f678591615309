//! Owns what a peer's lane datagram does: opening it under the right keys, the greeting that makes a session, the frames of
//! a session, the end of one.
//!
//! What always holds: nothing changes before the datagram opened; lane data counts only in a session.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Peer, REFUSED_PAUSE_MAX, REFUSED_PAUSE_MIN};
use crate::association::Association;
use crate::common::{Common, Fault};
use crate::endpoint::{Application, DialFailure, DownCause, EndCause, Event, Newcomer, Outcome};
use crate::frame::{self, Close, Greeting, Record};
use crate::header::LaneHeader;
use crate::lane::Receiving;
use crate::room::Room;
use crate::sent::control;
use crate::session::{Came, Session, Taken, write_close};
use crate::space::OpenError;
use crate::time::Instant;
use crate::varint::Reader;

/// What the endpoint has to know of a datagram taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It was dropped and counted.
    Dropped,
    /// It was dropped and counted, but there may be something to send for it.
    Alarming,
    /// It was taken; there may be something to send.
    Taken,
    /// It brought the peer's greeting, which lies in [`Common::greeted`] with its keys.
    Greeted,
}

impl Peer {
    /// Takes one lane datagram for an association of this peer.
    #[inline]
    pub(crate) fn handle_datagram<A: Application>(
        &mut self,
        common: &mut Common,
        app: &mut A,
        now: Instant,
        from: SocketAddr,
        header: &LaneHeader,
        datagram: &mut [u8],
    ) -> Received {
        let Some(session) = &mut self.session else {
            return self.handle_greeting_datagram(common, app, now, header, datagram);
        };
        if self.violated.is_some() {
            common.counters.dropped_after_violation += 1;
            return Received::Dropped;
        }
        let Some((association, _)) = session.association(header.association) else {
            return self.handle_greeting_datagram(common, app, now, header, datagram);
        };
        if header.sender_shard != association.remote_shard() {
            return drop_malformed(common);
        }
        let bytes = datagram.len();
        let payload = match association.space.open(header, datagram) {
            Ok(payload) => payload,
            Err(error) => {
                let is_attacked = association.space.is_attacked();
                return self.on_unopened(common, now, error, is_attacked);
            }
        };
        let mut rx = Receiving {
            common,
            app,
            channel: self.channel,
            peer: self.id,
            key: &self.key,
            session: session.number,
            requests_pending: &mut self.requests_pending,
            room: &mut self.room,
        };
        let taken = session.handle_payload(&mut rx, &mut self.flows, now, header, payload);
        let ack_delay = session.path.ack_delay();
        let is_path_news = from != session.path.address || session.path.told.is_some();
        let (association, is_current) = session
            .association(header.association)
            .expect("frames change no association of the session");
        association.last_received = now;
        let space = &mut association.space;
        match taken {
            Ok(taken) => {
                let is_newest = space.on_received(now, header, taken.eliciting, ack_delay);
                if space.wants_window() {
                    space.grow_window();
                }
                if is_path_news {
                    let moved = session.on_path_news(common, now, Came { from, bytes, is_newest });
                    self.on_moved(moved);
                }
                self.on_taken(common, now, (header.association, is_current), taken)
            }
            Err(fault) => {
                space.on_declined(header);
                session.path.told = None;
                self.on_fault(common, fault)
            }
        }
    }

    /// The peer has left its address for another one, if any: handshakes that began there follow it.
    #[cold]
    fn on_moved(&mut self, address: Option<SocketAddr>) {
        let former = self.session.as_ref().and_then(|session| session.path.former);
        let (Some(address), Some((left, _))) = (address, former) else { return };
        self.address = Some(address);
        let pending = self.greeting_pending.iter_mut().map(|pending| &mut pending.address);
        let dialled = self.dialling.iter_mut().map(|dialling| &mut dialling.address);
        pending.chain(dialled).filter(|at| **at == left).for_each(|at| *at = address);
    }

    /// What a datagram that was taken means for the peer as a whole.
    #[inline]
    fn on_taken(
        &mut self,
        common: &mut Common,
        now: Instant,
        (association, is_current): (u32, bool),
        taken: Taken,
    ) -> Received {
        if taken.chosen
            && let Some(session) = &mut self.session
            && session.peer_sends_on != association
        {
            session.on_peer_moved(common, now, association);
        }
        // Under other keys the peer speaks without hearing us. A farewell is no sign of life.
        if is_current && taken.close.is_none() {
            self.on_heard(common, now);
        }
        self.on_answered(common, association);
        if taken.progress {
            self.on_progress(common);
        }
        if let Some(close) = taken.close {
            self.on_close(common, now, close);
        }
        Received::Taken
    }

    /// Asks for fresh keys while somebody wears out these.
    #[cold]
    fn on_unopened(
        &mut self,
        common: &mut Common,
        now: Instant,
        error: OpenError,
        is_attacked: bool,
    ) -> Received {
        let dropped = drop_unopened(common, error);
        let is_wanted =
            self.session.as_ref().is_some_and(|session| session.fresh_keys_at.is_some());
        if is_attacked && self.dialling.is_none() && !is_wanted {
            self.want_fresh_keys(now);
            return Received::Alarming;
        }
        dropped
    }

    /// There may be room again, and messages may have ended here.
    #[inline]
    fn on_progress(&mut self, common: &mut Common) {
        self.values.is_starved = false;
        self.waiting.try_again();
        self.tell_ended(common);
        if self.was_full {
            self.tell_writable(common);
        }
    }

    fn on_fault(&mut self, common: &mut Common, fault: Fault) -> Received {
        match fault {
            Fault::BlockWindow => common.counters.dropped_block_window += 1,
            Fault::OrderLimit => common.counters.dropped_order_limit += 1,
            Fault::AssemblyLimit => common.counters.dropped_assembly_limit += 1,
            Fault::RefusalLimit => common.counters.dropped_refusal_limit += 1,
            Fault::OverMemory(reason) => {
                self.over_memory(common, reason);
                return Received::Taken;
            }
            Fault::BeforeGreeting => common.counters.dropped_before_greeting += 1,
            Fault::Violation(reason) => {
                common.counters.violations += 1;
                self.violated = Some(reason);
                self.close(Close::Violation);
                return Received::Taken;
            }
        }
        Received::Dropped
    }

    /// The peer makes us hold more than it may: its session ends, and it is told that it broke the protocol.
    #[cold]
    pub(super) fn over_memory(&mut self, common: &mut Common, reason: &'static str) {
        common.counters.peers_over_memory += 1;
        common.counters.violations += 1;
        self.violated = Some(reason);
        self.close(Close::Violation);
    }

    fn on_close(&mut self, common: &mut Common, now: Instant, close: Close) {
        let cause = match close {
            Close::Violation => EndCause::Violation("the peer says that we broke the protocol"),
            Close::Pending | Close::Rejected => EndCause::RejectedByPeer,
            Close::Done | Close::NotAdmitted => EndCause::ClosedByPeer,
        };
        if self.is_home(common) || close != Close::Violation {
            self.on_down(common, now, DownCause::Closed);
        }
        self.end_session(common, now, cause, Outcome::Unknown);
    }

    /// The responder spoke under the new keys, so it has our FINISH.
    fn on_answered(&mut self, common: &mut Common, association: u32) {
        let done = self.dialling.as_ref().is_some_and(|dialling| {
            dialling.is_answered && dialling.dial.local_index() == association
        });
        if done {
            self.retire_dial(common);
        }
    }

    /// A datagram under keys that wait for the peer's greeting.
    fn handle_greeting_datagram<A: Application>(
        &mut self,
        common: &mut Common,
        app: &mut A,
        now: Instant,
        header: &LaneHeader,
        datagram: &mut [u8],
    ) -> Received {
        let waiting = &mut self.greeting_pending;
        let found = waiting.iter().position(|pending| pending.local_index() == header.association);
        let Some(found) = found else {
            common.counters.dropped_unknown_association += 1;
            return Received::Dropped;
        };
        let association = &mut waiting[found];
        let greeted = match open_greeting(common, association, now, header, datagram) {
            Ok(greeted) => greeted,
            Err(None) => return Received::Dropped,
            Err(Some(reason)) => {
                self.refuse(common, now, found, Close::Violation, reason);
                return Received::Alarming;
            }
        };
        if let Some(close) = greeted.close {
            self.on_refused(common, now, found, close);
            return Received::Taken;
        }
        self.on_answered(common, header.association);
        if let Some(greeting) = greeted.greeting {
            let association = &self.greeting_pending[found];
            if self.is_past(association.since, &greeting) {
                let past = self.greeting_pending.remove(found);
                common.retired.push(past.local_index());
                common.counters.dropped_handshake += 1;
                return Received::Dropped;
            }
            if self.contradicts(&greeting) {
                let reason = "a start of a node that places its flows anew";
                self.refuse(common, now, found, Close::Violation, reason);
                return Received::Alarming;
            }
            // Proven by the handshake. Anybody may write another source on a greeting.
            let address = association.address;
            let newcomer = greeting.newcomer(&self.key, address, association.is_dialled());
            let verdict = app.judge(&Newcomer { channel: self.channel, ..newcomer });
            if let Some((close, reason)) = verdict.refusal() {
                common.counters.count_turned_away(verdict);
                let (channel, key) = (self.channel, self.key);
                let turned_away = Event::TurnedAway { channel, key, address, verdict };
                common.ends.events.push_back(turned_away);
                self.refuse(common, now, found, close, reason);
                return Received::Alarming;
            }
            let association = self.greeting_pending.remove(found);
            common.greeted = Some(Box::new((association, greeting)));
            return Received::Greeted;
        }
        Received::Taken
    }

    /// Whether the peer greets, under keys of that time, as the incarnation that it was before the present session.
    fn is_past(&self, since: Instant, greeting: &Greeting) -> bool {
        self.session.as_deref().is_some_and(|session| {
            session.greeting.incarnation != greeting.incarnation && session.is_newer_than(since)
        })
    }

    /// Whether the peer greets as who it is in the present session, but says that its flows are elsewhere.
    fn contradicts(&self, greeting: &Greeting) -> bool {
        self.session.as_deref().is_some_and(|session| {
            let known = &session.greeting;
            let placement = (known.placement_salt, known.shards);
            known.incarnation == greeting.incarnation
                && placement != (greeting.placement_salt, greeting.shards)
        })
    }

    /// We do not accept what the peer says of itself: it is told, and our dial, if it was ours, has failed.
    #[cold]
    fn refuse(
        &mut self,
        common: &mut Common,
        now: Instant,
        found: usize,
        close: Close,
        reason: &'static str,
    ) {
        let mut association = self.greeting_pending.remove(found);
        let (mut farewell, address) = (Vec::new(), association.address);
        write_close(&mut association, common, now, close, &mut farewell);
        common.farewells.push((address, farewell));
        common.retired.push(association.local_index());
        if association.is_dialled() {
            let dialled = self.key.fingerprint();
            self.fail_refused_dial(
                common,
                now,
                DialFailure::NotAccepted { address, dialled, reason },
            );
        }
    }

    /// The peer closed before it greeted: it does not admit our key, or not yet.
    fn on_refused(&mut self, common: &mut Common, now: Instant, found: usize, close: Close) {
        let association = self.greeting_pending.remove(found);
        common.retired.push(association.local_index());
        let (address, dialled) = (association.address, self.key.fingerprint());
        let local = self.local.fingerprint();
        let failure = match close {
            Close::Pending => DialFailure::Pending { address, dialled, local },
            Close::Rejected => DialFailure::Rejected { address, dialled, local },
            Close::Violation => {
                let reason = "our greeting, which it calls malformed: it runs another version";
                DialFailure::NotAccepted { address, dialled, reason }
            }
            Close::NotAdmitted | Close::Done => {
                DialFailure::NotAdmitted { address, dialled, local }
            }
        };
        self.fail_refused_dial(common, now, failure);
    }

    /// Tells of a dial that came through and was turned away, and sets when to try again: an operator may change that.
    fn fail_refused_dial(&mut self, common: &mut Common, now: Instant, error: DialFailure) {
        if self.retire_dial(common).is_none() && self.session.is_some() {
            return;
        }
        let is_wanted = self.wanted_since.is_some() || self.is_watching(common);
        if is_wanted || matches!(error, DialFailure::Pending { .. }) {
            self.redial_at = Some(now + self.refused_pause);
            self.refused_pause = (2 * self.refused_pause).min(REFUSED_PAUSE_MAX);
        }
        common.counters.dials_failed += 1;
        common.ends.events.push_back(Event::DialFailed { peer: self.contact, error });
    }

    /// The greeting tells which incarnation these keys belong to: a new session, or new keys for the one there is.
    pub(crate) fn attach(
        &mut self,
        common: &mut Common,
        now: Instant,
        association: Association,
        greeting: Greeting,
    ) {
        self.address = Some(association.address);
        if let Some(session) = &mut self.session {
            if session.greeting.incarnation == greeting.incarnation {
                session.add_association(common, now, association);
                self.on_greeted(common, now);
                return;
            }
            self.end_session(common, now, EndCause::NewIncarnation, Outcome::Unknown);
            // What the old incarnation began and has not told must not end the new one's session.
            self.forget_greetings(common, Some(association.since));
        }
        self.sessions += 1;
        let is_smaller = self.local < self.key;
        let mut session =
            Session::new(now, self.sessions, greeting, association, is_smaller, common);
        if self.lanes_sending > 1 {
            session.path.set_lanes(self.lanes_sending);
        }
        self.session = Some(Box::new(session));
        self.room = Room::new(&common.limits);
        self.waiting.try_again();
        self.wanted_since = None;
        self.redial_at = None;
        self.refused_pause = REFUSED_PAUSE_MIN;
        common.counters.sessions_begun += 1;
        common.ends.events.push_back(Event::Connected { peer: self.contact });
        self.presence_mut(common).on_session_begun();
        self.on_greeted(common, now);
        self.tell_writable(common);
    }
}

const NO_SUCH_SHARD: Fault = Fault::Violation("a greeting of a shard that its node has not got");

/// What came under keys that wait for the peer's greeting.
#[derive(Default)]
pub(crate) struct Greeted {
    pub(crate) greeting: Option<Greeting>,
    close: Option<Close>,
    acknowledged: bool,
}

/// Opens a datagram under keys that wait for the peer's greeting, and reads it.
///
/// # Errors
/// It was dropped and counted; with words if its sender broke the protocol.
pub(crate) fn open_greeting(
    common: &mut Common,
    association: &mut Association,
    now: Instant,
    header: &LaneHeader,
    datagram: &mut [u8],
) -> Result<Greeted, Option<&'static str>> {
    if header.sender_shard != association.remote_shard() {
        // Greetings come from the shard that shook hands. Anybody may write another number here, and each would cost keys.
        common.counters.dropped_malformed += 1;
        return Err(None);
    }
    let space = &mut association.space;
    let payload = match space.open(header, datagram) {
        Ok(payload) => payload,
        Err(error) => {
            drop_unopened(common, error);
            return Err(None);
        }
    };
    let read = read_greeting(space, payload).and_then(|greeted| match &greeted.greeting {
        Some(greeting) if greeting.shards <= header.sender_shard => Err(NO_SUCH_SHARD),
        _ => Ok(greeted),
    });
    let greeted = match read {
        Ok(greeted) => greeted,
        Err(fault) => {
            space.on_declined(header);
            common.counters.dropped_before_greeting += 1;
            let Fault::Violation(reason) = fault else { return Err(None) };
            common.counters.violations += 1;
            return Err(Some(reason));
        }
    };
    space.on_received(now, header, greeted.greeting.is_some(), Duration::ZERO);
    if greeted.acknowledged {
        association.on_greeting_acknowledged();
    }
    Ok(greeted)
}

/// Reads what may stand before a greeting; nothing else may.
fn read_greeting(space: &mut crate::space::PacketSpace, payload: &[u8]) -> Result<Greeted, Fault> {
    const MALFORMED: Fault = Fault::Violation("malformed frame before the greeting");
    let mut greeted = Greeted::default();
    let mut reader = Reader::new(payload);
    while let Some(kind) = reader.u8() {
        match kind {
            frame::PADDING | frame::PING => {}
            frame::ACK => {
                let ack = crate::ranges::decode_ack(&mut reader).ok_or(MALFORMED)?;
                let told =
                    |packet: &crate::sent::SentPacket| packet.control & control::GREETING != 0;
                let acknowledged = &mut greeted.acknowledged;
                space
                    .sent
                    .on_ack_of_greeting(&ack, |packet| *acknowledged |= told(packet))
                    .map_err(|_| MALFORMED)?;
            }
            frame::RECORD => match Record::read(&mut reader).map_err(Fault::Violation)? {
                Record::Greeting(greeting) => greeted.greeting = Some(greeting),
                Record::Close(close) => greeted.close = Some(close),
                Record::Skipped => {}
                Record::Bind(_) => return Err(Fault::BeforeGreeting),
            },
            _ => return Err(Fault::BeforeGreeting),
        }
    }
    Ok(greeted)
}

#[cold]
fn drop_malformed(common: &mut Common) -> Received {
    common.counters.dropped_malformed += 1;
    Received::Dropped
}

#[cold]
fn drop_unopened(common: &mut Common, error: OpenError) -> Received {
    let counters = &mut common.counters;
    *match error {
        OpenError::Replayed => &mut counters.dropped_replayed,
        OpenError::TooOld => &mut counters.dropped_too_old,
        OpenError::Forged => &mut counters.dropped_forged,
        OpenError::KeyWorn => &mut counters.dropped_key_worn,
    } += 1;
    Received::Dropped
}
