//! Owns what one packet number space remembers of the datagrams it sent: a few words each, nothing per message
//! (RFC 9002 section 6 and appendix A).
//!
//! What always holds: `bytes_in_flight` is the sum over the records still in flight; records stand in packet number order
//! without gaps (a number skipped on purpose has a record too).

use std::collections::VecDeque;
use std::time::Duration;

use crate::ranges::Ack;
use crate::rtt::RttEstimator;
use crate::time::Instant;

/// RFC 9002 section 6.1.1: packets acknowledged above a missing one before it counts as lost.
const PACKET_THRESHOLD_INITIAL: u64 = 3;
/// The threshold after proven reordering never passes this.
const PACKET_THRESHOLD_MAX: u64 = 1_024;
/// Lost packets remembered, to notice that a loss was spurious.
const LOST_REMEMBERED_MAX: usize = 64;

/// Control frames that a datagram carried; told again when it is lost.
pub(crate) mod control {
    /// The greeting record.
    pub(crate) const GREETING: u8 = 1;
    /// CREDIT frames.
    pub(crate) const CREDIT: u8 = 1 << 1;
    /// A SETTLED frame with refusals.
    pub(crate) const REFUSALS: u8 = 1 << 2;
    /// BLOCKED frames.
    pub(crate) const BLOCKED: u8 = 1 << 3;
    /// SKIP frames.
    pub(crate) const SKIP: u8 = 1 << 4;
}

/// Skipped numbers remembered: the newest, which a receiver that acknowledges blindly comes to.
const SKIPPED_REMEMBERED_MAX: usize = 8;

/// No block in this datagram.
pub(crate) const NO_BLOCK: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Done,
}

/// One datagram sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentPacket {
    pub(crate) time: Instant,
    /// Block carried, or [`NO_BLOCK`].
    pub(crate) block: u64,
    pub(crate) bytes: u16,
    /// Bits of [`control`].
    pub(crate) control: u8,
    state: State,
}

/// What an acknowledgement told about the space as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckSummary {
    /// Bytes newly acknowledged.
    pub(crate) bytes: u64,
    /// Send time of the largest newly acknowledged packet, when that is the largest acknowledged: an RTT sample.
    pub(crate) rtt_from: Option<Instant>,
    /// Send time of the newest packet newly acknowledged.
    pub(crate) newest: Option<Instant>,
    /// Some packet counted as lost had arrived after all.
    pub(crate) spurious: u64,
}

/// The receiver acknowledged what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LyingReceiver;

/// Sent packets of one space.
#[derive(Debug)]
pub(crate) struct SentPackets {
    /// Packet number of `packets[0]`.
    base: u64,
    packets: VecDeque<SentPacket>,
    largest_acked: Option<u64>,
    bytes_in_flight: u64,
    /// When the oldest suspect becomes lost by time.
    loss_time: Option<Instant>,
    last_sent: Instant,
    packet_threshold: u64,
    remembered: VecDeque<u64>,
    /// Numbers never sent, newest last: acknowledging one proves a lying receiver.
    skipped: VecDeque<u64>,
}

impl SentPackets {
    pub(crate) fn new() -> Self {
        Self {
            base: 0,
            packets: VecDeque::new(),
            largest_acked: None,
            bytes_in_flight: 0,
            loss_time: None,
            last_sent: Instant::default(),
            packet_threshold: PACKET_THRESHOLD_INITIAL,
            remembered: VecDeque::new(),
            skipped: VecDeque::new(),
        }
    }

    /// Records kept.
    #[inline]
    pub(crate) fn records(&self) -> usize {
        self.packets.len()
    }

    /// Memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.packets.capacity() * size_of::<SentPacket>()
    }

    /// Number of the next packet.
    #[inline]
    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Records an ack-eliciting datagram just sealed under [`SentPackets::next_number`].
    #[inline]
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize, block: u64, control: u8) {
        self.bytes_in_flight += bytes as u64;
        self.last_sent = now;
        let bytes = bytes as u16;
        let state = State::InFlight;
        self.packets.push_back(SentPacket { time: now, block, bytes, control, state });
    }

    /// Records a datagram that asks for no acknowledgement.
    pub(crate) fn on_sent_silent(&mut self, now: Instant) {
        self.push_done(now);
    }

    /// Leaves out the next number.
    pub(crate) fn skip(&mut self, now: Instant) {
        if self.skipped.len() == SKIPPED_REMEMBERED_MAX {
            self.skipped.pop_front();
        }
        self.skipped.push_back(self.next_number());
        self.push_done(now);
    }

    fn push_done(&mut self, time: Instant) {
        if self.packets.is_empty() {
            self.base += 1;
            return;
        }
        let state = State::Done;
        self.packets.push_back(SentPacket { time, block: NO_BLOCK, bytes: 0, control: 0, state });
    }

    /// Bytes of ack-eliciting datagrams neither acknowledged nor lost.
    #[inline]
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// Time of the last ack-eliciting send.
    #[inline]
    pub(crate) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// When [`SentPackets::detect_losses`] should run although no acknowledgement came.
    #[inline]
    pub(crate) fn loss_time(&self) -> Option<Instant> {
        self.loss_time
    }

    /// Takes one acknowledgement; `on_acked` sees each packet newly acknowledged.
    ///
    /// # Errors
    /// [`LyingReceiver`] when a number was acknowledged that was never sent.
    pub(crate) fn on_ack(
        &mut self,
        ack: &Ack<'_>,
        mut on_acked: impl FnMut(&SentPacket),
    ) -> Result<AckSummary, LyingReceiver> {
        if ack.largest >= self.next_number() {
            return Err(LyingReceiver);
        }
        let mut summary = AckSummary::default();
        for range in ack.ranges() {
            let (low, high) = range;
            if self.skipped.iter().any(|number| (low..=high).contains(number)) {
                return Err(LyingReceiver);
            }
            if !self.remembered.is_empty() {
                summary.spurious += self.take_spurious(low, high, ack.largest);
            }
            if high < self.base {
                if self.remembered.is_empty() {
                    break;
                }
                continue;
            }
            let first = (low.max(self.base) - self.base) as usize;
            let last = (high - self.base) as usize;
            for packet in self.packets.range_mut(first..=last) {
                match packet.state {
                    State::InFlight => {
                        packet.state = State::Done;
                        self.bytes_in_flight -= u64::from(packet.bytes);
                        summary.bytes += u64::from(packet.bytes);
                        summary.newest = summary.newest.max(Some(packet.time));
                        on_acked(packet);
                    }
                    State::Done => {}
                }
            }
        }
        if self.largest_acked < Some(ack.largest) {
            self.largest_acked = Some(ack.largest);
            summary.rtt_from = summary.newest;
        }
        self.forget_done();
        Ok(summary)
    }

    /// Counts remembered losses within the range, and raises the packet threshold above the reordering that they prove.
    fn take_spurious(&mut self, low: u64, high: u64, largest: u64) -> u64 {
        let before = self.remembered.len();
        let mut distance = 0;
        self.remembered.retain(|&number| {
            let arrived = (low..=high).contains(&number);
            if arrived {
                distance = distance.max(largest - number);
            }
            !arrived
        });
        if distance > 0 {
            let threshold = self.packet_threshold.max(distance + 1);
            self.packet_threshold = threshold.min(PACKET_THRESHOLD_MAX);
        }
        (before - self.remembered.len()) as u64
    }

    /// Declares packets lost (RFC 9002 section 6.1); `on_lost` sees each. Returns the send time of the newest, and sets
    /// [`SentPackets::loss_time`].
    pub(crate) fn detect_losses(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
        mut on_lost: impl FnMut(&SentPacket),
    ) -> Option<Instant> {
        self.loss_time = None;
        let largest = self.largest_acked?;
        let delay = rtt.loss_delay();
        let mut newest = None;
        let mut index = 0;
        while let Some(packet) = self.packets.get_mut(index) {
            let number = self.base + index as u64;
            if number >= largest {
                break;
            }
            index += 1;
            if packet.state != State::InFlight {
                continue;
            }
            let by_time = packet.time + delay <= now;
            if !by_time && largest - number < self.packet_threshold {
                self.loss_time = Some(packet.time + delay);
                break;
            }
            packet.state = State::Done;
            self.bytes_in_flight -= u64::from(packet.bytes);
            newest = newest.max(Some(packet.time));
            on_lost(packet);
            if self.remembered.len() == LOST_REMEMBERED_MAX {
                self.remembered.pop_front();
            }
            self.remembered.push_back(number);
        }
        self.forget_done();
        newest
    }

    /// How long after the last send the probe timer fires, before back-off (RFC 9002 section 6.2.1).
    pub(crate) fn probe_delay(rtt: &RttEstimator, ack_delay_max: Duration) -> Duration {
        rtt.pto_base() + ack_delay_max
    }

    /// Gives up everything in flight (nothing more is sent under these keys that could prove a loss); `on_lost` sees each.
    /// Numbers are never used again.
    pub(crate) fn give_up(&mut self, on_lost: impl FnMut(&SentPacket)) {
        let in_flight = self.packets.iter().filter(|packet| packet.state == State::InFlight);
        in_flight.for_each(on_lost);
        self.base = self.next_number();
        self.packets.clear();
        self.bytes_in_flight = 0;
        self.loss_time = None;
    }

    fn forget_done(&mut self) {
        while let Some(packet) = self.packets.front()
            && packet.state == State::Done
        {
            self.packets.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: losses by count and by time, spurious ones noticed, lies caught, bytes in flight conserved.
    use super::*;
    use crate::ranges::{RangeSet, decode_ack, encode_ack};
    use crate::varint::Reader;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    fn ack(sent: &mut SentPackets, numbers: &[u64]) -> Result<AckSummary, LyingReceiver> {
        let mut ranges = RangeSet::new(32);
        for &number in numbers {
            ranges.insert(number);
        }
        let mut bytes = Vec::new();
        encode_ack(&ranges, 0, 32, &mut bytes);
        let ack = decode_ack(&mut Reader::new(&bytes)).unwrap();
        sent.on_ack(&ack, |_| {})
    }

    fn five_sent() -> SentPackets {
        let mut sent = SentPackets::new();
        for number in 0..5 {
            sent.on_sent(at(number), 100, number, 0);
        }
        sent
    }

    #[test]
    fn three_above_make_a_loss() {
        let mut sent = five_sent();
        ack(&mut sent, &[3]).unwrap();
        let rtt = RttEstimator::new(Duration::from_millis(100));
        let mut lost = Vec::new();
        assert_eq!(sent.detect_losses(at(5), &rtt, |p| lost.push(p.block)), Some(at(0)));
        assert_eq!(lost, [0]);
        assert!(sent.loss_time().is_some());
        assert_eq!(sent.bytes_in_flight(), 300);
    }

    #[test]
    fn time_makes_a_loss() {
        let mut sent = five_sent();
        ack(&mut sent, &[1]).unwrap();
        let rtt = RttEstimator::new(Duration::from_millis(8));
        let mut lost = Vec::new();
        sent.detect_losses(at(20_000), &rtt, |p| lost.push(p.block));
        assert_eq!(lost, [0]);
    }

    #[test]
    fn spurious_losses_raise_the_threshold() {
        let mut sent = five_sent();
        ack(&mut sent, &[4]).unwrap();
        let rtt = RttEstimator::new(Duration::from_millis(100));
        sent.detect_losses(at(5), &rtt, |_| {});
        let summary = ack(&mut sent, &[0, 4]).unwrap();
        assert_eq!(summary.spurious, 1);
        assert_eq!(sent.packet_threshold, 5);
    }

    #[test]
    fn unsent_and_skipped_numbers_are_lies() {
        let mut sent = five_sent();
        assert_eq!(ack(&mut sent, &[5]).unwrap_err(), LyingReceiver);
        sent.skip(at(6));
        sent.on_sent(at(7), 100, 7, 0);
        assert_eq!(ack(&mut sent, &[4, 5, 6]).unwrap_err(), LyingReceiver);
        assert!(ack(&mut sent, &[4, 6]).is_ok());
    }
}
