//! Owns messages that wait for a session or for room in it: by priority, until their deadline; and unsent values.
//!
//! What always holds: of one priority the first offered is logged first; an ordered message never waits in a higher class
//! than one of its flow that was offered before it.

use std::collections::VecDeque;

use super::{Peer, WaitingMessage};
use crate::common::Common;
use crate::endpoint::{Event, Outcome, SendError, Service};
use crate::flows::charge;
use crate::send_log::Waiter;
use crate::time::Instant;
use crate::values::Value;

/// Messages that wait, by class.
#[derive(Default)]
pub(crate) struct Waiting {
    classes: [VecDeque<WaitingMessage>; 3],
    bytes: usize,
    /// No deadline of those waiting is earlier.
    deadline: Option<Instant>,
}

impl Waiting {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something waits that a message of this class must not overtake.
    pub(crate) fn precedes(&self, class: usize) -> bool {
        self.classes[..=class].iter().any(|queue| !queue.is_empty())
    }

    pub(crate) fn push(&mut self, class: usize, message: WaitingMessage) {
        self.bytes += cost_of(&message);
        if let Some(deadline) = message.options.deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |other| other.min(deadline)));
        }
        self.classes[class].push_back(message);
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
        for queue in &mut self.classes {
            for message in std::mem::take(queue) {
                if message.options.deadline.is_some_and(|deadline| deadline <= now) {
                    self.bytes -= cost_of(&message);
                    over.push(message);
                } else {
                    queue.push_back(message);
                }
            }
        }
        let left = self.classes.iter().flatten();
        self.deadline = left.filter_map(|message| message.options.deadline).min();
        over
    }

    pub(crate) fn take_all(&mut self) -> Vec<WaitingMessage> {
        let all = std::mem::take(self);
        all.classes.into_iter().flatten().collect()
    }
}

fn cost_of(message: &WaitingMessage) -> usize {
    charge(message.body.len() as u64) as usize
}

impl Peer {
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

    pub(super) fn tell_writable(&mut self, common: &mut Common) {
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
        for class in 0..3 {
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
