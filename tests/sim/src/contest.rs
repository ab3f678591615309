//! Races with a judge: who shared a bottleneck with whom, what each got, and what each must get at least.
//!
//! Owns the list of contests, which is the table of `docs/BENCHMARKS.md`. What always holds: a contest depends on its
//! fields and nothing else; rates are content, counted at the receiver, after a time to settle.

use std::time::Duration;

use cubed_transport::Limits;

use crate::link::{LinkConfig, LinkCounters};
use crate::race::{Cubed, Lie, Lying, Place, PlainReceiver, PlainSender, Race, Racer, Side};

/// Datagrams that a lying receiver takes honestly: the handshake and the first window.
const HONEST_ARRIVALS: u64 = 20;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A Cubed session.
    Cubed,
    /// A plain CUBIC flow.
    Plain,
}

/// Senders, a bottleneck, and for how long.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The bottleneck, both ways.
    pub link: LinkConfig,
    /// The senders.
    pub contenders: Vec<Contender>,
    /// Whether all Cubed senders send to one node; else each has a receiver of its own.
    pub incast: bool,
    /// Each sender begins this much after the one before.
    pub stagger: Duration,
    /// What is not measured.
    pub settle: Duration,
    /// What is measured.
    pub measure: Duration,
    /// What the receivers of Cubed senders lie about.
    pub lie: Option<Lie>,
    /// Limits of the Cubed nodes.
    pub limits: Limits,
    /// Decides losses.
    pub seed: u64,
    /// Of how many lanes that compete as one flow each Cubed sender is one.
    pub lanes: u16,
}

/// What came of a contest.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Content per second and sender, in bits.
    pub rates: Vec<f64>,
    /// What became of the packets.
    pub link: LinkCounters,
    /// Datagrams sent while measured, those lost included.
    pub sent: u64,
    /// For people: each sender at the end.
    pub senders: Vec<String>,
}

impl Contest {
    /// A contest over a link of this rate in bit/s and round trip, with a queue of one bandwidth-delay product and a
    /// jitter of a fiftieth of the round trip: without any, whose packets a full queue drops would be a matter of phase.
    pub fn new(rate: u64, rtt: Duration, contenders: &[Contender]) -> Self {
        let (delay, jitter) = (rtt / 2, rtt / 50);
        Self {
            link: LinkConfig { rate: Some(rate), delay, jitter, ..LinkConfig::default() },
            contenders: contenders.to_vec(),
            incast: false,
            lie: None,
            stagger: Duration::from_millis(10),
            settle: Duration::from_secs(1),
            measure: Duration::from_secs(2),
            limits: Limits { log_bytes_max: 64 << 20, ..Limits::default() },
            seed: 1,
            lanes: 1,
        }
    }

    /// The same with all Cubed senders as lanes of one node.
    #[must_use]
    pub fn coupled(mut self) -> Self {
        self.lanes = self.contenders.iter().filter(|one| **one == Contender::Cubed).count() as u16;
        self
    }

    /// The same for other times: what is not measured, and what is.
    #[must_use]
    pub fn lasting(self, settle: Duration, measure: Duration) -> Self {
        Self { settle, measure, ..self }
    }

    /// The same over a link that loses this many of a million, both ways.
    #[must_use]
    pub fn losing(mut self, loss: u32) -> Self {
        self.link.loss = loss;
        self
    }

    /// Runs it.
    pub fn run(&self) -> Shares {
        let mut race = Race::new(self.seed, &self.link);
        let mut pairs = Vec::new();
        let shared = self.incast.then(|| {
            let place = race.next_place();
            let receiver = Box::new(Cubed::receiver(place, &self.limits));
            race.enter(Side::Right, Duration::ZERO, receiver)
        });
        for (number, contender) in self.contenders.iter().enumerate() {
            let begin = self.stagger * number as u32;
            pairs.push(self.enter(&mut race, *contender, begin, shared));
        }
        race.run_until(self.settle);
        let received = |race: &Race| -> Vec<u64> {
            pairs.iter().map(|(from, to)| race.racer(*to).received_from(*from)).collect()
        };
        let before = received(&race);
        let sent_before = race.link_counters(Side::Right).offered;
        race.run_until(self.settle + self.measure);
        let rates = received(&race)
            .into_iter()
            .zip(before)
            .map(|(after, before)| (after - before) as f64 * 8.0 / self.measure.as_secs_f64());
        Shares {
            rates: rates.collect(),
            sent: race.link_counters(Side::Right).offered - sent_before,
            link: race.link_counters(Side::Right),
            senders: pairs.iter().map(|(from, _)| race.racer(*from).describe()).collect(),
        }
    }

    /// Lets a sender and its receiver in.
    fn enter(
        &self,
        race: &mut Race,
        contender: Contender,
        begin: Duration,
        shared: Option<Place>,
    ) -> (Place, Place) {
        let limits = &self.limits;
        let place = race.next_place();
        let sender_place = if shared.is_some() { place } else { place + 1 };
        let receiver = shared.unwrap_or(place);
        if shared.is_none() {
            match contender {
                Contender::Cubed => {
                    let receiver: Box<dyn Racer> = match self.lie {
                        Some(lie) => Box::new(Lying::new(place, limits, lie, HONEST_ARRIVALS)),
                        None => Box::new(Cubed::receiver(place, limits)),
                    };
                    race.enter(Side::Right, Duration::ZERO, receiver);
                }
                Contender::Plain => {
                    let receiver = Box::new(PlainReceiver::new(sender_place));
                    race.enter(Side::Right, Duration::ZERO, receiver);
                }
            }
        }
        match contender {
            Contender::Cubed => {
                let mut sender = Cubed::sender(sender_place, receiver, limits);
                sender.couple(self.lanes);
                race.enter(Side::Left, begin, Box::new(sender))
            }
            Contender::Plain => race.enter(Side::Left, begin, Box::new(PlainSender::new(receiver))),
        };
        (sender_place, receiver)
    }
}

impl Shares {
    /// All together, bit/s.
    pub fn total(&self) -> f64 {
        self.rates.iter().sum()
    }

    /// Whether nine tenths of the link carried content.
    pub fn is_full(&self, contest: &Contest) -> bool {
        contest.link.rate.is_none_or(|rate| self.total() >= 0.9 * rate as f64)
    }

    /// The least rate over the fair one.
    pub fn least_of_fair(&self) -> f64 {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        least * self.rates.len() as f64 / self.total()
    }

    /// The greatest rate over the fair one.
    pub fn greatest_of_fair(&self) -> f64 {
        let greatest = self.rates.iter().copied().fold(0.0, f64::max);
        greatest * self.rates.len() as f64 / self.total()
    }

    /// The least rate over the greatest.
    pub fn least_of_greatest(&self) -> f64 {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        least / self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The part of all that this sender got.
    pub fn share(&self, sender: usize) -> f64 {
        self.rates[sender] / self.total()
    }
}
