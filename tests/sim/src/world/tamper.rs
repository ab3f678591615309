//! What happens to chosen datagrams, beside what their link does to all.
//!
//! Owns rules: which datagrams, counted as they are sent, and what is done to them. A [`Rule`] sees what a
//! stranger on the path sees: sender, receiver, byte 0, length.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Happening, World};
use crate::ledger::NodeIndex;
use crate::link::Fate;

/// What is done to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// It vanishes.
    Drop,
    /// It comes this much later.
    Delay(Duration),
    /// It comes again, this much later.
    Repeat(Duration),
    /// Its last byte changes.
    Damage,
    /// It passes, and counts.
    Pass,
}

/// Which datagrams of one direction, by their order, and what is done to them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Sender and receiver.
    pub way: (NodeIndex, NodeIndex),
    /// Byte 0: 1 HELLO, 2 REPLY, 3 FINISH, 4 COOKIE, 0x40 lane.
    pub kind: u8,
    /// Only datagrams at least this long.
    pub bytes_min: usize,
    /// What is done to the first, the second and so on; the last of these to all others too, if `to_all`.
    pub deeds: Vec<Deed>,
    /// Whether the last deed goes on.
    pub to_all: bool,
    seen: usize,
}

impl Rule {
    /// The first datagram of this kind suffers `deed`.
    pub fn first(way: (NodeIndex, NodeIndex), kind: u8, deed: Deed) -> Self {
        Self { way, kind, bytes_min: 0, deeds: vec![deed], to_all: false, seen: 0 }
    }

    /// All datagrams of this kind suffer `deed`.
    pub fn all(way: (NodeIndex, NodeIndex), kind: u8, deed: Deed) -> Self {
        Self { to_all: true, ..Self::first(way, kind, deed) }
    }

    /// Lane datagrams of at least `bytes_min` suffer `deeds` in this order; later ones pass.
    pub fn pattern(way: (NodeIndex, NodeIndex), bytes_min: usize, deeds: Vec<Deed>) -> Self {
        Self { bytes_min, deeds, ..Self::first(way, 0x40, Deed::Pass) }
    }
}

impl World {
    /// Adds a rule. Each counts by itself.
    pub fn tamper(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Takes all rules away.
    pub fn tamper_no_more(&mut self) {
        self.rules.clear();
    }

    /// Makes a datagram arrive now, from any address.
    pub fn inject_from(&mut self, from: SocketAddr, to: NodeIndex, datagram: &[u8]) {
        let datagram = datagram.to_vec();
        let is_steered = false;
        self.agenda.put(self.now, Happening::Datagram { from, to, datagram, is_steered });
    }

    /// What nodes sent to addresses of no node since this was last asked.
    pub fn take_strays(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.strays)
    }

    /// Keeps a copy of every datagram from here on.
    pub fn capture(&mut self) {
        self.captured.get_or_insert_default();
    }

    /// The copies, with their senders.
    pub fn captured(&self) -> &[(NodeIndex, Vec<u8>)] {
        self.captured.as_deref().unwrap_or_default()
    }

    /// How many datagrams each rule has met.
    pub fn tampered(&self) -> Vec<usize> {
        self.rules.iter().map(|rule| rule.seen).collect()
    }
}

pub(super) fn apply(
    rules: &mut [Rule],
    way: (NodeIndex, NodeIndex),
    datagram: &[u8],
    fate: &mut Fate,
) {
    for rule in rules {
        let kind = datagram.first().copied();
        if rule.way != way || kind != Some(rule.kind) || datagram.len() < rule.bytes_min {
            continue;
        }
        let number = rule.seen;
        rule.seen += 1;
        let last = rule.deeds.last().filter(|_| rule.to_all);
        match rule.deeds.get(number).or(last).copied().unwrap_or(Deed::Pass) {
            Deed::Drop => *fate = Fate::default(),
            Deed::Delay(by) => fate.arrival = fate.arrival.map(|at| at + by),
            Deed::Repeat(by) => fate.copy = fate.arrival.map(|at| at + by),
            Deed::Damage => fate.flipped_bit = Some(datagram.len() * 8 - 1),
            Deed::Pass => {}
        }
    }
}
