//! The Cubed protocol as pure state machines: no socket, no clock, no thread.

pub mod identity;
pub mod keys;
