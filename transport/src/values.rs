//! Owns the unsent values of one peer's latest-value flows: at most one for each flow, the newest.
//!
//! What always holds: a value here has taken no credit and stands in no block; it is logged only when it can be sent, so
//! that a newer one may take its place until then.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::endpoint::{CLASSES, SendOptions};
use crate::send_log::Waiter;
use crate::time::Instant;
use crate::work;

/// A value that waits.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) body: Bytes,
    pub(crate) options: SendOptions,
    /// Larger than that of every older value of the flow.
    pub(crate) stamp: u64,
    pub(crate) waiter: Option<Waiter>,
}

/// Values that wait, by flow.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// Where they stand. Few peers are ever sent values, so there is none before.
    queues: Option<Box<ValueQueues>>,
    /// None of them found credit when last tried.
    pub(crate) is_starved: bool,
}

#[derive(Debug, Default)]
struct ValueQueues {
    slots: BTreeMap<u32, Value>,
    /// Flows with a value, by class, in the order in which they got one. May name a flow whose value is gone.
    classes: [VecDeque<u32>; CLASSES],
    /// No deadline of those waiting is earlier.
    deadline: Option<Instant>,
    /// How often in a row, by class, values were logged while others waited.
    in_a_row: [u8; CLASSES],
}

/// After values were logged so often they let others of their class go, if any wait.
const VALUES_IN_A_ROW_MAX: u8 = 4;

impl Values {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.slots.is_empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.slots.len())
    }

    /// Takes a value; returns the older one that it replaces.
    pub(crate) fn put(&mut self, alias: u32, value: Value) -> Option<Value> {
        self.is_starved = false;
        let queues = self.queues.get_or_insert_default();
        queues.note_deadline(&value);
        let class = value.options.class();
        let older = queues.slots.insert(alias, value);
        if older.as_ref().is_none_or(|older| older.options.class() != class) {
            queues.classes.iter_mut().for_each(|queue| queue.retain(|&other| other != alias));
            queues.classes[class].push_back(alias);
        }
        older
    }

    /// Flows with a value of this class, as many as there are now.
    pub(crate) fn waiting(&self, class: usize) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.classes[class].len())
    }

    /// Whether values of a class are to be logged now that something may leave, while others of the class wait or not.
    pub(crate) fn take_turn(&mut self, class: usize, others_wait: bool) -> bool {
        let in_a_row = &mut self.queues.get_or_insert_default().in_a_row[class];
        let is_turn = !others_wait || *in_a_row < VALUES_IN_A_ROW_MAX;
        *in_a_row = if is_turn && others_wait { *in_a_row + 1 } else { 0 };
        is_turn
    }

    /// The first flow of a class, with its value; put back by [`Values::put_back`] if it cannot be logged.
    pub(crate) fn take(&mut self, class: usize) -> Option<(u32, Value)> {
        let queues = self.queues.as_mut()?;
        let alias = queues.classes[class].pop_front()?;
        queues.slots.remove(&alias).map(|value| (alias, value))
    }

    pub(crate) fn put_back(&mut self, alias: u32, value: Value) {
        let queues = self.queues.get_or_insert_default();
        queues.note_deadline(&value);
        queues.classes[value.options.class()].push_back(alias);
        queues.slots.insert(alias, value);
    }

    /// All of them, with their flows.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Value)> {
        let slots = self.queues.iter_mut().flat_map(|queues| queues.slots.iter_mut());
        slots.map(|(alias, value)| (*alias, value))
    }

    /// Takes out the value of one flow.
    pub(crate) fn take_of(&mut self, alias: u32) -> Option<Value> {
        self.queues.as_mut()?.take_of(alias)
    }

    /// A time before which none of them is past its deadline.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queues.as_ref()?.deadline
    }

    /// Takes out what is past its deadline, or everything. Looks at them only if something may be.
    pub(crate) fn expire(&mut self, now: Option<Instant>, on_value: impl FnMut(Value)) {
        if let Some(queues) = &mut self.queues {
            queues.expire(now, on_value);
        }
    }
}

impl ValueQueues {
    fn take_of(&mut self, alias: u32) -> Option<Value> {
        let value = self.slots.remove(&alias)?;
        self.classes.iter_mut().for_each(|queue| queue.retain(|&other| other != alias));
        Some(value)
    }

    fn note_deadline(&mut self, value: &Value) {
        if let Some(deadline) = value.options.deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |other| other.min(deadline)));
        }
    }

    fn expire(&mut self, now: Option<Instant>, mut on_value: impl FnMut(Value)) {
        if now.is_some_and(|now| self.deadline.is_none_or(|deadline| deadline > now)) {
            return;
        }
        work::count(self.slots.len());
        let is_over = |value: &Value| match (now, value.options.deadline) {
            (None, _) => true,
            (Some(now), Some(deadline)) => deadline <= now,
            (Some(_), None) => false,
        };
        let over: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, value)| is_over(value))
            .map(|(alias, _)| *alias)
            .collect();
        for alias in over {
            self.take_of(alias).into_iter().for_each(&mut on_value);
        }
        self.deadline = self.slots.values().filter_map(|value| value.options.deadline).min();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: one value for each flow, the newest, each taken out once.
    use super::*;
    use crate::endpoint::Priority;

    fn value(byte: u8, priority: Priority, deadline: Option<u64>) -> Value {
        let deadline = deadline.map(Instant::from_nanos);
        let options = SendOptions { deadline, priority, ..SendOptions::default() };
        Value { body: vec![byte].into(), options, stamp: byte.into(), waiter: None }
    }

    #[test]
    fn the_newest_of_each_flow_waits() {
        let mut values = Values::default();
        assert!(values.put(1, value(1, Priority::Normal, None)).is_none());
        assert!(values.put(2, value(2, Priority::Normal, Some(50))).is_none());
        assert_eq!(values.put(1, value(3, Priority::Normal, None)).unwrap().body[0], 1);
        assert_eq!(values.put(1, value(4, Priority::High, None)).unwrap().body[0], 3);
        assert_eq!((values.len(), values.waiting(0), values.waiting(1)), (2, 1, 1));
        assert_eq!(values.next_deadline(), Some(Instant::from_nanos(50)));
        let (alias, taken) = values.take(0).unwrap();
        assert_eq!((alias, taken.body[0]), (1, 4));
        values.put_back(1, taken);
        let mut over = 0;
        values.expire(Some(Instant::from_nanos(49)), |_| over += 1);
        assert_eq!(over, 0);
        values.expire(Some(Instant::from_nanos(50)), |_| over += 1);
        assert_eq!(values.next_deadline(), None);
        values.expire(None, |_| over += 1);
        assert_eq!((over, values.is_empty(), values.waiting(0) + values.waiting(1)), (2, true, 0));
    }

    #[test]
    fn others_of_a_class_get_a_turn_in_between() {
        let mut values = Values::default();
        assert!((0..100).all(|_| values.take_turn(1, false)));
        let turns: String =
            (0..12).map(|_| if values.take_turn(1, true) { 'v' } else { 'o' }).collect();
        assert_eq!(turns, "vvvvovvvvovv");
        assert!(values.take_turn(0, true), "by class");
        assert!(values.take_turn(1, false));
        assert!((0..4).all(|_| values.take_turn(1, true)), "counted anew when nothing waited");
    }

    #[test]
    fn values_are_looked_at_only_when_one_may_be_over() {
        let mut values = Values::default();
        for alias in 0..1_000 {
            values.put(alias, value(1, Priority::Normal, Some(100 + u64::from(alias))));
        }
        let before = work::done();
        let mut over = 0;
        for now in 0..100 {
            values.expire(Some(Instant::from_nanos(now)), |_| over += 1);
            assert!(values.next_deadline() > Some(Instant::from_nanos(now)));
        }
        assert_eq!((over, work::done()), (0, before));
        // One that left before its deadline leaves a bound that is early once.
        let (alias, _) = values.take(Priority::Normal as usize).unwrap();
        assert_eq!(alias, 0);
        values.expire(Some(Instant::from_nanos(100)), |_| over += 1);
        assert_eq!((over, values.next_deadline()), (0, Some(Instant::from_nanos(101))));
        values.expire(Some(Instant::from_nanos(101)), |_| over += 1);
        assert_eq!((over, values.len()), (1, 998));
    }
}
