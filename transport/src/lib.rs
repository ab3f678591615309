//! The Cubed protocol as pure state machines: no socket, no clock, no thread.

pub mod cookie;
pub mod identity;
pub mod keys;

pub mod handshake;
