//! What lies in a slot of the hand-off's ring: items that move as one, and old ones whose memory is used again.
//!
//! Always holds: the first `filled` items are new, whatever is behind them is old. The first item lies in the slot itself, so
//! that one alone is found where its stamp was; more are in a vector that is made when it is first needed.

use std::ops::Range;

/// Items on their way.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Batch<T> {
    pub(super) filled: usize,
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { filled: 0, first: None, rest: Vec::new() }
    }
}

impl<T> Batch<T> {
    /// Puts an item into a place that is at most one beyond those ever used; of `places` altogether.
    #[inline]
    pub(super) fn put(&mut self, place: usize, places: usize, item: T) {
        let Some(place) = place.checked_sub(1) else {
            self.first = Some(item);
            return;
        };
        if let Some(old) = self.rest.get_mut(place) {
            *old = item;
        } else {
            self.make_room(places);
            self.rest.push(item);
        }
    }

    /// The item in such a place, an old one or a fresh one.
    #[inline]
    pub(super) fn old(&mut self, place: usize, places: usize) -> &mut T
    where
        T: Default,
    {
        let Some(place) = place.checked_sub(1) else {
            return self.first.get_or_insert_default();
        };
        if place == self.rest.len() {
            self.make_room(places);
            self.rest.push(T::default());
        }
        &mut self.rest[place]
    }

    fn make_room(&mut self, places: usize) {
        if self.rest.capacity() == 0 {
            self.rest.reserve_exact(places - 1);
        }
    }

    /// Gives new items in these places to `take`.
    #[inline]
    pub(super) fn take(&mut self, places: Range<usize>, mut take: impl FnMut(&mut T)) {
        let Range { start, end } = places;
        if start == 0
            && end > 0
            && let Some(first) = &mut self.first
        {
            take(first);
        }
        for item in &mut self.rest[start.saturating_sub(1)..end.saturating_sub(1)] {
            take(item);
        }
    }
}
