//! Owns which blocks of a lane have arrived: a floor below which all have, and a bitmap above it.
//!
//! What always holds: every block below `floor` was inserted once, none at or above `floor + BLOCK_WINDOW` ever was.

use crate::limits::BLOCK_WINDOW;

const WORDS: usize = (BLOCK_WINDOW / 64) as usize;

/// What [`BlockWindow::insert`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// First arrival: take it.
    New,
    /// Seen before: acknowledge and ignore.
    Duplicate,
    /// Beyond the window: neither acknowledge nor take.
    Beyond,
}

/// Receiver's record of blocks.
#[derive(Debug)]
pub(crate) struct BlockWindow {
    floor: u64,
    /// Bit `n % BLOCK_WINDOW` is block `n`, for `floor <= n < floor + BLOCK_WINDOW`. Allocated by the first gap.
    bits: Option<Box<[u64; WORDS]>>,
    /// Bits set.
    above: u64,
}

impl BlockWindow {
    pub(crate) fn new() -> Self {
        Self { floor: 0, bits: None, above: 0 }
    }

    /// A window into which exactly the blocks below `floor` were inserted.
    pub(crate) fn from_floor(floor: u64) -> Self {
        Self { floor, ..Self::new() }
    }

    /// Whether no block above the floor has arrived.
    pub(crate) fn is_even(&self) -> bool {
        self.above == 0
    }

    /// All blocks below this one have arrived.
    #[inline]
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bits.as_ref().map_or(0, |bits| size_of_val(&**bits))
    }

    /// Whether block `number` was inserted.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let is_set = |bits: &[u64; WORDS]| {
            bits[((number % BLOCK_WINDOW) / 64) as usize] >> (number % 64) & 1 == 1
        };
        number < self.floor || (!self.is_beyond(number) && self.bits.as_deref().is_some_and(is_set))
    }

    /// Whether block `number` lies beyond the window.
    pub(crate) fn is_beyond(&self, number: u64) -> bool {
        number >= self.floor + BLOCK_WINDOW
    }

    /// Records block `number`.
    #[inline]
    pub(crate) fn insert(&mut self, number: u64) -> Inserted {
        if number == self.floor && self.above == 0 {
            self.floor += 1;
            return Inserted::New;
        }
        self.insert_out_of_order(number)
    }

    /// Records `count` blocks from `first` as if they had arrived; returns the last that had not, or `None` when all had.
    /// The caller has made sure that none lies beyond the window.
    pub(crate) fn insert_all(&mut self, first: u64, count: u64) -> Option<u64> {
        let mut last_new = None;
        let mut number = first.max(self.floor);
        while number < first + count {
            // A word of bits at a time: a frame may name the whole window.
            let upto = (number - number % 64 + 64).min(first + count);
            if !self.has_all(number, upto) {
                for number in number..upto {
                    if self.insert(number) == Inserted::New {
                        last_new = Some(number);
                    }
                }
            }
            number = upto;
        }
        last_new
    }

    /// Whether all blocks of one word, at or above what was the floor, have arrived.
    fn has_all(&self, from: u64, upto: u64) -> bool {
        if upto <= self.floor {
            return true;
        }
        let Some(bits) = &self.bits else { return false };
        let from = from.max(self.floor);
        let mask = (u64::MAX >> (64 - (upto - from))) << (from % 64);
        bits[((from % BLOCK_WINDOW) / 64) as usize] & mask == mask
    }

    fn insert_out_of_order(&mut self, number: u64) -> Inserted {
        if number < self.floor {
            return Inserted::Duplicate;
        }
        if number - self.floor >= BLOCK_WINDOW {
            return Inserted::Beyond;
        }
        let bits = self.bits.get_or_insert_with(|| Box::new([0; WORDS]));
        let place = |n: u64| (((n % BLOCK_WINDOW) / 64) as usize, 1u64 << (n % 64));
        let (word, bit) = place(number);
        if bits[word] & bit != 0 {
            return Inserted::Duplicate;
        }
        bits[word] |= bit;
        self.above += 1;
        loop {
            let (word, bit) = place(self.floor);
            if bits[word] & bit == 0 {
                break;
            }
            bits[word] &= !bit;
            self.above -= 1;
            self.floor += 1;
        }
        if self.above == 0 {
            self.bits = None;
        }
        Inserted::New
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the window agrees with a set of all numbers ever inserted.
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec(0u64..60, 1..400)) {
            let mut window = BlockWindow::new();
            let mut seen = BTreeSet::new();
            for step in steps {
                let number = (window.floor() + step).saturating_sub(20);
                prop_assert_eq!(window.contains(number), seen.contains(&number));
                let expected = if seen.insert(number) { Inserted::New } else { Inserted::Duplicate };
                prop_assert_eq!(window.insert(number), expected);
                prop_assert!((0..window.floor()).all(|n| seen.contains(&n)));
                prop_assert!(!seen.contains(&window.floor()));
            }
        }
    }

    proptest! {
        #[test]
        fn runs_are_as_good_as_single_blocks(steps in proptest::collection::vec((0u64..400, 0u64..200), 1..60)) {
            let (mut runs, mut singles) = (BlockWindow::new(), BlockWindow::new());
            for (step, count) in steps {
                let first = (runs.floor() + step).saturating_sub(50);
                let new = (first..first + count).filter(|&n| singles.insert(n) == Inserted::New);
                prop_assert_eq!(runs.insert_all(first, count), new.last());
                prop_assert_eq!((runs.floor(), runs.above), (singles.floor(), singles.above));
            }
        }
    }

    #[test]
    fn every_short_sequence_agrees_with_a_set() {
        let steps = 7u32;
        for mut code in 0..6u64.pow(steps) {
            let (mut window, mut seen) = (BlockWindow::new(), BTreeSet::new());
            for _ in 0..steps {
                let number = code % 6;
                code /= 6;
                let expected =
                    if seen.insert(number) { Inserted::New } else { Inserted::Duplicate };
                assert_eq!(window.insert(number), expected);
                let floor = (0..7).find(|n| !seen.contains(n)).unwrap();
                assert_eq!(window.floor(), floor);
                assert_eq!(window.above, seen.range(floor..).count() as u64);
            }
        }
    }

    #[test]
    fn beyond_the_window_changes_nothing() {
        let mut window = BlockWindow::new();
        assert_eq!(window.insert(BLOCK_WINDOW), Inserted::Beyond);
        assert!(window.is_beyond(BLOCK_WINDOW) && !window.contains(BLOCK_WINDOW));
        assert_eq!(window.insert(BLOCK_WINDOW - 1), Inserted::New);
        assert_eq!(window.insert(0), Inserted::New);
        assert_eq!(window.floor(), 1);
        assert_eq!(window.insert(BLOCK_WINDOW), Inserted::New);
    }
}
