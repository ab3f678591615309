//! The atomics below `parking`, which names them by this module: the model in `tests/parking.rs` puts loom's in their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
