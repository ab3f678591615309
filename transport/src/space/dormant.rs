//! Owns what is kept of a packet number space in which nothing is under way: keys as they were agreed, and numbers.
//!
//! What always holds: no number is sealed twice, none is opened twice, and forgeries are counted on. What is under way while the
//! space rests and is older than what came counts as seen. A datagram that does not open changes nothing but counts.

use super::{KeyLimits, OpenError, PacketSpace, SKIP_EVERY};
use crate::header::LaneHeader;
use crate::keys::{OpeningKey, RawKey, SealingKey};
use crate::limits::HEADER_BYTES;
use crate::replay::{ReplayWindow, Verdict};
use crate::sent::{DormantSent, SentPackets};

/// What a packet number space comes to in which nothing is under way.
#[derive(Debug)]
pub(crate) struct DormantSpace {
    sealing: RawKey,
    opening: RawKey,
    /// So many numbers may be sealed until the next is left out.
    skip_in: u16,
    sent: DormantSent,
    /// Numbers below this count as seen: one more than the highest that was opened.
    seen: u64,
    /// One more than the highest to acknowledge. A number that was declined is not among those.
    received: u64,
    limits: KeyLimits,
    forged: u64,
}

const _: () = assert!(2 * SKIP_EVERY <= u16::MAX as u64);

impl PacketSpace {
    /// Whether nothing that was sent or received calls for more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sent.is_quiet()
            && !self.has_ack()
            && !self.ack_now
            && self.ack_deadline.is_none()
            && self.window_wanted.is_none()
            && self.forged < self.limits.forgeries
    }

    /// Keeps what [`PacketSpace::wake`] needs. What is still under way and comes later than this counts as seen.
    pub(crate) fn rest(self) -> DormantSpace {
        debug_assert!(self.is_quiet(), "nothing is lost");
        let Self { sealing, opening, sent, replay, received, skip_in, limits, forged, .. } = self;
        DormantSpace {
            sealing: sealing.raw(),
            opening: opening.raw(),
            skip_in: skip_in as u16,
            sent: sent.rest(),
            seen: replay.highest().map_or(0, |highest| highest + 1),
            received: received.largest().map_or(0, |largest| largest + 1),
            limits,
            forged,
        }
    }

    /// The space as it was, with its keys expanded again. When the largest number came it has forgotten, since the next to be
    /// acknowledged is larger.
    pub(crate) fn wake(dormant: DormantSpace) -> Self {
        let DormantSpace { sealing, opening, skip_in, sent, seen, received, .. } = dormant;
        let DormantSpace { limits, forged, .. } = dormant;
        let keys = (SealingKey::expand(sealing), OpeningKey::expand(opening));
        let new = Self::new(keys, limits, 0);
        let mut space =
            Self { sent: SentPackets::wake(sent), skip_in: skip_in.into(), forged, ..new };
        if let Some(highest) = seen.checked_sub(1) {
            space.replay = ReplayWindow::seen_up_to(highest);
        }
        if let Some(largest) = received.checked_sub(1) {
            space.received.insert(largest);
            space.rate_mark.1 = largest;
        }
        space
    }
}

impl DormantSpace {
    /// Whether the peer made this datagram, told from a copy of it and by one key, so that a forged one costs no more than that. Who
    /// opens it is the space at work, also when the key has seen so many forgeries that something is to be done about it.
    ///
    /// # Errors
    /// The datagram is to be dropped.
    pub(crate) fn authenticate(
        &mut self,
        header: &LaneHeader,
        datagram: &[u8],
    ) -> Result<(), OpenError> {
        if let Some(highest) = self.seen.checked_sub(1) {
            match ReplayWindow::check_seen_up_to(highest, header.packet_number) {
                Verdict::Fresh => {}
                Verdict::TooOld => return Err(OpenError::TooOld),
                Verdict::Replayed => return Err(OpenError::Replayed),
            }
        }
        if self.forged >= self.limits.forgeries / 2 {
            return Ok(());
        }
        let mut copy = datagram.to_vec();
        let (head, sealed) = copy.split_at_mut(HEADER_BYTES);
        let key = OpeningKey::expand(self.opening.clone());
        if key.open(header.packet_number, head, sealed).is_none() {
            self.forged += 1;
            return Err(OpenError::Forged);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: numbers go on and are used once, what came before counts as seen, a datagram is judged without being opened.
    use std::time::Duration;

    use super::super::tests::header;
    use super::*;
    use crate::keys::{AssociationSecret, Role, Suite};
    use crate::limits::Limits;
    use crate::ranges::decode_ack;
    use crate::time::Instant;
    use crate::varint::Reader;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn spaces() -> [PacketSpace; 2] {
        let secret = AssociationSecret::from_bytes([7; 32]);
        let suite = Suite::Aes128Gcm;
        let limits = KeyLimits::new(suite, &Limits { forgeries_per_key: 8, ..Limits::default() });
        [Role::Dialler, Role::Responder]
            .map(|role| PacketSpace::new(secret.lane_keys(suite, role, 0, 0), limits, 41))
    }

    fn sealed(space: &mut PacketSpace) -> (LaneHeader, Vec<u8>) {
        let header = header(space.next_number(NOW, || 99).unwrap());
        let mut datagram = [vec![0; HEADER_BYTES], b"payload".to_vec()].concat();
        space.seal(&header, &mut datagram, 0);
        space.sent.on_sent_silent(NOW);
        (header, datagram)
    }

    fn take(space: &mut PacketSpace, (header, datagram): &(LaneHeader, Vec<u8>)) {
        assert_eq!(space.open(header, &mut datagram.clone()).unwrap(), b"payload");
        space.on_received(NOW, header, false, Duration::ZERO);
    }

    #[test]
    fn numbers_go_on_on_both_sides() {
        let [mut from, mut to] = spaces();
        let mut numbers = Vec::new();
        for round in 0..60 {
            let datagram = sealed(&mut from);
            numbers.push(datagram.0.packet_number);
            let mut resting = to.rest();
            assert_eq!(resting.authenticate(&datagram.0, &datagram.1), Ok(()), "{round}");
            to = PacketSpace::wake(resting);
            take(&mut to, &datagram);
            let mut resting = to.rest();
            let again = resting.authenticate(&datagram.0, &datagram.1);
            assert_eq!(again, Err(OpenError::Replayed));
            to = PacketSpace::wake(resting);
            assert_eq!(to.open(&datagram.0, &mut datagram.1.clone()), Err(OpenError::Replayed));
            from = PacketSpace::wake(from.rest());
        }
        // 42 numbers until the first is left out.
        let expected: Vec<u64> = (0..61).filter(|number| *number != 41).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn what_came_last_is_acknowledged_and_what_was_declined_is_not() {
        let [mut from, mut to] = spaces();
        take(&mut to, &sealed(&mut from));
        to.on_declined(&sealed(&mut from).0);
        let mut to = PacketSpace::wake(to.rest());
        let mut frame = Vec::new();
        assert!(to.write_ack(NOW, 100, &mut frame));
        let ack = decode_ack(&mut Reader::new(&frame[1..])).unwrap();
        assert_eq!(ack.ranges().collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(to.open(&header(1), &mut [0; 64]), Err(OpenError::Replayed));
    }

    #[test]
    fn forgeries_are_counted_on_until_the_key_is_attacked() {
        let [mut from, to] = spaces();
        let (header, good) = sealed(&mut from);
        let mut bad = good.clone();
        bad[HEADER_BYTES] ^= 1;
        let mut resting = to.rest();
        for _ in 0..4 {
            assert_eq!(resting.authenticate(&header, &bad), Err(OpenError::Forged));
        }
        assert_eq!(resting.authenticate(&header, &bad), Ok(()), "the space at work is to judge");
        let mut to = PacketSpace::wake(resting);
        assert!(!to.is_attacked());
        assert_eq!(to.open(&header, &mut bad.clone()), Err(OpenError::Forged));
        assert!(to.is_attacked());
        take(&mut to, &(header, good));
    }
}
