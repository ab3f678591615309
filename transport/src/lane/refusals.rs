//! Owns the refusals of a lane from the message refused until its sender acknowledged a datagram that told it.
//!
//! What always holds: they ascend by block and place whenever they are looked at; each was taken from the peer's room and is
//! given back once.

use super::Lane;
use crate::frame::{Reason, RefusedMessage};
use crate::limits::REFUSALS_TOLD_MAX;
use crate::ranges::Ack;
use crate::room::Room;
use crate::work;

/// Room for refusals kept after the last was acknowledged.
const SPARE_REFUSALS_MAX: usize = 1_024;

impl Lane {
    /// Refusals that the sender may not know.
    pub(crate) fn refusals(&self) -> &[RefusedMessage] {
        &self.refusals
    }

    /// A packet told refusals up to `floor`.
    pub(crate) fn on_refusals_told(&mut self, packet: u64, floor: u64) {
        if self.refusals_told.len() == REFUSALS_TOLD_MAX {
            // The one with the closest neighbours goes: whichever packet is acknowledged next, one sent at about its time stays.
            let told = &self.refusals_told;
            let distance = |n: &usize| told[n + 1].0.saturating_sub(told[n - 1].0);
            let closest = (1..told.len() - 1).min_by_key(distance).unwrap_or(0);
            self.refusals_told.remove(closest);
        }
        self.refusals_told.push((packet, floor));
    }

    /// Whether a refusal below the floor is to be told.
    pub(crate) fn has_refusals_to_tell(&self) -> bool {
        self.refusals_due && self.could_tell_refusals()
    }

    /// Packets that told refusals were acknowledged: what they told is known now.
    pub(crate) fn on_refusals_acknowledged(&mut self, room: &mut Room, ack: &Ack<'_>) {
        let known = self.refusals_told.iter().filter(|told| ack.contains(told.0));
        if let Some(floor) = known.map(|told| told.1).max() {
            self.merge_refusals();
            self.refusals_told.retain(|told| told.1 > floor);
            let before = self.refusals.len();
            work::count(before);
            self.refusals.retain(|refusal| refusal.0 >= floor);
            room.refusals += (before - self.refusals.len()) as isize;
            if self.refusals.capacity() > self.refusals.len() / 2 * 3 {
                self.refusals.shrink_to(SPARE_REFUSALS_MAX);
            }
            self.refusals_due = !self.refusals.is_empty();
        }
    }

    /// Whether there are refusals whose acknowledgement would free room.
    fn could_tell_refusals(&self) -> bool {
        self.refusals.first().is_some_and(|first| first.0 < self.settled_floor())
    }

    /// Whether room for refusals becomes free without another block: refusals leave when the sender acknowledges them, and can be
    /// told once the floor has passed them, which answers of ours may keep it from. If not, the block at the floor must be taken.
    pub(super) fn will_free_refusals(&mut self) -> bool {
        self.merge_refusals();
        self.orders.unanswered() > 0 || self.could_tell_refusals()
    }

    #[cold]
    pub(super) fn refuse(&mut self, room: &mut Room, (block, index): (u64, u16), reason: Reason) {
        room.refusals -= 1;
        self.refusals_fresh.push((block, index, reason));
        self.refusals_due = true;
    }

    /// Puts the refusals of a datagram, or of answers that were put off, among the others, all at once: below many others each
    /// would move them by itself.
    #[inline]
    pub(crate) fn merge_refusals(&mut self) {
        if !self.refusals_fresh.is_empty() {
            self.merge_fresh();
        }
    }

    #[cold]
    fn merge_fresh(&mut self) {
        let place = |refusal: &RefusedMessage| (refusal.0, refusal.1);
        self.refusals_fresh.sort_by_key(place);
        let first = self.refusals_fresh.first().map_or((u64::MAX, 0), place);
        let above = self.refusals.partition_point(|other| place(other) < first);
        let (held, fresh) = (self.refusals.len(), self.refusals_fresh.len());
        if held > SPARE_REFUSALS_MAX && self.refusals.capacity() < held + fresh {
            // A quarter of slack, where the vector by itself would take as much again.
            self.refusals.reserve_exact(fresh.max(held / 4));
        }
        self.refusals.append(&mut self.refusals_fresh);
        work::count(self.refusals.len() - above);
        self.refusals[above..].sort_by_key(place);
        self.refusals_fresh.shrink_to(SPARE_REFUSALS_MAX);
        self.refusals_due = true;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is acknowledged is forgotten, however many datagrams told refusals meanwhile and whichever of them were lost.
    use super::*;
    use crate::endpoint::{Limits, Refusal};
    use crate::limits::REFUSALS_MAX;
    use crate::ranges::{RangeSet, decode_ack, encode_ack};
    use crate::varint::Reader;

    #[test]
    fn refusals_are_forgotten_while_many_datagrams_tell_of_them() {
        /// Datagrams with refusals that leave per round trip.
        const ROUND_TRIP: u64 = 1_000;
        let limits = Limits::default();
        let (mut lane, mut room) = (Lane::new(&limits, 1_200), Room::new(&limits));
        let mut most = 0;
        for packet in 0..20_000 {
            lane.window.insert(packet);
            lane.refuse(&mut room, (packet, 0), Reason::Refused(Refusal::QueueFull));
            lane.merge_refusals();
            lane.on_refusals_told(packet, lane.settled_floor());
            // Of the first hundred and of each eighth nobody hears.
            let arrived = packet.checked_sub(ROUND_TRIP).filter(|n| *n >= 100 && n % 8 > 0);
            if let Some(arrived) = arrived {
                let (mut set, mut bytes) = (RangeSet::new(1), Vec::new());
                set.insert(arrived);
                encode_ack(&set, 0, 1, &mut bytes);
                let ack = decode_ack(&mut Reader::new(&bytes)).expect("an ACK");
                lane.on_refusals_acknowledged(&mut room, &ack);
            }
            assert_eq!(room.refusals, (REFUSALS_MAX - lane.refusals().len()) as isize);
            most = most.max(lane.refusals().len() as u64);
        }
        assert!(most < 3 * ROUND_TRIP, "{most} remembered");
    }
}
