//! What will happen, in order of time.
//!
//! Owns the event queue. Events at one time happen in the order in which they were put in, so that
//! nothing depends on how a heap breaks ties.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use cubed_transport::time::Instant;

/// Events by time, then by the order of [`Agenda::put`].
#[derive(Debug)]
pub struct Agenda<E> {
    entries: BinaryHeap<Entry<E>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> Agenda<E> {
    /// An agenda with nothing on it.
    pub fn new() -> Self {
        Self { entries: BinaryHeap::new(), sequence: 0 }
    }

    /// Makes `event` happen at `at`, after all that were put there before.
    pub fn put(&mut self, at: Instant, event: E) {
        self.sequence += 1;
        self.entries.push(Entry { at, sequence: self.sequence, event });
    }

    /// The next event, if it happens at or before `until`.
    pub fn take(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.entries.peek()?.at > until {
            return None;
        }
        self.entries.pop().map(|entry| (entry.at, entry.event))
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed: the heap gives its greatest, and the earliest is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    //! Goal: time decides, then order of entry.
    use super::*;

    #[test]
    fn events_come_by_time_then_by_entry() {
        let at = Instant::from_nanos;
        let mut agenda = Agenda::new();
        for (nanos, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b'), (9, 'e')] {
            agenda.put(at(nanos), event);
        }
        let mut order = String::new();
        while let Some((_, event)) = agenda.take(at(5)) {
            order.push(event);
        }
        assert_eq!(order, "abcd");
        assert_eq!(agenda.take(at(9)), Some((at(9), 'e')));
        assert_eq!(agenda.take(at(u64::MAX)), None);
    }
}
