//! Sets are compared with a `BTreeSet`, acknowledgements with the set they were made from.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set_of(numbers: impl IntoIterator<Item = u64>) -> RangeSet {
    let mut set = RangeSet::new(1_000);
    for number in numbers {
        set.insert(number);
    }
    set
}

fn pairs(set: &RangeSet) -> Vec<(u64, u64)> {
    set.iter().map(|range| (*range.start(), *range.end())).collect()
}

/// The ranges of a plain set, highest first.
fn pairs_of_reference(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut pairs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers.iter().rev() {
        match pairs.last_mut() {
            Some((low, _)) if *low == number + 1 => *low = number,
            _ => pairs.push((number, number)),
        }
    }
    pairs
}

fn encoded(set: &RangeSet, delay_us: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let count = encode_ack(set, delay_us, usize::MAX, &mut out);
    assert_eq!(count, set.len());
    assert!(out.len() <= ack_size_max(count));
    out
}

/// Encodes what a decoder yielded, to show that the bytes were the only ones for it.
fn encoded_again(ack: &Ack<'_>) -> Vec<u8> {
    let ranges = ack.ranges().map(|(low, high)| Range { low, high }).collect();
    encoded(&RangeSet { ranges, ranges_max: usize::MAX }, ack.delay_us)
}

#[test]
fn in_order_numbers_are_one_range() {
    let set = set_of(0..1_000);
    assert_eq!((pairs(&set), set.largest()), (vec![(0, 999)], Some(999)));
}

#[test]
fn a_late_number_extends_or_joins() {
    let mut set = set_of([1, 2, 5, 6, 9]);
    assert_eq!(pairs(&set), [(9, 9), (5, 6), (1, 2)]);
    assert!(set.insert(3), "extends upwards");
    assert!(set.insert(8), "extends downwards");
    assert!(set.insert(4), "joins");
    assert!(set.insert(7), "joins");
    assert_eq!(pairs(&set), [(1, 9)]);
    assert!(!set.insert(4) && !set.insert(9) && !set.insert(1));
    assert!(set.insert(0));
    assert_eq!(pairs(&set), [(0, 9)]);
}

#[test]
fn a_full_set_forgets_its_lowest_range() {
    let mut set = RangeSet::new(2);
    assert!(set.insert(10) && set.insert(20) && set.insert(30));
    assert_eq!(pairs(&set), [(30, 30), (20, 20)]);
    assert!(!set.insert(10), "it would be the lowest again");
    assert!(set.insert(19), "touching a range needs no room");
    assert!(set.insert(25));
    assert_eq!(pairs(&set), [(30, 30), (25, 25)]);
}

#[test]
fn the_ends_of_the_number_space_are_ordinary() {
    let mut set = set_of([0, u64::MAX]);
    assert!(set.insert(u64::MAX - 1) && set.insert(1) && !set.insert(u64::MAX));
    assert_eq!(pairs(&set), [(u64::MAX - 1, u64::MAX), (0, 1)]);
    set.remove_below(u64::MAX);
    assert_eq!(pairs(&set), [(u64::MAX, u64::MAX)]);
}

#[test]
#[should_panic(expected = "room for one range")]
fn a_set_without_room_is_the_callers_error() {
    let _ = RangeSet::new(0);
}

#[test]
fn an_acknowledgement_has_these_bytes() {
    // RFC 9000 19.3.1: previous low 20, gap 3 leaves 19 to 16 out, the next range ends at 15.
    let set = set_of((20..=22).chain(14..=15));
    assert_eq!(encoded(&set, 100), [22, 0x40, 100, 1, 2, 3, 1]);
}

#[test]
fn nothing_to_acknowledge_writes_nothing() {
    let mut out = Vec::new();
    assert_eq!(encode_ack(&RangeSet::new(4), 0, 4, &mut out), 0);
    assert_eq!(encode_ack(&set_of([1]), 0, 0, &mut out), 0);
    assert!(out.is_empty());
}

#[test]
fn a_short_acknowledgement_keeps_the_highest_ranges() {
    let mut out = Vec::new();
    assert_eq!(encode_ack(&set_of([1, 3, 5, 7]), 0, 2, &mut out), 2);
    let ack = decode_ack(&mut Reader::new(&out)).unwrap();
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [(7, 7), (5, 5)]);
    assert_eq!(ack.range_count(), 2);
}

#[test]
fn hostile_acknowledgements_are_refused() {
    let cases: [(&str, &[u8]); 6] = [
        ("first range below zero", &[5, 0, 0, 6]),
        ("gap below zero", &[5, 0, 1, 0, 4, 0]),
        ("length below zero", &[5, 0, 1, 0, 1, 3]),
        ("range cut off", &[5, 0, 1, 0, 0]),
        ("count beyond the bytes", &[5, 0, 0xbf, 0xff, 0xff, 0xff, 0]),
        ("delay in a long form", &[5, 0x40, 0, 0, 0]),
    ];
    for (why, bytes) in cases {
        let mut reader = Reader::new(bytes);
        assert!(decode_ack(&mut reader).is_none(), "{why}");
        assert_eq!(reader.rest(), bytes, "{why}");
    }
}

proptest! {
    #[test]
    fn a_set_agrees_with_a_plain_set(
        numbers in prop::collection::vec(0_u64..120, 0..200),
        floor in 0_u64..120,
    ) {
        let (mut set, mut reference) = (RangeSet::new(1_000), BTreeSet::new());
        for number in numbers {
            prop_assert_eq!(set.insert(number), reference.insert(number));
        }
        prop_assert_eq!(pairs(&set), pairs_of_reference(&reference));
        set.remove_below(floor);
        reference.retain(|&number| number >= floor);
        prop_assert_eq!(pairs(&set), pairs_of_reference(&reference));
        prop_assert_eq!(set.largest(), reference.last().copied());
        prop_assert_eq!(set.is_empty(), reference.is_empty());
        for number in 0..120 {
            prop_assert_eq!(set.contains(number), reference.contains(&number));
        }
    }

    #[test]
    fn a_bounded_set_forgets_lowest_first(
        numbers in prop::collection::vec(0_u64..120, 0..200),
        ranges_max in 1_usize..8,
    ) {
        let (mut set, mut reference) = (RangeSet::new(ranges_max), BTreeSet::new());
        for number in numbers {
            let is_new = reference.insert(number);
            let mut expected = pairs_of_reference(&reference);
            let lowest = expected.split_off(expected.len().min(ranges_max));
            reference.retain(|&kept| !lowest.iter().any(|&(low, high)| low <= kept && kept <= high));
            prop_assert_eq!(set.insert(number), is_new && reference.contains(&number));
            prop_assert_eq!(pairs(&set), expected);
        }
    }

    #[test]
    fn decoding_gives_what_was_encoded(
        numbers in prop::collection::vec((any::<u64>(), 2_u32..64), 1..80),
        delay_us in 0..=varint::VALUE_MAX,
        tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let set = set_of(numbers.into_iter().map(|(number, shift)| number >> shift));
        let bytes = encoded(&set, delay_us);
        let with_tail = [&bytes[..], &tail].concat();
        let mut reader = Reader::new(&with_tail);
        let ack = decode_ack(&mut reader).unwrap();
        prop_assert_eq!(reader.rest(), &tail[..]);
        prop_assert_eq!((Some(ack.largest), ack.delay_us), (set.largest(), delay_us));
        prop_assert_eq!(ack.ranges().collect::<Vec<_>>(), pairs(&set));
        prop_assert_eq!(ack.range_count(), set.len());
        prop_assert_eq!(encoded_again(&ack), bytes);
    }

    #[test]
    fn any_bytes_decode_safely_and_only_one_way(
        // Mostly small bytes, so that many inputs are well formed.
        bytes in prop::collection::vec(prop_oneof![4 => 0_u8..8, 1 => any::<u8>()], 0..40),
    ) {
        let mut reader = Reader::new(&bytes);
        if let Some(ack) = decode_ack(&mut reader) {
            prop_assert_eq!(ack.ranges().count(), ack.range_count());
            let mut above = None;
            for (low, high) in ack.ranges() {
                prop_assert!(low <= high && above.is_none_or(|above| high + 1 < above));
                above = Some(low);
            }
            prop_assert_eq!(encoded_again(&ack), &bytes[..bytes.len() - reader.remaining()]);
        }
    }
}

/// Every sequence of `steps` numbers below `numbers`.
fn sequences(numbers: u64, steps: u32) -> impl Iterator<Item = Vec<u64>> {
    (0..numbers.pow(steps)).map(move |mut code| {
        let digit = |_| {
            let digit = code % numbers;
            code /= numbers;
            digit
        };
        (0..steps).map(digit).collect()
    })
}

#[test]
fn every_short_sequence_agrees_with_a_bounded_reference() {
    for ranges_max in 1..=3 {
        for sequence in sequences(7, 6) {
            let (mut set, mut reference) = (RangeSet::new(ranges_max), BTreeSet::new());
            for number in sequence.iter().copied() {
                let is_new = reference.insert(number);
                while pairs_of_reference(&reference).len() > ranges_max {
                    let &(low, high) = pairs_of_reference(&reference).last().unwrap();
                    (low..=high).for_each(|old| assert!(reference.remove(&old)));
                }
                let kept = is_new && reference.contains(&number);
                assert_eq!(set.insert(number), kept, "{sequence:?}, at most {ranges_max}");
                assert_eq!(pairs(&set), pairs_of_reference(&reference), "{sequence:?}");
            }
            let mut above = set.clone();
            above.remove_below(4);
            reference.retain(|&number| number >= 4);
            assert_eq!(pairs(&above), pairs_of_reference(&reference), "{sequence:?}");
        }
    }
}

#[test]
fn every_small_set_has_one_acknowledgement() {
    let mut seen = BTreeSet::new();
    for bits in 1u64..1 << 12 {
        let set = set_of((0..12).filter(|number| bits & (1 << number) != 0));
        let bytes = encoded(&set, 5);
        let ack = decode_ack(&mut Reader::new(&bytes)).unwrap();
        let ranges: Vec<_> = ack.ranges().collect();
        assert_eq!(ranges, pairs(&set));
        assert!(seen.insert(bytes), "two sets share an encoding");
    }
}
