//! Owns an address that a peer seems to have moved to, until it is proven or given up.
//!
//! What always holds: with the answers to challenges from there, no more than three times the bytes that came from the
//! address are sent to it (RFC 9000 section 8.1); it is proven only by its challenge, answered from there.

use std::net::SocketAddr;
use std::time::Duration;

use crate::absence::Absence;
use crate::time::Instant;

/// Random bytes of a challenge.
pub(crate) const CHALLENGE_BYTES: usize = 8;
/// Bytes of challenges sent to an unproven address for each byte that came from there. An answer to a challenge that came from
/// there, as long as that, makes it three.
const AMPLIFICATION_MAX: u64 = 2;
/// An answer is waited for at least this long: three timeouts of a path of which nothing is known (RFC 9000 section 8.2.4).
const AGE_MIN: Duration = Duration::from_secs(3);
/// Shortest pause between two challenges to one address.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// An address under challenge.
#[derive(Clone, Debug)]
pub(crate) struct Prospect {
    pub(crate) address: SocketAddr,
    pub(crate) data: [u8; CHALLENGE_BYTES],
    received_bytes: u64,
    sent_bytes: u64,
    /// When the challenge goes out next.
    send_at: Instant,
    pause: Duration,
    sent_at: Option<Instant>,
    is_repeated: bool,
    pub(crate) expires_at: Instant,
}

impl Prospect {
    /// `bytes` came from `address`, authentic and newer than all before.
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        bytes: usize,
        data: [u8; CHALLENGE_BYTES],
        probe_timeout: Duration,
    ) -> Self {
        Self {
            address,
            data,
            received_bytes: bytes as u64,
            sent_bytes: 0,
            send_at: now,
            pause: probe_timeout.max(PAUSE_MIN),
            sent_at: None,
            is_repeated: false,
            expires_at: now + probe_timeout.saturating_mul(3).max(AGE_MIN),
        }
    }

    /// The peer is known to be at `address`, or was until a moment ago: what is sent there has no bound.
    pub(crate) fn incumbent(
        now: Instant,
        address: SocketAddr,
        data: [u8; CHALLENGE_BYTES],
        probe_timeout: Duration,
    ) -> Self {
        Self::new(now, address, u32::MAX as usize, data, probe_timeout)
    }

    /// More came from there.
    pub(crate) fn on_received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// Bytes that may be sent there now, if a challenge is due.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        (self.send_at <= now).then(|| AMPLIFICATION_MAX * self.received_bytes - self.sent_bytes)
    }

    /// A challenge of `bytes` left; zero when there was no room for one.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize) {
        debug_assert!(self.sent_bytes + bytes as u64 <= AMPLIFICATION_MAX * self.received_bytes);
        if bytes > 0 {
            self.is_repeated = self.sent_at.is_some();
            self.sent_at = Some(now);
            self.sent_bytes += bytes as u64;
        }
        self.send_at = now + self.pause;
        self.pause = self.pause.saturating_mul(2);
    }

    /// When something is due.
    pub(crate) fn next_timeout(&self) -> Instant {
        self.send_at.min(self.expires_at)
    }

    /// Whether this answers its challenge, wherever it comes from: the challenge arrived (RFC 9000 section 8.2.3).
    pub(crate) fn is_answered_by(&self, data: [u8; CHALLENGE_BYTES]) -> bool {
        self.data == data && self.sent_at.is_some()
    }

    /// Whether an answer from `from` proves the address.
    pub(crate) fn is_proven_by(&self, from: SocketAddr, data: [u8; CHALLENGE_BYTES]) -> bool {
        self.address == from && self.data == data && self.sent_at.is_some()
    }

    /// The round trip of the challenge, unless it was sent twice or nobody was there to take the answer.
    pub(crate) fn round_trip(&self, now: Instant, absence: &Absence) -> Option<Duration> {
        let sent_at = self.sent_at.filter(|_| !self.is_repeated)?;
        absence.since(sent_at).is_zero().then(|| now.saturating_duration_since(sent_at))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the bytes sent stay within twice those received, and only the right answer from the right place proves.
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn twice_what_came_and_no_more() {
        let mut prospect = Prospect::new(at(0), address(1), 100, [7; 8], Duration::from_millis(50));
        assert_eq!(prospect.due(at(0)), Some(200));
        prospect.on_sent(at(0), 200);
        assert_eq!(prospect.due(at(49)), None);
        assert_eq!(prospect.due(at(50)), Some(0));
        prospect.on_sent(at(50), 0);
        prospect.on_received(33);
        assert_eq!((prospect.due(at(149)), prospect.due(at(150))), (None, Some(66)));
    }

    #[test]
    fn only_its_own_answer_from_there_proves_it() {
        let mut prospect = Prospect::new(at(0), address(1), 100, [7; 8], Duration::from_millis(50));
        assert!(!prospect.is_proven_by(address(1), [7; 8]), "not asked yet");
        prospect.on_sent(at(0), 100);
        assert!(!prospect.is_proven_by(address(2), [7; 8]));
        assert!(!prospect.is_proven_by(address(1), [8; 8]));
        assert!(prospect.is_proven_by(address(1), [7; 8]));
        assert_eq!(
            prospect.round_trip(at(30), &Absence::default()),
            Some(Duration::from_millis(30))
        );
        prospect.on_sent(at(50), 100);
        assert_eq!(
            prospect.round_trip(at(60), &Absence::default()),
            None,
            "which of the two was answered?"
        );
    }
}
