//! Owns SKIP, the frame that tells of blocks given up and of sequences of ordered messages that will not come.
//!
//! What always holds: a frame that says nothing, or counts past the largest number, is refused.

use super::SKIP;
use crate::limits::ALIASES_MAX;
use crate::varint::{self, Reader};

/// Sequences of ordered messages that will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) alias: u32,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// What a SKIP frame says: `count` blocks from `first` were given up, in a message that began `back` blocks before them; and
/// these sequences with them. Without blocks, only sequences that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SkipHead {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) back: u64,
}

/// Most runs of sequences in one SKIP.
const SKIP_RUNS_MAX: u64 = 64;

/// Appends SKIP.
pub(crate) fn write_skip(first: u64, count: u64, back: u64, runs: &[Run], out: &mut Vec<u8>) {
    out.push(SKIP);
    for field in [first, count, back, runs.len() as u64] {
        varint::write(field, out);
    }
    for run in runs {
        varint::write(run.alias.into(), out);
        varint::write(run.first, out);
        varint::write(run.count, out);
    }
}

/// Reads SKIP, its sequences into `runs` (cleared first).
pub(crate) fn read_skip(reader: &mut Reader<'_>, runs: &mut Vec<Run>) -> Option<SkipHead> {
    runs.clear();
    let (first, count, back) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let length = reader.varint()?;
    let is_empty = count == 0 && (first, back) != (0, 0);
    if length > SKIP_RUNS_MAX || back > first || is_empty || (count == 0 && length == 0) {
        return None;
    }
    for _ in 0..length {
        let alias = u32::try_from(reader.varint()?).ok()?;
        let (first, count) = (reader.varint()?, reader.varint()?);
        if alias as usize >= ALIASES_MAX || count == 0 || first + count > varint::VALUE_MAX {
            return None;
        }
        runs.push(Run { alias, first, count });
    }
    Some(SkipHead { first, count, back })
}

#[cfg(test)]
mod tests {
    //! Goal: random bytes never panic, and what is read has one encoding.
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (mut reader, mut runs) = (Reader::new(&bytes), Vec::new());
            if let Some(SkipHead { first, count, back }) = read_skip(&mut reader, &mut runs) {
                let mut again = Vec::new();
                write_skip(first, count, back, &runs, &mut again);
                prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }
}
