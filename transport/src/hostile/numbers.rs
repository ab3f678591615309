//! Goal: numbers at and beyond the end of their range do no harm, wherever a peer may write one and before it is known at all.

use super::Siege;
use super::attacks::{block, head};
use crate::endpoint::{Limits, Verdict};
use crate::frame::{self, Run};
use crate::limits::SEQUENCES_GONE_MAX;
use crate::message::{FORM_WHOLE, Head, Sequence};
use crate::varint::VALUE_MAX;

/// Packet numbers that no acknowledgement can name.
const BEYOND: [u64; 4] = [VALUE_MAX + 1, VALUE_MAX + 2, 1 << 63, u64::MAX - 1_000];

#[test]
fn packet_numbers_that_no_acknowledgement_can_name_are_dropped() {
    for jump in BEYOND {
        let mut siege = Siege::new(Limits::default());
        siege.jump = jump;
        siege.send(&[frame::PING]);
        siege.turn();
        assert_eq!(siege.endpoint.counters().dropped_malformed, 1, "{jump}");
        siege.jump = 0;
        let before = siege.answers;
        siege.send(&[frame::PING]);
        siege.turn();
        assert!(siege.answers > before && siege.is_connected(), "{jump}: the session goes on");
    }
}

#[test]
fn the_largest_packet_number_is_acknowledged() {
    let mut siege = Siege::new(Limits::default());
    siege.jump = VALUE_MAX - 10_000;
    for _ in 0..100 {
        siege.send(&[frame::PING]);
    }
    let next = siege.space(0).sent.next_number();
    siege.jump = VALUE_MAX - next;
    let before = siege.answers;
    siege.send(&[frame::PING]);
    siege.turn();
    assert!(siege.answers > before && siege.is_connected());
}

#[test]
fn a_greeting_with_such_a_number_is_dropped() {
    for jump in BEYOND {
        let mut siege = Siege::new(Limits::default());
        siege.acknowledges = false;
        siege.jump = jump;
        siege.redial();
        assert_eq!(siege.endpoint.counters().dropped_malformed, 1, "{jump}");
        siege.jump = 0;
        siege.redial();
        assert!(siege.is_connected(), "{jump}");
    }
}

#[test]
fn a_stranger_with_such_a_number_is_not_even_turned_away() {
    for jump in BEYOND {
        let mut siege = Siege::unknown(Limits::default());
        siege.victim.verdict = Some(Verdict::NotAdmitted);
        siege.jump = jump;
        siege.send(&siege.greeting());
        siege.turn();
        let counters = siege.endpoint.counters();
        assert_eq!((counters.dropped_malformed, counters.dropped_not_admitted), (1, 0), "{jump}");
        siege.jump = 0;
        siege.send(&siege.greeting());
        siege.turn();
        assert_eq!(siege.endpoint.counters().dropped_not_admitted, 1, "{jump}");
    }
}

#[test]
fn the_sequence_awaited_is_heard_of_when_no_more_can_be_remembered() {
    let mut siege = Siege::new(Limits::default());
    let skip = |siege: &mut Siege, runs: &[Run]| {
        let mut frames = Vec::new();
        frame::write_skip(0, 0, 0, runs, &mut frames);
        siege.send(&frames);
    };
    let run = |first| Run { alias: 0, first, count: 1 };
    for round in 0..3 {
        let base = round * 2 * SEQUENCES_GONE_MAX as u64;
        let ahead: Vec<_> = (0..SEQUENCES_GONE_MAX as u64).map(|n| run(base + 2 * n + 1)).collect();
        ahead.chunks(64).for_each(|runs| skip(&mut siege, runs));
        assert_eq!(siege.endpoint.counters().dropped_order_limit, round);
        skip(&mut siege, &[run(base + 5 * SEQUENCES_GONE_MAX as u64)]);
        assert_eq!(siege.endpoint.counters().dropped_order_limit, round + 1, "there is no room");
        for n in 0..SEQUENCES_GONE_MAX as u64 {
            skip(&mut siege, &[run(base + 2 * n)]);
        }
        assert_eq!(siege.endpoint.counters().dropped_order_limit, round + 1, "round {round}");
    }
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn the_largest_numbers_of_frames_end_a_session_at_most() {
    let sequenced = |number: u64, latest: bool| {
        let sequence = if latest { Sequence::Latest(number) } else { Sequence::Ordered(number) };
        let mut content = Vec::new();
        let head = Head { sequence: Some(sequence), ..head(0, Some("ok"), 0) };
        head.write(FORM_WHOLE, &mut content);
        content
    };
    let skip = |first, count, back, runs: &[Run]| {
        let mut frames = Vec::new();
        frame::write_skip(first, count, back, runs, &mut frames);
        frames
    };
    let run = |first, count| Run { alias: 0, first, count };
    for number in [VALUE_MAX, VALUE_MAX - 1, 1 << 61, u64::from(u32::MAX)] {
        let part = |block, offset, total| {
            let mut frames = Vec::new();
            frame::Part { block, offset, total }.write(&mut frames);
            [frames, vec![0; 9]].concat()
        };
        let mut blocked = Vec::new();
        frame::write_blocked(0, number, &mut blocked);
        let rows = [
            vec![block(0, &sequenced(number, false)), block(1, &sequenced(0, false))],
            vec![block(0, &sequenced(number, true)), block(1, &sequenced(number, true))],
            vec![block(number, &[])],
            vec![skip(number, number, 0, &[])],
            vec![skip(0, number, 0, &[])],
            vec![skip(number, 1, number, &[])],
            vec![skip(0, 0, 0, &[run(number - 1, 1)]), skip(0, 0, 0, &[run(0, number - 1)])],
            vec![skip(0, 0, 0, &[run(number, number)])],
            vec![part(number, 1, 10), part(0, number, number), part(0, 1, number)],
            vec![block(0, &sequenced(0, false)), blocked],
        ];
        for (place, row) in rows.iter().enumerate() {
            let mut siege = Siege::new(Limits::default());
            for frames in row {
                siege.send(frames);
                siege.turn();
            }
            for _ in 0..100 {
                siege.turn();
            }
            let memory = siege.memory_high;
            assert!(memory < 128 << 10, "row {place} with {number}: {memory} B");
        }
    }
}
