//! Goal: refusals cost a bounded memory, whatever keeps them from being told; they are told in datagrams that end; and a block
//! that had to be taken beyond the budget is paid back, no more and no less.

use super::Siege;
use super::attacks::{block, head, small};
use crate::frame::{self, Part};
use crate::limits::{
    BLOCK_CONTENT_BYTES_MAX, BLOCK_WINDOW, REFUSALS_MAX, REFUSALS_OVERDRAFT_MAX,
    REFUSALS_PER_BLOCK_MAX, REFUSALS_TOLD_MAX,
};
use crate::message::{FORM_WHOLE, Head, Sequence};

/// Part of what a peer may make us hold that is set aside for refusals.
const REFUSALS_BYTES_MAX: usize = 3 << 20;
/// What is kept when none is left: two lists with places for 1,024, those of the last datagram and all others, and one of the
/// datagrams that told them; 16 B a place.
const SPARE_BYTES_MAX: usize = (2 * 1_024 + REFUSALS_TOLD_MAX) * 16;

/// An ordered message to the flow `ok`, alias 0.
fn ordered(sequence: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let sequence = Some(Sequence::Ordered(sequence));
    Head { sequence, ..head(0, Some("ok"), 0) }.write(FORM_WHOLE, &mut out);
    out
}

/// Empty messages to flows that refuse them, as many as asked for, the flows in turn.
fn refused(flows: &[&str], messages: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for place in 0..messages {
        let alias = place % flows.len();
        let name = (place < flows.len()).then(|| flows[alias]);
        head(1 + alias as u32, name, 0).write(FORM_WHOLE, &mut out);
    }
    out
}

/// As many messages as the longest block holds.
fn longest(flows: &[&str]) -> Vec<u8> {
    let names: usize = flows.iter().map(|name| 1 + name.len()).sum();
    let content = refused(flows, (BLOCK_CONTENT_BYTES_MAX - names) / 3);
    assert!((BLOCK_CONTENT_BYTES_MAX - 2..=BLOCK_CONTENT_BYTES_MAX).contains(&content.len()));
    content
}

/// The content in pieces of a thousand bytes.
fn send_parts(siege: &mut Siege, number: u64, content: &[u8]) {
    for (place, bytes) in content.chunks(1_000).enumerate() {
        let (offset, total) = (1_000 * place as u64, content.len() as u64);
        let mut frames = Vec::new();
        Part { block: number, offset, total }.write(&mut frames);
        frames.extend_from_slice(bytes);
        siege.send(&frames);
        siege.turn();
    }
}

fn settle(siege: &mut Siege) {
    for _ in 0..2_000 {
        siege.turn();
    }
}

#[test]
fn refusals_behind_a_message_that_waits_are_bounded() {
    for many in [400, REFUSALS_PER_BLOCK_MAX - 10] {
        let mut siege = Siege::new(small());
        siege.send(&block(0, &ordered(1)));
        let (content, mut number) = (refused(&["none"], many), 1);
        while siege.is_connected() && number < 1_000 {
            siege.send(&block(number, &content));
            siege.turn();
            let held = if siege.is_connected() { siege.memory().refusals } else { 0 };
            assert!(held <= REFUSALS_BYTES_MAX, "{held} B after {number} blocks");
            number += 1;
        }
        let end = siege.end();
        assert!(end.is_some_and(|end| end.contains("refusals that cannot be told")), "{number}");
        let taken = siege.endpoint.counters().acknowledged_refused as usize;
        let most = REFUSALS_MAX + REFUSALS_OVERDRAFT_MAX + REFUSALS_PER_BLOCK_MAX;
        assert!((most - 2 * REFUSALS_PER_BLOCK_MAX..=most).contains(&taken), "{taken}");
    }
}

#[test]
fn blocks_are_counted_from_what_is_settled() {
    let mut siege = Siege::new(small());
    siege.send(&block(0, &ordered(1)));
    for number in 1..BLOCK_WINDOW {
        siege.send(&block(number, &[]));
    }
    assert_eq!(siege.endpoint.counters().dropped_block_window, 0);
    siege.send(&block(BLOCK_WINDOW, &[]));
    assert_eq!(siege.endpoint.counters().dropped_block_window, 1);
    let mut part = Vec::new();
    Part { block: BLOCK_WINDOW, offset: 0, total: 9 }.write(&mut part);
    siege.send(&[part, vec![3; 8]].concat());
    assert_eq!(siege.endpoint.counters().dropped_block_window, 2);
    siege.turn();
    assert!(siege.is_connected(), "{:?}", siege.end());
    let mut skip = Vec::new();
    frame::write_skip(BLOCK_WINDOW, 1, 0, &[], &mut skip);
    siege.send(&skip);
    siege.turn();
    assert!(siege.end().is_some_and(|end| end.contains("could not have been sent")));
}

#[test]
fn what_was_taken_beyond_the_budget_is_paid_back_and_no_more() {
    let mut siege = Siege::new(small());
    let content = refused(&["none"], REFUSALS_PER_BLOCK_MAX - 10);
    let each = REFUSALS_PER_BLOCK_MAX - 10;
    let mut number = 0;
    for round in 0..3 {
        siege.send(&block(number, &ordered(2 * round + 1)));
        // Nothing can be told, so each block is taken: well beyond the budget.
        let beyond = (REFUSALS_MAX + REFUSALS_OVERDRAFT_MAX / 2) / each;
        for _ in 0..beyond {
            number += 1;
            siege.send(&block(number, &content));
            siege.turn();
        }
        number += 1;
        siege.send(&block(number, &ordered(2 * round)));
        settle(&mut siege);
        // Behind a gap nothing has to be taken: the budget is what it was.
        let before = siege.endpoint.counters();
        for above in 2..100 {
            siege.send(&block(number + above, &content));
        }
        let after = siege.endpoint.counters();
        let taken = (after.acknowledged_refused - before.acknowledged_refused) as usize;
        let expected = (REFUSALS_MAX - REFUSALS_PER_BLOCK_MAX) / each + 1;
        assert_eq!(taken, expected * each, "round {round}");
        number += 1;
        siege.send(&block(number, &content));
        settle(&mut siege);
        number += expected as u64 + 1;
        assert!(siege.memory().refusals <= SPARE_BYTES_MAX, "all is told: {:?}", siege.memory());
        assert!(siege.is_connected(), "{:?}", siege.end());
    }
}

#[test]
fn one_refusal_left_behind_keeps_no_room_of_many() {
    let mut siege = Siege::new(small());
    siege.acknowledges = false;
    let content = refused(&["none"], 400);
    for number in (0..100).chain([200]) {
        siege.send(&block(number, &content));
        siege.turn();
    }
    let many = siege.memory().refusals;
    assert!(many > 16 * 100 * 400, "{many} B");
    siege.acknowledges = true;
    settle(&mut siege);
    let few = siege.memory().refusals;
    assert!(few < 32 << 10, "{few} B, {many} B before");
}

#[test]
fn the_longest_block_is_refused_for_any_number_of_reasons() {
    let flows = ["none", "denied", "full", "closing"];
    for many in 1..=flows.len() {
        for in_parts in [false, true] {
            let mut siege = Siege::new(small());
            let content = longest(&flows[..many]);
            let messages = siege.endpoint.counters().acknowledged_refused;
            assert_eq!(messages, 0);
            if in_parts {
                send_parts(&mut siege, 0, &content);
            } else {
                siege.send(&block(0, &content));
            }
            assert!(siege.endpoint.counters().acknowledged_refused > 2_900);
            let before = siege.answers;
            settle(&mut siege);
            assert!(siege.is_connected(), "{many} reasons: {:?}", siege.end());
            assert!(siege.answers - before < 300, "{} answers", siege.answers - before);
            assert_eq!(siege.told_floor, 1, "{many} reasons: the block is settled");
        }
    }
}

#[test]
fn a_longer_block_ends_the_session() {
    let content = [longest(&["none"]), vec![3, 0, 0]].concat();
    for in_parts in [false, true] {
        let mut siege = Siege::new(small());
        if in_parts {
            send_parts(&mut siege, 0, &content);
        } else {
            siege.send(&block(0, &content));
            siege.turn();
        }
        assert!(siege.end().is_some_and(|end| end.contains("block")), "{:?}", siege.end());
        assert_eq!(siege.endpoint.counters().acknowledged_refused, 0, "nothing of it is taken");
    }
}
