//! Placeholder.

pub mod congestion;
pub mod pacing;
pub mod random;
pub mod ranges;
pub mod replay;
pub mod rtt;
pub mod time;
pub mod varint;
