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
    classes: [VecDeque<WaitingMessage>; CLASSES],
    /// By alias.
    parked: BTreeMap<u32, Parked>,
    bytes: usize,
    /// None of them could go on when last tried, with so many large bodies gone from the log. What else may let one go on clears it.
    pub(super) stuck_at: Option<u64>,
    /// No deadline of those waiting is earlier.
    deadline: Option<Instant>,
    /// The highest classes for which the log had no room when last tried: for a short message, for a large body.
    pub(super) room_wanted: [Option<usize>; 2],
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

    /// Whether the next room in the log is for what waits, and not for a new message of this class and length. Otherwise a caller
    /// who sends all the time would keep what was offered before out for ever.
    pub(crate) fn claims_room(&self, class: usize, bytes: usize) -> bool {
        let wanted = self.room_wanted[usize::from(bytes >= OWNED_BODY_BYTES_MIN)];
        !self.is_empty() && wanted.is_some_and(|first| class >= first)
    }

    /// Whether a new message that asks for nothing may be logged at once.
    pub(crate) fn lets_pass(&self, class: usize, alias: u32, bytes: usize) -> bool {
        !(self.precedes(class) || self.is_parked(alias) || self.claims_room(class, bytes))
    }

    pub(super) fn want_room(&mut self, class: usize, bytes: usize) {
        let wanted = &mut self.room_wanted[usize::from(bytes >= OWNED_BODY_BYTES_MIN)];
        *wanted = Some(wanted.map_or(class, |first| first.min(class)));
    }

    fn all_queues(&self) -> impl Iterator<Item = &VecDeque<WaitingMessage>> + Clone {
        self.classes.iter().chain(self.parked.values().map(|parked| &parked.queue))
    }

    pub(crate) fn len(&self) -> usize {
        self.all_queues().map(VecDeque::len).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something waits that a message of this class must not overtake.
    pub(crate) fn precedes(&self, class: usize) -> bool {
        self.classes[..=class].iter().any(|queue| !queue.is_empty())
    }

    /// Whether a message of this flow waits for credit or room, which is not for later ones.
    pub(crate) fn is_starved(&self, alias: u32) -> bool {
        self.parked.get(&alias).is_some_and(|parked| parked.is_starved)
    }

    pub(super) fn set_starved(&mut self, alias: u32, is_starved: bool) {
        if let Some(parked) = self.parked.get_mut(&alias) {
            parked.is_starved = is_starved;
        }
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
        self.parked.entry(message.alias).or_default().queue.push_back(message);
    }

    fn note(&mut self, message: &WaitingMessage) {
        self.stuck_at = None;
        self.bytes += cost_of(message);
        if let Some(deadline) = message.options.deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |other| other.min(deadline)));
        }
    }

    /// The first message parked on the first such flow with this alias or a larger one.
    pub(super) fn first_parked(&self, alias: u32) -> Option<&WaitingMessage> {
        self.parked.range(alias..).next()?.1.queue.front()
    }

    pub(super) fn pop_parked(&mut self, alias: u32) {
        let Some(parked) = self.parked.get_mut(&alias) else { return };
        if let Some(message) = parked.queue.pop_front() {
            self.bytes -= cost_of(&message);
        }
        if parked.queue.is_empty() {
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
    pub(super) fn expire(&mut self, now: Instant) -> Vec<WaitingMessage> {
        let mut over = Vec::new();
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return over;
        }
        let parked = self.parked.values_mut().map(|parked| &mut parked.queue);
        for queue in self.classes.iter_mut().chain(parked) {
            for message in std::mem::take(queue) {
                if message.options.deadline.is_some_and(|deadline| deadline <= now) {
                    self.bytes -= cost_of(&message);
                    over.push(message);
                } else {
                    queue.push_back(message);
                }
            }
        }
        self.parked.retain(|_, parked| !parked.queue.is_empty());
        let left = self.all_queues().flatten();
        self.deadline = left.filter_map(|message| message.options.deadline).min();
        over
    }

    /// The requests among them, by number, ascending.
    pub(super) fn requests(&self) -> Vec<u64> {
        let all = self.all_queues().flatten();
        let mut numbers: Vec<u64> = all.filter_map(|message| message.request).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Takes out what waits for one flow: what is parked, then each class, in the order in which it was offered.
    pub(super) fn take_of(
        &mut self,
        alias: u32,
    ) -> (VecDeque<WaitingMessage>, [Vec<WaitingMessage>; CLASSES]) {
        let parked = self.parked.remove(&alias).unwrap_or_default().queue;
        let classes = self.classes.each_mut().map(|queue| {
            let is_its = |message: &WaitingMessage| message.alias == alias;
            let (its, others): (Vec<_>, Vec<_>) = queue.drain(..).partition(is_its);
            queue.extend(others);
            its
        });
        self.stuck_at = None;
        let left = self.all_queues().flatten();
        let bytes = left.clone().map(cost_of).sum();
        self.deadline = left.filter_map(|message| message.options.deadline).min();
        self.bytes = bytes;
        (parked, classes)
    }

    pub(crate) fn take_all(&mut self) -> Vec<WaitingMessage> {
        let all = std::mem::take(self);
        all.parked.into_values().map(|parked| parked.queue).chain(all.classes).flatten().collect()
    }
}

fn cost_of(message: &WaitingMessage) -> usize {
    charge(message.body.len() as u64) as usize
}
