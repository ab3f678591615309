//! Owns who waits for the messages of one block, and the run that requests numbered in a row are.
//!
//! What always holds: entries of a block ascend, and none of them overlap; only requests stand in a run of more than one.

use super::Waiter;

/// Who waits for messages that stand in a row in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    /// Place of the first among those that end in the block.
    index: u16,
    count: u16,
    /// Who waits for the first; for the others, the requests with the numbers that follow.
    first: Waiter,
}

impl Awaited {
    pub(super) fn one(index: u16, waiter: Waiter) -> Self {
        Self { index, count: 1, first: waiter }
    }

    /// Enters who waits for the message with this index, which is larger than all before.
    #[inline]
    pub(super) fn note(all: &mut Vec<Self>, index: u16, waiter: Waiter) {
        if let (Waiter::Request(number), Some(last)) = (waiter, all.last_mut())
            && let Waiter::Request(first) = last.first
            && first + u64::from(last.count) == number
            && last.index + last.count == index
        {
            last.count += 1;
            return;
        }
        all.push(Self::one(index, waiter));
    }

    /// Whether these are requests: delivered, they go on waiting, so nobody is told.
    #[inline]
    pub(super) fn are_requests(&self) -> bool {
        matches!(self.first, Waiter::Request(_))
    }

    /// Each of them and its place.
    pub(super) fn each(self) -> impl Iterator<Item = (u16, Waiter)> {
        (0..self.count).map(move |nth| {
            let waiter = match self.first {
                Waiter::Request(first) => Waiter::Request(first + u64::from(nth)),
                waiter @ Waiter::Message(_) => waiter,
            };
            (self.index + nth, waiter)
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: whoever is entered comes back at its place, and requests in a row take one entry.
    use super::*;
    use crate::endpoint::Token;

    #[test]
    fn each_comes_back_at_its_place() {
        let (message, request) = (|n| Waiter::Message(Token(n)), Waiter::Request);
        let waiters = [
            (0, request(7)),
            (1, request(8)),
            (2, request(9)),
            // Not the next number, not the next place, not a request.
            (3, request(11)),
            (5, request(12)),
            (6, message(13)),
            (7, message(14)),
            (8, request(15)),
            (9, request(16)),
        ];
        let mut all = Vec::new();
        for (index, waiter) in waiters {
            Awaited::note(&mut all, index, waiter);
        }
        assert_eq!(all.len(), 6);
        assert!(all.iter().copied().flat_map(Awaited::each).eq(waiters));
        assert_eq!(all.iter().filter(|awaited| awaited.are_requests()).count(), 4);
    }
}
