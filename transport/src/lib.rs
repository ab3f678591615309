//! Placeholder.

pub mod random;
pub mod time;
pub mod varint;
