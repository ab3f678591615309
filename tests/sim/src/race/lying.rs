//! A receiver that lies about what arrived.
//!
//! Owns a whole Cubed node, and changes what leaves it: acknowledgements are withheld, delayed, invented or repeated. What
//! always holds: what is invented is sealed under the node's own keys, so its peer cannot tell it from a bug.

use std::collections::VecDeque;
use std::time::Duration;

use cubed_transport::time::Instant;
use cubed_transport::varint;

use super::{Cubed, Departure, Packet, Place, Racer};

/// First byte of a lane datagram, and where its packet number stands.
const LANE_KIND: u8 = 0x40;
const NUMBER_AT: std::ops::Range<usize> = 8..16;
/// Numbers remembered for repeating them.
const ARRIVED_KEPT: usize = 64;
/// Frame type of an acknowledgement.
const ACK: u8 = 0x02;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Only every so manieth datagram leaves.
    Withhold(u32),
    /// Everything leaves this much later.
    Delay(Duration),
    /// After each arrival it acknowledges all from the first number to this many beyond the highest seen, holes included.
    Claim(u64),
    /// After each arrival it acknowledges the newest packets that arrived again, so many of them, one by one.
    Repeat(u64),
}

/// A receiver that lies.
#[derive(Debug)]
pub struct Lying {
    node: Cubed,
    lie: Lie,
    left: u64,
    count: u32,
    from: Place,
    largest: Option<u64>,
    /// The newest numbers that arrived, as many as are repeated.
    arrived: VecDeque<u64>,
    has_news: bool,
    late: VecDeque<(Instant, Departure)>,
}

impl Lying {
    /// A liar at this place; it begins once `after` datagrams arrived, so that the handshake is honest.
    pub fn new(place: Place, limits: &cubed_transport::Limits, lie: Lie, after: u64) -> Self {
        let node = Cubed::receiver(place, limits);
        let (arrived, late) = (VecDeque::new(), VecDeque::new());
        let (largest, has_news) = (None, false);
        Self { node, lie, left: after, count: 0, from: 0, largest, arrived, has_news, late }
    }

    fn acknowledge(&mut self, now: Instant, largest: u64, length: u64, out: &mut Vec<Departure>) {
        let mut payload = vec![ACK];
        for field in [largest, 0, 0, length] {
            varint::write(field, &mut payload);
        }
        if let Some(datagram) = self.node.seal(now, &payload) {
            out.push((self.from, datagram.len(), Packet::Datagram(datagram)));
        }
    }

    fn lie(&mut self, now: Instant, honest: Vec<Departure>, out: &mut Vec<Departure>) {
        match self.lie {
            Lie::Withhold(every) => {
                for departure in honest {
                    self.count += 1;
                    if self.count.is_multiple_of(every) {
                        out.push(departure);
                    }
                }
            }
            Lie::Delay(delay) => {
                self.late.extend(honest.into_iter().map(|departure| (now + delay, departure)));
            }
            Lie::Claim(_) | Lie::Repeat(_) => out.extend(honest),
        }
        let Some(largest) = self.largest.filter(|_| std::mem::take(&mut self.has_news)) else {
            return;
        };
        match self.lie {
            Lie::Claim(beyond) => self.acknowledge(now, largest + beyond, largest + beyond, out),
            Lie::Repeat(count) => {
                // Only what arrived: a number left out on purpose would end the session at once.
                self.arrived.drain(..self.arrived.len().saturating_sub(count as usize));
                for index in 0..self.arrived.len() {
                    self.acknowledge(now, self.arrived[index], 0, out);
                }
            }
            Lie::Withhold(_) | Lie::Delay(_) => {}
        }
    }
}

impl Racer for Lying {
    fn arrive(&mut self, now: Instant, from: Place, packet: Packet) {
        if let Packet::Datagram(datagram) = &packet
            && datagram.first() == Some(&LANE_KIND)
            && let Some(number) = datagram.get(NUMBER_AT)
        {
            let number = number.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            if self.arrived.len() == ARRIVED_KEPT {
                self.arrived.pop_front();
            }
            self.arrived.push_back(number);
            (self.largest, self.has_news) = (self.largest.max(Some(number)), true);
            self.left = self.left.saturating_sub(1);
        }
        self.from = from;
        self.node.arrive(now, from, packet);
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Departure>) {
        while self.late.front().is_some_and(|(at, _)| *at <= now) {
            out.extend(self.late.pop_front().map(|(_, departure)| departure));
        }
        let mut honest = Vec::new();
        self.node.turn(now, &mut honest);
        if self.left == 0 { self.lie(now, honest, out) } else { out.append(&mut honest) }
    }

    fn deadline(&self) -> Option<Instant> {
        let late = self.late.front().map(|(at, _)| *at);
        [late, self.node.deadline()].into_iter().flatten().min()
    }

    fn received_from(&self, from: Place) -> u64 {
        self.node.received_from(from)
    }

    fn describe(&self) -> String {
        format!("lying, {:?}: {}", self.lie, self.node.describe())
    }
}
