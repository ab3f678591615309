//! Sets of packet numbers as descending ranges, and the acknowledgement that carries them.
//!
//! [`RangeSet`] is what a receiver remembers: bounded, and in-order arrival costs one comparison.
//! [`encode_ack`] and [`decode_ack`] are the fields of RFC 9000 section 19.3 without the type
//! byte. Ranges are maximal (neighbours always have a number missing between them), so a set has
//! one encoding. A decoded [`Ack`] has been checked as a whole before it yields a range.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::varint::{self, Reader};

/// A bounded set of packet numbers, kept as ranges.
///
/// When a number would make one range too many, the lowest range is forgotten. Memory grows with
/// the ranges in use, up to 16 bytes for each of `ranges_max`, and is kept for reuse.
#[derive(Clone, Debug)]
pub struct RangeSet {
    /// Highest range first; between neighbours at least one number is missing.
    ranges: VecDeque<Range>,
    ranges_max: usize,
}

/// The numbers `low..=high`, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    low: u64,
    high: u64,
}

impl RangeSet {
    /// An empty set of at most `ranges_max` ranges. Allocates nothing until the first insertion.
    ///
    /// # Panics
    ///
    /// When `ranges_max` is 0.
    pub fn new(ranges_max: usize) -> Self {
        assert!(ranges_max > 0, "a set of packet numbers needs room for one range");
        Self { ranges: VecDeque::new(), ranges_max }
    }

    /// Adds `number`; true when it is in the set now and was not before.
    ///
    /// A number that is lower than a full set's ranges, and touches none, is itself the oldest: it
    /// is forgotten at once and the answer is false.
    #[inline]
    pub fn insert(&mut self, number: u64) -> bool {
        match self.ranges.front_mut() {
            Some(newest) if number > newest.high => {
                if number - newest.high == 1 {
                    newest.high = number;
                } else {
                    self.insert_range(0, number);
                }
                true
            }
            Some(newest) if number >= newest.low => false,
            Some(_) => self.insert_below_newest(number),
            None => self.insert_range(0, number),
        }
    }

    /// Forgets all numbers below `number`.
    pub fn remove_below(&mut self, number: u64) {
        while let Some(oldest) = self.ranges.back_mut() {
            if oldest.high >= number {
                oldest.low = oldest.low.max(number);
                return;
            }
            self.ranges.pop_back();
        }
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.get(self.first_at_or_below(number)).is_some_and(|range| number <= range.high)
    }

    /// The largest number in the set.
    #[inline]
    pub fn largest(&self) -> Option<u64> {
        self.ranges.front().map(|range| range.high)
    }

    /// How many ranges the set consists of.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether no number is in the set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, highest first.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> + ExactSizeIterator + '_ {
        self.ranges.iter().map(|range| range.low..=range.high)
    }

    /// Adds a number below the newest range's: it extends a range, joins two or makes one.
    fn insert_below_newest(&mut self, number: u64) -> bool {
        let index = self.first_at_or_below(number);
        // The newest range starts above `number`, so `index` is at least 1, and every range before
        // `index` starts above `number`: neither sum can overflow.
        let touches_above = self.ranges[index - 1].low == number + 1;
        let touches_below = match self.ranges.get(index) {
            Some(range) if number <= range.high => return false,
            Some(range) => range.high + 1 == number,
            None => false,
        };
        match (touches_above, touches_below) {
            (true, true) => {
                self.ranges[index - 1].low = self.ranges[index].low;
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index - 1].low = number,
            (false, true) => self.ranges[index].high = number,
            (false, false) => return self.insert_range(index, number),
        }
        true
    }

    /// Adds a range of one number at `index`, forgetting the lowest range when the set is full;
    /// false when the new range would itself be the lowest.
    fn insert_range(&mut self, index: usize, number: u64) -> bool {
        if self.ranges.len() == self.ranges_max {
            if index == self.ranges_max {
                return false;
            }
            self.ranges.pop_back();
        }
        self.ranges.insert(index, Range { low: number, high: number });
        true
    }

    /// Index of the highest range that starts at or below `number`.
    fn first_at_or_below(&self, number: u64) -> usize {
        self.ranges.partition_point(|range| range.low > number)
    }
}

/// The most bytes that [`encode_ack`] appends for `ranges` ranges.
pub const fn ack_size_max(ranges: usize) -> usize {
    // Largest, delay, count and first range; each further range is a gap and a length.
    varint::SIZE_MAX * (4 + 2 * ranges.saturating_sub(1))
}

/// Appends an acknowledgement of the highest `ranges_max` of `ranges` and returns how many it
/// names. Appends nothing and returns 0 when there are none, or `ranges_max` is 0.
///
/// The fields are RFC 9000 section 19.3's without the type byte: largest acknowledged, delay (in
/// microseconds, no exponent), count of further ranges, first range, then a gap and a length per
/// further range (section 19.3.1).
///
/// # Panics
///
/// When a number in the set exceeds [`varint::VALUE_MAX`]; packet numbers stay below it.
pub fn encode_ack(ranges: &RangeSet, delay_us: u64, ranges_max: usize, out: &mut Vec<u8>) -> usize {
    let count = ranges.len().min(ranges_max);
    let mut listed = ranges.ranges.iter().take(count);
    let Some(newest) = listed.next() else {
        return 0;
    };
    varint::write(newest.high, out);
    varint::write(delay_us.min(varint::VALUE_MAX), out);
    varint::write(count as u64 - 1, out);
    varint::write(newest.high - newest.low, out);
    let mut previous_low = newest.low;
    for range in listed {
        // A gap of g leaves g + 1 numbers out, so that 0 is not wasted on ranges that touch.
        varint::write(previous_low - range.high - 2, out);
        varint::write(range.high - range.low, out);
        previous_low = range.low;
    }
    count
}

/// An acknowledgement of a peer, checked: every range lies in `0..=largest`, below the one before.
#[derive(Clone, Debug)]
pub struct Ack<'a> {
    /// The largest number acknowledged. Whether it was ever sent is the caller's to check.
    pub largest: u64,
    /// Microseconds the peer held the largest number's datagram before it sent this.
    pub delay_us: u64,
    first_length: u64,
    /// Gap and length of each further range, as received.
    further: Reader<'a>,
    further_count: usize,
}

impl<'a> Ack<'a> {
    /// The ranges, highest first, as inclusive `(low, high)`.
    pub fn ranges(&self) -> AckRanges<'a> {
        let first = (self.largest - self.first_length, self.largest);
        AckRanges { next: Some(first), further: self.further.clone() }
    }

    /// Whether it names this number.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges().any(|(low, high)| (low..=high).contains(&number))
    }

    /// How many ranges there are, at least 1.
    pub const fn range_count(&self) -> usize {
        self.further_count + 1
    }
}

/// The ranges of an [`Ack`], highest first, as inclusive `(low, high)`.
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    /// What the next call yields.
    next: Option<(u64, u64)>,
    further: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let range = self.next?;
        self.next = range_below(range.0, &mut self.further);
        Some(range)
    }
}

/// Reads an acknowledgement as [`encode_ack`] writes it and moves `reader` past it.
///
/// `None`, with the reader in place, when it is cut off, holds an integer in a long form, names
/// more ranges than its bytes can hold, or reaches below zero. Costs one pass over the bytes.
pub fn decode_ack<'a>(reader: &mut Reader<'a>) -> Option<Ack<'a>> {
    let mut cursor = reader.clone();
    let largest = cursor.varint()?;
    let delay_us = cursor.varint()?;
    let further_count = cursor.varint()?;
    let first_length = cursor.varint()?;
    let start = cursor.clone();
    // A further range takes at least two bytes.
    if further_count > start.remaining() as u64 / 2 {
        return None;
    }
    let mut low = largest.checked_sub(first_length)?;
    for _ in 0..further_count {
        (low, _) = range_below(low, &mut cursor)?;
    }
    let bytes = start.rest().split_at(start.remaining() - cursor.remaining()).0;
    *reader = cursor;
    let (further, further_count) = (Reader::new(bytes), further_count as usize);
    Some(Ack { largest, delay_us, first_length, further, further_count })
}

/// Reads the gap and length of the range below one that starts at `low`; `None` when they are cut
/// off or reach below zero.
#[inline]
fn range_below(low: u64, reader: &mut Reader<'_>) -> Option<(u64, u64)> {
    // Integers are below 2^62, so the sum cannot overflow.
    let high = low.checked_sub(reader.varint()? + 2)?;
    Some((high.checked_sub(reader.varint()?)?, high))
}

#[cfg(test)]
mod tests;
