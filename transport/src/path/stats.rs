//! Owns what a path tells of itself to people and tests.
//!
//! What always holds: a snapshot; nothing here changes a path.

use std::fmt;
use std::time::Duration;

use super::Path;

/// The network between two hosts as a session sees it at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStats {
    /// Bytes that may be in flight.
    pub window_bytes: u64,
    /// Bytes that are.
    pub in_flight_bytes: u64,
    /// Round trip, smoothed.
    pub rtt_smoothed: Duration,
    /// Shortest round trip seen.
    pub rtt_min: Duration,
    /// Whether the window still doubles per round trip.
    pub is_in_slow_start: bool,
    /// Lanes of this node that share the way to the peer as one flow, this one among them.
    pub lanes: u16,
}

impl Path {
    /// The path as it stands.
    pub(crate) fn stats(&self) -> PathStats {
        PathStats {
            window_bytes: self.congestion.window(),
            in_flight_bytes: self.bytes_in_flight,
            rtt_smoothed: self.rtt.smoothed(),
            rtt_min: self.rtt.min(),
            is_in_slow_start: self.congestion.in_slow_start(),
            lanes: self.lanes,
        }
    }
}

impl fmt::Display for PathStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window_bytes, in_flight_bytes, rtt_smoothed, rtt_min, .. } = self;
        write!(
            f,
            "window {window_bytes} B, {in_flight_bytes} B in flight, rtt {rtt_smoothed:?} (least {rtt_min:?})"
        )?;
        if self.is_in_slow_start { f.write_str(", slow start") } else { Ok(()) }
    }
}
