//! One direction of a path: what it does to datagrams.
//!
//! Owns the faults and the queue of a link. Every choice is drawn from the generator that is passed
//! in, in a fixed order, so a seed decides all of them.

use std::time::Duration;

use cubed_transport::random::Entropy;
use cubed_transport::time::Instant;

/// A probability in millionths.
pub type Millionths = u32;

/// What a link does. The default is a perfect link with a delay of 1 ms.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Datagrams that vanish.
    pub loss: Millionths,
    /// Datagrams that arrive twice.
    pub duplicate: Millionths,
    /// How much later the copy may come: as from somebody who records and repeats.
    pub copy_delay: Duration,
    /// Datagrams of which one bit flips.
    pub corrupt: Millionths,
    /// Datagrams of which an end is missing.
    pub truncate: Millionths,
    /// Datagrams that wait `reorder_delay` longer and are overtaken meanwhile.
    pub reorder: Millionths,
    /// How much longer, at most.
    pub reorder_delay: Duration,
    /// Time on the way, at least.
    pub delay: Duration,
    /// Time added at random, at most. Keeps the order.
    pub jitter: Duration,
    /// Bits per second, or as fast as one likes.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate; more are dropped. None: what the rate carries in twice the delay, which is one
    /// bandwidth-delay product.
    pub queue_bytes_max: Option<u64>,
    /// Longer datagrams are dropped, as by a router that says nothing.
    pub datagram_bytes_max: usize,
    /// Datagrams that somebody beside the path copies and sends on from an address of their own, half of them so fast that
    /// the copy comes first.
    pub spoof: Millionths,
    /// Times, since the world began, in which nothing passes.
    pub partitions: Vec<(Duration, Duration)>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            loss: 0,
            duplicate: 0,
            copy_delay: Duration::ZERO,
            corrupt: 0,
            truncate: 0,
            reorder: 0,
            reorder_delay: Duration::ZERO,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            rate: None,
            queue_bytes_max: None,
            datagram_bytes_max: 65_507,
            spoof: 0,
            partitions: Vec::new(),
        }
    }
}

/// What became of the datagrams that a link was given.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LinkCounters {
    /// Given to the link.
    pub offered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost to a partition.
    pub cut: u64,
    /// Lost to a full queue.
    pub overflowed: u64,
    /// Lost because they were too long.
    pub oversized: u64,
    /// Arrived a second time.
    pub duplicated: u64,
    /// Arrived with a flipped bit.
    pub corrupted: u64,
    /// Arrived from elsewhere as well.
    pub spoofed: u64,
    /// Arrived without its end.
    pub truncated: u64,
}

/// What happens to one datagram: when it arrives, if it does, and in what state.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Fate {
    /// Its arrival; `None` when it is lost.
    pub arrival: Option<Instant>,
    /// The arrival of its copy. The copy is never the damaged one.
    pub copy: Option<Instant>,
    /// The arrival of a copy from somebody else's address.
    pub spoofed: Option<Instant>,
    /// The bit that flips, counted from the first byte's lowest.
    pub flipped_bit: Option<usize>,
    /// How many bytes are left of it; none when that is all of them. The copy is never cut.
    pub cut_to: Option<usize>,
}

/// A link and its state.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    counters: LinkCounters,
    /// When the last bit of the queue will have left.
    sent_until: Instant,
    /// Before this nothing may arrive in order.
    arrived_until: Instant,
}

impl Link {
    /// A link with nothing on it.
    pub fn new(config: LinkConfig) -> Self {
        let never = Instant::default();
        Self { config, counters: LinkCounters::default(), sent_until: never, arrived_until: never }
    }

    /// Changes what the link does; what is on the way arrives as it would have.
    pub fn set(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// What became of the datagrams so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Decides what happens to a datagram of `bytes` that leaves at `now`, in a world begun at `begun`.
    pub fn decide(
        &mut self,
        begun: Instant,
        now: Instant,
        bytes: usize,
        chance: &mut impl Entropy,
    ) -> Fate {
        self.counters.offered += 1;
        if bytes > self.config.datagram_bytes_max {
            self.counters.oversized += 1;
            return Fate::default();
        }
        let Some(left) = self.enqueue(now, bytes as u64) else {
            self.counters.overflowed += 1;
            return Fate::default();
        };
        if self.is_cut(now.saturating_duration_since(begun)) {
            self.counters.cut += 1;
            return Fate::default();
        }
        if happens(self.config.loss, chance) {
            self.counters.lost += 1;
            return Fate::default();
        }
        let mut fate = Fate { arrival: Some(self.arrival(left, chance)), ..Fate::default() };
        if happens(self.config.duplicate, chance) {
            self.counters.duplicated += 1;
            let later = up_to(self.config.copy_delay, chance);
            fate.copy = Some(self.arrival(left, chance) + later);
        }
        if let Some(arrival) = fate.arrival.filter(|_| happens(self.config.spoof, chance)) {
            self.counters.spoofed += 1;
            let apart = Duration::from_micros(1 + chance.below(50));
            let is_first = chance.below(2) == 0;
            fate.spoofed = Some(if is_first { arrival - apart } else { arrival + apart });
        }
        if happens(self.config.corrupt, chance) && bytes > 0 {
            self.counters.corrupted += 1;
            fate.flipped_bit = Some(chance.below(bytes as u64 * 8) as usize);
        }
        if happens(self.config.truncate, chance) && bytes > 0 {
            self.counters.truncated += 1;
            fate.cut_to = Some(chance.below(bytes as u64) as usize);
        }
        fate
    }

    /// When the datagram's last bit leaves, or `None` when the queue has no room for it.
    fn enqueue(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let Some(rate) = self.config.rate else {
            return Some(now);
        };
        let nanos_for = |bytes: u64| Duration::from_nanos(bytes * 8_000_000_000 / rate);
        let queue_max = match self.config.queue_bytes_max {
            Some(bytes) => nanos_for(bytes),
            None => self.config.delay * 2,
        };
        let start = self.sent_until.max(now);
        let waiting = start.saturating_duration_since(now);
        // An idle link takes any datagram, however short its queue.
        if !waiting.is_zero() && waiting + nanos_for(bytes) > queue_max {
            return None;
        }
        self.sent_until = start + nanos_for(bytes);
        Some(self.sent_until)
    }

    fn is_cut(&self, age: Duration) -> bool {
        self.config.partitions.iter().any(|(from, to)| (*from..*to).contains(&age))
    }

    fn arrival(&mut self, left: Instant, chance: &mut impl Entropy) -> Instant {
        let on_time = left + self.config.delay + up_to(self.config.jitter, chance);
        if happens(self.config.reorder, chance) {
            return on_time + up_to(self.config.reorder_delay, chance);
        }
        self.arrived_until = self.arrived_until.max(on_time);
        self.arrived_until
    }
}

/// Draws whether something of this probability happens.
pub fn happens(probability: Millionths, chance: &mut impl Entropy) -> bool {
    probability > 0 && chance.below(1_000_000) < u64::from(probability)
}

/// Draws a time between zero and `longest`.
pub fn up_to(longest: Duration, chance: &mut impl Entropy) -> Duration {
    Duration::from_nanos(chance.below(longest.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    //! Goal: each fault happens as often as asked, and nothing else does.
    use super::*;
    use cubed_transport::random::SeededEntropy;

    const COUNT: u64 = 20_000;

    fn fates(config: LinkConfig) -> (Vec<Fate>, LinkCounters) {
        let mut chance = SeededEntropy::new(11);
        let mut link = Link::new(config);
        let begun = Instant::from_nanos(1_000_000_000);
        let fates = (0..COUNT)
            .map(|index| {
                link.decide(begun, begun + Duration::from_micros(index), 1_000, &mut chance)
            })
            .collect();
        (fates, link.counters())
    }

    fn near(count: u64, probability: Millionths) -> bool {
        let expected = COUNT * u64::from(probability) / 1_000_000;
        count.abs_diff(expected) < expected / 5
    }

    #[test]
    fn a_perfect_link_delays_and_keeps_order() {
        let (fates, counters) = fates(LinkConfig::default());
        assert_eq!(counters, LinkCounters { offered: COUNT, ..LinkCounters::default() });
        let arrivals: Vec<_> = fates.iter().map(|fate| fate.arrival.unwrap()).collect();
        assert!(arrivals.is_sorted());
        assert_eq!(arrivals[0], Instant::from_nanos(1_001_000_000));
    }

    #[test]
    fn copies_come_up_to_their_delay_later() {
        let copy_delay = Duration::from_secs(9);
        let (fates, counters) =
            fates(LinkConfig { duplicate: 1_000_000, copy_delay, ..LinkConfig::default() });
        assert_eq!(counters.duplicated, COUNT);
        let waits = fates.iter().map(|fate| {
            let (first, copy) = (fate.arrival.unwrap(), fate.copy.unwrap());
            copy.saturating_duration_since(first)
        });
        let waits: Vec<_> = waits.collect();
        assert!(waits.iter().all(|wait| *wait <= copy_delay));
        assert!(waits.iter().any(|wait| *wait > copy_delay.mul_f64(0.99)));
    }

    #[test]
    fn faults_happen_as_often_as_asked() {
        let config = LinkConfig {
            loss: 100_000,
            duplicate: 50_000,
            corrupt: 200_000,
            truncate: 300_000,
            ..LinkConfig::default()
        };
        let (fates, counters) = fates(config);
        assert!(near(counters.lost, 100_000), "{counters:?}");
        assert!(near(counters.duplicated, 45_000), "{counters:?}");
        assert!(near(counters.corrupted, 180_000), "{counters:?}");
        assert!(near(counters.truncated, 270_000), "{counters:?}");
        let count = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count() as u64;
        assert_eq!(count(|fate| fate.arrival.is_none()), counters.lost);
        assert_eq!(count(|fate| fate.copy.is_some()), counters.duplicated);
        assert_eq!(
            count(|fate| fate.cut_to.is_some_and(|bytes| bytes < 1_000)),
            counters.truncated
        );
        assert_eq!(
            count(|fate| fate.flipped_bit.is_some_and(|bit| bit < 8_000)),
            counters.corrupted
        );
    }

    #[test]
    fn copies_from_elsewhere_come_just_before_or_after() {
        let (fates, counters) = fates(LinkConfig { spoof: 100_000, ..LinkConfig::default() });
        assert!(near(counters.spoofed, 100_000), "{counters:?}");
        let first =
            fates.iter().filter(|fate| fate.spoofed.is_some() && fate.spoofed < fate.arrival);
        assert!(near(first.count() as u64, 50_000));
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let jitter = Duration::from_millis(5);
        let late = |fates: &[Fate]| {
            fates.windows(2).filter(|pair| pair[1].arrival < pair[0].arrival).count() as u64
        };
        let (steady, _) = fates(LinkConfig { jitter, ..LinkConfig::default() });
        assert_eq!(late(&steady), 0);
        let (mixed, _) =
            fates(LinkConfig { reorder: 100_000, reorder_delay: jitter, ..LinkConfig::default() });
        assert!(near(late(&mixed), 90_000), "{}", late(&mixed));
    }

    #[test]
    fn the_rate_spaces_datagrams_and_the_queue_overflows() {
        // 1,000 bytes each microsecond at 500 MB/s: half of them fit, and the queue holds ten.
        let config = LinkConfig {
            rate: Some(4_000_000_000),
            queue_bytes_max: Some(10_000),
            ..LinkConfig::default()
        };
        let (fates, counters) = fates(config);
        assert!(near(counters.overflowed, 500_000), "{counters:?}");
        let arrivals: Vec<_> = fates.iter().filter_map(|fate| fate.arrival).collect();
        let apart = |pair: &[Instant]| pair[1].saturating_duration_since(pair[0]);
        assert!(arrivals.windows(2).all(|pair| apart(pair) >= Duration::from_micros(2)));
    }

    #[test]
    fn the_queue_is_one_bandwidth_delay_product_unless_told() {
        // 1,000 bytes each microsecond onto 8 Mbit/s: a round trip of 10 ms is 10,000 bytes of queue.
        let delay = Duration::from_millis(5);
        let config = LinkConfig { rate: Some(8_000_000), delay, ..LinkConfig::default() };
        let (fates, counters) = fates(config);
        let first: Vec<_> = fates.iter().take(12).map(|fate| fate.arrival.is_some()).collect();
        assert_eq!(first, [[true; 10].as_slice(), &[false; 2]].concat());
        // Of 20 ms of sending 19 datagrams have left, and ten wait, the one that is leaving included.
        assert_eq!(counters.offered - counters.overflowed, 29);
    }

    #[test]
    fn nothing_passes_a_partition_or_the_largest_size() {
        let cut = (Duration::from_millis(5), Duration::from_millis(10));
        let (fates, counters) =
            fates(LinkConfig { partitions: vec![cut], ..LinkConfig::default() });
        assert_eq!(counters.cut, 5_000);
        assert!(fates[4_999].arrival.is_some() && fates[5_000].arrival.is_none());
        assert!(fates[9_999].arrival.is_none() && fates[10_000].arrival.is_some());
        let (_, counters) =
            self::fates(LinkConfig { datagram_bytes_max: 999, ..LinkConfig::default() });
        assert_eq!(counters.oversized, COUNT);
    }
}
