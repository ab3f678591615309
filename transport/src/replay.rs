//! The anti-replay window: which packet numbers of one lane direction have been seen.
//!
//! A ring of bits over the highest number committed and the ones just below it, in the manner of
//! RFC 6479 (there is no shifting), but cleared bit by bit so that the window is exact. Always
//! true: the bit of the highest number is set once anything was committed, and bits stand only for
//! numbers inside the window. The ring is as long as the window once numbers pass its end; before that
//! it is as long as they need, since most sessions of a node with many peers are idle.

/// Packets that a window spans unless its owner asks for another size: 1 KiB of bits.
pub const PACKETS_DEFAULT: usize = 8_192;

/// Packets that a window spans at most: 32 KiB of bits, 26 M packets/s for 10 ms.
pub const REPLAY_PACKETS_MAX: usize = 1 << 18;

/// Bits per word of the ring.
const WORD_BITS: u64 = u64::BITS as u64;

/// What a window says of a packet number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not seen before: open the datagram, then commit its number.
    Fresh,
    /// Seen before: drop the datagram.
    Replayed,
    /// Below the window, so nobody can tell: drop the datagram.
    TooOld,
}

/// A window over the packet numbers of one direction of one lane.
///
/// [`check`](Self::check) before opening a datagram, [`commit`](Self::commit) after: a number that
/// nobody authenticated must not move the window.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    /// Numbers that the window spans.
    packets: u64,
    /// Bit `n % bits` stands for number `n`. As many bits as the window spans, or all numbers up to the highest are below them.
    words: Box<[u64]>,
}

impl Default for ReplayWindow {
    /// A window of [`PACKETS_DEFAULT`].
    fn default() -> Self {
        Self::new(PACKETS_DEFAULT)
    }
}

impl ReplayWindow {
    /// An empty window that tells numbers apart down to `packets - 1` below the highest.
    ///
    /// # Panics
    ///
    /// When `packets` is not a power of two or is below 64.
    pub fn new(packets: usize) -> Self {
        let words = packets / WORD_BITS as usize;
        assert!(
            packets.is_power_of_two() && words > 0,
            "a replay window is a power of two of at least 64 packets, not {packets}",
        );
        Self { highest: 0, packets: packets as u64, words: Box::new([0]) }
    }

    /// A window of [`PACKETS_DEFAULT`] to which every number up to `highest` has been seen.
    pub(crate) fn seen_up_to(highest: u64) -> Self {
        let mut window = Self::default();
        window.cover(highest);
        window.highest = highest;
        // Bits above the highest are written before they are read.
        window.words.fill(u64::MAX);
        window
    }

    /// What [`ReplayWindow::seen_up_to`] the highest number says of a number.
    pub(crate) fn check_seen_up_to(highest: u64, number: u64) -> Verdict {
        match highest.checked_sub(number) {
            None => Verdict::Fresh,
            Some(distance) if distance >= PACKETS_DEFAULT as u64 => Verdict::TooOld,
            Some(_) => Verdict::Replayed,
        }
    }

    /// Whether a datagram with this number may be opened. Changes nothing.
    #[inline]
    pub fn check(&self, number: u64) -> Verdict {
        // Before the first commit the highest number is 0 with its bit clear, so 0 is fresh too.
        if number > self.highest {
            Verdict::Fresh
        } else if self.highest - number >= self.packets() {
            Verdict::TooOld
        } else if self.words[self.word_index(number)] & bit(number) != 0 {
            Verdict::Replayed
        } else {
            Verdict::Fresh
        }
    }

    /// Records a number whose datagram was opened; true when it was fresh until now.
    ///
    /// A batch may hold one datagram twice, both checked before either is opened: false says that
    /// this one must be dropped after all. The window is then unchanged.
    #[inline]
    pub fn commit(&mut self, number: u64) -> bool {
        if number > self.highest {
            if self.bits() < self.packets && number >= self.bits() {
                self.cover(number);
            }
            if number - self.highest > 1 {
                self.skip_to(number);
            }
            self.highest = number;
        } else if self.check(number) != Verdict::Fresh {
            return false;
        }
        let index = self.word_index(number);
        self.words[index] |= bit(number);
        debug_assert_eq!(self.check(number), Verdict::Replayed, "a committed number is seen");
        debug_assert!(number <= self.highest, "the highest number bounds all others");
        true
    }

    /// Makes the window span at least `packets` numbers, at most [`REPLAY_PACKETS_MAX`]. Of the numbers that it did not span until
    /// now nobody knows whether they were seen, so they count as seen.
    pub fn grow(&mut self, packets: u64) {
        let packets = packets.min(REPLAY_PACKETS_MAX as u64).next_power_of_two();
        if packets <= self.packets() {
            return;
        }
        let mut grown = Self::new(packets as usize);
        grown.cover(self.highest);
        grown.highest = self.highest;
        for distance in 0..packets.min(self.highest.saturating_add(1)) {
            let number = self.highest - distance;
            if self.check(number) != Verdict::Fresh {
                let index = grown.word_index(number);
                grown.words[index] |= bit(number);
            }
        }
        *self = grown;
    }

    /// Makes every number count as seen.
    pub fn close(&mut self) {
        self.highest = u64::MAX;
        self.words.fill(u64::MAX);
    }

    /// The highest number committed.
    #[inline]
    pub fn highest(&self) -> Option<u64> {
        (self.highest > 0 || self.words[0] & 1 != 0).then_some(self.highest)
    }

    /// Numbers the window spans, the highest included.
    #[inline]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of the ring, as long as it is now.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Bits of the ring.
    #[inline]
    fn bits(&self) -> u64 {
        self.words.len() as u64 * WORD_BITS
    }

    /// Makes the ring long enough for `number`, twice as long at least, and at most as long as the window: the bits of a ring
    /// that was never passed stay where they are.
    #[cold]
    fn cover(&mut self, number: u64) {
        let bits = (number.min(self.packets - 1) + 1).next_power_of_two();
        let mut words = std::mem::take(&mut self.words).into_vec();
        words.resize(words.len().max((bits / WORD_BITS) as usize), 0);
        self.words = words.into_boxed_slice();
        debug_assert!(self.bits() <= self.packets, "a ring is no longer than its window");
    }

    /// Clears the bits of the numbers between the highest and `number`, which held older ones.
    ///
    /// The bit of `number` itself is about to be set. Costs one step per word, at most one round.
    #[cold]
    fn skip_to(&mut self, number: u64) {
        if number - self.highest >= self.packets() {
            self.words.fill(0);
            return;
        }
        let mut at = self.highest + 1;
        while at < number {
            let offset = at % WORD_BITS;
            let count = (WORD_BITS - offset).min(number - at);
            let ones = u64::MAX >> (WORD_BITS - count);
            let index = self.word_index(at);
            self.words[index] &= !(ones << offset);
            at += count;
        }
    }

    /// The word of `number`'s bit.
    #[inline]
    fn word_index(&self, number: u64) -> usize {
        (number / WORD_BITS) as usize & (self.words.len() - 1)
    }
}

/// The bit of `number` within its word.
#[inline]
const fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// What the window must do, with every number ever committed kept.
    #[derive(Default)]
    struct Reference {
        seen: HashSet<u64>,
        highest: Option<u64>,
    }

    impl Reference {
        fn check(&self, number: u64, packets: u64) -> Verdict {
            match self.highest {
                Some(highest) if number <= highest && highest - number >= packets => {
                    Verdict::TooOld
                }
                _ if self.seen.contains(&number) => Verdict::Replayed,
                _ => Verdict::Fresh,
            }
        }

        fn commit(&mut self, number: u64) {
            self.seen.insert(number);
            self.highest = self.highest.max(Some(number));
        }
    }

    /// Offers `numbers` to a window and to the reference and compares every answer.
    fn assert_agrees(packets: usize, numbers: impl IntoIterator<Item = u64>) {
        let (mut window, mut reference) = (ReplayWindow::new(packets), Reference::default());
        for number in numbers {
            let expected = reference.check(number, packets as u64);
            assert_eq!(window.check(number), expected, "{number}");
            assert_eq!(window.commit(number), expected == Verdict::Fresh, "{number}");
            if expected == Verdict::Fresh {
                reference.commit(number);
            }
            assert_eq!(window.highest(), reference.highest);
        }
    }

    #[test]
    fn in_order_numbers_are_fresh_once() {
        let mut window = ReplayWindow::default();
        assert_eq!((window.highest(), window.packets()), (None, 8_192));
        for number in 0..20_000 {
            assert_eq!(window.check(number), Verdict::Fresh);
            assert!(window.commit(number));
            assert_eq!(window.check(number), Verdict::Replayed);
            assert!(!window.commit(number));
        }
        assert_eq!(window.highest(), Some(19_999));
    }

    #[test]
    fn the_window_is_exact_at_its_lower_edge() {
        let mut window = ReplayWindow::new(64);
        assert!(window.commit(100));
        assert_eq!(window.check(37), Verdict::Fresh);
        assert_eq!(window.check(36), Verdict::TooOld);
        assert!(!window.commit(36), "a number below the window changes nothing");
        assert_eq!(window.check(100), Verdict::Replayed);
    }

    /// Every sequence of five numbers around the edges of the smallest window and of its words, from three starts.
    #[test]
    fn every_short_sequence_agrees_with_the_reference() {
        for start in [0, (1 << 32) - 64, u64::MAX - 192] {
            let offsets = [0, 1, 2, 62, 63, 64, 65, 127, 128, 129, 191, 192];
            let count = offsets.len();
            for sequence in 0..count.pow(5) {
                let number = |place| start + offsets[sequence / count.pow(place) % count];
                assert_agrees(64, (0..5).map(number));
                assert_agrees(256, (0..5).map(number));
            }
        }
    }

    #[test]
    fn every_edge_is_exact_to_one_packet() {
        for packets in [64, 1_024, PACKETS_DEFAULT, REPLAY_PACKETS_MAX] {
            for highest in [packets as u64, 1 << 32, u64::MAX] {
                let mut window = ReplayWindow::new(packets);
                assert!(window.commit(highest));
                let edge = highest - (packets as u64 - 1);
                assert_eq!(window.check(edge), Verdict::Fresh);
                assert_eq!(window.check(edge - 1), Verdict::TooOld);
                assert!(window.commit(edge) && !window.commit(edge));
                assert_eq!(window.check(edge + 1), Verdict::Fresh);
            }
        }
    }

    #[test]
    fn a_grown_window_forgets_nothing_and_takes_nothing_that_it_cannot_know() {
        for highest in [100_u64, 63, 5_000, 1 << 40] {
            for to in [128, 1_000, 4_096] {
                let (mut window, mut seen) = (ReplayWindow::new(64), HashSet::new());
                for number in (0..=highest).rev().take(200).filter(|number| number % 3 == 0) {
                    let number = highest - (highest - number).min(highest);
                    if window.check(number) == Verdict::Fresh && window.commit(number) {
                        seen.insert(number);
                    }
                }
                window.commit(highest);
                seen.insert(highest);
                window.grow(to);
                assert_eq!(window.packets(), to.next_power_of_two());
                for number in highest.saturating_sub(10_000)..=highest {
                    let is_known = highest - number < 64;
                    let is_fresh = is_known && !seen.contains(&number);
                    assert_eq!(window.check(number) == Verdict::Fresh, is_fresh, "{number}");
                }
                // From here on it is a window of the new size.
                let next = highest + to - 1;
                assert!(window.commit(next));
                assert_eq!(window.check(highest), Verdict::Replayed);
                assert_eq!(window.check(highest + 1), Verdict::Fresh);
            }
        }
    }

    #[test]
    fn a_ring_is_as_long_as_its_numbers_need_and_the_window_spans_all_the_same() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.held_bytes(), 8);
        for (number, bytes) in [(63, 8), (64, 16), (200, 32), (5_000, 1_024), (1 << 40, 1_024)] {
            assert!(window.commit(number));
            assert_eq!((window.packets(), window.held_bytes()), (8_192, bytes), "{number}");
        }
        let mut window = ReplayWindow::default();
        assert!(window.commit(10) && window.commit(8_000));
        for number in (0..8_000).filter(|number| *number != 10) {
            assert_eq!(window.check(number), Verdict::Fresh, "{number}");
        }
        assert_eq!((window.check(10), window.check(8_000)), (Verdict::Replayed, Verdict::Replayed));
    }

    #[test]
    fn growth_is_bounded_and_never_shrinks() {
        let mut window = ReplayWindow::default();
        window.grow(10);
        assert_eq!(window.packets(), PACKETS_DEFAULT as u64);
        window.grow(u64::MAX);
        assert_eq!(window.packets(), REPLAY_PACKETS_MAX as u64);
    }

    #[test]
    fn a_window_that_begins_late_has_seen_what_was_before() {
        for highest in [0_u64, 10, 63, 64, 5_000, 8_191, 8_192, 1 << 40] {
            for jump in [1, 2, 60, 100, 8_190, 8_192, 20_000] {
                let mut window = ReplayWindow::seen_up_to(highest);
                assert_eq!(window.highest(), Some(highest));
                for number in highest.saturating_sub(10_000)..=highest + 1 {
                    assert_eq!(window.check(number) == Verdict::Fresh, number > highest);
                    let verdict = ReplayWindow::check_seen_up_to(highest, number);
                    assert_eq!(verdict, window.check(number), "{number}");
                }
                let next = highest + jump;
                for number in highest + 1..=next {
                    assert_eq!(window.check(number), Verdict::Fresh, "{number}");
                }
                assert!(window.commit(next));
                for number in (highest + 1..next).rev().take(8_191) {
                    assert_eq!(window.check(number), Verdict::Fresh, "{highest} {next} {number}");
                }
                assert_ne!(window.check(highest), Verdict::Fresh);
            }
        }
    }

    #[test]
    fn a_closed_window_takes_nothing() {
        let mut window = ReplayWindow::new(64);
        window.commit(7);
        window.close();
        for number in [0, 7, 8, 1 << 40, u64::MAX - 64, u64::MAX - 1, u64::MAX] {
            assert_ne!(window.check(number), Verdict::Fresh);
        }
    }

    #[test]
    fn checking_moves_nothing() {
        let window = ReplayWindow::new(64);
        assert_eq!(window.check(1 << 40), Verdict::Fresh);
        assert_eq!((window.highest(), window.check(0)), (None, Verdict::Fresh));
    }

    #[test]
    fn jumps_of_any_length_leave_no_stale_bits() {
        for jump in [1, 63, 64, 65, 127, 128, 129, 1 << 32, 1 << 63, u64::MAX - 300] {
            let dense = 0..300;
            let after = 299_u64 + jump;
            let around = (after.saturating_sub(200)..=after).rev();
            assert_agrees(128, dense.chain([after]).chain(around));
        }
    }

    #[test]
    fn the_last_number_is_ordinary() {
        assert_agrees(64, [u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX - 63, u64::MAX - 64, 0]);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_size_that_is_no_power_of_two_is_the_callers_error() {
        let _ = ReplayWindow::new(96);
    }

    proptest! {
        #[test]
        fn a_reordered_stream_agrees_with_the_reference(
            start in prop_oneof![Just(0_u64), any::<u64>().prop_map(|start| start >> 1)],
            // Each datagram: how far the sender moved on, and how late this one arrives.
            steps in prop::collection::vec(
                (prop_oneof![8 => 0_u64..3, 2 => 0_u64..300, 1 => any::<u64>().prop_map(|n| n >> 20)],
                 prop_oneof![3 => Just(0_u64), 2 => 0_u64..10, 1 => 0_u64..400]),
                1..400,
            ),
            shift in 0_u32..4,
        ) {
            let mut next = start;
            let numbers = steps.into_iter().map(|(ahead, late)| {
                next = next.saturating_add(ahead);
                next.saturating_sub(late)
            });
            assert_agrees(64 << shift, numbers);
        }
    }
}
