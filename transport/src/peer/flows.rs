//! Owns which flows a lane has, and what of a flow goes along when another lane turns out to have it.
//!
//! What always holds: a flow is sent to on this lane, or names the lane that has it; what moves was never in a log.

use std::collections::VecDeque;

use super::{Peer, WaitingMessage};
use crate::common::Common;
use crate::endpoint::{CLASSES, SendError};
use crate::flows::OutFlow;
use crate::limits::ALIASES_MAX;
use crate::send_log::Waiter;
use crate::time::Instant;
use crate::values::Value;

/// What of a flow was never in a log.
pub(crate) struct Unsent {
    parked: VecDeque<WaitingMessage>,
    classes: [Vec<WaitingMessage>; CLASSES],
    value: Option<Value>,
    /// Stamp of the newest value.
    stamp: u64,
    ordered_waiting: u32,
    waiting_class: u8,
    /// Requests among these.
    requests: u32,
}

impl Peer {
    /// The alias of the flow with this name on this lane; it is sent to here from now on.
    pub(crate) fn open_flow(&mut self, name: &str) -> Result<u32, SendError> {
        if let Some(&alias) = self.aliases.get(name) {
            let flow = &mut self.flows[alias as usize];
            if flow.moved.is_some() {
                flow.on_returned();
            }
            return Ok(alias);
        }
        if self.flows.len() >= ALIASES_MAX {
            return Err(SendError::TooMany);
        }
        let alias = self.flows.len() as u32;
        self.flows.push(OutFlow::new(name));
        self.aliases.insert(name.into(), alias);
        Ok(alias)
    }

    /// Whether something is on its way that is to be acknowledged.
    #[inline]
    pub(crate) fn is_in_flight(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.path.bytes_in_flight > 0)
    }

    /// See [`Endpoint::set_lanes_sending`](crate::Endpoint::set_lanes_sending).
    pub(crate) fn set_lanes_sending(&mut self, lanes: u16) {
        if std::mem::replace(&mut self.lanes_sending, lanes) != lanes {
            if let Some(session) = &mut self.session {
                session.path.set_lanes(lanes);
            }
            if let Some(dormant) = &mut self.dormant {
                dormant.path.set_lanes(lanes);
            }
        }
    }

    /// Flows have moved: unless something is still wanted of this lane, it dials no more.
    pub(crate) fn rest(&mut self, common: &mut Common) {
        let is_idle = !self.has_session() && self.waiting.is_empty() && self.values.is_empty();
        if is_idle && !self.is_watching(common) && self.greeting_pending.is_empty() {
            self.wanted_since = None;
            self.redial_at = None;
            self.retire_dial(common);
        }
    }

    /// Takes out what of a flow was never logged, for the lane `to`; its requests are asked there.
    pub(crate) fn take_unsent(&mut self, common: &mut Common, alias: u32, to: u32) -> Unsent {
        let (parked, classes) = self.waiting.take_of(alias);
        let mut requests = 0;
        for message in parked.iter().chain(classes.iter().flatten()) {
            if let Some(Waiter::Request(number)) = message.waiter {
                requests += u32::from(common.ends.requests.reassign(number, to));
            }
        }
        self.requests_pending -= requests;
        let flow = &self.flows[alias as usize];
        let (stamp, ordered_waiting) = (flow.stamp, flow.ordered_waiting);
        let (waiting_class, value) = (flow.waiting_class, self.values.take_of(alias));
        Unsent { parked, classes, value, stamp, ordered_waiting, waiting_class, requests }
    }

    /// Takes over what of a flow was never logged; nothing of it waits here.
    pub(crate) fn put_unsent(&mut self, now: Instant, alias: u32, unsent: Unsent) {
        let Unsent { parked, classes, value, stamp, ordered_waiting, waiting_class, requests } =
            unsent;
        self.wake();
        let flow = &mut self.flows[alias as usize];
        flow.stamp = flow.stamp.max(stamp);
        (flow.ordered_waiting, flow.waiting_class) = (ordered_waiting, waiting_class);
        self.requests_pending += requests;
        for message in parked {
            self.waiting.park(WaitingMessage { alias, ..message });
        }
        for (class, messages) in classes.into_iter().enumerate() {
            for message in messages {
                self.waiting.push(class, WaitingMessage { alias, ..message });
            }
        }
        if let Some(value) = value {
            if let Some(session) = &mut self.session {
                session.lane.log.note_stamp(alias, value.stamp);
            }
            self.values.put(alias, value);
        }
        let is_any = !self.waiting.is_empty() || !self.values.is_empty();
        if is_any && self.session.is_none() {
            self.want_session(now);
        }
    }
}
