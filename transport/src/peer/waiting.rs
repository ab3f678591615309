//! Owns messages that wait for a session or for room in it: by priority, until their deadline; those that wait for their own
//! flow to go on; and unsent values.
//!
//! What always holds: of one priority the first offered is logged first, but for what waits for its flow and holds up no other;
//! an ordered message never waits in a higher class than one of its flow that was offered before it, and one that waits for its
//! flow was offered before all of the flow that wait in a class.

use std::collections::{BTreeMap, VecDeque};

use super::WaitingMessage;
use crate::endpoint::CLASSES;
use crate::flows::charge;
use crate::limits::OWNED_BODY_BYTES_MIN;
use crate::time::Instant;

/// What waits for its flow to go on; never empty.
#[derive(Default)]
struct Parked {
    queue: VecDeque<WaitingMessage>,
    /// The first of them needs credit or room, which nothing offered later to this flow may take.
    is_starved: bool,
}

/// Messages that wait, by class.
#[derive(Default)]
pub(crate) struct Waiting {
    bytes: usize,
    /// Where they stand. Few peers ever have something that waits, so there is none before.
    queues: Option<Box<WaitingQueues>>,
}

#[derive(Default)]
struct WaitingQueues {
    classes: [VecDeque<WaitingMessage>; CLASSES],
    /// By alias.
    parked: BTreeMap<u32, Parked>,
    /// None of them could go on when last tried, with so many large bodies gone from the log. What else may let one go on clears it.
    stuck_at: Option<u64>,
    /// No deadline of those waiting is earlier.
    deadline: Option<Instant>,
    /// The highest classes for which the log had no room when last tried: for a short message, for a large body.
    room_wanted: [Option<usize>; 2],
}

impl WaitingQueues {
    fn all(&self) -> impl Iterator<Item = &VecDeque<WaitingMessage>> + Clone {
        self.classes.iter().chain(self.parked.values().map(|parked| &parked.queue))
    }

    fn first_deadline(&self) -> Option<Instant> {
        self.all().flatten().filter_map(|message| message.options.deadline).min()
    }
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
        self.queues.as_ref().is_some_and(|queues| queues.stuck_at == Some(bodies_gone))
    }

    /// None of them could go on, with so many large bodies gone from the log.
    pub(super) fn on_stuck(&mut self, bodies_gone: u64) {
        if let Some(queues) = &mut self.queues {
            queues.stuck_at = Some(bodies_gone);
        }
    }

    /// There may be room or credit again.
    #[inline]
    pub(super) fn try_again(&mut self) {
        if let Some(queues) = &mut self.queues {
            queues.stuck_at = None;
        }
    }

    /// Whether the next room in the log is for what waits, and not for a new message of this class and length. Otherwise a caller
    /// who sends all the time would keep what was offered before out for ever.
    pub(crate) fn claims_room(&self, class: usize, bytes: usize) -> bool {
        let is_large = usize::from(bytes >= OWNED_BODY_BYTES_MIN);
        let wanted = self.queues.as_ref().and_then(|queues| queues.room_wanted[is_large]);
        !self.is_empty() && wanted.is_some_and(|first| class >= first)
    }

    /// Whether a new message that asks for nothing may be logged at once.
    pub(crate) fn lets_pass(&self, class: usize, alias: u32, bytes: usize) -> bool {
        !(self.precedes(class) || self.is_parked(alias) || self.claims_room(class, bytes))
    }

    pub(super) fn want_room(&mut self, class: usize, bytes: usize) {
        let Some(queues) = &mut self.queues else { return };
        let wanted = &mut queues.room_wanted[usize::from(bytes >= OWNED_BODY_BYTES_MIN)];
        *wanted = Some(wanted.map_or(class, |first| first.min(class)));
    }

    /// Nobody has looked for room yet.
    pub(super) fn want_no_room(&mut self) {
        if let Some(queues) = &mut self.queues {
            queues.room_wanted = [None; 2];
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.all().map(VecDeque::len).sum())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something waits that a message of this class must not overtake.
    pub(crate) fn precedes(&self, class: usize) -> bool {
        let classes = self.queues.as_ref().map(|queues| &queues.classes[..=class]);
        classes.is_some_and(|classes| classes.iter().any(|queue| !queue.is_empty()))
    }

    fn parked(&self, alias: u32) -> Option<&Parked> {
        self.queues.as_ref()?.parked.get(&alias)
    }

    /// Whether a message of this flow waits for credit or room, which is not for later ones.
    pub(crate) fn is_starved(&self, alias: u32) -> bool {
        self.parked(alias).is_some_and(|parked| parked.is_starved)
    }

    pub(super) fn set_starved(&mut self, alias: u32, is_starved: bool) {
        let queues = self.queues.as_mut();
        if let Some(parked) = queues.and_then(|queues| queues.parked.get_mut(&alias)) {
            parked.is_starved = is_starved;
        }
    }

    /// Whether messages of this flow wait for it to go on.
    pub(crate) fn is_parked(&self, alias: u32) -> bool {
        self.parked(alias).is_some()
    }

    pub(crate) fn push(&mut self, class: usize, message: WaitingMessage) {
        self.note(&message).classes[class].push_back(message);
    }

    /// Keeps a message until its flow can go on.
    pub(crate) fn park(&mut self, message: WaitingMessage) {
        let queues = self.note(&message);
        queues.parked.entry(message.alias).or_default().queue.push_back(message);
    }

    fn note(&mut self, message: &WaitingMessage) -> &mut WaitingQueues {
        self.bytes += cost_of(message);
        let queues = self.queues.get_or_insert_default();
        queues.stuck_at = None;
        if let Some(deadline) = message.options.deadline {
            queues.deadline = Some(queues.deadline.map_or(deadline, |other| other.min(deadline)));
        }
        queues
    }

    /// The first message parked on the first such flow with this alias or a larger one.
    pub(super) fn first_parked(&self, alias: u32) -> Option<&WaitingMessage> {
        self.queues.as_ref()?.parked.range(alias..).next()?.1.queue.front()
    }

    pub(super) fn pop_parked(&mut self, alias: u32) {
        let Some(queues) = &mut self.queues else { return };
        let Some(parked) = queues.parked.get_mut(&alias) else { return };
        if let Some(message) = parked.queue.pop_front() {
            self.bytes -= cost_of(&message);
        }
        if parked.queue.is_empty() {
            queues.parked.remove(&alias);
        }
    }

    pub(crate) fn first(&self) -> Option<(usize, &WaitingMessage)> {
        let mut classes = self.queues.as_ref()?.classes.iter().enumerate();
        classes.find_map(|(class, queue)| Some((class, queue.front()?)))
    }

    pub(crate) fn pop(&mut self, class: usize) -> Option<WaitingMessage> {
        let message = self.queues.as_mut()?.classes[class].pop_front()?;
        self.bytes -= cost_of(&message);
        Some(message)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queues.as_ref()?.deadline
    }

    /// Takes out what is past its deadline.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<WaitingMessage> {
        let mut over = Vec::new();
        let Some(queues) = &mut self.queues else { return over };
        if queues.deadline.is_none_or(|deadline| deadline > now) {
            return over;
        }
        let parked = queues.parked.values_mut().map(|parked| &mut parked.queue);
        for queue in queues.classes.iter_mut().chain(parked) {
            for message in std::mem::take(queue) {
                if message.options.deadline.is_some_and(|deadline| deadline <= now) {
                    self.bytes -= cost_of(&message);
                    over.push(message);
                } else {
                    queue.push_back(message);
                }
            }
        }
        queues.parked.retain(|_, parked| !parked.queue.is_empty());
        queues.deadline = queues.first_deadline();
        over
    }

    /// The requests among them, by number, ascending.
    pub(super) fn requests(&self) -> Vec<u64> {
        let all = self.queues.iter().flat_map(|queues| queues.all().flatten());
        let mut numbers: Vec<u64> = all.filter_map(|message| message.request).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Takes out what waits for one flow: what is parked, then each class, in the order in which it was offered.
    pub(super) fn take_of(
        &mut self,
        alias: u32,
    ) -> (VecDeque<WaitingMessage>, [Vec<WaitingMessage>; CLASSES]) {
        let Some(queues) = &mut self.queues else { return Default::default() };
        let parked = queues.parked.remove(&alias).unwrap_or_default().queue;
        let classes = queues.classes.each_mut().map(|queue| {
            let is_its = |message: &WaitingMessage| message.alias == alias;
            let (its, others): (Vec<_>, Vec<_>) = queue.drain(..).partition(is_its);
            queue.extend(others);
            its
        });
        queues.stuck_at = None;
        queues.deadline = queues.first_deadline();
        self.bytes = queues.all().flatten().map(cost_of).sum();
        (parked, classes)
    }

    pub(crate) fn take_all(&mut self) -> Vec<WaitingMessage> {
        let Some(all) = std::mem::take(self).queues else { return Vec::new() };
        all.parked.into_values().map(|parked| parked.queue).chain(all.classes).flatten().collect()
    }
}

fn cost_of(message: &WaitingMessage) -> usize {
    charge(message.body.len() as u64) as usize
}
