//! Owns what comes under keys that wait for the peer's greeting: the greeting, the judgement of it, the session that it begins, and
//! the end of a dial that was turned away.
//!
//! What always holds: nothing but a greeting makes a session, and one of what the peer was before, or is not, makes none.

use std::time::Duration;

use super::receive::{Received, drop_unopened};
use super::{Peer, REFUSED_PAUSE_MAX, REFUSED_PAUSE_MIN};
use crate::association::Association;
use crate::common::{Common, Fault};
use crate::endpoint::{Application, DialFailure, EndCause, Event, Newcomer, Outcome};
use crate::frame::{self, Close, Greeting, Record};
use crate::header::LaneHeader;
use crate::room::Room;
use crate::sent::control;
use crate::session::{Session, write_close};
use crate::time::Instant;
use crate::varint::Reader;

impl Peer {
    /// A datagram under keys that wait for the peer's greeting.
    pub(super) fn handle_greeting_datagram<A: Application>(
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
        self.wake();
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
        if self.retire_dial(common).is_none() && self.has_session() {
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
        self.wake();
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
