//! Owns which entries of the endpoint's heap of timers are a peer's: the earliest, and the latest of those that it went before.
//!
//! What always holds: an entry stands in the heap for the time last asked for, or for one before it. A peer that sends and falls silent again
//! and again, with a timer of milliseconds while something is under way and one of seconds when nothing is, makes one entry of the
//! second kind and not one each time.

use crate::time::Instant;

/// A peer's entries in the heap of timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarm {
    next: Option<Instant>,
    /// After `next`, if that is set.
    later: Option<Instant>,
}

impl Alarm {
    /// Asks for a look at the peer at `at` or before. Whether an entry at `at` is to be made for that.
    #[inline]
    pub(crate) fn set(&mut self, at: Instant) -> bool {
        if self.next.is_none() {
            self.next = self.later.take();
        }
        if self.next.is_some_and(|next| next <= at) {
            return false;
        }
        self.later = self.later.max(self.next);
        self.next = Some(at);
        true
    }

    /// The entry at `at` was taken from the heap.
    #[inline]
    pub(crate) fn on_taken(&mut self, at: Instant) {
        if self.next == Some(at) {
            self.next = None;
        } else if self.later == Some(at) {
            self.later = None;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an entry stands for whatever is asked for, and few stand at once.
    use std::time::Duration;

    use super::*;
    use crate::random::{Entropy, SeededEntropy};

    const START: Instant = Instant::from_nanos(5_000_000_000);

    #[test]
    fn one_far_entry_outlasts_many_near_ones() {
        let (mut alarm, mut entries) = (Alarm::default(), 0);
        for millis in 0..1_000 {
            let now = START + Duration::from_millis(5 * millis);
            entries += u64::from(alarm.set(now + Duration::from_secs(10)));
            let near = now + Duration::from_millis(3);
            assert!(alarm.set(near), "nothing before it");
            entries += 1;
            alarm.on_taken(near);
        }
        assert_eq!(entries, 1_001);
    }

    #[test]
    fn there_is_an_entry_at_or_before_what_was_asked_for() {
        for seed in 0..200 {
            let mut random = SeededEntropy::new(seed);
            let (mut alarm, mut heap, mut now) = (Alarm::default(), Vec::new(), START);
            for _ in 0..300 {
                now += Duration::from_millis(random.next_u64() % 20);
                heap.sort();
                while heap.first().is_some_and(|at| *at <= now) {
                    alarm.on_taken(heap.remove(0));
                }
                let at =
                    now + Duration::from_millis([1, 3, 40, 500][random.next_u64() as usize % 4]);
                if alarm.set(at) {
                    heap.push(at);
                }
                assert!(heap.iter().any(|entry| *entry <= at), "seed {seed}");
            }
        }
    }
}
