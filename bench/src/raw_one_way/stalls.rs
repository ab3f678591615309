//! How long a loop that never sleeps stood still, which is the machine's doing and not the loop's.
//!
//! Given the time at each turn of a loop whose turns take some 20 us at most; what is longer than `STALL_NANOS_MIN` is a stall: a
//! hypervisor that gave the core to another, an interrupt, another thread. Shorter ones are not seen.

use serde::{Deserialize, Serialize};

/// Shortest stall that counts: more than a turn of 64 KiB takes, with a timer's interrupt in its midst.
const STALL_NANOS_MIN: u64 = 50_000;

/// What a loop counted of its own stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Stalls.
    pub count: u64,
    /// Their time together, in ns.
    pub nanos: u64,
    /// The longest, in ns.
    pub longest_nanos: u64,
    /// Time in which the loop ran or stood still, in ns; what it slept is left out.
    pub watched_nanos: u64,
}

/// A loop that counts its stalls.
#[derive(Debug, Default)]
pub(super) struct StallWatch {
    last_nanos: Option<u64>,
    stalls: Stalls,
}

impl StallWatch {
    /// The loop begins a turn.
    #[inline]
    pub(super) fn on_turn(&mut self, now_nanos: u64) {
        let last = self.last_nanos.replace(now_nanos).unwrap_or(now_nanos);
        let gap = now_nanos.saturating_sub(last);
        self.stalls.watched_nanos += gap;
        if gap >= STALL_NANOS_MIN {
            self.stalls.count += 1;
            self.stalls.nanos += gap;
            self.stalls.longest_nanos = self.stalls.longest_nanos.max(gap);
        }
    }

    /// The loop is about to sleep: the time until the next turn is no stall.
    pub(super) fn on_sleep(&mut self) {
        self.last_nanos = None;
    }

    /// What was counted so far.
    pub(super) fn stalls(&self) -> Stalls {
        self.stalls
    }
}

impl Stalls {
    /// The stalls of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            nanos: self.nanos + other.nanos,
            longest_nanos: self.longest_nanos.max(other.longest_nanos),
            watched_nanos: self.watched_nanos + other.watched_nanos,
        }
    }

    /// Part of the time that the loop stood still, 0 to 1; `None` when it never ran.
    pub fn part(&self) -> Option<f64> {
        (self.watched_nanos > 0).then(|| self.nanos as f64 / self.watched_nanos as f64)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: long gaps count with their whole length, short ones and sleeps do not.
    use super::*;

    #[test]
    fn gaps_count_from_the_shortest_on_and_sleeps_never() {
        let mut watch = StallWatch::default();
        assert_eq!(watch.stalls().part(), None);
        for now in [1_000, 1_500, 51_499, 101_499, 401_499] {
            watch.on_turn(now);
        }
        watch.on_sleep();
        watch.on_turn(9_000_000);
        let stalls = watch.stalls();
        let counted =
            Stalls { count: 2, nanos: 350_000, longest_nanos: 300_000, watched_nanos: 400_499 };
        assert_eq!(stalls, counted);
        let both = stalls.plus(stalls);
        assert_eq!((both.count, both.longest_nanos), (4, 300_000));
        assert!((both.part().unwrap() - 350_000.0 / 400_499.0).abs() < 1e-12);
    }
}
