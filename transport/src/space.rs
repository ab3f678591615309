//! Owns the packet number space of an association: the keys of its lane, what was sent and received with them, and when
//! an acknowledgement is due.
//!
//! What always holds: a packet number is used for one datagram only; a number is recorded as received only after its
//! datagram opened and was taken.

mod dormant;

use std::time::Duration;

use crate::frame;
use crate::header::LaneHeader;
use crate::keys::{OpeningKey, SealingKey, Suite};
use crate::limits::{
    ACK_DATAGRAMS_MAX, ACK_DELAY_MAX, ACK_RANGES_MAX, HEADER_BYTES, Limits, TAG_BYTES,
};
use crate::ranges::{Ack, RangeSet, ack_size_max, encode_ack};
use crate::replay::{ReplayWindow, Verdict};
use crate::sent::SentPackets;
use crate::time::Instant;

pub(crate) use dormant::DormantSpace;

/// On average one number in this many is left out, so that a receiver that acknowledges blindly gives itself away.
const SKIP_EVERY: u64 = 2_048;

/// The replay window spans at least what arrives in this time: so much later a datagram may come by another path.
const RATE_INTERVAL: Duration = Duration::from_millis(10);

/// Memory of the ranges to acknowledge.
pub(crate) const RANGES_BYTES: usize = 2 * ACK_RANGES_MAX * size_of::<u64>();

/// Why a datagram did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Replayed,
    TooOld,
    Forged,
    /// As many forgeries were tried on the key as it may see.
    KeyWorn,
}

/// What one key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyLimits {
    /// Packets sealed, at most.
    packets: u64,
    /// Datagrams that do not open, at most.
    forgeries: u64,
}

impl KeyLimits {
    /// The lower of what the AEAD stands and what the node allows.
    pub(crate) fn new(suite: Suite, limits: &Limits) -> Self {
        Self {
            packets: limits.packets_per_key_stop,
            forgeries: limits.forgeries_per_key.min(suite.forgeries_max()),
        }
    }
}

/// Numbers and keys of an association.
#[derive(Debug)]
pub(crate) struct PacketSpace {
    sealing: SealingKey,
    opening: OpeningKey,
    pub(crate) sent: SentPackets,
    replay: ReplayWindow,
    received: RangeSet,
    /// The oldest datagram under way whose acknowledgement named every range, and the largest number that it named.
    told: Option<(u64, u64)>,
    /// Ack-eliciting datagrams received since the last acknowledgement.
    unacknowledged: u32,
    ack_now: bool,
    ack_deadline: Option<Instant>,
    largest_received: Instant,
    skip_in: u64,
    limits: KeyLimits,
    /// Datagrams that did not open.
    forged: u64,
    /// When the rate of arrivals was last looked at, and the highest number then.
    rate_mark: (Instant, u64),
    /// Packets that the replay window should span, when that is more than it does.
    window_wanted: Option<u64>,
}

impl PacketSpace {
    pub(crate) fn new(
        (sealing, opening): (SealingKey, OpeningKey),
        limits: KeyLimits,
        random: u64,
    ) -> Self {
        Self {
            sealing,
            opening,
            sent: SentPackets::new(),
            replay: ReplayWindow::default(),
            received: RangeSet::new(ACK_RANGES_MAX),
            told: None,
            unacknowledged: 0,
            ack_now: false,
            ack_deadline: None,
            largest_received: Instant::default(),
            skip_in: 1 + random % (2 * SKIP_EVERY),
            limits,
            forged: 0,
            rate_mark: (Instant::default(), 0),
            window_wanted: None,
        }
    }

    /// Whether half of the forgeries that the key may see were tried on it.
    #[inline]
    pub(crate) fn is_attacked(&self) -> bool {
        self.forged > self.limits.forgeries / 2
    }

    /// Memory of the replay window and the ranges to acknowledge.
    pub(crate) fn window_bytes(&self) -> usize {
        self.replay.packets() as usize / 8 + RANGES_BYTES
    }

    /// Opens a datagram in place; the payload is what lies between header and tag.
    #[inline]
    pub(crate) fn open<'a>(
        &mut self,
        header: &LaneHeader,
        datagram: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        match self.replay.check(header.packet_number) {
            Verdict::Fresh => {}
            verdict => return Err(self.refuse(verdict)),
        }
        let (head, sealed) = datagram.split_at_mut(HEADER_BYTES);
        match self.opening.open(header.packet_number, head, sealed) {
            Some(payload) => Ok(payload),
            None => Err(self.on_forged()),
        }
    }

    #[cold]
    fn refuse(&self, verdict: Verdict) -> OpenError {
        match verdict {
            _ if self.forged >= self.limits.forgeries => OpenError::KeyWorn,
            Verdict::TooOld => OpenError::TooOld,
            _ => OpenError::Replayed,
        }
    }

    /// Counts a datagram that did not open. At the limit nothing opens any more: to the window, everything has been seen.
    #[cold]
    fn on_forged(&mut self) -> OpenError {
        self.forged += 1;
        if self.forged >= self.limits.forgeries {
            self.replay.close();
        }
        OpenError::Forged
    }

    /// The datagram's content was taken: its number is never accepted again, and is acknowledged if it asks for it. Returns
    /// whether the number is above all before it.
    #[inline]
    pub(crate) fn on_received(
        &mut self,
        now: Instant,
        header: &LaneHeader,
        eliciting: bool,
        ack_delay: Duration,
    ) -> bool {
        let number = header.packet_number;
        self.replay.commit(number);
        let expected = self.received.largest().map_or(0, |largest| largest + 1);
        self.received.insert(number);
        if number >= expected {
            self.largest_received = now;
        }
        let is_newest = number >= expected;
        if !eliciting {
            return is_newest;
        }
        self.unacknowledged += 1;
        if header.ack_now || number != expected || self.unacknowledged >= ACK_DATAGRAMS_MAX {
            self.ack_now = true;
        } else if self.ack_deadline.is_none() {
            self.ack_deadline = Some(now + ack_delay.min(ACK_DELAY_MAX));
        }
        is_newest
    }

    /// The datagram opened but its content could not be taken now: it may come again, under another number.
    pub(crate) fn on_declined(&mut self, header: &LaneHeader) {
        self.replay.commit(header.packet_number);
    }

    /// Whether an acknowledgement would tell anything new.
    #[inline]
    pub(crate) fn has_ack(&self) -> bool {
        self.unacknowledged > 0
    }

    /// Whether an acknowledgement must leave now.
    #[inline]
    pub(crate) fn is_ack_due(&self, now: Instant) -> bool {
        self.has_ack()
            && (self.ack_now || self.ack_deadline.is_some_and(|deadline| deadline <= now))
    }

    /// Whether nothing more may be sealed under these keys.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.sent.next_number() >= self.limits.packets
    }

    /// When it must leave, if it can; the clock's origin when it is due already.
    #[inline]
    pub(crate) fn ack_deadline(&self) -> Option<Instant> {
        if self.is_used_up() {
            return None;
        }
        if self.ack_now { Some(Instant::default()) } else { self.ack_deadline }
    }

    /// Appends an ACK frame within `room` bytes, to the datagram that is sent next; `false` when not even one range fits.
    pub(crate) fn write_ack(&mut self, now: Instant, room: usize, out: &mut Vec<u8>) -> bool {
        let mut ranges = self.received.len();
        while ranges > 0 && 1 + ack_size_max(ranges) > room {
            ranges -= 1;
        }
        let Some(largest) = self.received.largest().filter(|_| ranges > 0) else {
            return false;
        };
        let delay = now.saturating_duration_since(self.largest_received).as_micros() as u64;
        out.push(frame::ACK);
        encode_ack(&self.received, delay, ranges, out);
        if self.told.is_none() && ranges == self.received.len() {
            self.told = Some((self.sent.next_number(), largest));
        }
        self.unacknowledged = 0;
        self.ack_now = false;
        self.ack_deadline = None;
        if now >= self.rate_mark.0 + RATE_INTERVAL {
            self.on_rate(now);
        }
        true
    }

    /// The peer acknowledges. Once it has heard which numbers came, those below the largest of them are told no more (RFC 9000
    /// section 13.2.4): it knows what became of them.
    #[inline]
    pub(crate) fn on_heard(&mut self, ack: &Ack<'_>) {
        let Some((packet, largest)) = self.told else { return };
        if ack.largest < packet {
            return;
        }
        self.told = None;
        if ack.contains(packet) {
            self.received.remove_below(largest);
        }
    }

    /// Asks for a replay window at least as long as what arrives in [`RATE_INTERVAL`].
    #[cold]
    fn on_rate(&mut self, now: Instant) {
        let (then, number) = self.rate_mark;
        let highest = self.received.largest().unwrap_or(number);
        let elapsed = now.saturating_duration_since(then).max(RATE_INTERVAL);
        let arrived = u128::from(highest - number) * RATE_INTERVAL.as_nanos() / elapsed.as_nanos();
        if arrived > self.replay.packets().into() {
            self.window_wanted = Some(arrived as u64);
        }
        self.rate_mark = (now, highest);
    }

    /// Whether so much arrives that the replay window should grow.
    #[inline]
    pub(crate) fn wants_window(&self) -> bool {
        self.window_wanted.is_some()
    }

    /// Lets the replay window grow as far as wanted, at most to the longest.
    #[cold]
    pub(crate) fn grow_window(&mut self) {
        if let Some(wanted) = self.window_wanted.take() {
            self.replay.grow(wanted);
        }
    }

    /// Number of the next datagram; `None` when the keys are used up.
    #[inline]
    pub(crate) fn next_number(
        &mut self,
        now: Instant,
        random: impl FnOnce() -> u64,
    ) -> Option<u64> {
        if self.is_used_up() {
            return None;
        }
        self.skip_in -= 1;
        if self.skip_in == 0 {
            self.sent.skip(now);
            self.skip_in = 1 + random() % (2 * SKIP_EVERY);
        }
        let number = self.sent.next_number();
        (number < self.limits.packets).then_some(number)
    }

    /// Seals `out[start..]`, whose first bytes are room for the header, and appends the tag.
    #[inline]
    pub(crate) fn seal(&self, header: &LaneHeader, out: &mut Vec<u8>, start: usize) {
        out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
        self.seal_headed(header.packet_number, out, start);
    }

    /// [`PacketSpace::seal`] where the header stands already, with the packet number given.
    #[inline]
    pub(crate) fn seal_headed(&self, packet_number: u64, out: &mut Vec<u8>, start: usize) {
        let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
        let tag: [u8; TAG_BYTES] = self.sealing.seal(packet_number, header, payload);
        out.extend_from_slice(&tag);
    }
}

#[cfg(test)]
mod tests;
