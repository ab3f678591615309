//! Owns what a peer's lane datagram does: opening it under the right keys, the greeting that makes a session, the frames of
//! a session, the end of one.
//!
//! What always holds: nothing changes before the datagram opened; lane data counts only in a session.

use std::net::SocketAddr;
use std::time::Duration;

use super::Peer;
use crate::association::Association;
use crate::common::{Common, Fault};
use crate::endpoint::{Application, DialFailure, DownCause, EndCause, Event, Outcome};
use crate::frame::{self, Close, Greeting, Record};
use crate::header::LaneHeader;
use crate::lane::Receiving;
use crate::room::Room;
use crate::sent::control;
use crate::session::{Session, Taken};
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
            return self.handle_greeting_datagram(common, now, from, header, datagram);
        };
        if self.violated.is_some() {
            common.counters.dropped_after_violation += 1;
            return Received::Dropped;
        }
        let shards = session.greeting.shards;
        let Some((association, _)) = session.association(header.association) else {
            return self.handle_greeting_datagram(common, now, from, header, datagram);
        };
        if header.sender_shard >= shards {
            common.counters.dropped_malformed += 1;
            return Received::Dropped;
        }
        let Common { entropy, shard, .. } = common;
        let space = association.space(*shard, header.sender_shard, || entropy.next_u64());
        let payload = match space.open(header, datagram) {
            Ok(payload) => payload,
            Err(error) => {
                let is_attacked = space.is_attacked();
                return self.on_unopened(common, now, error, is_attacked);
            }
        };
        let mut rx = Receiving {
            common,
            app,
            peer: self.id,
            key: &self.key,
            session: session.number,
            requests_pending: &mut self.requests_pending,
            room: &mut self.room,
        };
        let taken = session.handle_payload(&mut rx, &mut self.flows, now, header, payload);
        let ack_delay = session.path.ack_delay();
        let (association, is_current) = session
            .association(header.association)
            .expect("frames change no association of the session");
        association.last_received = now;
        let space = association.space(common.shard, header.sender_shard, || 1);
        match taken {
            Ok(taken) => {
                space.on_received(now, header, taken.eliciting, ack_delay);
                if space.wants_window() {
                    association.grow_window(header.sender_shard);
                }
                if taken.chosen && session.peer_sends_on != header.association {
                    session.on_peer_moved(common, now, header.association);
                }
                // Under other keys the peer speaks without hearing us.
                if is_current {
                    self.on_heard(common, now);
                }
                self.on_taken(common, now, header.association, taken)
            }
            Err(fault) => {
                space.on_declined(header);
                self.on_fault(common, fault)
            }
        }
    }

    /// What a datagram that was taken means for the peer as a whole.
    #[inline]
    fn on_taken(
        &mut self,
        common: &mut Common,
        now: Instant,
        association: u32,
        taken: Taken,
    ) -> Received {
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
        if is_attacked && self.dialling.is_none() && self.redial_at.is_none() {
            self.want_fresh_keys(now);
            return Received::Alarming;
        }
        dropped
    }

    /// There may be room again, and messages may have ended here.
    #[inline]
    fn on_progress(&mut self, common: &mut Common) {
        self.values.is_starved = false;
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
            Close::Done | Close::NotAdmitted => EndCause::ClosedByPeer,
        };
        self.on_down(common, now, DownCause::Closed);
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
    fn handle_greeting_datagram(
        &mut self,
        common: &mut Common,
        now: Instant,
        from: SocketAddr,
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
        if header.sender_shard != association.remote_shard() {
            // Greetings come from the shard that shook hands. Anybody may write another number here, and each would cost keys.
            common.counters.dropped_malformed += 1;
            return Received::Dropped;
        }
        let Common { entropy, shard, .. } = common;
        let space = association.space(*shard, header.sender_shard, || entropy.next_u64());
        let payload = match space.open(header, datagram) {
            Ok(payload) => payload,
            Err(error) => return drop_unopened(common, error),
        };
        let greeted = match read_greeting(space, payload) {
            Ok(greeted) => greeted,
            Err(fault) => {
                space.on_declined(header);
                common.counters.violations += u64::from(matches!(fault, Fault::Violation(_)));
                common.counters.dropped_before_greeting += 1;
                return Received::Dropped;
            }
        };
        let eliciting = greeted.greeting.is_some();
        space.on_received(now, header, eliciting, Duration::ZERO);
        if greeted.acknowledged {
            association.on_greeting_acknowledged();
        }
        association.address = from;
        if let Some(close) = greeted.close {
            self.on_refused(common, found, close);
        } else {
            self.on_answered(common, header.association);
        }
        if let Some(greeting) = greeted.greeting
            && found < self.greeting_pending.len()
        {
            let association = self.greeting_pending.remove(found);
            self.attach(common, now, association, greeting);
        }
        Received::Taken
    }

    /// The peer closed before it greeted: it does not admit our key.
    fn on_refused(&mut self, common: &mut Common, found: usize, _close: Close) {
        let association = self.greeting_pending.remove(found);
        common.retired.push(association.local_index());
        if let Some(dialling) = self.retire_dial(common) {
            let (dialled, local) = (self.key.fingerprint(), common.local);
            let error = DialFailure::NotAdmitted { address: dialling.address, dialled, local };
            common.counters.dials_failed += 1;
            common.ends.events.push_back(Event::DialFailed { peer: self.id, error });
        }
    }

    /// The greeting tells which incarnation these keys belong to: a new session, or new keys for the one there is.
    fn attach(
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
                self.on_heard(common, now);
                return;
            }
            self.end_session(common, now, EndCause::NewIncarnation, Outcome::Unknown);
            // What the old incarnation began and has not told must not end the new one's session.
            self.greeting_pending.retain(|pending| {
                let keep = pending.since >= association.since;
                if !keep {
                    common.retired.push(pending.local_index());
                }
                keep
            });
        }
        self.sessions += 1;
        let session =
            Session::new(self.sessions, greeting, association, common.key < self.key, common);
        self.session = Some(Box::new(session));
        self.room = Room::new(&common.limits);
        self.wanted_since = None;
        self.redial_at = None;
        common.counters.sessions_begun += 1;
        common.ends.events.push_back(Event::Connected { peer: self.id });
        self.on_heard(common, now);
        if std::mem::take(&mut self.was_full) {
            common.ends.events.push_back(Event::Writable { peer: self.id });
        }
    }
}

#[derive(Default)]
struct Greeted {
    greeting: Option<Greeting>,
    close: Option<Close>,
    acknowledged: bool,
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
                    .on_ack(&ack, |packet| *acknowledged |= told(packet))
                    .map_err(|_| MALFORMED)?;
            }
            frame::RECORD => match Record::read(&mut reader).ok_or(MALFORMED)? {
                Record::Greeting(greeting) => greeted.greeting = Some(greeting),
                Record::Close(close) => greeted.close = Some(close),
                Record::Skipped => {}
                Record::Bind(_) => return Err(Fault::BeforeGreeting),
            },
            _ => return Err(Fault::BeforeGreeting),
        }
    }
    let valid = greeted.greeting.as_ref().is_none_or(|greeting| {
        greeting.shards > 0 && greeting.name.len() <= crate::limits::NODE_NAME_BYTES_MAX
    });
    if valid { Ok(greeted) } else { Err(MALFORMED) }
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
