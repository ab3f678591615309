//! Owns what one packet number space remembers of the datagrams it sent: a few words each, nothing per message
//! (RFC 9002 section 6 and appendix A).
//!
//! What always holds: `bytes_in_flight` is the sum over the records still in flight; records stand in packet number order
//! without gaps (a number skipped on purpose has a record too).

mod dormant;
mod patience;

use std::collections::VecDeque;
use std::time::Duration;

use crate::ranges::Ack;
use crate::rtt::RttEstimator;
use crate::time::Instant;

pub(crate) use dormant::DormantSent;
use patience::Patience;

/// Lost packets remembered, to notice that a loss was spurious.
const LOST_REMEMBERED_MAX: usize = 1_024;

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
    Acknowledged,
    /// Lost, or never to be acknowledged.
    Done,
}

/// What a datagram carried, beside control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// The block, or none.
    Whole,
    /// This part of the block.
    Part(u8),
    /// Padding: a probe of the path's limit, whose length stands in the block's place.
    SizeProbe,
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
    pub(crate) cargo: Cargo,
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
    /// Packets counted as lost that had arrived after all.
    pub(crate) spurious: u64,
}

/// What [`SentPackets::detect_losses`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Send time of the newest packet lost that counted as in flight; none when none was.
    pub(crate) newest: Option<Instant>,
    /// Bytes of those.
    pub(crate) bytes: u64,
    /// Longest time between two of them with nothing acknowledged in between (RFC 9002 section 7.6.2), and when it began.
    pub(crate) span: Duration,
    pub(crate) span_begun: Instant,
}

/// A packet counted as lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    number: u64,
    sent: Instant,
    declared: Instant,
    by_time: bool,
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
    patience: Patience,
    /// Ascending by number and by the time they were declared.
    remembered: VecDeque<Lost>,
    /// When the newest of those that are no longer remembered, or arrived too late to be believed, was declared lost.
    forgotten: Option<Instant>,
    /// When the newest loss was declared that proved reordering.
    proven: Option<Instant>,
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
            patience: Patience::new(),
            remembered: VecDeque::new(),
            forgotten: None,
            proven: None,
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
        self.on_sent_cargo(now, bytes, block, control, Cargo::Whole);
    }

    /// The same for any cargo. A datagram of zero bytes is outside the congestion window: its loss tells nothing of it.
    #[inline]
    pub(crate) fn on_sent_cargo(
        &mut self,
        now: Instant,
        bytes: usize,
        block: u64,
        control: u8,
        cargo: Cargo,
    ) {
        self.bytes_in_flight += bytes as u64;
        self.last_sent = now;
        let bytes = bytes as u16;
        let state = State::InFlight;
        self.packets.push_back(SentPacket { time: now, block, bytes, control, cargo, state });
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
        let (block, cargo, state) = (NO_BLOCK, Cargo::Whole, State::Done);
        self.packets.push_back(SentPacket { time, block, bytes: 0, control: 0, cargo, state });
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

    /// Takes one acknowledgement; `on_acked` sees each packet newly acknowledged. Costs a step per record between the lowest
    /// and the largest number acknowledged, and per range 8 comparisons with skipped numbers and two searches among 1,024
    /// losses. A datagram acknowledges once, in at most 32 ranges: at most 256 comparisons and 64 searches.
    ///
    /// # Errors
    /// [`LyingReceiver`] when a number was acknowledged that was never sent.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
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
                self.take_spurious(now, rtt, (low, high), ack.largest, &mut summary);
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
                if packet.state == State::InFlight {
                    packet.state = State::Acknowledged;
                    self.bytes_in_flight -= u64::from(packet.bytes);
                    summary.bytes += u64::from(packet.bytes);
                    summary.newest = summary.newest.max(Some(packet.time));
                    on_acked(packet);
                }
            }
        }
        if self.largest_acked < Some(ack.largest) {
            self.largest_acked = Some(ack.largest);
            // RFC 9002 section 5.1: the sample is the largest packet's own, and something eliciting is newly acknowledged.
            let largest = ack.largest.checked_sub(self.base);
            let largest = largest.and_then(|index| self.packets.get(index as usize));
            summary.rtt_from = summary.newest.and(largest).map(|packet| packet.time);
        }
        self.forget_done();
        Ok(summary)
    }

    /// [`SentPackets::on_ack`] where nothing can have been counted as lost.
    ///
    /// # Errors
    /// [`LyingReceiver`] when a number was acknowledged that was never sent.
    pub(crate) fn on_ack_of_greeting(
        &mut self,
        ack: &Ack<'_>,
        on_acked: impl FnMut(&SentPacket),
    ) -> Result<AckSummary, LyingReceiver> {
        self.on_ack(Instant::default(), &RttEstimator::default(), ack, on_acked)
    }

    /// Counts remembered losses within the range, and grows patient by the reordering that they prove.
    #[cold]
    fn take_spurious(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
        (low, high): (u64, u64),
        largest: u64,
        summary: &mut AckSummary,
    ) {
        let first = self.remembered.partition_point(|lost| lost.number < low);
        let end = self.remembered.partition_point(|lost| lost.number <= high);
        for lost in self.remembered.drain(first..end) {
            summary.spurious += 1;
            // A receiver that saw the retransmission knows that the first copy was lost, and can claim that it was not.
            if now >= lost.declared + rtt.min() {
                self.forgotten = self.forgotten.max(Some(lost.declared));
                continue;
            }
            let late = now.saturating_duration_since(lost.sent);
            let distance = (!lost.by_time).then_some(largest - lost.number);
            if self.patience.on_spurious(distance, late, rtt) {
                self.proven = self.proven.max(Some(lost.declared));
            }
        }
    }

    /// Whether a packet counted as lost at `since` or later arrived and made us more patient.
    pub(crate) fn has_proof_since(&self, since: Instant) -> bool {
        self.proven >= Some(since)
    }

    /// Whether a packet was counted as lost at `since` or later that has not turned out to have arrived.
    pub(crate) fn has_lost_since(&self, since: Instant) -> bool {
        self.forgotten >= Some(since)
            || self.remembered.back().is_some_and(|lost| lost.declared >= since)
    }

    /// Declares packets lost (RFC 9002 section 6.1); `on_lost` sees each. Sets [`SentPackets::loss_time`].
    pub(crate) fn detect_losses(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
        mut on_lost: impl FnMut(&SentPacket),
    ) -> Losses {
        self.loss_time = None;
        let mut losses = Losses::default();
        let Some(largest) = self.largest_acked else { return losses };
        let delay = rtt.loss_delay() + self.patience.extra(rtt);
        let mut run_begun = None;
        let mut index = 0;
        while let Some(packet) = self.packets.get_mut(index) {
            let number = self.base + index as u64;
            if number >= largest {
                break;
            }
            index += 1;
            if packet.state != State::InFlight {
                if packet.state == State::Acknowledged {
                    run_begun = None;
                }
                continue;
            }
            let by_time = packet.time + delay <= now;
            if !by_time && largest - number < self.patience.packets() {
                self.loss_time = Some(packet.time + delay);
                break;
            }
            packet.state = State::Done;
            self.bytes_in_flight -= u64::from(packet.bytes);
            on_lost(packet);
            if packet.bytes == 0 {
                // Outside the congestion window: its loss tells nothing of it.
                continue;
            }
            losses.newest = losses.newest.max(Some(packet.time));
            losses.bytes += u64::from(packet.bytes);
            let begun = *run_begun.get_or_insert(packet.time);
            let span = packet.time.saturating_duration_since(begun);
            if span > losses.span {
                (losses.span, losses.span_begun) = (span, begun);
            }
            let lost = Lost { number, sent: packet.time, declared: now, by_time };
            if self.remembered.len() == LOST_REMEMBERED_MAX {
                self.forgotten =
                    self.forgotten.max(self.remembered.pop_front().map(|lost| lost.declared));
            }
            self.remembered.push_back(lost);
            self.patience.on_lost();
        }
        self.forget_done();
        losses
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
            && packet.state != State::InFlight
        {
            self.packets.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
