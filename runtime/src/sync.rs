//! What `parking` and the hand-off's `ring` share between threads; they name it by this module, and the models in
//! `tests/parking.rs` put loom's in its place.

use std::cell::UnsafeCell;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Arc, OnceLock};

/// What one thread at a time may reach.
#[derive(Debug)]
pub(crate) struct SlotCell<T>(UnsafeCell<T>);

impl<T> SlotCell<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(UnsafeCell::new(content))
    }

    /// The content.
    ///
    /// # Safety
    /// Nobody else reaches it while the borrow lasts, and whoever did before is ordered before the caller.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "whose it is the caller knows")]
    pub(crate) unsafe fn get_mut(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}
