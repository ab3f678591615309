//! Owns messages that wait for a session or for room in it: by priority, until their deadline; those that wait for their own
//! flow to go on; and unsent values.
//!
//! What always holds: of one priority the first offered is logged first, but for what waits for its flow and holds up no other;
//! an ordered message never waits in a higher class than one of its flow that was offered before it, and one that waits for its
//! flow was offered before all of the flow that wait in a class.

use std::collections::{BTreeMap, VecDeque};

use super::send::{Logging, Source, is_behind, take_credit, write_with};
use super::{Peer, WaitingMessage};
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
    /// Its flow has no credit, or an ordered message is to be sent before it.
    FlowWaits,
    /// The log is full.
    LogFull,
}

/// Messages that wait, by class.
#[derive(Default)]
pub(crate) struct Waiting {
    classes: [VecDeque<WaitingMessage>; CLASSES],
    /// What waits for its flow to go on, by alias; no queue is empty.
    parked: BTreeMap<u32, VecDeque<WaitingMessage>>,
    bytes: usize,
    /// None of them could go on when last tried, with so many large bodies gone from the log. What else may let one go on clears it.
    stuck_at: Option<u64>,
    /// No deadline of those waiting is earlier.
    deadline: Option<Instant>,
}

impl Waiting {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Each costs something, also an empty one.
        self.bytes == 0
    }

    /// Whether trying them again is in vain, if so many large bodies have gone from the log.
    #[inline]
    pub(super) fn is_stuck(&self, bodies_gone: u64) -> bool {
        self.stuck_at == Some(bodies_gone)
    }

    /// There may be room or credit again.
    #[inline]
    pub(super) fn try_again(&mut self) {
        self.stuck_at = None;
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.iter().chain(self.parked.values()).map(VecDeque::len).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something waits that a message of this class must not overtake.
    pub(crate) fn precedes(&self, class: usize) -> bool {
        self.classes[..=class].iter().any(|queue| !queue.is_empty())
    }

    /// Whether messages of this flow wait for it to go on.
    pub(crate) fn is_parked(&self, alias: u32) -> bool {
        self.parked.contains_key(&alias)
    }

    pub(crate) fn push(&mut self, class: usize, message: WaitingMessage) {
        self.note(&message);
        self.classes[class].push_back(message);
    }

    /// Keeps a message until its flow can go on.
    pub(crate) fn park(&mut self, message: WaitingMessage) {
        self.note(&message);
        self.parked.entry(message.alias).or_default().push_back(message);
    }

    fn note(&mut self, message: &WaitingMessage) {
        self.stuck_at = None;
        self.bytes += cost_of(message);
        if let Some(deadline) = message.options.deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |other| other.min(deadline)));
        }
    }

    /// The first message parked on the first such flow with this alias or a larger one.
    fn first_parked(&self, alias: u32) -> Option<&WaitingMessage> {
        self.parked.range(alias..).next()?.1.front()
    }

    fn pop_parked(&mut self, alias: u32) {
        let Some(queue) = self.parked.get_mut(&alias) else { return };
        if let Some(message) = queue.pop_front() {
            self.bytes -= cost_of(&message);
        }
        if queue.is_empty() {
            self.parked.remove(&alias);
        }
    }

    pub(crate) fn first(&self) -> Option<(usize, &WaitingMessage)> {
        let mut queues = self.classes.iter().enumerate();
        queues.find_map(|(class, queue)| Some((class, queue.front()?)))
    }

    pub(crate) fn pop(&mut self, class: usize) -> Option<WaitingMessage> {
        let message = self.classes[class].pop_front()?;
        self.bytes -= cost_of(&message);
        Some(message)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes out what is past its deadline.
    fn expire(&mut self, now: Instant) -> Vec<WaitingMessage> {
        let mut over = Vec::new();
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return over;
        }
        for queue in self.classes.iter_mut().chain(self.parked.values_mut()) {
            for message in std::mem::take(queue) {
                if message.options.deadline.is_some_and(|deadline| deadline <= now) {
                    self.bytes -= cost_of(&message);
                    over.push(message);
                } else {
                    queue.push_back(message);
                }
            }
        }
        self.parked.retain(|_, queue| !queue.is_empty());
        let left = self.classes.iter().chain(self.parked.values()).flatten();
        self.deadline = left.filter_map(|message| message.options.deadline).min();
        over
    }

    /// The requests among them, by number, ascending.
    pub(super) fn requests(&self) -> Vec<u64> {
        let all = self.classes.iter().chain(self.parked.values()).flatten();
        let mut numbers: Vec<u64> = all.filter_map(|message| message.request).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Takes out what waits for one flow: what is parked, then each class, in the order in which it was offered.
    pub(super) fn take_of(
        &mut self,
        alias: u32,
    ) -> (VecDeque<WaitingMessage>, [Vec<WaitingMessage>; CLASSES]) {
        let parked = self.parked.remove(&alias).unwrap_or_default();
        let classes = self.classes.each_mut().map(|queue| {
            let is_its = |message: &WaitingMessage| message.alias == alias;
            let (its, others): (Vec<_>, Vec<_>) = queue.drain(..).partition(is_its);
            queue.extend(others);
            its
        });
        let left = self.classes.iter().chain(self.parked.values()).flatten();
        self.bytes = left.clone().map(cost_of).sum();
        self.deadline = left.filter_map(|message| message.options.deadline).min();
        (parked, classes)
    }

    pub(crate) fn take_all(&mut self) -> Vec<WaitingMessage> {
        let all = std::mem::take(self);
        all.parked.into_values().chain(all.classes).flatten().collect()
    }
}

fn cost_of(message: &WaitingMessage) -> usize {
    charge(message.body.len() as u64) as usize
}

impl Peer {
    /// Moves messages that waited into the session's log, as far as there is room. What waits for its own flow steps aside.
    #[cold]
    pub(super) fn log_waiting(&mut self, common: &mut Common) {
        let before = self.waiting.len();
        let Some(session) = &self.session else { return };
        let bodies_gone = session.lanes[0].log.bodies_gone();
        let mut next = 0;
        while let Some(message) = self.waiting.first_parked(next).cloned() {
            work::count(1);
            let alias = message.alias;
            match self.log_one(common, message) {
                Logged::Gone => self.waiting.pop_parked(alias),
                Logged::FlowWaits | Logged::LogFull => next = alias + 1,
            }
        }
        while let Some((class, message)) = self.waiting.first() {
            let logged = if self.waiting.is_parked(message.alias) {
                Logged::FlowWaits
            } else {
                let message = message.clone();
                self.log_one(common, message)
            };
            match logged {
                Logged::LogFull => break,
                Logged::Gone => drop(self.waiting.pop(class)),
                Logged::FlowWaits => {
                    if let Some(message) = self.waiting.pop(class) {
                        self.waiting.park(message);
                    }
                }
            }
        }
        if self.waiting.len() == before {
            self.waiting.stuck_at = Some(bodies_gone);
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
            return Logged::FlowWaits;
        }
        let error = match take_credit(session, flow, alias, body.len()) {
            Err(SendError::Full) => return Logged::FlowWaits,
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
            let ended = common.ends.tell(waiter, outcome, self.id.0);
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
        let ended = session.tell_ended(common, &mut self.flows, self.id.0);
        self.requests_pending -= ended;
        self.values.is_starved = false;
        self.waiting.try_again();
        self.tell_writable(common);
    }

    /// Takes a value: it waits, instead of an older one, until it can be sent.
    pub(super) fn put_value(&mut self, common: &mut Common, alias: u32, value: Value) {
        if let Some(session) = &mut self.session {
            session.lanes[0].log.note_stamp(alias, value.stamp);
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
            let log = &session.lanes[0].log;
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
