//! Bulk senders that share one bottleneck: who gets how much of it.
//!
//! Owns time, the bottleneck with its two directions, and the racers. All racers of the left send to the right through
//! one link; what comes back shares another. What always holds: a racer acts only on an event, and everything
//! between two events happens at one virtual time.

use std::time::Duration;

use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;

use crate::agenda::Agenda;
use crate::link::{Link, LinkConfig, LinkCounters};

pub use lying::{Lie, Lying};
pub use node::Cubed;
pub use plain::{PlainReceiver, PlainSender};

mod lying;
mod node;
mod plain;

/// The race does not begin at the clock's origin.
const BEGUN: Instant = Instant::from_nanos(10_000_000_000);

/// A racer's number, by order of entry.
pub type Place = usize;

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A datagram of a Cubed node.
    Datagram(Vec<u8>),
    /// A data packet of a plain flow, by number.
    Data(u64),
    /// An acknowledgement of a plain flow: ranges of numbers, highest first, each as lowest and highest.
    Ack(Vec<(u64, u64)>),
}

/// A packet on its way out: to whom, how many bytes, what.
pub type Departure = (Place, usize, Packet);

/// A node that sends or receives in bulk.
pub trait Racer {
    /// Takes a packet.
    fn arrive(&mut self, now: Instant, from: Place, packet: Packet);
    /// Does what is due, and appends all that leaves now.
    fn turn(&mut self, now: Instant, out: &mut Vec<Departure>);
    /// When to be asked again although nothing arrived.
    fn deadline(&self) -> Option<Instant>;
    /// Bytes of content received so far from this racer, each counted once.
    fn received_from(&self, from: Place) -> u64;
    /// For people: window, round trip, losses.
    fn describe(&self) -> String;
}

/// Which end of the bottleneck a racer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those who send.
    Left,
    /// Those who receive.
    Right,
}

struct Seat {
    racer: Box<dyn Racer>,
    side: Side,
    timer: Option<Instant>,
}

enum Happening {
    Packet { from: Place, to: Place, packet: Packet },
    Timeout(Place),
}

/// Racers around one bottleneck.
pub struct Race {
    now: Instant,
    agenda: Agenda<Happening>,
    seats: Vec<Seat>,
    forward: Link,
    back: Link,
    chance: SeededEntropy,
    departures: Vec<Departure>,
}

impl Race {
    /// A bottleneck with nobody at it. Both directions do the same.
    pub fn new(seed: u64, config: &LinkConfig) -> Self {
        Self {
            now: BEGUN,
            agenda: Agenda::new(),
            seats: Vec::new(),
            forward: Link::new(config.clone()),
            back: Link::new(config.clone()),
            chance: SeededEntropy::new(seed ^ 0x7_ace),
            departures: Vec::new(),
        }
    }

    /// Changes one direction of the bottleneck.
    pub fn set(&mut self, towards: Side, config: LinkConfig) {
        match towards {
            Side::Right => self.forward.set(config),
            Side::Left => self.back.set(config),
        }
    }

    /// The place that the next racer gets.
    pub fn next_place(&self) -> Place {
        self.seats.len()
    }

    /// Lets a racer in; it starts `after` the race's beginning.
    pub fn enter(&mut self, side: Side, after: Duration, racer: Box<dyn Racer>) -> Place {
        let place = self.seats.len();
        self.seats.push(Seat { racer, side, timer: Some(BEGUN + after) });
        self.agenda.put(BEGUN + after, Happening::Timeout(place));
        place
    }

    /// Lets time pass until `after` the race's beginning.
    pub fn run_until(&mut self, after: Duration) {
        let until = BEGUN + after;
        while let Some((at, happening)) = self.agenda.take(until) {
            self.now = at;
            match happening {
                Happening::Packet { from, to, packet } => {
                    self.seats[to].racer.arrive(at, from, packet);
                    self.settle(to);
                }
                Happening::Timeout(place) => {
                    if self.seats[place].timer.is_some_and(|timer| timer <= at) {
                        self.seats[place].timer = None;
                        self.settle(place);
                    }
                }
            }
        }
        self.now = until;
    }

    /// A racer.
    pub fn racer(&self, place: Place) -> &dyn Racer {
        &*self.seats[place].racer
    }

    /// What became of all packets towards one side.
    pub fn link_counters(&self, towards: Side) -> LinkCounters {
        match towards {
            Side::Right => self.forward.counters(),
            Side::Left => self.back.counters(),
        }
    }

    fn settle(&mut self, place: Place) {
        let Self { now, agenda, seats, forward, back, chance, departures } = self;
        let seat = &mut seats[place];
        seat.racer.turn(*now, departures);
        let link = if seat.side == Side::Left { forward } else { back };
        for (to, bytes, packet) in departures.drain(..) {
            let fate = link.decide(BEGUN, *now, bytes, chance);
            if let Some(at) = fate.copy {
                let packet = packet.clone();
                agenda.put(at, Happening::Packet { from: place, to, packet });
            }
            if let Some(at) = fate.arrival {
                agenda.put(at, Happening::Packet { from: place, to, packet });
            }
        }
        let wanted = seat.racer.deadline().map(|at| at.max(*now));
        if let Some(at) = wanted
            && seat.timer.is_none_or(|timer| at < timer)
        {
            seat.timer = wanted;
            agenda.put(at, Happening::Timeout(place));
        }
    }
}
