//! Owns how messages to a peer are taken: into the session's log, or into the queue that waits for a session.
//!
//! What always holds: a message refused here changed nothing; one taken is counted as offered exactly once.

use bytes::Bytes;

use super::{Peer, WaitingMessage};
use crate::best_effort::Offer;
use crate::common::Common;
use crate::endpoint::{Priority, ReplyTo, SendError, SendOptions, Service};
use crate::flows::{OutFlow, charge};
use crate::limits::OWNED_BODY_BYTES_MIN;
use crate::message::{Head, Sequence, Target};
use crate::send_log::{Asked, Route, Waiter};
use crate::session::Session;
use crate::time::Instant;
use crate::values::Value;

const NORMAL_CLASS: usize = Priority::Normal as usize;

/// A body as the caller has it.
#[derive(Clone, Debug)]
pub(crate) enum Source<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
    /// Kept by the caller, too.
    Shared(&'a Bytes),
}

impl Source<'_> {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Owned(body) => body,
            Self::Shared(body) => body,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(body) => Bytes::copy_from_slice(body),
            Self::Owned(body) => body,
            Self::Shared(body) => body.clone(),
        }
    }
}

impl AsRef<[u8]> for Source<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Source<'_>> for Bytes {
    fn from(body: Source<'_>) -> Self {
        body.into_bytes()
    }
}

impl Peer {
    /// Takes one acknowledged message to the flow with this alias, with nothing asked beside.
    pub(crate) fn send(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        let Self { waiting, .. } = &*self;
        let is_plain =
            waiting.is_empty() || waiting.lets_pass(NORMAL_CLASS, alias, body.as_slice().len());
        let Some(session) = self.session.as_mut().filter(|_| is_plain) else {
            let options = SendOptions::default();
            return self.send_with(common, now, alias, body, &options, None, waiter);
        };
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        let sent = log_message(session, common, flow, alias, body, waiter);
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

    /// Takes one message of any service but best effort, or a request.
    #[expect(clippy::too_many_arguments, reason = "one message with all that may be asked of it")]
    pub(crate) fn send_with(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        options: &SendOptions,
        request: Option<u64>,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        if let Some(to) = flow.moved {
            return Err(SendError::Moved(to));
        }
        if options.service == Service::LatestValue {
            return self.send_value(common, now, alias, body, options, waiter);
        }
        let mut class = options.class();
        if options.service == Service::Ordered && flow.ordered_waiting > 0 {
            class = class.max(usize::from(flow.waiting_class));
        }
        let Some(session) = self.session.as_mut().filter(|_| !self.waiting.precedes(class)) else {
            return self.queue(common, now, alias, body, options, Some(class), request, waiter);
        };
        if self.waiting.claims_room(class, body.as_slice().len()) {
            self.was_full = true;
            return Err(SendError::Full);
        }
        let is_parked = self.waiting.is_parked(alias);
        if options.service == Service::Ordered && (is_parked || is_behind(session, flow)) {
            return self.queue(common, now, alias, body, options, None, request, waiter);
        }
        if self.waiting.is_starved(alias) {
            self.was_full = true;
            return Err(SendError::Full);
        }
        let logging = Logging { options, request, waiter };
        let sent = log_with(session, common, flow, alias, body, logging);
        match sent {
            Ok(()) => common.counters.acknowledged_offered += 1,
            Err(error) => self.was_full |= error == SendError::Full,
        }
        sent
    }

    /// Keeps a message until there is a session, and room in it; without a class until its flow can go on.
    #[expect(clippy::too_many_arguments, reason = "one message with all that may be asked of it")]
    fn queue(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        options: &SendOptions,
        class: Option<usize>,
        request: Option<u64>,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        if self.wake() {
            return self.send_with(common, now, alias, body, options, request, waiter);
        }
        let bytes = body.as_slice().len();
        check_length(bytes, common.limits.message_bytes_max)?;
        if self.address.is_none() && self.session.is_none() {
            return Err(SendError::NoAddress);
        }
        let queue_bytes_max = common.limits.queue_bytes_max;
        let cost = charge(bytes as u64) as usize;
        if self.waiting.bytes() + cost > queue_bytes_max && !self.waiting.is_empty() {
            self.was_full = true;
            return Err(SendError::Full);
        }
        if options.service == Service::Ordered
            && let Some(flow) = self.flows.get_mut(alias as usize)
        {
            flow.ordered_waiting += 1;
            if let Some(class) = class {
                flow.waiting_class = class as u8;
            }
        }
        let (body, options) = (body.into_bytes(), *options);
        let message = WaitingMessage { alias, body, options, request, waiter };
        match class {
            Some(class) => self.waiting.push(class, message),
            None => self.waiting.park(message),
        }
        common.counters.acknowledged_offered += 1;
        if self.session.is_none() {
            self.want_session(now);
        }
        Ok(())
    }

    /// Keeps a value until it can be sent, or a newer one comes.
    fn send_value(
        &mut self,
        common: &mut Common,
        now: Instant,
        alias: u32,
        body: Source<'_>,
        options: &SendOptions,
        waiter: Option<Waiter>,
    ) -> Result<(), SendError> {
        self.wake();
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        let mut bytes_max = common.limits.message_bytes_max;
        if let Some(session) = &self.session {
            bytes_max = session.message_bytes_max.min(flow.message_bytes_max);
        } else if self.address.is_none() {
            return Err(SendError::NoAddress);
        }
        check_length(body.as_slice().len(), bytes_max)?;
        flow.stamp += 1;
        let (stamp, options) = (flow.stamp, *options);
        self.put_value(common, alias, Value { body: body.into_bytes(), options, stamp, waiter });
        if self.session.is_none() {
            self.want_session(now);
        }
        Ok(())
    }

    /// Writes a value into the session's log.
    pub(super) fn log_value(
        &mut self,
        common: &mut Common,
        alias: u32,
        value: &Value,
    ) -> Result<(), SendError> {
        let session = self.session.as_mut().ok_or(SendError::NotConnected)?;
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        let cost = take_credit(session, flow, alias, value.body.len())?;
        let log = &mut session.lane.log;
        let sequence = Some(Sequence::Latest(value.stamp));
        let asked = Asked { request: None, sequence, waiter: value.waiter };
        let (class, terms) = (value.options.class(), value.options.terms());
        let route = &mut Route::Flow(flow, alias);
        if log.push_with(&mut common.pool, class, terms, route, asked, Source::Shared(&value.body))
        {
            return Ok(());
        }
        session.credit.untake(flow, cost);
        Err(SendError::Full)
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
        let flow = self.flows.get_mut(alias as usize).ok_or(SendError::UnknownPeer)?;
        if !flow.bound
            && let Some(to) = flow.moved
        {
            return Err(SendError::Moved(to));
        }
        let Some(session) = &mut self.session else {
            if self.wake() {
                return self.send_best_effort(common, now, alias, body);
            }
            if self.address.is_none() {
                return Err(SendError::NoAddress);
            }
            self.want_session(now);
            return Err(SendError::NotConnected);
        };
        let total = body.len() as u64;
        check_length(body.len(), session.message_bytes_max.min(flow.message_bytes_max))?;
        let lane = &mut session.lane;
        let name = (!flow.bound).then_some(&*flow.name);
        let target = Target::Flow(alias);
        let head = Head { target, name, request: None, sequence: None, total };
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
        self.wake();
        let session = self.session.as_mut().filter(|session| session.number == to.session);
        let Some(session) = session else {
            common.counters.replies_late += 1;
            return Err(SendError::NotConnected);
        };
        check_length(body.as_slice().len(), session.message_bytes_max)?;
        let lane = &mut session.lane;
        let (mut route, asked) = (Route::Reply(to.request), Asked::default());
        let taken = match body {
            Source::Owned(body) if body.len() >= OWNED_BODY_BYTES_MIN => {
                lane.log.push_owned(NORMAL_CLASS, &mut route, asked, body)
            }
            Source::Borrowed(body) if body.len() >= OWNED_BODY_BYTES_MIN => {
                let body = Bytes::copy_from_slice(body);
                lane.log.push_owned(NORMAL_CLASS, &mut route, asked, body)
            }
            body => lane.log.push(&mut common.pool, &mut route, asked, body.as_slice()),
        };
        if !taken {
            self.was_full = true;
            return Err(SendError::Full);
        }
        common.counters.acknowledged_offered += 1;
        Ok(())
    }
}

/// What is asked of a message about to be logged.
#[derive(Clone, Copy)]
pub(super) struct Logging<'a> {
    pub(super) options: &'a SendOptions,
    pub(super) request: Option<u64>,
    pub(super) waiter: Option<Waiter>,
}

/// Takes the credit of a message; returns its charge.
#[inline]
pub(super) fn take_credit(
    session: &mut Session,
    flow: &mut OutFlow,
    alias: u32,
    bytes: usize,
) -> Result<u64, SendError> {
    let bytes_max = session.message_bytes_max.min(flow.message_bytes_max);
    if bytes as u64 > bytes_max {
        let too_large = SendError::TooLarge { bytes: bytes as u64, bytes_max };
        return Err(flow.moved.map_or(too_large, SendError::Moved));
    }
    let cost = charge(bytes as u64);
    let wanted = flow.wanted;
    if !session.credit.take(flow, cost) {
        if let Some(to) = flow.moved {
            flow.wanted = 0;
            return Err(SendError::Moved(to));
        }
        if let Some(refusal) = flow.refusal {
            flow.wanted = 0;
            return Err(SendError::Refused(refusal));
        }
        if flow.wanted != wanted {
            session.blocked.add(alias);
        }
        return Err(SendError::Full);
    }
    Ok(cost)
}

/// Writes one message into the log of a session, within credit.
#[inline]
fn log_message(
    session: &mut Session,
    common: &mut Common,
    flow: &mut OutFlow,
    alias: u32,
    body: Source<'_>,
    waiter: Option<Waiter>,
) -> Result<(), SendError> {
    let bytes = body.as_slice().len();
    let cost = take_credit(session, flow, alias, bytes)?;
    let log = &mut session.lane.log;
    let asked = Asked { request: None, sequence: None, waiter };
    let mut route = Route::Flow(flow, alias);
    let taken = if bytes < OWNED_BODY_BYTES_MIN {
        log.push(&mut common.pool, &mut route, asked, body.as_slice())
    } else {
        // A body that must be copied is copied only when there is room for it.
        log.has_room_owned(bytes)
            && log.push_owned(NORMAL_CLASS, &mut route, asked, body.into_bytes())
    };
    if taken {
        return Ok(());
    }
    session.credit.untake(flow, cost);
    Err(SendError::Full)
}

/// Writes one message of which something is asked into the log of a session, within credit.
fn log_with(
    session: &mut Session,
    common: &mut Common,
    flow: &mut OutFlow,
    alias: u32,
    body: Source<'_>,
    logging: Logging<'_>,
) -> Result<(), SendError> {
    let cost = take_credit(session, flow, alias, body.as_slice().len())?;
    if write_with(session, common, flow, alias, body, logging) {
        return Ok(());
    }
    session.credit.untake(flow, cost);
    Err(SendError::Full)
}

/// Whether the last ordered message of the flow is not cut to its end. What is logged now might go before its rest, wait for it at
/// the receiver, and keep its own block unsettled, until no block of any flow could be sent.
pub(super) fn is_behind(session: &Session, flow: &OutFlow) -> bool {
    flow.order_group != 0 && session.lane.log.is_uncut(flow.order_group)
}

/// Writes one message that has its credit; `false` when the log has no room.
pub(super) fn write_with(
    session: &mut Session,
    common: &mut Common,
    flow: &mut OutFlow,
    alias: u32,
    body: Source<'_>,
    logging: Logging<'_>,
) -> bool {
    let Logging { options, request, waiter } = logging;
    let bytes = body.as_slice().len();
    let log = &mut session.lane.log;
    let is_ordered = options.service == Service::Ordered;
    let mut class = options.class();
    if is_ordered && !log.is_sent_up(usize::from(flow.order_class)) {
        // Order comes before priority: what overtook would only wait at the receiver.
        class = class.max(usize::from(flow.order_class));
    }
    let sequence = is_ordered.then_some(Sequence::Ordered(flow.next_sequence));
    let asked = Asked { request, sequence, waiter };
    let mut terms = options.terms();
    terms.only_unsent = request.is_some() && terms.deadline.is_some();
    let last_group = log.last_group();
    let mut route = Route::Flow(flow, alias);
    let taken = if !terms.is_plain() {
        log.has_room(class, bytes.min(OWNED_BODY_BYTES_MIN))
            && log.push_with(&mut common.pool, class, terms, &mut route, asked, body)
    } else if bytes < OWNED_BODY_BYTES_MIN {
        log.push_stream(&mut common.pool, class, &mut route, asked, body.as_slice())
    } else {
        log.has_room_owned(bytes) && log.push_owned(class, &mut route, asked, body.into_bytes())
    };
    if taken && is_ordered {
        flow.next_sequence += 1;
        flow.order_class = class as u8;
        let group = log.last_group();
        flow.order_group = if group == last_group { 0 } else { group };
    }
    taken
}

#[inline]
fn check_length(bytes: usize, bytes_max: u64) -> Result<(), SendError> {
    let bytes = bytes as u64;
    if bytes > bytes_max { Err(SendError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}
