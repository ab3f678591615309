//! Below which ceiling a machine is called disturbed.
//!
//! The floors stand for a machine of two current cores and for datagrams of the default size.
//! Sizes without a floor are never called disturbed: nothing is known about them.

/// Datagram size that the floors are stated for, in bytes.
pub const FLOOR_DATAGRAM_BYTES: usize = 1452;

/// Least believable ceiling, in messages per second, for bodies of `size_bytes` in datagrams of
/// `datagram_bytes`: 18 M at 64 B, 5 M at 256 B, 1.6 M at 1 KiB, 12 Gb/s at 64 KiB. `None` for
/// every other size.
pub fn floor_messages_per_second(size_bytes: usize, datagram_bytes: usize) -> Option<f64> {
    if datagram_bytes != FLOOR_DATAGRAM_BYTES {
        return None;
    }
    match size_bytes {
        64 => Some(18e6),
        256 => Some(5e6),
        1024 => Some(1.6e6),
        65_536 => Some(12e9 / (65_536.0 * 8.0)),
        _ => None,
    }
}

/// True when the ceiling measured is under the floor of its size, so that no ratio to it holds.
pub fn is_disturbed(size_bytes: usize, datagram_bytes: usize, messages_per_second: f64) -> bool {
    floor_messages_per_second(size_bytes, datagram_bytes)
        .is_some_and(|floor| messages_per_second < floor)
}

#[cfg(test)]
mod tests {
    //! Goal: the four named sizes have a floor, no other has one.
    use super::*;

    #[test]
    fn named_sizes_are_disturbed_below_their_floor() {
        for (size, floor) in [(64, 18e6), (256, 5e6), (1024, 1.6e6), (65_536, 22_888.2)] {
            assert!(is_disturbed(size, 1452, floor * 0.999), "size {size}");
            assert!(!is_disturbed(size, 1452, floor * 1.001), "size {size}");
        }
    }

    #[test]
    fn other_sizes_and_datagrams_have_no_floor() {
        assert!(!is_disturbed(65, 1452, 1.0));
        assert!(!is_disturbed(64, 1200, 1.0));
    }
}
