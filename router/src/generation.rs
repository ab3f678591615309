//! A number that says "what you cached may be stale".
//!
//! Owns one counter. It only ever advances (wrapping after 2^32 changes), so two equal readings
//! mean that nothing changed between them, as long as fewer than 2^32 changes lie in between.
//! Readers compare once per turn and ask again only after a difference; nothing is locked.

use std::sync::atomic::{AtomicU32, Ordering};

/// A counter of changes, shared by reference or in an `Arc`.
///
/// The order is: change the data, then [`advance`](Self::advance). A reader that sees the new number
/// sees the data behind it.
#[derive(Debug, Default)]
pub struct Generation(AtomicU32);

impl Generation {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Records one change and returns the new number.
    pub fn advance(&self) -> u32 {
        self.0.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// The number now; compare it with the one read when the cache was filled.
    pub fn current(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every change is visible as a different number.
    use super::*;

    #[test]
    fn each_change_gives_a_new_number() {
        let generation = Generation::new();
        let before = generation.current();
        let first = generation.advance();
        let second = generation.advance();
        assert_ne!(before, first);
        assert_ne!(first, second);
        assert_eq!(generation.current(), second);
    }

    #[test]
    fn the_counter_wraps_and_does_not_stop() {
        let generation = Generation(AtomicU32::new(u32::MAX));
        assert_eq!(generation.advance(), 0);
        assert_eq!(generation.current(), 0);
    }
}
