//! Owns what is kept of the datagrams that were sent under one key when all of them are acknowledged or lost: how many there were.
//!
//! What always holds: numbers go on where they were. Losses from before are forgotten, and with them whether they were spurious,
//! so the cut that they caused is not undone any more; numbers that were left out are forgotten too, since to claim that they
//! arrived acknowledges nothing that was sent later.

use super::{Cargo, NO_BLOCK, Patience, SentPacket, SentPackets, State};
use crate::time::Instant;

/// What was sent, with nothing in flight that matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DormantSent {
    /// Number of the next packet.
    next: u64,
    last_sent: Instant,
    /// How far packets overtake each other is the network's doing, which silence does not change.
    patience: Patience,
}

impl SentPackets {
    /// Whether nothing is in flight that matters. A challenge or its answer does not: it may have gone where nobody is, and whoever
    /// waits for it waits elsewhere.
    pub(crate) fn is_quiet(&self) -> bool {
        let matters = |packet: &SentPacket| {
            let is_asking = packet.block == NO_BLOCK && packet.cargo == Cargo::Whole;
            packet.state == State::InFlight && (!is_asking || packet.control != 0)
        };
        self.bytes_in_flight == 0 && !self.packets.iter().any(matters)
    }

    /// Keeps what [`SentPackets::wake`] needs.
    pub(crate) fn rest(self) -> DormantSent {
        debug_assert!(self.is_quiet(), "nothing is lost");
        DormantSent { next: self.next_number(), last_sent: self.last_sent, patience: self.patience }
    }

    /// All before the next number is done, as if the newest of it had been acknowledged.
    pub(crate) fn wake(dormant: DormantSent) -> Self {
        let DormantSent { next, last_sent, patience } = dormant;
        let largest_acked = next.checked_sub(1);
        Self { base: next, largest_acked, last_sent, patience, ..Self::new() }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: numbers go on, old acknowledgements do nothing, lies are still caught, patience is kept.
    use std::time::Duration;

    use super::*;
    use crate::rtt::RttEstimator;
    use crate::sent::tests::{acknowledge, at};
    use crate::sent::{AckSummary, LyingReceiver, control};

    fn ack(sent: &mut SentPackets, numbers: &[u64]) -> Result<AckSummary, LyingReceiver> {
        acknowledge(sent, at(100), &RttEstimator::default(), numbers)
    }

    /// Six sent and acknowledged, of which one was counted as lost for a while.
    fn used() -> SentPackets {
        let mut sent = SentPackets::new();
        for number in 0..6 {
            sent.on_sent(at(number), 100, number, 0);
        }
        let rtt = RttEstimator::new(Duration::from_millis(100));
        ack(&mut sent, &[5]).unwrap();
        sent.detect_losses(at(7), &rtt, |_| {});
        assert!(ack(&mut sent, &[0, 1, 2, 3, 4, 5]).unwrap().spurious > 0);
        sent
    }

    #[test]
    fn numbers_go_on_and_old_acknowledgements_do_nothing() {
        let sent = used();
        let (next, last, patience) =
            (sent.next_number(), sent.last_sent(), sent.patience.packets());
        let mut sent = SentPackets::wake(sent.rest());
        assert_eq!((sent.next_number(), sent.last_sent()), (next, last));
        assert_eq!(sent.patience.packets(), patience, "learned before");
        assert_eq!(ack(&mut sent, &[next]).unwrap_err(), LyingReceiver);
        let summary = ack(&mut sent, &[1, 5]).unwrap();
        assert_eq!((summary.bytes, summary.spurious, summary.rtt_from), (0, 0, None));
        sent.on_sent(at(200), 100, 9, 0);
        let losses = sent.detect_losses(at(1 << 40), &RttEstimator::default(), |_| {});
        assert_eq!(losses.newest, None, "nothing sent later has arrived");
        assert_eq!(ack(&mut sent, &[next]).unwrap().rtt_from, Some(at(200)));
        assert_eq!((sent.records(), sent.bytes_in_flight()), (0, 0));
    }

    #[test]
    fn a_space_that_sent_nothing_begins_at_zero() {
        let mut sent = SentPackets::wake(SentPackets::new().rest());
        assert_eq!(sent.next_number(), 0);
        sent.on_sent(at(1), 100, 0, 0);
        assert_eq!(ack(&mut sent, &[0]).unwrap().rtt_from, Some(at(1)));
    }

    #[test]
    fn only_a_challenge_in_flight_lets_it_rest() {
        let rests = |bytes, block, control, cargo| {
            let mut sent = used();
            sent.on_sent_cargo(at(10), bytes, block, control, cargo);
            sent.is_quiet()
        };
        assert!(rests(0, NO_BLOCK, 0, Cargo::Whole));
        assert!(!rests(1, NO_BLOCK, 0, Cargo::Whole));
        assert!(!rests(0, 7, 0, Cargo::Whole));
        assert!(!rests(0, NO_BLOCK, control::GREETING, Cargo::Whole));
        assert!(!rests(0, 1_440, 0, Cargo::SizeProbe));
        let mut asking = used();
        asking.on_sent_cargo(at(10), 0, NO_BLOCK, 0, Cargo::Whole);
        let mut woken = SentPackets::wake(asking.rest());
        assert_eq!(woken.next_number(), 7);
        assert_eq!(ack(&mut woken, &[6]).unwrap().newest, None, "its answer comes late");
    }
}
