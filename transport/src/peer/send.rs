//! Owns how messages to a peer are taken: into the session's log, or into the queue that waits for a session.
//!
//! What always holds: a message refused here changed nothing; one taken is counted as offered exactly once.

use bytes::Bytes;

use super::{Peer, WaitingMessage};
use crate::best_effort::Offer;
use crate::common::Common;
use crate::endpoint::{ReplyTo, SendError};
use crate::flows::charge;
use crate::limits::OWNED_BODY_BYTES_MIN;
use crate::message::{Head, Target};
use crate::send_log::{Route, Waiter};
use crate::session::Session;
use crate::time::Instant;

/// A body as the caller has it.
#[derive(Clone, Debug)]
pub(crate) enum Source<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Source<'_> {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Owned(body) => body,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(body) => Bytes::copy_from_slice(body),
            Self::Owned(body) => body,
        }
    }
}

impl Peer {
    /// Takes one acknowledged message to the flow with this alias.
    #[inline]
    pub(crate) fn send(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        request: Option<u64>,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        let Some(session) = &mut self.session else {
            return self.queue(common, now, alias, body, request, waiter);
        };
        if !self.waiting.is_empty() {
            return self.queue(common, now, alias, body, request, waiter);
        }
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        let sent = log_message(session, common, flow, alias, body, request, waiter);
        match sent {
            Ok(()) => {
                common.counters.acknowledged_offered += 1;
                Ok(())
            }
            Err(error) => {
                self.was_full |= error == SendError::Full;
                Err(error)
            }
        }
    }

    /// Keeps a message until there is a session.
    fn queue(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        request: Option<u64>,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        let bytes = body.as_slice().len();
        check_length(bytes, common.limits.message_bytes_max)?;
        if self.address.is_none() && self.session.is_none() {
            return Err(SendError::NoAddress);
        }
        let queue_bytes_max = common.limits.queue_bytes_max;
        let cost = charge(bytes as u64) as usize;
        if self.waiting_bytes + cost > queue_bytes_max && !self.waiting.is_empty() {
            self.was_full = true;
            return Err(SendError::Full);
        }
        self.waiting_bytes += cost;
        self.waiting.push_back(WaitingMessage { alias, body: body.into_bytes(), request, waiter });
        common.counters.acknowledged_offered += 1;
        if self.session.is_none() {
            self.want_session(now);
        }
        Ok(())
    }

    /// Something waits for a session: dial now unless a dial is under way.
    pub(crate) fn want_session(&mut self, now: Instant) {
        self.wanted_since.get_or_insert(now);
        if self.dialling.is_none() && self.redial_at.is_none() {
            self.redial_at = Some(now);
        }
    }

    /// Moves messages that waited for a session into its log, as far as there is room.
    pub(super) fn log_waiting(&mut self, common: &mut Common) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some(message) = self.waiting.front() {
            let Some(flow) = self.flows.get_mut(message.alias as usize) else {
                break;
            };
            let body = Source::Owned(message.body.clone());
            let (alias, request, waiter) = (message.alias, message.request, message.waiter);
            match log_message(session, common, flow, alias, body, request, waiter) {
                Err(SendError::Full) => break,
                Ok(()) => {}
                Err(error) => {
                    // The peer's own limit was learnt only now.
                    let outcome = error.as_outcome();
                    common.count(outcome, 1);
                    if let Some(waiter) = waiter {
                        let ended = common.ends.tell(waiter, outcome, self.id.0);
                        self.requests_pending -= u32::from(ended);
                    }
                }
            }
            self.waiting_bytes -= charge(message.body.len() as u64) as usize;
            self.waiting.pop_front();
        }
        if self.was_full && self.waiting.is_empty() {
            self.was_full = false;
            common.ends.events.push_back(crate::endpoint::Event::Writable { peer: self.id });
        }
    }

    /// Takes one best-effort message.
    #[inline]
    pub(crate) fn send_best_effort(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: &[u8],
    ) -> Result<(), SendError> {
        let Some(session) = &mut self.session else {
            if self.address.is_none() {
                return Err(SendError::NoAddress);
            }
            self.want_session(now);
            return Err(SendError::NotConnected);
        };
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        let total = body.len() as u64;
        check_length(body.len(), session.message_bytes_max.min(flow.message_bytes_max))?;
        // The lane of the peer's shard that shook hands; placement over shards comes with several of them.
        let lane = &mut session.lanes[0];
        let name = (!flow.bound).then_some(&*flow.name);
        let head = Head { target: Target::Flow(alias), name, request: None, total };
        match lane.best_effort.push(&mut common.pool, &head, body) {
            Offer::Taken => {
                common.counters.best_effort_offered += 1;
                Ok(())
            }
            Offer::Full => {
                self.was_full = true;
                Err(SendError::Full)
            }
            Offer::TooLong => {
                let bytes_max = lane.best_effort.body_bytes_max() as u64;
                Err(SendError::TooLarge { bytes: total, bytes_max })
            }
        }
    }

    /// Takes the answer to a request of the peer.
    pub(crate) fn reply(
        &mut self,
        common: &mut Common,
        to: ReplyTo,
        body: Source<'_>,
    ) -> Result<(), SendError> {
        let session = self.session.as_mut().filter(|session| session.number == to.session);
        let Some(session) = session else {
            common.counters.replies_late += 1;
            return Err(SendError::NotConnected);
        };
        check_length(body.as_slice().len(), session.message_bytes_max)?;
        let lane = &mut session.lanes[0];
        let mut route = Route::Reply(to.request);
        let taken = match body {
            Source::Owned(body) if body.len() >= OWNED_BODY_BYTES_MIN => {
                lane.log.push_owned(&mut route, None, body, None)
            }
            Source::Borrowed(body) if body.len() >= OWNED_BODY_BYTES_MIN => {
                lane.log.push_owned(&mut route, None, Bytes::copy_from_slice(body), None)
            }
            body => lane.log.push(&mut common.pool, &mut route, None, body.as_slice(), None),
        };
        if !taken {
            self.was_full = true;
            return Err(SendError::Full);
        }
        common.counters.acknowledged_offered += 1;
        Ok(())
    }
}

/// Writes one message into the log of a session, within credit.
#[inline]
fn log_message(
    session: &mut Session,
    common: &mut Common,
    flow: &mut crate::flows::OutFlow,
    alias: u32,
    body: Source<'_>,
    request: Option<u64>,
    waiter: Option<Waiter>,
) -> Result<(), SendError> {
    let bytes = body.as_slice().len();
    let bytes_max = session.message_bytes_max.min(flow.message_bytes_max);
    if bytes as u64 > bytes_max && flow.refusal.is_none() {
        return Err(SendError::TooLarge { bytes: bytes as u64, bytes_max });
    }
    let cost = charge(bytes as u64);
    let wanted = flow.wanted;
    if !session.credit.take(flow, cost) {
        if let Some(refusal) = flow.refusal {
            flow.wanted = 0;
            return Err(SendError::Refused(refusal));
        }
        if flow.wanted != wanted {
            session.blocked.add(alias);
        }
        return Err(SendError::Full);
    }
    let lane = &mut session.lanes[0];
    let taken = if bytes < OWNED_BODY_BYTES_MIN {
        let mut route = Route::Flow(flow, alias);
        lane.log.push(&mut common.pool, &mut route, request, body.as_slice(), waiter)
    } else {
        // A body that must be copied is copied only when there is room for it.
        lane.log.has_room_owned(bytes)
            && lane.log.push_owned(
                &mut Route::Flow(flow, alias),
                request,
                body.into_bytes(),
                waiter,
            )
    };
    if taken {
        return Ok(());
    }
    session.credit.untake(flow, cost);
    Err(SendError::Full)
}

#[inline]
fn check_length(bytes: usize, bytes_max: u64) -> Result<(), SendError> {
    let bytes = bytes as u64;
    if bytes > bytes_max { Err(SendError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}
