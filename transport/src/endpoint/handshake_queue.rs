//! Owns the handshake datagrams that wait to leave.
//!
//! What always holds: what others make us answer waits in at most [`HANDSHAKES_WAITING_MAX`] places, and our own dials in one
//! more for each peer that there may be; what finds no place is counted and forgotten, since whoever needs it asks again.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::limits::{HANDSHAKES_WAITING_MAX, Limits};

/// Handshake datagrams ready to leave, with where to.
#[derive(Debug)]
pub(super) struct HandshakeQueue {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    own_max: usize,
    dropped: u64,
}

impl HandshakeQueue {
    pub(super) fn new(limits: &Limits) -> Self {
        let own_max = HANDSHAKES_WAITING_MAX + limits.peers_max;
        Self { waiting: VecDeque::new(), own_max, dropped: 0 }
    }

    /// An answer to somebody's handshake.
    pub(super) fn push_back(&mut self, datagram: (SocketAddr, Vec<u8>)) {
        self.push_below(HANDSHAKES_WAITING_MAX, datagram);
    }

    /// A datagram of a dial of ours.
    pub(super) fn push_own(&mut self, datagram: (SocketAddr, Vec<u8>)) {
        self.push_below(self.own_max, datagram);
    }

    pub(super) fn pop_front(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.waiting.pop_front()
    }

    /// How many found no place.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push_below(&mut self, places: usize, datagram: (SocketAddr, Vec<u8>)) {
        if self.waiting.len() < places {
            self.waiting.push_back(datagram);
        } else {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: answers are bounded, do not keep our dials from leaving, and find a place again when some have left.
    use super::*;

    #[test]
    fn answers_are_bounded_and_leave_places_for_dials() {
        let mut out = HandshakeQueue::new(&Limits { peers_max: 3, ..Limits::default() });
        let datagram = || (SocketAddr::from(([10, 0, 0, 1], 1)), vec![1]);
        for _ in 0..2 * HANDSHAKES_WAITING_MAX {
            out.push_back(datagram());
        }
        assert_eq!(out.dropped(), HANDSHAKES_WAITING_MAX as u64);
        for _ in 0..4 {
            out.push_own(datagram());
        }
        assert_eq!(out.dropped(), HANDSHAKES_WAITING_MAX as u64 + 1);
        let left = std::iter::from_fn(|| out.pop_front()).take(HANDSHAKES_WAITING_MAX).count();
        assert_eq!(left, HANDSHAKES_WAITING_MAX);
        out.push_back(datagram());
        assert_eq!(std::iter::from_fn(|| out.pop_front()).count(), 4);
        assert_eq!(out.dropped(), HANDSHAKES_WAITING_MAX as u64 + 1);
    }
}
