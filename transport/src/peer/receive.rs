//! Owns what a peer's lane datagram does: opening it under the right keys, the frames of a session, the end of one.
//!
//! What always holds: nothing changes before the datagram opened; lane data counts only in a session.

use std::net::SocketAddr;

use super::Peer;
use crate::common::{Common, Fault};
use crate::endpoint::{Application, DownCause, EndCause, Outcome};
use crate::frame::Close;
use crate::header::LaneHeader;
use crate::lane::Receiving;
use crate::session::{Came, Taken};
use crate::space::OpenError;
use crate::time::Instant;

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
            return self.handle_without_session(common, app, now, from, header, datagram);
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

    /// A datagram came while no session is at work here. One for a dormant session wakes it once it is known to be the peer's; if it
    /// is not taken after all, the session rests again at once.
    #[cold]
    fn handle_without_session<A: Application>(
        &mut self,
        common: &mut Common,
        app: &mut A,
        now: Instant,
        from: SocketAddr,
        header: &LaneHeader,
        datagram: &mut [u8],
    ) -> Received {
        let Some(association) = self.dormant_under(header.association) else {
            return self.handle_greeting_datagram(common, app, now, header, datagram);
        };
        if header.sender_shard != association.remote_shard() {
            return drop_malformed(common);
        }
        if let Err(error) = association.authenticate(header, datagram) {
            return drop_unopened(common, error);
        }
        self.wake();
        match self.handle_datagram(common, app, now, from, header, datagram) {
            Received::Dropped => Received::Alarming,
            received => received,
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
    pub(super) fn on_answered(&mut self, common: &mut Common, association: u32) {
        let done = self.dialling.as_ref().is_some_and(|dialling| {
            dialling.is_answered && dialling.dial.local_index() == association
        });
        if done {
            self.retire_dial(common);
        }
    }
}

#[cold]
fn drop_malformed(common: &mut Common) -> Received {
    common.counters.dropped_malformed += 1;
    Received::Dropped
}

#[cold]
pub(super) fn drop_unopened(common: &mut Common, error: OpenError) -> Received {
    let counters = &mut common.counters;
    *match error {
        OpenError::Replayed => &mut counters.dropped_replayed,
        OpenError::TooOld => &mut counters.dropped_too_old,
        OpenError::Forged => &mut counters.dropped_forged,
        OpenError::KeyWorn => &mut counters.dropped_key_worn,
    } += 1;
    Received::Dropped
}
