//! The Cubed protocol as pure state machines: no socket, no clock, no thread.

pub mod congestion;
pub mod pacing;
pub mod random;
pub mod ranges;
pub mod replay;
pub mod rtt;
pub mod time;
pub mod varint;

pub mod cookie;
pub mod identity;
pub mod keys;

pub mod handshake;
