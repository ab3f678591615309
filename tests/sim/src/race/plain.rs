//! A plain CUBIC flow to compete against: RFC 9438 in the frame of RFC 9002, and none of Cubed's code.
//!
//! Owns a sender that always has data and a receiver that acknowledges every second packet. Like a TCP of an operating
//! system it is driven by acknowledgements and not paced. Windows count packets. What always holds: each packet number is
//! sent once, so every arrival is content.

use std::collections::VecDeque;
use std::time::Duration;

use cubed_transport::time::Instant;

use super::{Departure, Packet, Place, Racer};

/// Bytes of a data packet on the wire, as a full datagram of Cubed.
const PACKET_BYTES: usize = 1_452;
/// Bytes of content in it.
const CONTENT_BYTES: u64 = 1_400;
const ACK_BYTES: usize = 60;
/// RFC 9002 section 6.1.1.
const PACKET_THRESHOLD: u64 = 3;
/// RFC 9002 section 6.2: the receiver's longest delay, and the timer's grain.
const ACK_DELAY_MAX: Duration = Duration::from_millis(25);
const GRAIN: Duration = Duration::from_millis(1);
/// RFC 9438 sections 5.1 and 4.6.
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// Ranges in one acknowledgement.
const RANGES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Acknowledged,
    Lost,
}

/// The sending end.
#[derive(Debug)]
pub struct PlainSender {
    to: Place,
    /// Number of `sent[0]`.
    base: u64,
    sent: VecDeque<(Instant, State)>,
    in_flight: u64,
    largest_acked: Option<u64>,
    window: f64,
    slow_start_threshold: f64,
    plateau: f64,
    window_before_cut: f64,
    reno_window: f64,
    epoch: Option<(Instant, f64)>,
    recovery_start: Option<Instant>,
    smoothed: Duration,
    variance: Duration,
    latest: Duration,
    loss_time: Option<Instant>,
    probes: u32,
    last_sent: Instant,
    losses: u64,
    cuts: u64,
}

impl PlainSender {
    /// A sender to the receiver at this place.
    pub fn new(to: Place) -> Self {
        Self {
            to,
            base: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            largest_acked: None,
            window: 10.0,
            slow_start_threshold: f64::INFINITY,
            plateau: 0.0,
            window_before_cut: 0.0,
            reno_window: 0.0,
            epoch: None,
            recovery_start: None,
            smoothed: Duration::ZERO,
            variance: Duration::ZERO,
            latest: Duration::ZERO,
            loss_time: None,
            probes: 0,
            last_sent: Instant::default(),
            losses: 0,
            cuts: 0,
        }
    }

    /// The window in packets.
    pub fn window(&self) -> f64 {
        self.window
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    fn on_ack(&mut self, now: Instant, ranges: &[(u64, u64)]) {
        let next = self.base + self.sent.len() as u64;
        let mut newest = None;
        let mut acked = 0;
        for &(low, high) in ranges {
            for number in low.max(self.base)..(high + 1).min(next) {
                let (at, state) = &mut self.sent[(number - self.base) as usize];
                if *state == State::Waiting {
                    self.in_flight -= 1;
                    newest = newest.max(Some((number, *at)));
                    acked += u64::from(self.recovery_start.is_none_or(|start| *at > start));
                }
                *state = State::Acknowledged;
            }
        }
        if let Some((number, at)) = newest {
            self.probes = 0;
            if self.largest_acked < Some(number) {
                self.largest_acked = Some(number);
                self.sample(now.saturating_duration_since(at));
            }
        }
        for _ in 0..acked {
            self.grow(now);
        }
        self.detect_losses(now);
    }

    fn sample(&mut self, latest: Duration) {
        self.latest = latest;
        if self.smoothed.is_zero() {
            (self.smoothed, self.variance) = (latest, latest / 2);
            return;
        }
        self.variance = (self.variance * 3 + self.smoothed.abs_diff(latest)) / 4;
        self.smoothed = (self.smoothed * 7 + latest) / 8;
    }

    /// One packet acknowledged: RFC 9438 sections 4.2 to 4.5.
    fn grow(&mut self, now: Instant) {
        if self.window < self.slow_start_threshold {
            self.window += 1.0;
            return;
        }
        let (start, k) = *self.epoch.get_or_insert_with(|| {
            self.plateau = self.plateau.max(self.window);
            self.reno_window = self.window;
            (now, ((self.plateau - self.window) / C).cbrt())
        });
        let at = |seconds: f64| self.plateau + C * (seconds - k).powi(3);
        let elapsed = now.saturating_duration_since(start).as_secs_f64();
        let grown = self.reno_window >= self.window_before_cut;
        let alpha = if grown { 1.0 } else { 3.0 * (1.0 - BETA) / (1.0 + BETA) };
        self.reno_window += alpha / self.window;
        if at(elapsed) < self.reno_window {
            self.window = self.window.max(self.reno_window);
            return;
        }
        let target = at(elapsed + self.smoothed.as_secs_f64());
        let target = target.clamp(self.window, 1.5 * self.window);
        self.window += (target - self.window) / self.window;
    }

    fn detect_losses(&mut self, now: Instant) {
        self.loss_time = None;
        let Some(largest) = self.largest_acked else { return };
        let delay = (self.smoothed.max(self.latest) * 9 / 8).max(GRAIN);
        let mut newest = None;
        for (index, (at, state)) in self.sent.iter_mut().enumerate() {
            let number = self.base + index as u64;
            if number >= largest {
                break;
            }
            if *state != State::Waiting {
                continue;
            }
            if largest - number < PACKET_THRESHOLD && *at + delay > now {
                self.loss_time = Some(*at + delay);
                break;
            }
            *state = State::Lost;
            self.in_flight -= 1;
            self.losses += 1;
            newest = newest.max(Some(*at));
        }
        while self.sent.front().is_some_and(|(_, state)| *state != State::Waiting) {
            self.sent.pop_front();
            self.base += 1;
        }
        if newest > self.recovery_start {
            self.cut(now);
        }
    }

    fn cut(&mut self, now: Instant) {
        self.cuts += 1;
        let shrinking = self.window < self.plateau;
        self.plateau = if shrinking { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window_before_cut = self.window;
        self.window = (self.window * BETA).max(2.0);
        self.slow_start_threshold = self.window;
        self.epoch = None;
        self.recovery_start = Some(now);
    }

    fn probe_at(&self) -> Option<Instant> {
        let base = if self.smoothed.is_zero() {
            Duration::from_secs(1)
        } else {
            self.smoothed + (self.variance * 4).max(GRAIN) + ACK_DELAY_MAX
        };
        (self.in_flight > 0).then(|| self.last_sent + base * (1 << self.probes.min(6)))
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Departure>) {
        let number = self.base + self.sent.len() as u64;
        self.sent.push_back((now, State::Waiting));
        self.in_flight += 1;
        self.last_sent = now;
        out.push((self.to, PACKET_BYTES, Packet::Data(number)));
    }
}

impl Racer for PlainSender {
    fn arrive(&mut self, now: Instant, _: Place, packet: Packet) {
        if let Packet::Ack(ranges) = packet {
            self.on_ack(now, &ranges);
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Departure>) {
        if self.loss_time.is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        if self.probe_at().is_some_and(|at| at <= now) {
            self.probes += 1;
            self.send(now, out);
        }
        while (self.in_flight as f64) < self.window.floor() {
            self.send(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.loss_time, self.probe_at()].into_iter().flatten().min()
    }

    fn received_from(&self, _: Place) -> u64 {
        0
    }

    fn describe(&self) -> String {
        let Self { window, smoothed, losses, cuts, .. } = self;
        format!("plain: window {window:.1} packets, rtt {smoothed:?}, lost {losses}, cuts {cuts}")
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct PlainReceiver {
    from: Place,
    /// Highest first.
    ranges: VecDeque<(u64, u64)>,
    unacknowledged: u32,
    ack_now: bool,
    ack_at: Option<Instant>,
    packets: u64,
}

impl PlainReceiver {
    /// A receiver from the sender at this place.
    pub fn new(from: Place) -> Self {
        let ranges = VecDeque::new();
        Self { from, ranges, unacknowledged: 0, ack_now: false, ack_at: None, packets: 0 }
    }

    /// Notes a number; false when it is known.
    fn note(&mut self, number: u64) -> bool {
        let index = self.ranges.partition_point(|range| range.0 > number);
        if self.ranges.get(index).is_some_and(|range| number <= range.1) {
            return false;
        }
        self.ranges.insert(index, (number, number));
        for upper in [index, index.saturating_sub(1)] {
            if let (Some(&high), Some(&low)) = (self.ranges.get(upper), self.ranges.get(upper + 1))
                && low.1 + 1 == high.0
            {
                self.ranges[upper].0 = low.0;
                self.ranges.remove(upper + 1);
            }
        }
        self.ranges.truncate(RANGES_MAX);
        true
    }
}

impl Racer for PlainReceiver {
    fn arrive(&mut self, now: Instant, _: Place, packet: Packet) {
        let Packet::Data(number) = packet else { return };
        let expected = self.ranges.front().map_or(0, |range| range.1 + 1);
        self.packets += u64::from(self.note(number));
        self.unacknowledged += 1;
        self.ack_now |= number != expected || self.unacknowledged >= 2;
        self.ack_at.get_or_insert(now + ACK_DELAY_MAX);
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Departure>) {
        if self.ack_now || self.ack_at.is_some_and(|at| at <= now) {
            self.ack_now = false;
            self.ack_at = None;
            self.unacknowledged = 0;
            out.push((self.from, ACK_BYTES, Packet::Ack(self.ranges.iter().copied().collect())));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.ack_at
    }

    fn received_from(&self, _: Place) -> u64 {
        self.packets * CONTENT_BYTES
    }

    fn describe(&self) -> String {
        format!("plain receiver: {} packets", self.packets)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the competitor is a competitor: alone it fills a link, and its window is a saw.
    use super::super::{Race, Side};
    use super::*;
    use crate::link::LinkConfig;

    #[test]
    fn ranges_join_from_both_sides_and_duplicates_count_once() {
        let mut receiver = PlainReceiver::new(0);
        for number in [0, 4, 2, 3, 3, 1, 9] {
            receiver.arrive(Instant::default(), 0, Packet::Data(number));
        }
        assert_eq!(receiver.ranges, [(9, 9), (0, 4)]);
        assert_eq!(receiver.packets, 6);
    }

    #[test]
    fn alone_it_fills_the_link() {
        let delay = Duration::from_millis(10);
        let link = LinkConfig { rate: Some(10_000_000), delay, ..LinkConfig::default() };
        let mut race = Race::new(1, &link);
        race.enter(Side::Left, Duration::ZERO, Box::new(PlainSender::new(1)));
        race.enter(Side::Right, Duration::ZERO, Box::new(PlainReceiver::new(0)));
        race.run_until(Duration::from_secs(3));
        let before = race.racer(1).received_from(0);
        race.run_until(Duration::from_secs(13));
        let measured = (race.racer(1).received_from(0) - before) as f64 * 8.0 / 10.0;
        let most = 10e6 * CONTENT_BYTES as f64 / PACKET_BYTES as f64;
        assert!(measured > 0.95 * most && measured <= most * 1.01, "{measured} of {most} bit/s");
        assert!(race.link_counters(Side::Right).overflowed > 3, "a saw has teeth");
    }

    #[test]
    fn its_window_is_cut_to_seven_tenths_and_grows_back_in_k_seconds() {
        let mut sender = PlainSender::new(1);
        let mut now = Instant::from_nanos(1_000_000_000);
        sender.window = 1_000.0;
        sender.smoothed = Duration::from_millis(100);
        sender.cut(now);
        assert!((sender.window - 700.0).abs() < 1e-9);
        // RFC 9438 section 4.2: K = cbrt(300 / 0.4), 9.1 s.
        let begun = now;
        while sender.window < 999.5 {
            for _ in 0..sender.window as u64 {
                sender.grow(now);
            }
            now += Duration::from_millis(100);
        }
        let took = now.saturating_duration_since(begun).as_secs_f64();
        assert!((took - 750_f64.cbrt()).abs() < 1.2, "{took} s");
    }
}
