//! Which congestion control a path uses: [`Cubic`] unless a node was told otherwise.
//!
//! What always holds: the profile of a path never changes.

use super::{Cubic, Lan};
use crate::rtt::RttEstimator;
use crate::time::Instant;

/// What a node takes its network for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CongestionProfile {
    /// Any network, shared with anybody: CUBIC (RFC 9438) in the frame of RFC 9002.
    #[default]
    Internet,
    /// **Only for a network that is your own from end to end and provisioned for the load.** Random loss of up to 2 % costs
    /// nothing and the window starts large; on a link shared with others it takes what they give up. See [`Lan`].
    Lan,
}

/// The congestion control of one path.
#[derive(Clone, Debug)]
pub(crate) enum Controller {
    Cubic(Cubic),
    Lan(Lan),
}

impl Controller {
    pub(crate) fn new(profile: CongestionProfile, datagram_bytes: u64) -> Self {
        match profile {
            CongestionProfile::Internet => Self::Cubic(Cubic::new(datagram_bytes)),
            CongestionProfile::Lan => Self::Lan(Lan::new(datagram_bytes)),
        }
    }

    /// See [`Cubic::set_lanes`].
    pub(crate) fn set_lanes(&mut self, lanes: u16) {
        match self {
            Self::Cubic(cubic) => cubic.set_lanes(lanes),
            Self::Lan(lan) => lan.set_lanes(lanes),
        }
    }

    /// The path's limit changed.
    pub(crate) fn on_datagram_bytes_changed(&mut self, datagram_bytes: u64) {
        match self {
            Self::Cubic(cubic) => cubic.on_datagram_bytes_changed(datagram_bytes),
            Self::Lan(lan) => lan.on_datagram_bytes_changed(datagram_bytes),
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub(crate) fn window(&self) -> u64 {
        match self {
            Self::Cubic(cubic) => cubic.window(),
            Self::Lan(lan) => lan.window(),
        }
    }

    /// See [`Cubic::on_acked`].
    #[inline]
    pub(crate) fn on_acked(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        rtt: &RttEstimator,
        app_limited: bool,
    ) {
        match self {
            Self::Cubic(cubic) => cubic.on_acked(now, sent, bytes, rtt, app_limited),
            Self::Lan(lan) => lan.on_acked(now, sent, bytes, rtt, app_limited),
        }
    }

    /// `bytes` were lost, the newest of them sent at `sent`.
    pub(crate) fn on_lost(&mut self, now: Instant, sent: Instant, bytes: u64) {
        match self {
            Self::Cubic(cubic) => {
                cubic.on_lost(now, sent);
            }
            Self::Lan(lan) => lan.on_lost(bytes),
        }
    }

    /// See [`Cubic::on_persistent_congestion`].
    pub(crate) fn on_persistent_congestion(&mut self, now: Instant) {
        match self {
            Self::Cubic(cubic) => cubic.on_persistent_congestion(),
            Self::Lan(lan) => lan.on_persistent_congestion(now),
        }
    }

    /// The latest cut was for nothing.
    pub(crate) fn on_spurious_loss(&mut self) {
        if let Self::Cubic(cubic) = self {
            cubic.on_spurious_loss();
        }
    }

    /// Whether the window still grows fast.
    pub(crate) fn in_slow_start(&self) -> bool {
        match self {
            Self::Cubic(cubic) => cubic.in_slow_start(),
            Self::Lan(lan) => lan.in_slow_start(),
        }
    }

    /// When the latest cut was made.
    pub(crate) fn recovery_start(&self) -> Option<Instant> {
        match self {
            Self::Cubic(cubic) => cubic.recovery_start(),
            Self::Lan(lan) => lan.recovery_start(),
        }
    }
}
