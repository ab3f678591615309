//! Goal: twice as many hostile datagrams cost about twice as many steps, and no single one costs more than the limits explain;
//! the honest peer beside the siege notices nothing of any of them.

use super::Siege;
use super::attacks::{bind, block, first, head, later, small};
use crate::frame::{self, Run};
use crate::limits::{ALIASES_MAX, BLOCK_WINDOW, REFUSALS_MAX};
use crate::message::{FORM_WHOLE, Head};
use crate::work;

/// Sends the datagram with this number of an attack.
type Attack = fn(&mut Siege, u64);

fn refused(number: u64) -> Vec<u8> {
    let mut content = Vec::new();
    head(0, Some("none"), 0).write(FORM_WHOLE, &mut content);
    for _ in 0..400 {
        head(0, None, 0).write(FORM_WHOLE, &mut content);
    }
    block(number, &content)
}

fn skip(alias: u32, first: u64) -> Vec<u8> {
    let run = |n: u64| Run { alias, first: first + 2 * n, count: 1 };
    let mut frames = Vec::new();
    frame::write_skip(0, 0, 0, &(0..64).map(run).collect::<Vec<_>>(), &mut frames);
    frames
}

const ATTACKS: [(&str, Attack); 12] = [
    ("pings", |siege, _| siege.send(&[frame::PING; 1_000])),
    ("padding", |siege, _| siege.send(&[frame::PADDING; 1_400])),
    ("gapped fragments", |siege, n| {
        siege.send(&block(1 + n % 16_000, &later(1, (1 << 20) - 2, 1 << 20, b"x")));
    }),
    ("short fragments", |siege, n| siege.send(&block(1 + n % 16_000, &later(1, 1, 3, b"x")))),
    ("endless beginnings", |siege, n| siege.send(&block(n, &first(1_000, b"x")))),
    ("best-effort fragments", |siege, n| {
        let mut frames = vec![frame::BEST_EFFORT];
        frames.extend(later(n, 1 << 19, 1 << 20, b"x"));
        siege.send(&frames);
    }),
    ("names", |siege, n| {
        siege.send_as((n / ALIASES_MAX as u64) as u8, &bind((n % 4_096) as u32, format!("ok{n}")));
    }),
    ("storms of BLOCKED", |siege, n| {
        let mut frames = bind(0, "ok".into());
        for _ in 0..200 {
            frame::write_blocked(0, 1 << 40, &mut frames);
        }
        siege.send(&frames);
        siege.acknowledges = n % 2 == 0;
    }),
    ("refusals, never acknowledged", |siege, n| {
        siege.acknowledges = false;
        siege.send(&refused(n));
    }),
    ("refusals from above", |siege, n| siege.send(&refused(BLOCK_WINDOW - 1 - n % 16_000))),
    ("requests", |siege, n| {
        let mut content = Vec::new();
        let head = Head { request: Some(n), ..head(0, Some("ok"), 0) };
        head.write(FORM_WHOLE, &mut content);
        siege.send(&block(n, &content));
    }),
    ("sequences given up", |siege, n| siege.send(&skip((n % 4_096) as u32, 1 + 128 * n))),
];

/// Steps that so many datagrams of an attack cost, and the most that one did.
fn cost(attack: Attack, datagrams: u64) -> (u64, u64) {
    let mut siege = Siege::with_shards(small(), 4);
    let (begun, mut most) = (work::done(), 0);
    for number in 0..datagrams {
        let before = work::done();
        attack(&mut siege, number);
        most = most.max(work::done() - before);
        if number % 16 == 0 {
            siege.turn();
        }
    }
    for _ in 0..64 {
        siege.turn();
    }
    assert!(siege.bystander.offered > datagrams / 256, "the honest peer spoke meanwhile");
    (work::done() - begun, most)
}

#[test]
fn no_attack_costs_more_than_its_length() {
    for (name, attack) in ATTACKS {
        let ((once, _), (twice, most)) = (cost(attack, 3_000), cost(attack, 6_000));
        println!("{name}: {once} steps, {twice} for twice as many, {most} for one");
        assert!(twice < 2 * once + once / 4 + 1_000, "{name}: {once} steps, then {twice}");
        // A datagram moves all refusals once, at most.
        assert!(most <= 2 * REFUSALS_MAX as u64, "{name}: {most} steps for one datagram");
    }
}
