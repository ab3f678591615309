//! Owns a count of the steps of loops whose length a peer decides, for tests that compare attacks of different lengths. Costs
//! nothing outside of this crate's tests.
//!
//! What always holds: it counts what this thread did, so tests that run at once do not disturb each other.

#[cfg(test)]
std::thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many steps are about to be done.
#[inline]
#[cfg(test)]
pub(crate) fn count(steps: usize) {
    STEPS.set(STEPS.get() + steps as u64);
}

/// Nothing is counted outside of tests.
#[inline]
#[cfg(not(test))]
pub(crate) fn count(_: usize) {}

/// Steps done by this thread so far.
#[cfg(test)]
pub(crate) fn done() -> u64 {
    STEPS.get()
}
