//! Placeholder.

pub mod random;
pub mod ranges;
pub mod time;
pub mod varint;
