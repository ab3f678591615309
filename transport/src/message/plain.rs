//! Owns heads of plain messages: to a flow that needs no name, with nothing asked. Nearly all messages have such a head.
//!
//! What always holds: a head is written and read as one word, and is byte for byte what [`Head`](super::Head) writes and reads.

#![expect(clippy::inline_always, reason = "a call costs a third of what a short message does")]

/// Aliases and lengths below this take at most two bytes as a varint.
const SHORT_MAX: u64 = 1 << 14;
/// Largest number that takes one byte, and what marks one of two (RFC 9000 section 16).
const ONE_BYTE_MAX: u64 = (1 << 6) - 1;
const TWO_BYTES: u16 = 0x4000;

/// What heads of one form to one flow begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainStart {
    /// Form and alias; the lowest byte is the first.
    word: u64,
    bits: u32,
}

impl PlainStart {
    /// `None` when the alias is too large to be written in two bytes.
    #[inline(always)]
    pub(crate) fn new(form: u8, alias: u32) -> Option<Self> {
        let (alias, alias_bits) = varint(alias.into())?;
        Some(Self { word: u64::from(form) | alias << 8, bits: 8 + alias_bits })
    }

    /// The head of a body of `total` bytes, its first byte lowest, and how many bytes it is; `None` when that takes a longer one.
    #[inline(always)]
    pub(crate) fn head(self, total: usize) -> Option<(u64, usize)> {
        let (total, total_bits) = varint(total as u64)?;
        Some((self.word | total << self.bits, ((self.bits + total_bits) / 8) as usize))
    }

    /// Bytes of the head at the front of `bytes`, and of the body that follows. `None`: it is another head, or must be read more
    /// carefully.
    #[inline(always)]
    pub(crate) fn read(self, bytes: &[u8]) -> Option<(usize, usize)> {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        if (word ^ self.word) << (64 - self.bits) != 0 {
            return None;
        }
        let (rest, start_bytes) = (word >> self.bits, (self.bits / 8) as usize);
        let first = rest & 0xff;
        if first <= ONE_BYTE_MAX {
            return Some((start_bytes + 1, first as usize));
        }
        let total = u64::from((rest as u16).swap_bytes() & !TWO_BYTES);
        // Longer forms are the rarer ones, and a number has one form only.
        let is_two_bytes = first >> 6 == 1 && total > ONE_BYTE_MAX;
        is_two_bytes.then_some((start_bytes + 2, total as usize))
    }
}

/// A number as a varint, its first byte lowest, and its bits; `None` for one of more than two bytes.
#[inline(always)]
fn varint(value: u64) -> Option<(u64, u32)> {
    match value {
        ..=ONE_BYTE_MAX => Some((value, 8)),
        value if value < SHORT_MAX => {
            Some((u64::from((value as u16 | TWO_BYTES).swap_bytes()), 16))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a word is read as the careful way reads. That it is written so is tested beside `Head`.
    use super::super::{FORM_PAD, FORM_WHOLE};
    use super::*;
    use crate::varint;

    const NUMBERS: [u32; 9] = [0, 1, 63, 64, 300, 4_095, 16_383, 16_384, 1 << 20];

    #[test]
    fn what_was_written_is_read() {
        for (alias, total) in NUMBERS.iter().flat_map(|&a| NUMBERS.map(|t| (a, t as usize))) {
            let Some(start) = PlainStart::new(FORM_WHOLE, alias) else { continue };
            let mut bytes = vec![FORM_WHOLE];
            varint::write(alias.into(), &mut bytes);
            varint::write(total as u64, &mut bytes);
            let head_bytes = bytes.len();
            bytes.resize(head_bytes + 8, 0xaa);
            let wanted = (total < 16_384).then_some((head_bytes, total));
            assert_eq!(start.read(&bytes), wanted, "{total} to {alias}");
            assert_eq!(start.read(&bytes[..7]), None, "too few bytes for a word");
            bytes[0] = FORM_PAD;
            assert_eq!(start.read(&bytes), None, "another form");
            bytes[0] = FORM_WHOLE;
            bytes[1] ^= 1;
            assert_eq!(start.read(&bytes), None, "another alias");
        }
    }

    #[test]
    fn a_length_in_a_longer_form_than_needed_is_left_to_the_careful_reader() {
        let start = PlainStart::new(FORM_WHOLE, 5).unwrap();
        assert_eq!(start.read(&[FORM_WHOLE, 5, 0x40, 63, 1, 2, 3, 4]), None);
        assert_eq!(start.read(&[FORM_WHOLE, 5, 0x40, 64, 1, 2, 3, 4]), Some((4, 64)));
    }
}
