//! Goal: whatever a peer with a session says at length, in numbers at the edges of their range, no node panics, answers without end
//! or holds more for it than it may.
//!
//! A seed picks a few kinds of datagrams and repeats them some hundred times, counting on where a number counts: a habit, where
//! the fuzzers make single steps.

use std::time::Duration;

use cubed_fuzz::{check, limits};
use cubed_transport::Service;
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::testing::Pair;
use cubed_transport::varint::{self, VALUE_MAX};

const SEEDS: u64 = 200;
const DATAGRAMS: u64 = 900;

// Frame types of docs/PROTOCOL.md.
const PING: u8 = 1;
const CREDIT: u8 = 4;
const BLOCKED: u8 = 5;
const SKIP: u8 = 7;
const BLOCK: u8 = 8;
const BEST_EFFORT: u8 = 9;
const PART: u8 = 10;

/// Numbers where something changes: lengths of their encoding, limits of the protocol, the ends.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    63,
    64,
    4_095,
    4_096,
    8_968,
    16_383,
    16_384,
    65_507,
    65_536,
    1 << 30,
    1 << 32,
    VALUE_MAX - 1,
    VALUE_MAX,
];

/// One who speaks by habit.
struct Habit {
    entropy: SeededEntropy,
    /// Kinds of datagrams that it repeats.
    kinds: Vec<u64>,
    /// Block and sequence that come next, where they count on.
    block: u64,
    sequence: u64,
    /// Messages in a block, if they fit.
    count: u64,
    long: bool,
    /// Content of the block that goes in parts now.
    content: Vec<u8>,
    /// All its messages go to flows that refuse them.
    is_refused: bool,
    /// One number in so many is from the edges; zero for none.
    edges_in: u64,
}

impl Habit {
    fn new(seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let kinds = (0..1 + entropy.below(4)).map(|_| entropy.below(12)).collect();
        let (count, long) = (1 + entropy.below(3_000), entropy.below(2) == 0);
        let (is_refused, edges_in) = (entropy.below(2) == 0, 300 * entropy.below(3));
        let content = Vec::new();
        Self { entropy, kinds, block: 0, sequence: 0, count, long, content, is_refused, edges_in }
    }

    fn edge(&mut self) -> u64 {
        EDGES[self.entropy.below(EDGES.len() as u64) as usize]
    }

    /// A number that counts on, now and then one from the edges.
    fn number(&mut self, next: u64) -> u64 {
        let is_edge = self.edges_in > 0 && self.entropy.below(self.edges_in) == 0;
        if is_edge { self.edge() } else { next }
    }

    /// Whole messages: of any flow, named; or ordered, with a sequence ahead of what is awaited.
    fn messages(&mut self, count: u64, is_ordered: bool, out: &mut Vec<u8>) {
        let most = if self.long { 7_900 } else { 1_380 };
        let flows = 4 - self.entropy.below(2);
        for place in 0..count {
            if out.len() + 20 > most {
                break;
            }
            let alias = if self.is_refused { 2 } else { self.entropy.below(flows) };
            // Names of three characters are refused.
            let name = &b"abcd"[..1 + alias as usize];
            let is_named = place < 8;
            out.push(4 * u8::from(is_named) + 32 * u8::from(is_ordered));
            varint::write(alias, out);
            if is_named {
                out.push(name.len() as u8);
                out.extend_from_slice(name);
            }
            if is_ordered {
                self.sequence += 1;
                let sequence = self.number(self.sequence);
                varint::write(sequence, out);
            }
            varint::write(0, out);
        }
    }

    fn datagram(&mut self, turn: u64) -> Vec<u8> {
        let mut out = Vec::new();
        match self.kinds[(turn % self.kinds.len() as u64) as usize] {
            kind @ 0..=3 => self.block(kind == 3, &mut out),
            4 => self.skip(0, 0, 0, &mut out),
            5 => {
                let (first, count) = (self.number(self.block), self.number(1));
                let back = self.entropy.below(2).min(first);
                self.block += 1;
                self.skip(first, count, back, &mut out);
            }
            6 => self.part(&mut out),
            7 => {
                let fields = [self.entropy.below(2), self.edge(), self.edge(), 0];
                frame(CREDIT, &fields, &mut out);
            }
            8 => {
                let fields = [self.entropy.below(2), self.edge()];
                frame(BLOCKED, &fields, &mut out);
            }
            9 => {
                // A piece of a best-effort message: number, offset, length.
                let fields = [2, self.number(turn), 1 + turn % 9, self.number(100_000)];
                frame(BEST_EFFORT, &fields, &mut out);
                out.push(7);
            }
            10 => {
                // A later piece of a message that began in an earlier block.
                let origin = self.number(self.block.min(3));
                let fields = [self.block, 2, origin, 1 + turn % 9, self.number(100_000)];
                frame(BLOCK, &fields, &mut out);
                self.block += 1;
                out.push(7);
            }
            _ => out.push(PING),
        }
        out
    }

    fn block(&mut self, is_ordered: bool, out: &mut Vec<u8>) {
        let block = self.number(self.block);
        frame(BLOCK, &[block], out);
        self.block += 1;
        // A few that wait for the first, which never comes; more of them would break the flow's credit.
        let is_ordered = is_ordered && self.sequence < 8;
        let count = if is_ordered { 1 } else { self.count };
        self.messages(count, is_ordered, out);
        if count > 2_000 && self.long {
            // One more that is too long for its flow, and two values of which the second is too old.
            out.extend([0, 0, 0x43, 0xe9]);
            out.extend([7; 1_001]);
            out.extend([0x60, 1, 0, 0, 0x60, 1, 0, 0]);
        }
    }

    /// Sequences given up, with blocks or without.
    fn skip(&mut self, first: u64, count: u64, back: u64, out: &mut Vec<u8>) {
        frame(SKIP, &[first, count, back, 30], out);
        for _ in 0..30 {
            self.sequence += 2;
            let (alias, first) = (self.entropy.below(3), self.number(self.sequence));
            [alias, first, 1].iter().for_each(|n| varint::write(*n, out));
        }
    }

    fn part(&mut self, out: &mut Vec<u8>) {
        if self.content.is_empty() {
            let mut content = Vec::new();
            self.messages(self.count, false, &mut content);
            self.content = content;
        }
        let content = &self.content.clone();
        let total = self.number(content.len() as u64);
        let offset = self.entropy.below(content.len() as u64) / 500 * 500;
        frame(PART, &[self.block, offset, total], out);
        out.extend(content.iter().skip(offset as usize).take(500));
        if self.entropy.below(60) == 0 {
            self.block += 1;
            self.content.clear();
        }
    }
}

/// A frame's type and numbers.
fn frame(kind: u8, fields: &[u64], out: &mut Vec<u8>) {
    out.push(kind);
    fields.iter().for_each(|field| varint::write(*field, out));
}

/// Names two flows of each side, so that numbers of flows mean something.
fn introduce(pair: &mut Pair, habit: &mut Habit) {
    let mut block = Vec::new();
    frame(BLOCK, &[0], &mut block);
    for alias in [0, 1] {
        block.extend([4, alias, 1 + alias]);
        block.extend_from_slice(&b"ab"[..1 + usize::from(alias)]);
        block.push(0);
    }
    habit.block = 1;
    assert!(pair.inject(&block));
    let (now, hostile) = (pair.now, pair.hostile());
    for name in ["a", "ab"] {
        let (honest, _) = &mut pair.ends[1];
        let flow = honest.open_flow(hostile, name).expect("a flow");
        honest.send(now, flow, &[7; 100], Service::Acknowledged, None).expect("room for a message");
    }
    pair.wait(Duration::from_millis(1));
}

#[test]
fn habits_at_the_edges_of_numbers_do_no_harm() {
    let (mut open, mut longest) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (mut pair, mut habit) = (Pair::connected(&limits()), Habit::new(seed));
        introduce(&mut pair, &mut habit);
        let jumps_from = habit.entropy.below(2 * DATAGRAMS);
        for turn in 0..DATAGRAMS {
            if turn == jumps_from {
                pair.jump = habit.edge() + habit.entropy.below(3);
            }
            let datagram = habit.datagram(turn);
            if !pair.inject(&datagram) {
                break;
            }
            if turn % 8 == 0 {
                pair.wait(Duration::from_millis(1));
            }
            check(&mut pair);
            longest = longest.max(pair.held().total());
        }
        open += u64::from(pair.is_connected());
        pair.wait(Duration::from_secs(4));
        check(&mut pair);
    }
    assert!(open > SEEDS / 4, "most sessions ended early: {open} of {SEEDS} went on");
    assert!(longest > 1 << 20, "nobody held much: {longest} B");
}
