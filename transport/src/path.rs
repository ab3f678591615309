//! Owns what a session knows of the network between two hosts: address, round-trip time, congestion window, pacing.
//!
//! What always holds: all lanes of a session draw on one window, so that many lanes compete as one flow.

use std::net::SocketAddr;
use std::time::Duration;

use crate::congestion::Cubic;
use crate::pacing::Pacer;
use crate::rtt::{INITIAL_DEFAULT, RttEstimator};
use crate::time::Instant;

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) address: SocketAddr,
    pub(crate) rtt: RttEstimator,
    pub(crate) cubic: Cubic,
    pub(crate) pacer: Pacer,
    /// Bytes in flight over all lanes.
    pub(crate) bytes_in_flight: u64,
    pub(crate) datagram_bytes: u64,
}

impl Path {
    /// A path whose first round trip, if known, was that of the handshake.
    pub(crate) fn new(address: SocketAddr, datagram_bytes: u16, rtt: Option<Duration>) -> Self {
        let mut estimator = RttEstimator::new(INITIAL_DEFAULT);
        if let Some(rtt) = rtt {
            estimator.update(rtt, Duration::ZERO);
        }
        Self {
            address,
            rtt: estimator,
            cubic: Cubic::new(datagram_bytes.into()),
            pacer: Pacer::new(),
            bytes_in_flight: 0,
            datagram_bytes: datagram_bytes.into(),
        }
    }

    /// Bytes that congestion window and pacing let go now.
    #[inline]
    pub(crate) fn budget(&mut self, now: Instant) -> u64 {
        let window = self.cubic.window();
        let free = window.saturating_sub(self.bytes_in_flight);
        if free < self.datagram_bytes {
            return 0;
        }
        free.min(self.pacer.available(now, window, self.rtt.smoothed(), self.datagram_bytes))
    }

    /// When pacing lets more go, if the window would.
    pub(crate) fn next_release(&self, now: Instant) -> Option<Instant> {
        let free = self.cubic.window().saturating_sub(self.bytes_in_flight);
        if free < self.datagram_bytes { None } else { self.pacer.next_release(now, 0) }
    }

    /// How long an acknowledgement that nobody asked for at once may wait.
    #[inline]
    pub(crate) fn ack_delay(&self) -> Duration {
        if self.rtt.has_sample() { self.rtt.smoothed() / 4 } else { Duration::ZERO }
    }

    /// Whether the window is so small, or so full, that the receiver should acknowledge at once.
    #[inline]
    pub(crate) fn wants_ack(&self) -> bool {
        let window = self.cubic.window();
        window < 8 * self.datagram_bytes || self.bytes_in_flight * 2 > window
    }
}
