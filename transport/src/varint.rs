//! Variable-length integers and the cursor that reads them.
//!
//! The encoding is that of RFC 9000 section 16: the two high bits of the first byte give the
//! length (1, 2, 4 or 8 bytes), the rest is the value in network order. Unlike QUIC we accept the
//! shortest form only, so a value has one encoding and re-encoding a datagram gives its bytes.
//! Reading never panics, never allocates and never moves past the end.

/// The largest value an integer can hold: 2^62 - 1.
pub const VALUE_MAX: u64 = (1 << 62) - 1;

/// The most bytes one integer takes.
pub const SIZE_MAX: usize = 8;

/// The largest values of the 1, 2 and 4 byte forms.
const VALUE_MAX_1: u64 = (1 << 6) - 1;
const VALUE_MAX_2: u64 = (1 << 14) - 1;
const VALUE_MAX_4: u64 = (1 << 30) - 1;

/// Bytes that `value` takes when encoded: 1, 2, 4 or 8.
///
/// # Panics
///
/// When `value` exceeds [`VALUE_MAX`].
#[inline]
pub const fn size(value: u64) -> usize {
    if value <= VALUE_MAX_1 {
        1
    } else if value <= VALUE_MAX_2 {
        2
    } else if value <= VALUE_MAX_4 {
        4
    } else {
        assert!(value <= VALUE_MAX, "a varint holds at most 2^62 - 1");
        8
    }
}

/// Appends `value` to `out`.
///
/// # Panics
///
/// When `value` exceeds [`VALUE_MAX`].
#[inline]
pub fn write(value: u64, out: &mut Vec<u8>) {
    if value <= VALUE_MAX_1 {
        out.push(value as u8);
        return;
    }
    let mut bytes = [0; SIZE_MAX];
    let size = put(value, &mut bytes);
    out.extend_from_slice(&bytes[..size]);
}

/// Writes `value` at the start of `out` and returns the bytes it took.
///
/// # Panics
///
/// When `value` exceeds [`VALUE_MAX`] or `out` is shorter than [`size`] of it.
#[inline]
pub fn put(value: u64, out: &mut [u8]) -> usize {
    let size = size(value);
    match size {
        1 => out[0] = value as u8,
        2 => out[..2].copy_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out[..4].copy_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out[..8].copy_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
    size
}

/// `value` encoded in a word whose lowest byte is the first, and the bytes it takes.
///
/// # Panics
///
/// When `value` exceeds [`VALUE_MAX`].
#[inline]
pub fn word(value: u64) -> (u64, usize) {
    match size(value) {
        1 => (value, 1),
        2 => (u64::from((value as u16 | 0x4000).swap_bytes()), 2),
        4 => (u64::from((value as u32 | 0x8000_0000).swap_bytes()), 4),
        _ => ((value | 0xc000_0000_0000_0000).swap_bytes(), 8),
    }
}

/// A cursor over bytes of a peer. A read that fails returns `None` and leaves the cursor in place.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// The next integer; `None` when it is cut off or not in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (&first, rest) = self.rest.split_first()?;
        if first <= VALUE_MAX_1 as u8 {
            self.rest = rest;
            return Some(u64::from(first));
        }
        self.varint_long(first)
    }

    /// The next `count` bytes.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// Bytes not yet read, as a count.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes not yet read. The cursor does not move.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The forms of 2, 4 and 8 bytes, whose first byte is `first`.
    #[inline]
    fn varint_long(&mut self, first: u8) -> Option<u64> {
        let (value, shorter_max, rest) = match first >> 6 {
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*bytes) & 0x3fff), VALUE_MAX_1, rest)
            }
            2 => {
                let (bytes, rest) = self.rest.split_first_chunk()?;
                (u64::from(u32::from_be_bytes(*bytes) & 0x3fff_ffff), VALUE_MAX_2, rest)
            }
            _ => {
                let (bytes, rest) = self.rest.split_first_chunk()?;
                (u64::from_be_bytes(*bytes) & VALUE_MAX, VALUE_MAX_4, rest)
            }
        };
        if value <= shorter_max {
            return None;
        }
        self.rest = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write(value, &mut out);
        out
    }

    /// Values of every magnitude, not only the huge ones a uniform draw gives.
    fn any_value() -> impl Strategy<Value = u64> {
        (any::<u64>(), 2_u32..64).prop_map(|(value, shift)| value >> shift)
    }

    #[test]
    fn examples_of_rfc_9000_appendix_a_1() {
        let cases: [(u64, &[u8]); 4] = [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ];
        for (value, bytes) in cases {
            assert_eq!(encoded(value), bytes);
            assert_eq!(Reader::new(bytes).varint(), Some(value));
        }
    }

    #[test]
    fn size_changes_exactly_at_the_limits() {
        let cases = [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), (VALUE_MAX_4, 4)];
        for (value, bytes) in cases.into_iter().chain([(VALUE_MAX_4 + 1, 8), (VALUE_MAX, 8)]) {
            assert_eq!(size(value), bytes, "{value}");
            assert_eq!(encoded(value).len(), bytes, "{value}");
        }
    }

    #[test]
    #[should_panic(expected = "2^62 - 1")]
    fn a_value_above_the_limit_is_the_callers_error() {
        let _ = size(VALUE_MAX + 1);
    }

    #[test]
    fn longer_forms_of_a_value_are_refused() {
        // 37 in two bytes is RFC 9000's own example of a legal long form; 0 and 63 likewise.
        for bytes in [&[0x40, 0x25][..], &[0x40, 0x3f], &[0x80, 0, 0x3f, 0xff]] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), None);
            assert_eq!(reader.rest(), bytes, "a failed read moves nothing");
        }
        assert_eq!(Reader::new(&[0xc0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff]).varint(), None);
    }

    #[test]
    fn reader_takes_pieces_in_order() {
        let mut reader = Reader::new(&[9, 0x40, 0x40, 1, 2, 3]);
        assert_eq!(reader.u8(), Some(9));
        assert_eq!(reader.varint(), Some(64));
        assert_eq!(reader.bytes(4), None);
        assert_eq!(reader.bytes(2), Some(&[1, 2][..]));
        assert_eq!((reader.remaining(), reader.is_empty()), (1, false));
        assert_eq!(reader.bytes(1), Some(&[3][..]));
        assert_eq!((reader.u8(), reader.varint(), reader.is_empty()), (None, None, true));
        assert_eq!(reader.bytes(0), Some(&[][..]));
    }

    proptest! {
        #[test]
        fn write_then_read_is_identity(value in any_value()) {
            let bytes = encoded(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.is_empty());
            for cut in 0..bytes.len() {
                prop_assert_eq!(Reader::new(&bytes[..cut]).varint(), None);
            }
        }

        #[test]
        fn put_agrees_with_write(value in any_value()) {
            let mut out = [0; SIZE_MAX];
            let length = put(value, &mut out);
            prop_assert_eq!(&out[..length], &encoded(value)[..]);
            prop_assert_eq!(length, size(value));
        }

        #[test]
        fn accepted_bytes_encode_to_themselves(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Some(value) = reader.varint() {
                prop_assert_eq!(&encoded(value)[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }
}
