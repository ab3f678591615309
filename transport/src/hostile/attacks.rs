//! Goal: whatever a proven peer sends, it makes us hold at most `peer_bytes_max`; it is closed with a reason, or what is too much
//! is dropped and counted; others notice nothing.

use std::time::Duration;

use super::Siege;
use crate::endpoint::{Limits, Service};
use crate::frame::{self, Bind, Record, Run};
use crate::limits::{
    ALIASES_MAX, ASSOCIATIONS_KEPT_MAX, BLOCK_WINDOW, FLOWS_BYTES_MAX, KEYS_BYTES_MAX,
    PEER_FIXED_BYTES, REFUSALS_MAX, REFUSALS_PER_BLOCK_MAX, SENT_RECORDS_MAX, SEQUENCES_GONE_MAX,
};
use crate::message::{Continue, FORM_FIRST, FORM_WHOLE, Head, Target};
use crate::replay::REPLAY_PACKETS_MAX;
use crate::varint;

/// A block frame with this content.
pub(super) fn block(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = vec![frame::BLOCK];
    varint::write(number, &mut out);
    out.extend_from_slice(content);
    out
}

pub(super) fn head(alias: u32, name: Option<&str>, total: u64) -> Head<'_> {
    Head { target: Target::Flow(alias), name, request: None, sequence: None, total }
}

pub(super) fn first(total: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(0, Some("ok"), total).write(FORM_FIRST, &mut out);
    out.extend_from_slice(body);
    out
}

pub(super) fn later(origin: u64, offset: u64, total: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Continue { origin, offset, total }.write(&mut out);
    out.extend_from_slice(body);
    out
}

pub(super) fn bind(alias: u32, name: String) -> Vec<u8> {
    let mut out = Vec::new();
    Record::Bind(Bind { alias, name, wanted: 1 }).write(&mut out);
    out
}

/// Room for four messages of the longest kind, so that filling it takes no gigabytes.
pub(super) fn small() -> Limits {
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    Limits { peer_bytes_max: PEER_FIXED_BYTES + (5 << 20), ..limits }
}

fn assert_within(siege: &Siege, limits: &Limits) {
    let (high, cap) = (siege.memory_high, limits.peer_bytes_max);
    assert!(high <= cap, "{high} B held, {cap} B allowed: {:?}", siege.memory());
}

#[test]
fn gapped_fragments_stay_within_the_room_for_fragments() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    // Each begins a message that never ends: its last byte, which makes us keep all before it.
    for number in 1..BLOCK_WINDOW {
        siege.send(&block(number, &later(1, (1 << 20) - 2, 1 << 20, b"x")));
        if number % 64 == 0 {
            siege.turn();
        }
    }
    siege.turn();
    assert_within(&siege, &limits);
    assert!(siege.memory().fragments >= 4 << 20, "{:?}", siege.memory());
    assert!(siege.endpoint.counters().dropped_assembly_limit > 10_000);
    assert!(siege.is_connected(), "what is too much is dropped");
}

#[test]
fn one_byte_fragments_cost_no_more_than_long_ones() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    for number in 2..BLOCK_WINDOW {
        siege.send(&block(number, &later(1, 1, 3, b"x")));
        siege.turn();
    }
    assert_within(&siege, &limits);
    assert!(siege.memory().fragments > 1 << 20, "{:?} {:?}", siege.memory(), siege.end());
    siege.send(&block(0, &first(1_000, b"x")));
    siege.turn();
    assert!(siege.endpoint.counters().dropped_assembly_limit > 1_000);
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn best_effort_fragments_make_room_for_each_other() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    siege.send(&bind(0, "ok".into()));
    for number in 0..10_000 {
        let mut frames = vec![frame::BEST_EFFORT];
        frames.extend(later(number, 1 << 19, 1 << 20, b"x"));
        siege.send(&frames);
        siege.turn();
    }
    assert_within(&siege, &limits);
    assert!(siege.endpoint.counters().best_effort_fragments_dropped >= 9_990);
}

#[test]
fn only_the_shard_that_shook_hands_is_heard() {
    let limits = small();
    let mut siege = Siege::with_shards(limits.clone(), 255);
    let (before, memory) = (siege.endpoint.counters(), siege.memory());
    for shard in 1..255 {
        siege.send_as(shard, &block(1, &later(1, (1 << 20) - 2, 1 << 20, b"x")));
        siege.send_as(shard, &[frame::PING]);
        siege.turn();
    }
    let after = siege.endpoint.counters();
    assert_eq!(after.dropped_malformed - before.dropped_malformed, 2 * 254);
    assert_eq!((siege.memory().fragments, siege.memory().keys), (memory.fragments, memory.keys));
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn all_flow_names_that_a_lane_may_have_fit_into_its_room() {
    let limits = Limits::default();
    let mut siege = Siege::new(limits.clone());
    for alias in 0..ALIASES_MAX as u32 {
        siege.send(&bind(alias, format!("ok{alias:0253}")));
        if alias % 64 == 0 {
            siege.turn();
        }
    }
    assert_within(&siege, &limits);
    assert!(siege.memory().flows > ALIASES_MAX * 255 && siege.memory().flows < FLOWS_BYTES_MAX);
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn sparse_aliases_are_charged_for_the_gaps() {
    let limits = Limits::default();
    let mut siege = Siege::new(limits.clone());
    siege.send(&bind(ALIASES_MAX as u32 - 1, "ok".into()));
    siege.turn();
    assert_within(&siege, &limits);
    assert!(siege.memory().flows > ALIASES_MAX * size_of::<u64>(), "{:?}", siege.memory());
    siege.send(&bind(ALIASES_MAX as u32, "ok".into()));
    siege.turn();
    assert!(siege.end().unwrap().contains("alias above the limit"), "{:?}", siege.end());
}

#[test]
fn sequences_given_up_on_an_alias_above_the_limit_end_the_session() {
    for (alias, is_taken) in [(ALIASES_MAX as u32 - 1, true), (ALIASES_MAX as u32, false)] {
        let mut siege = Siege::new(Limits::default());
        let mut skip = Vec::new();
        frame::write_skip(0, 0, 0, &[Run { alias, first: 1, count: 1 }], &mut skip);
        siege.send(&skip);
        siege.turn();
        assert_eq!(siege.is_connected(), is_taken, "{alias}: {:?}", siege.end());
    }
}

#[test]
fn a_refusal_flood_stops_at_its_limit_and_goes_on_when_acknowledged() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    siege.acknowledges = false;
    let mut content = Vec::new();
    head(0, Some("none"), 0).write(FORM_WHOLE, &mut content);
    for _ in 0..400 {
        head(0, None, 0).write(FORM_WHOLE, &mut content);
    }
    let mut number = 0;
    while siege.endpoint.counters().dropped_refusal_limit == 0 {
        siege.send(&block(number, &content));
        number += 1;
        siege.turn();
        assert!(number < 2_000, "refusals without end: {:?}", siege.memory());
    }
    let remembered = siege.endpoint.counters().acknowledged_refused;
    let all_but_one_block = REFUSALS_MAX - REFUSALS_PER_BLOCK_MAX..=REFUSALS_MAX;
    assert!(all_but_one_block.contains(&(remembered as usize)), "{remembered}");
    for _ in 0..1_000 {
        siege.send(&block(number, &content));
        siege.turn();
    }
    assert_within(&siege, &limits);
    assert_eq!(siege.endpoint.counters().acknowledged_refused, remembered);
    let bytes = siege.memory().refusals;
    assert!(bytes <= 16 * REFUSALS_MAX / 4 * 5 + (4 << 10), "{bytes}");
    assert!(siege.is_connected(), "{:?}", siege.end());
    // An honest receiver of refusals acknowledges them, and is heard again.
    siege.acknowledges = true;
    let before = siege.endpoint.counters().acknowledged_refused;
    for _ in 0..2_000 {
        siege.turn();
    }
    for _ in 0..2_000 {
        siege.send(&block(number, &content));
        siege.turn();
    }
    assert!(siege.endpoint.counters().acknowledged_refused > before, "{:?}", siege.memory());
}

#[test]
fn refusals_above_a_gap_do_not_lock_the_block_that_fills_it() {
    let mut siege = Siege::new(small());
    let mut content = Vec::new();
    head(0, Some("none"), 0).write(FORM_WHOLE, &mut content);
    for _ in 0..400 {
        head(0, None, 0).write(FORM_WHOLE, &mut content);
    }
    for number in 1..1_000 {
        siege.send(&block(number, &content));
    }
    siege.turn();
    assert!(siege.endpoint.counters().dropped_refusal_limit > 0);
    let refused = siege.endpoint.counters().acknowledged_refused;
    siege.send(&block(0, &content));
    siege.turn();
    assert_eq!(siege.endpoint.counters().acknowledged_refused, refused + 401);
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn a_peer_that_acknowledges_nothing_is_closed_before_its_records_pile_up() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    siege.acknowledges = false;
    // One datagram of ours is never acknowledged; each answer to a PING then leaves a record behind it.
    siege.send(&bind(0, "ok".into()));
    let mut pings = 0_u64;
    while siege.is_connected() && pings < 1_000_000 {
        siege.send(&[frame::PING]);
        pings += 1;
        siege.turn();
    }
    assert!(siege.end().unwrap().contains("acknowledges nothing"), "{:?}", siege.end());
    assert!(pings >= SENT_RECORDS_MAX as u64, "{pings}");
    assert_within(&siege, &limits);
    assert!(siege.answers <= pings + 1_000, "{} answers to {pings} pings", siege.answers);
}

#[test]
fn pings_in_one_turn_get_one_answer() {
    let mut siege = Siege::new(Limits::default());
    let before = siege.answers;
    for _ in 0..10_000 {
        siege.send(&[frame::PING; 1_000]);
    }
    siege.turn();
    assert!(siege.answers - before <= 2, "{}", siege.answers - before);
}

#[test]
fn blocked_storms_ask_for_one_grant() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    for alias in 0..ALIASES_MAX as u32 {
        siege.send(&bind(alias, format!("ok{alias}")));
    }
    let mut storm = Vec::new();
    for alias in 0..200 {
        frame::write_blocked(alias, 1 << 40, &mut storm);
    }
    for _ in 0..5_000 {
        siege.send(&storm);
    }
    let flows = siege.memory().flows;
    assert!(flows < 2 << 20, "{flows}");
    let before = siege.answers;
    for _ in 0..50 {
        siege.turn();
    }
    assert!(siege.answers - before < 100, "{}", siege.answers - before);
    assert_within(&siege, &limits);
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn huge_block_numbers_are_dropped_and_not_acknowledged() {
    let mut siege = Siege::new(Limits::default());
    for number in [BLOCK_WINDOW, 1 << 40, (1 << 62) - 1] {
        siege.send(&block(number, b"\x03"));
    }
    siege.send(&block(BLOCK_WINDOW - 1, b"\x03"));
    assert_eq!(siege.endpoint.counters().dropped_block_window, 3);
    assert!(siege.memory().keys < 8 << 10, "{:?}", siege.memory());
    assert!(siege.is_connected());
}

#[test]
fn outstanding_requests_cost_nothing_and_credit_bounds_what_is_held() {
    let limits = Limits::default();
    let mut siege = Siege::new(limits.clone());
    siege.victim.holds = true;
    let mut number = 0;
    while siege.is_connected() && number < 5_000 {
        let mut content = Vec::new();
        for request in 0..100 {
            let name = (number == 0 && request == 0).then_some("ok");
            let head = Head { request: Some(number * 100 + request), ..head(0, name, 0) };
            head.write(FORM_WHOLE, &mut content);
        }
        siege.send(&block(number, &content));
        siege.turn();
        number += 1;
    }
    // 1 MiB of credit is 16,384 empty messages; what goes beyond breaks the protocol.
    assert!(siege.end().unwrap().contains("credit"), "{:?}", siege.end());
    assert!(siege.victim.delivered <= 16_384, "{}", siege.victim.delivered);
    assert!(siege.memory_high < 64 << 10, "{}", siege.memory_high);
}

#[test]
fn empty_messages_are_charged_and_leave_nothing_behind() {
    let limits = Limits::default();
    let mut siege = Siege::new(limits);
    for number in 0..5_000 {
        let mut content = Vec::new();
        for message in 0..400 {
            let name = (number == 0 && message == 0).then_some("ok");
            head(0, name, 0).write(FORM_WHOLE, &mut content);
        }
        siege.send(&block(number, &content));
        siege.turn();
    }
    assert_eq!(siege.victim.delivered, 2_000_000);
    assert!(siege.memory_high < 64 << 10, "{}", siege.memory_high);
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn answers_to_a_peer_that_acknowledges_nothing_stop_at_the_log() {
    let limits = Limits::default();
    let mut siege = Siege::new(limits);
    siege.acknowledges = false;
    let peer = siege.endpoint.find_peer(&siege.key).unwrap();
    let flow = siege.endpoint.open_flow(peer, "theirs").unwrap();
    let mut sent = 0;
    for _ in 0..100_000 {
        let body = [0; 1_000];
        sent += u64::from(
            siege.endpoint.send(siege.now, flow, &body, Service::Acknowledged, None).is_ok(),
        );
    }
    // Without a grant, 64 KiB of credit.
    assert!(sent <= 64, "{sent}");
}

#[test]
fn after_a_violation_nothing_more_is_taken() {
    let mut siege = Siege::new(Limits::default());
    let mut content = Vec::new();
    head(0, Some("ok"), 0).write(FORM_WHOLE, &mut content);
    siege.send(&block(0, &content));
    assert_eq!(siege.victim.delivered, 1);
    siege.send(&[0xff]);
    let before = siege.endpoint.counters();
    for number in 1..100 {
        siege.send(&block(number, &content));
    }
    let after = siege.endpoint.counters();
    assert_eq!(siege.victim.delivered, 1, "the session is closing");
    assert_eq!(after.dropped_after_violation, before.dropped_after_violation + 99);
    assert_eq!((after.violations, after.datagrams_taken), (1, before.datagrams_taken));
    siege.turn();
    assert!(siege.end().unwrap().contains("unknown frame type"), "{:?}", siege.end());
}

/// Each row ends a session that hears it first; its neighbour, with a byte more or a block further on, does not.
#[test]
fn pieces_that_tell_nothing_end_the_session() {
    let best_effort = |content: &[u8]| [&[frame::BEST_EFFORT], content].concat();
    let beginning = |body: &[u8]| best_effort(&[&first(9, &[])[..], &[7], body].concat());
    let rows = [
        (block(3, &later(0, 2, 9, b"a")), block(3, &later(3, 2, 9, b"a"))),
        (block(3, &later(4, 2, 9, b"a")), block(4, &later(4, 2, 9, b"a"))),
        (block(3, &later(1, 2, 9, b"")), block(3, &later(1, 2, 9, b"a"))),
        (block(0, &first(9, b"")), block(0, &first(9, b"a"))),
        (best_effort(&later(7, 2, 9, b"")), best_effort(&later(7, 2, 9, b"a"))),
        (beginning(b""), beginning(b"a")),
    ];
    for (number, (wrong, right)) in rows.iter().enumerate() {
        let ends = [right, wrong].map(|row| {
            let mut siege = Siege::new(Limits::default());
            siege.send(row);
            siege.turn();
            siege.end()
        });
        assert_eq!(ends[0], None, "row {number}");
        assert!(
            ends[1].as_ref().is_some_and(|end| end.contains("malformed")),
            "{number}: {ends:?}"
        );
    }
}

#[test]
fn windows_under_all_keys_stay_within_the_room() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    // Acknowledged greetings and anything but a greeting would make keys be used, and older ones be erased.
    siege.acknowledges = false;
    for dial in 0..=ASSOCIATIONS_KEPT_MAX {
        let frames = siege.greeting();
        for step in 0..3 {
            siege.jump = step * 300_000;
            siege.send(&frames);
            siege.turn();
            siege.now += Duration::from_millis(10);
        }
        siege.jump = 0;
        if dial < ASSOCIATIONS_KEPT_MAX {
            siege.redial();
        }
    }
    assert_within(&siege, &limits);
    let (keys, erased) = (siege.memory().keys, siege.endpoint.counters().associations_erased);
    assert!(keys > ASSOCIATIONS_KEPT_MAX * REPLAY_PACKETS_MAX / 8, "{keys} {erased} erased");
    assert!(keys <= KEYS_BYTES_MAX, "{keys}");
    assert!(siege.is_connected(), "{:?}", siege.end());
}

#[test]
fn who_acknowledges_nothing_is_left() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    siege.acknowledges = false;
    siege.send(&bind(0, "ok".into()));
    let mut pings = 0;
    while siege.is_connected() && pings < 3 * SENT_RECORDS_MAX {
        siege.send(&[frame::PING]);
        pings += 1;
        siege.turn();
    }
    assert!(siege.end().is_some_and(|end| end.contains("acknowledges nothing")), "{pings}");
    assert_within(&siege, &limits);
}

#[test]
fn sequences_given_up_are_bounded() {
    let limits = small();
    let mut siege = Siege::new(limits.clone());
    let frames = 2 * SEQUENCES_GONE_MAX as u64 / 64;
    for number in 0..frames {
        let run = |n: u64| Run { alias: 0, first: 1 + 128 * number + 2 * n, count: 1 };
        let mut skip = Vec::new();
        frame::write_skip(0, 0, 0, &(0..64).map(run).collect::<Vec<_>>(), &mut skip);
        siege.send(&skip);
        siege.turn();
    }
    assert_within(&siege, &limits);
    assert_eq!(siege.endpoint.counters().dropped_order_limit, frames / 2);
    assert!(siege.is_connected(), "{:?}", siege.end());
    // Sequences that are next are forgotten at once, but that they were is remembered.
    let mut siege = Siege::new(limits.clone());
    for alias in 0..ALIASES_MAX as u32 / 64 {
        let run = |n: u32| Run { alias: 64 * alias + n, first: 0, count: 1 };
        let mut skip = Vec::new();
        frame::write_skip(0, 0, 0, &(0..64).map(run).collect::<Vec<_>>(), &mut skip);
        siege.send(&skip);
        siege.turn();
    }
    assert_within(&siege, &limits);
    assert!(siege.memory().flows > ALIASES_MAX * size_of::<u64>(), "{:?}", siege.memory());
}
