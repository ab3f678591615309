//! Goal: whatever is pushed, with whatever terms, comes out once and whole, in blocks as long as announced; terms are kept.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::endpoint::{Outcome, Refusal};
use crate::frame::{Reason, RefusedMessage};
use crate::message::{FORM_CONTINUE, form};
use crate::varint::Reader;

const BLOCK: usize = 600;
const HIGH: usize = 0;
const LOW: usize = 2;

struct Rig {
    log: SendLog,
    pool: SlotPool,
    flow: OutFlow,
}

impl Rig {
    fn new() -> Self {
        let (log, pool) = (SendLog::new(BLOCK, 1 << 20), SlotPool::new(BLOCK));
        Self { log, pool, flow: OutFlow::new("a.flow") }
    }

    fn push(&mut self, class: usize, terms: Terms, body: &[u8], token: u64) {
        let asked = Asked { waiter: Some(Waiter::Message(Token(token))), ..Asked::default() };
        let (route, pool) = (&mut Route::Flow(&mut self.flow, 3), &mut self.pool);
        let has_room = if !terms.is_plain() {
            let body = Bytes::copy_from_slice(body);
            self.log.push_with(pool, class, terms, route, asked, body)
        } else if body.len() > 8 * BLOCK {
            self.log.push_owned(class, route, asked, Bytes::copy_from_slice(body))
        } else {
            self.log.push_stream(pool, class, route, asked, body)
        };
        assert!(has_room);
    }

    /// Sends one block; its number and bytes.
    fn send(&mut self) -> Option<(u64, Vec<u8>)> {
        let (pick, bytes) = self.log.peek(&mut self.pool)?;
        let mut out = Vec::new();
        let (number, _) = self.log.write(pick, &mut out);
        assert_eq!(out.len(), bytes, "as long as announced");
        assert!(out.len() <= BLOCK);
        Some((number, out))
    }

    fn send_all(&mut self) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| self.send()).collect()
    }

    fn settle(&mut self, floor: u64, refusals: &[RefusedMessage]) -> Vec<(u64, Outcome)> {
        let mut ends = Vec::new();
        let on_outcome = |waiter, outcome| {
            let Waiter::Message(Token(token)) = waiter else { return };
            ends.push((token, outcome));
        };
        let settled =
            self.log.on_settled(floor, refusals, &mut self.pool, |_| {}, on_outcome).unwrap();
        assert_eq!(settled.delivered + settled.refused + settled.expired, ends.len() as u64);
        ends
    }
}

/// The messages of all these blocks, as a receiver puts them together.
fn receive(blocks: &[(u64, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts: HashMap<u64, (usize, BTreeMap<u64, Vec<u8>>)> = HashMap::new();
    for (number, bytes) in blocks {
        let padding = bytes.iter().take_while(|&&byte| byte == 0).count();
        let mut reader = Reader::new(&bytes[padding..]);
        assert_eq!(reader.u8(), Some(FRAME_BLOCK));
        assert_eq!(reader.varint(), Some(*number));
        while let Some(flags) = reader.u8() {
            match form(flags) {
                FORM_WHOLE => {
                    let head = Head::read(flags, &mut reader).unwrap();
                    whole.push(reader.bytes(head.total as usize).unwrap().to_vec());
                }
                FORM_FIRST => {
                    let head = Head::read(flags, &mut reader).unwrap();
                    let entry = parts.entry(*number).or_default();
                    entry.0 = head.total as usize;
                    entry.1.insert(0, reader.rest().to_vec());
                    break;
                }
                FORM_CONTINUE => {
                    let part = Continue::read(flags, &mut reader).unwrap();
                    let taken = (part.total - part.offset).min(reader.remaining() as u64);
                    let body = reader.bytes(taken as usize).unwrap().to_vec();
                    let entry = parts.entry(number - part.origin).or_default();
                    assert!(entry.1.insert(part.offset, body).is_none());
                }
                _ => break,
            }
        }
    }
    for (total, pieces) in parts.into_values() {
        let body: Vec<u8> = pieces.into_values().flatten().collect();
        assert_eq!(body.len(), total);
        whole.push(body);
    }
    whole
}

fn body(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(bytes.max(8)).collect()
}

fn terms_of(kind: u8) -> Terms {
    let deadline = Some(Instant::from_nanos(1_000));
    match kind {
        0 => Terms { deadline, ..Terms::default() },
        1 => Terms { retries: Some(2), ..Terms::default() },
        2 => Terms { burst: 3, ..Terms::default() },
        _ => Terms::default(),
    }
}

/// Pushes bodies as the steps say (class, kind, length, datagrams sent after it), sends them all, and looks at what came out.
fn push_and_send(steps: &[(usize, u8, usize, usize)]) {
    let mut rig = Rig::new();
    let (mut sent, mut pushed) = (Vec::new(), Vec::new());
    for (number, (class, kind, bytes, sends)) in steps.iter().copied().enumerate() {
        let body = body(number as u64, if bytes % 3 == 0 { bytes } else { bytes % 400 });
        rig.push(class, terms_of(kind), &body, number as u64);
        pushed.push(body);
        for _ in 0..sends {
            let Some((number, bytes)) = rig.send() else { break };
            rig.log.on_acked(number, &mut rig.pool, |_| {});
            sent.push((number, bytes));
        }
    }
    while let Some((number, bytes)) = rig.send() {
        rig.log.on_acked(number, &mut rig.pool, |_| {});
        sent.push((number, bytes));
    }
    let numbers: Vec<u64> = sent.iter().map(|block| block.0).collect();
    assert_eq!(&numbers, &(0..sent.len() as u64).collect::<Vec<_>>());
    let mut arrived = receive(&sent);
    let count = pushed.len();
    arrived.sort();
    pushed.sort();
    assert!(arrived == pushed);
    let ends = rig.settle(sent.len() as u64, &[]);
    assert_eq!(ends.len(), count);
    assert_eq!((rig.log.pending, rig.log.held_bytes, rig.log.groups.len()), (0, 0, 0));
    assert_eq!((rig.log.parked, rig.log.large_bytes), (0, 0));
}

proptest! {
    #[test]
    fn all_that_is_pushed_comes_out_once(
        steps in proptest::collection::vec((0usize..3, 0u8..8, 0usize..9_000, 0usize..4), 1..60),
    ) {
        push_and_send(&steps);
    }
}

#[test]
fn long_and_short_bodies_of_two_classes_come_out_once_when_none_was_sent_between() {
    push_and_send(&[
        (0, 0, 1_971, 0),
        (2, 3, 4_956, 0),
        (2, 0, 2_746, 0),
        (2, 0, 1_429, 0),
        (2, 3, 3_888, 0),
    ]);
}

#[test]
fn full_blocks_are_equally_long_whatever_their_numbers() {
    let mut rig = Rig::new();
    for number in 0..200 {
        rig.push(NORMAL, Terms::default(), &body(number, 1_000), number);
        rig.push(NORMAL, Terms::default(), &body(number, 100), number);
    }
    let blocks = rig.send_all();
    let (_, full) = blocks.split_last().unwrap();
    assert!(full.iter().all(|block| block.1.len() == BLOCK));
}

#[test]
fn high_priority_overtakes_and_low_is_not_starved() {
    let mut rig = Rig::new();
    for number in 0..900 {
        rig.push(NORMAL, Terms::default(), &body(number, 190), number);
        rig.push(LOW, Terms::default(), &body(1_000 + number, 190), number);
    }
    rig.push(HIGH, Terms::default(), &body(7_777, 190), 7_777);
    let first = rig.send().unwrap();
    assert_eq!(receive(&[first]), [body(7_777, 190)]);
    let blocks: Vec<_> = (0..200).map_while(|_| rig.send()).collect();
    let number = |body: &Vec<u8>| u16::from_le_bytes([body[0], body[1]]);
    let low = receive(&blocks).iter().filter(|body| number(body) >= 1_000).count();
    assert!((6..=12).contains(&low), "{low} of 600 messages were of low priority");
}

#[test]
fn a_plain_message_is_not_passed_for_ever_by_those_with_terms() {
    let mut rig = Rig::new();
    let mut number = 0;
    // Each has a deadline of its own, so each takes a block; one comes for each that leaves.
    let mut refill = |rig: &mut Rig| {
        number += 1;
        let deadline = Some(Instant::from_nanos(1_000_000 + number));
        rig.push(NORMAL, Terms { deadline, ..Terms::default() }, &body(number, 100), number);
    };
    refill(&mut rig);
    for plain in [500_000, 500_001, 500_002] {
        rig.push(NORMAL, Terms::default(), &body(plain, 100), plain);
        let mut sent = 0;
        loop {
            sent += 1;
            assert!(sent < 200, "it never leaves");
            refill(&mut rig);
            let block = rig.send().unwrap();
            rig.log.on_acked(block.0, &mut rig.pool, |_| {});
            if receive(&[block]) == [body(plain, 100)] {
                break;
            }
        }
    }
}

#[test]
fn an_unsent_message_past_its_deadline_leaves_no_trace() {
    let mut rig = Rig::new();
    rig.push(NORMAL, terms_of(0), &body(1, 100), 1);
    rig.push(NORMAL, terms_of(0), &body(2, 5_000), 2);
    rig.push(NORMAL, Terms::default(), &body(3, 100), 3);
    assert_eq!(rig.log.next_deadline(), Some(Instant::from_nanos(1_000)));
    rig.log.expire(Instant::from_nanos(999), &mut rig.pool);
    assert!(!rig.log.has_ended());
    rig.log.expire(Instant::from_nanos(1_000), &mut rig.pool);
    let ended = rig.log.take_ended();
    assert_eq!((ended.expired, ended.waiters.len()), (2, 2));
    assert_eq!(ended.returned, [(3, 164), (3, 5_064)]);
    assert_eq!(receive(&rig.send_all()), [body(3, 100)]);
    assert!(!rig.log.has_skips_due());
    assert_eq!((rig.log.pending, rig.log.held_bytes), (1, BLOCK));
}

#[test]
fn retries_are_counted_and_the_answer_to_skip_is_the_outcome() {
    for receiver_had_it in [false, true] {
        let mut rig = Rig::new();
        rig.push(NORMAL, terms_of(1), &body(1, 100), 1);
        let mut sends = 0;
        while let Some((number, _)) = rig.send() {
            sends += 1;
            rig.log.on_lost(number, &mut rig.pool);
        }
        assert_eq!(sends, 3, "once and two retries");
        assert!(rig.log.has_skips_due() && !rig.log.probe());
        let skipped = [(0, 0, Reason::Skipped)];
        let refusals: &[RefusedMessage] = if receiver_had_it { &[] } else { &skipped };
        let expected = if receiver_had_it { Outcome::Delivered } else { Outcome::Expired };
        assert_eq!(rig.settle(1, refusals), [(1, expected)]);
    }
}

#[test]
fn a_receiver_cannot_call_skipped_what_was_not_given_up() {
    let mut rig = Rig::new();
    rig.push(NORMAL, Terms::default(), &body(1, 100), 1);
    rig.push(NORMAL, terms_of(1), &body(2, 100), 2);
    rig.send_all();
    for block in 0..2 {
        let lie = [(block, 0, Reason::Skipped)];
        let settled = rig.log.on_settled(2, &lie, &mut rig.pool, |_| {}, |_, _| {});
        assert_eq!(settled, None);
    }
    // What has terms stands ready, so it went first.
    let refusal = [(1, 0, Reason::Refused(Refusal::Denied))];
    let ends = rig.settle(2, &refusal);
    assert_eq!(ends, [(2, Outcome::Delivered), (1, Outcome::Refused(Refusal::Denied))]);
}

#[test]
fn a_burst_bounds_the_blocks_of_one_message_and_no_others() {
    let mut rig = Rig::new();
    rig.push(NORMAL, terms_of(2), &body(1, 5_000), 1);
    rig.push(NORMAL, Terms::default(), &body(2, 100), 2);
    let first = rig.send_all();
    assert_eq!(first.len(), 4, "three of one, one of the other");
    assert!(!rig.log.has_unsent() && rig.log.is_awaited());
    let of_burst = first.iter().find(|block| block.1.len() > 200).unwrap().0;
    rig.log.on_acked(of_burst, &mut rig.pool, |_| {});
    assert_eq!(rig.send_all().len(), 1);
}

#[test]
fn what_was_cut_in_part_ends_at_once_and_is_skipped() {
    let mut rig = Rig::new();
    let terms = Terms { burst: 2, ..terms_of(0) };
    rig.push(NORMAL, terms, &body(1, 5_000), 1);
    assert_eq!(rig.send_all().len(), 2);
    rig.log.on_acked(0, &mut rig.pool, |_| {});
    assert_eq!(rig.send_all().len(), 1);
    rig.log.expire(Instant::from_nanos(1_000), &mut rig.pool);
    let ended = rig.log.take_ended();
    assert_eq!((ended.expired, ended.waiters.len(), ended.returned.len()), (1, 1, 0));
    assert_eq!((rig.log.pending, rig.log.held_bytes), (0, 0));
    let mut out = Vec::new();
    assert!(rig.log.write_skips(9, 100, &mut out));
    let mut runs = Vec::new();
    let skip = crate::frame::read_skip(&mut Reader::new(&out[1..]), &mut runs).unwrap();
    assert_eq!((skip.first, skip.count, skip.back, runs.len()), (1, 2, 1, 0));
}

#[test]
fn nothing_joins_a_block_that_was_filled_up_when_datagrams_get_longer() {
    let deadline = Instant::from_nanos(1_000);
    let terms = Terms { deadline: Some(deadline), only_unsent: true, ..Terms::default() };
    for by_short_way in [false, true] {
        let mut rig = Rig { log: SendLog::new(BLOCK, 4 * BLOCK), ..Rig::new() };
        rig.flow.bound = true;
        rig.log.set_block_bytes(BLOCK - 100);
        let (mut number, body) = (0, body(1, 60));
        let mut ask = |rig: &mut Rig, by_short_way| {
            number += 1;
            let Rig { log, pool, flow } = rig;
            if by_short_way {
                return log.push_request(3, number, deadline, 124, &body);
            }
            let waiter = Some(Waiter::Request(number));
            let asked = Asked { request: Some(number), sequence: None, waiter };
            let body = Bytes::copy_from_slice(&body);
            log.push_with(pool, NORMAL, terms, &mut Route::Flow(flow, 3), asked, body)
        };
        let mut taken = 0;
        while ask(&mut rig, false) {
            taken += 1;
        }
        assert!(taken > 10, "the log is full");
        rig.log.set_block_bytes(BLOCK);
        taken += usize::from(ask(&mut rig, by_short_way));
        assert_eq!(receive(&rig.send_all()).len(), taken, "by the short way: {by_short_way}");
    }
}

#[test]
fn waiters_of_a_block_find_the_room_of_the_last_one() {
    let mut rig = Rig::new();
    for round in 0..20 {
        for place in 0..12 {
            rig.push(NORMAL, Terms::default(), &body(place, 40), 12 * round + place);
            let room = rig.log.classes[NORMAL].open.waiters.capacity();
            assert!(round == 0 || room >= 12, "room for {room} in block {round}");
        }
        let sent = rig.send_all();
        assert_eq!(sent.len(), 1);
        rig.log.on_acked(sent[0].0, &mut rig.pool, |_| {});
    }
}

#[test]
fn waiters_and_refusals_are_walked_once() {
    let mut costs = Vec::new();
    for messages in [400_u64, 800] {
        let mut rig = Rig::new();
        for token in 0..messages {
            rig.push(NORMAL, Terms::default(), &body(token, 40), token);
        }
        let blocks = rig.send_all();
        // Every other message of each block is refused.
        let mut refusals = Vec::new();
        for block in 0..blocks.len() as u64 {
            let ends = rig.log.block(block).unwrap().ends;
            let places = (0..ends).step_by(2);
            let refused = Reason::Refused(Refusal::QueueFull);
            refusals.extend(places.map(|index| (block, index, refused)));
        }
        let before = crate::work::done();
        let ends = rig.settle(blocks.len() as u64, &refusals);
        costs.push(crate::work::done() - before);
        let refused = ends.iter().filter(|end| end.1 == Outcome::Refused(Refusal::QueueFull));
        assert_eq!((ends.len() as u64, refused.count()), (messages, refusals.len()));
    }
    assert!(costs[1] <= 2 * costs[0] + 10, "{costs:?}");
}

#[test]
fn a_loss_is_queued_once_however_often_it_is_told() {
    let mut rig = Rig::new();
    for n in 0..3 {
        rig.push(NORMAL, Terms::default(), &body(n, 500), n);
    }
    let first = rig.send_all();
    let numbers: Vec<_> = first.iter().map(|block| block.0).collect();
    assert_eq!(numbers, [0, 1, 2]);
    for number in [1, 1, 0, 1, 2] {
        rig.log.on_lost(number, &mut rig.pool);
    }
    assert!(rig.log.probe(), "block 0, which waits already");
    rig.log.on_acked(2, &mut rig.pool, |_| {});
    let again = rig.send_all();
    assert_eq!(again, [first[1].clone(), first[0].clone()], "in the order of their losses");
    // What was sent again can be lost again.
    rig.log.on_lost(1, &mut rig.pool);
    assert!(rig.log.probe());
    assert_eq!(rig.send_all(), [first[1].clone(), first[0].clone()]);
}
