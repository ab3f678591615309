//! Sequence tags: the proof that what was counted is what was sent.
//!
//! The sender writes message number n, little endian, into the first 8 bytes of body n; a shorter
//! body carries as many low bytes as fit, an empty body carries none and is only counted. The
//! receiver's [`TagChecker`] turns the tags it meets into delivered, duplicated and missing.

use std::ops::Range;

/// Bytes of a whole tag.
pub const TAG_BYTES: usize = 8;

/// Gaps remembered so that late messages are told from duplicates. Beyond this number the oldest
/// gap is given up: what still arrives from it counts as a duplicate.
const GAPS_MAX: usize = 1024;

/// Writes message number `sequence` into the first bytes of `body`.
#[inline]
pub fn write_tag(body: &mut [u8], sequence: u64) {
    if let Some(first) = body.first_chunk_mut::<TAG_BYTES>() {
        *first = sequence.to_le_bytes();
    } else {
        let length = body.len();
        body.copy_from_slice(&sequence.to_le_bytes()[..length]);
    }
}

/// Checks the tags of one stream of messages of one size, numbered from 0.
///
/// In-order messages cost one comparison. Tags of bodies under 8 bytes are taken as the number
/// nearest to the one expected, so they prove nothing about gaps of half their range or more.
#[derive(Debug)]
pub struct TagChecker {
    next: u64,
    delivered: u64,
    duplicated: u64,
    late: u64,
    gaps: Vec<Range<u64>>,
}

impl Default for TagChecker {
    fn default() -> Self {
        Self::new()
    }
}

impl TagChecker {
    /// A checker that expects message 0.
    pub fn new() -> Self {
        Self { next: 0, delivered: 0, duplicated: 0, late: 0, gaps: Vec::with_capacity(GAPS_MAX) }
    }

    /// Takes note of one received body.
    #[inline]
    pub fn check(&mut self, body: &[u8]) {
        let tag = match body.first_chunk::<TAG_BYTES>() {
            Some(first) => u64::from_le_bytes(*first),
            None => self.widen(body),
        };
        if tag == self.next {
            self.next += 1;
            self.delivered += 1;
        } else {
            self.on_other(tag);
        }
    }

    /// Distinct messages received.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages received more than once.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Messages received for the first time after one with a higher number.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// One more than the highest number received; above the number sent, something was invented.
    pub fn next(&self) -> u64 {
        self.next
    }

    #[cold]
    #[inline(never)]
    fn on_other(&mut self, tag: u64) {
        if tag > self.next {
            if self.gaps.len() == GAPS_MAX {
                self.gaps.remove(0);
            }
            self.gaps.push(self.next..tag);
            self.next = tag.saturating_add(1);
            self.delivered += 1;
        } else if self.fill_gap(tag) {
            self.delivered += 1;
            self.late += 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// Takes `tag` out of the remembered gaps; false when it was not missing.
    fn fill_gap(&mut self, tag: u64) -> bool {
        let Some(index) = self.gaps.iter().position(|gap| gap.contains(&tag)) else {
            return false;
        };
        let gap = self.gaps[index].clone();
        self.gaps[index] = gap.start..tag;
        if tag + 1 < gap.end {
            self.gaps.insert(index + 1, tag + 1..gap.end);
        }
        self.gaps.retain(|gap| !gap.is_empty());
        true
    }

    /// The number nearest to the expected one whose low bytes are `short`.
    fn widen(&self, short: &[u8]) -> u64 {
        let mut bytes = [0; TAG_BYTES];
        bytes[..short.len()].copy_from_slice(short);
        let bits = 8 * short.len() as u32;
        let unused = 64 - bits;
        if bits == 0 {
            return self.next;
        }
        let difference = u64::from_le_bytes(bytes).wrapping_sub(self.next);
        let nearest = ((difference << unused) as i64) >> unused;
        self.next.saturating_add_signed(nearest)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: loss, lateness and duplication are told apart for every body size.
    use super::*;

    fn feed(size: usize, numbers: &[u64]) -> TagChecker {
        let mut checker = TagChecker::new();
        let mut body = vec![0xAA; size];
        for &number in numbers {
            write_tag(&mut body, number);
            checker.check(&body);
        }
        checker
    }

    #[test]
    fn in_order_messages_are_delivered() {
        for size in [0, 1, 2, 7, 8, 9, 64] {
            let checker = feed(size, &(0..1000).collect::<Vec<_>>());
            assert_eq!((checker.delivered(), checker.duplicated()), (1000, 0), "size {size}");
            assert_eq!(checker.next(), 1000);
        }
    }

    #[test]
    fn a_missing_message_is_not_counted_and_may_come_late() {
        for size in [1, 2, 8, 64] {
            let checker = feed(size, &[0, 1, 4, 5]);
            assert_eq!((checker.delivered(), checker.next()), (4, 6), "size {size}");
            let checker = feed(size, &[0, 1, 4, 5, 3, 2]);
            let counts = (checker.delivered(), checker.duplicated(), checker.late());
            assert_eq!(counts, (6, 0, 2), "size {size}");
        }
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_each_time() {
        for size in [1, 8] {
            let checker = feed(size, &[0, 1, 1, 4, 3, 3, 0]);
            assert_eq!((checker.delivered(), checker.duplicated()), (4, 3), "size {size}");
        }
    }

    #[test]
    fn a_forgotten_gap_does_not_invent_deliveries() {
        let numbers: Vec<u64> = (0..2 * GAPS_MAX as u64 + 10).map(|n| 2 * n).collect();
        let mut checker = feed(8, &numbers);
        let before = checker.delivered();
        checker.check(&1_u64.to_le_bytes());
        assert_eq!((checker.delivered(), checker.duplicated()), (before, 1));
    }
}
