//! Owns how what waits gets into the session's log, and how it ends when it does not.
//!
//! What always holds: of what waits, nothing is passed over that could go on; a message leaves the queue when it is in the log
//! or has ended, once.

use super::Peer;
use super::WaitingMessage;
use super::send::{Logging, Source, is_behind, take_credit, write_with};
use crate::common::Common;
use crate::endpoint::{CLASSES, Event, Outcome, SendError, Service};
use crate::flows::charge;
use crate::send_log::Waiter;
use crate::time::Instant;
use crate::values::Value;
use crate::work;

/// What became of a message that was to be logged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logged {
    /// It is in the log, or it ended.
    Gone,
    /// Its flow has no credit.
    NoCredit,
    /// An ordered message of its flow is to be sent before it.
    Behind,
    /// The log is full.
    LogFull,
}

impl Peer {
    /// Moves messages that waited into the session's log, as far as there is room. What waits for its own flow steps aside.
    #[cold]
    pub(super) fn log_waiting(&mut self, common: &mut Common) {
        let before = self.waiting.len();
        let Some(session) = &self.session else { return };
        let bodies_gone = session.lane.log.bodies_gone();
        self.waiting.want_no_room();
        let mut next = 0;
        while let Some(message) = self.waiting.first_parked(next).cloned() {
            work::count(1);
            let (alias, class, bytes) =
                (message.alias, message.options.class(), message.body.len());
            let logged = self.log_one(common, message);
            if logged == Logged::Gone {
                self.waiting.pop_parked(alias);
                continue;
            }
            self.waiting.set_starved(alias, logged != Logged::Behind);
            if logged == Logged::LogFull {
                self.waiting.want_room(class, bytes);
            }
            next = alias + 1;
        }
        while let Some((class, message)) = self.waiting.first() {
            let bytes = message.body.len();
            let logged = if self.waiting.is_parked(message.alias) {
                Logged::Behind
            } else {
                let message = message.clone();
                self.log_one(common, message)
            };
            match logged {
                Logged::LogFull => {
                    self.waiting.want_room(class, bytes);
                    break;
                }
                Logged::Gone => drop(self.waiting.pop(class)),
                Logged::NoCredit | Logged::Behind => {
                    if let Some(message) = self.waiting.pop(class) {
                        let alias = message.alias;
                        self.waiting.park(message);
                        if logged == Logged::NoCredit {
                            self.waiting.set_starved(alias, true);
                        }
                    }
                }
            }
        }
        if self.waiting.len() == before {
            self.waiting.on_stuck(bodies_gone);
        } else if !self.waiting.precedes(2) {
            self.tell_writable(common);
        }
    }

    fn log_one(&mut self, common: &mut Common, message: WaitingMessage) -> Logged {
        let WaitingMessage { alias, body, options, request, waiter } = message;
        if request.is_some_and(|number| !common.ends.requests.is_waiting(number)) {
            // Cancelled or past its deadline: nobody would hear the answer.
            self.note_left(alias, options.service);
            self.end_waiting(common, None, Outcome::Expired);
            return Logged::Gone;
        }
        let flow = self.flows.get_mut(alias as usize);
        let (Some(session), Some(flow)) = (self.session.as_mut(), flow) else {
            return Logged::LogFull;
        };
        let is_ordered = options.service == Service::Ordered;
        if is_ordered && is_behind(session, flow) {
            return Logged::Behind;
        }
        let error = match take_credit(session, flow, alias, body.len()) {
            Err(SendError::Full) => return Logged::NoCredit,
            Err(error) => Some(error),
            Ok(cost) => {
                let logging = Logging { options: &options, request, waiter };
                if !write_with(session, common, flow, alias, Source::Owned(body), logging) {
                    session.credit.untake(flow, cost);
                    return Logged::LogFull;
                }
                None
            }
        };
        self.note_left(alias, options.service);
        if let Some(error) = error {
            // The peer's own limit was learnt only now.
            self.end_waiting(common, waiter, error.as_outcome());
        }
        Logged::Gone
    }

    /// Something waits for a session: dial now unless a dial is under way.
    pub(crate) fn want_session(&mut self, now: Instant) {
        self.wanted_since.get_or_insert(now);
        if self.dialling.is_none() && self.redial_at.is_none() {
            self.redial_at = Some(now);
        }
    }

    /// Ends a message that was in no log.
    pub(super) fn end_waiting(
        &mut self,
        common: &mut Common,
        waiter: Option<Waiter>,
        outcome: Outcome,
    ) {
        common.count(outcome, 1);
        common.tally.peer_lost_unsent += u64::from(outcome == Outcome::PeerLost);
        if let Some(waiter) = waiter {
            let ended = common.ends.tell(waiter, outcome, self.id.place());
            self.requests_pending -= u32::from(ended);
        }
    }

    /// Ends what waits past its deadline.
    pub(super) fn expire_waiting(&mut self, common: &mut Common, now: Instant) {
        let over = self.waiting.expire(now);
        let is_any = !over.is_empty();
        for message in over {
            self.note_left(message.alias, message.options.service);
            self.end_waiting(common, message.waiter, Outcome::Expired);
        }
        let mut values = Vec::new();
        self.values.expire(Some(now), |value| values.push(value));
        for value in values {
            self.end_waiting(common, value.waiter, Outcome::Expired);
        }
        if is_any {
            self.waiting.try_again();
            self.tell_writable(common);
        }
    }

    /// A message left the queue of those that wait.
    pub(super) fn note_left(&mut self, alias: u32, service: Service) {
        if service == Service::Ordered
            && let Some(flow) = self.flows.get_mut(alias as usize)
        {
            flow.ordered_waiting = flow.ordered_waiting.saturating_sub(1);
        }
    }

    pub(crate) fn tell_writable(&mut self, common: &mut Common) {
        if std::mem::take(&mut self.was_full) {
            common.ends.events.push_back(Event::Writable { peer: self.id });
        }
    }

    /// Tells of messages that ended in the session's logs without an answer.
    #[inline]
    pub(super) fn tell_ended(&mut self, common: &mut Common) {
        let Some(session) = self.session.as_mut().filter(|session| session.has_ended()) else {
            return;
        };
        let ended = session.tell_ended(common, &mut self.flows, self.id.place());
        self.requests_pending -= ended;
        self.values.is_starved = false;
        self.waiting.try_again();
        self.tell_writable(common);
    }

    /// Takes a value: it waits, instead of an older one, until it can be sent.
    pub(super) fn put_value(&mut self, common: &mut Common, alias: u32, value: Value) {
        if let Some(session) = &mut self.session {
            session.lane.log.note_stamp(alias, value.stamp);
        }
        common.counters.acknowledged_offered += 1;
        if let Some(older) = self.values.put(alias, value) {
            common.counters.values_superseded += 1;
            self.end_waiting(common, older.waiter, Outcome::Expired);
        }
    }

    /// Logs values as far as they can be sent now: one datagram's worth.
    #[cold]
    pub(super) fn log_values(&mut self, common: &mut Common, now: Instant) {
        self.expire_waiting(common, now);
        let (mut bytes, mut tried, mut logged) = (0, 0, 0);
        let Some(session) = &mut self.session else { return };
        if session.path.budget(now) < session.path.datagram_bytes {
            return;
        }
        for class in 0..CLASSES {
            let Some(session) = &self.session else { return };
            let log = &session.lane.log;
            if self.values.waiting(class) == 0 || log.has_values_ready(class) {
                continue;
            }
            if !self.values.take_turn(class, log.has_shorts(class)) {
                continue;
            }
            for _ in 0..self.values.waiting(class) {
                let Some(session) = &mut self.session else { return };
                let full = session.path.datagram_bytes;
                if session.path.budget(now) < full || bytes >= full {
                    return;
                }
                let Some((alias, value)) = self.values.take(class) else { continue };
                tried += 1;
                match self.log_value(common, alias, &value) {
                    Ok(()) => {
                        logged += 1;
                        bytes += charge(value.body.len() as u64);
                    }
                    Err(SendError::Full) => self.values.put_back(alias, value),
                    Err(error) => self.end_waiting(common, value.waiter, error.as_outcome()),
                }
            }
        }
        self.values.is_starved = tried > 0 && logged == 0;
    }

    pub(super) fn abandon_values(&mut self, common: &mut Common, outcome: Outcome) {
        let mut values = Vec::new();
        self.values.expire(None, |value| values.push(value));
        for value in values {
            self.end_waiting(common, value.waiter, outcome);
        }
    }
}
