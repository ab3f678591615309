//! Owns the hashing of numbers that this endpoint itself drew or counts, which nobody outside can choose.
//!
//! What always holds: only association indexes drawn at random here, numbers of groups and block numbers within the window are hashed this
//! way; anything a stranger may choose goes through the standard hasher.

use std::hash::{BuildHasher, Hasher};

/// Builds [`IndexHash`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IndexHasher;

/// Multiplies by the 64-bit golden ratio (Knuth, TAOCP vol. 3, 6.4) so that counters spread over the table.
#[derive(Debug, Default)]
pub(crate) struct IndexHash(u64);

impl BuildHasher for IndexHasher {
    type Hasher = IndexHash;
    fn build_hasher(&self) -> IndexHash {
        IndexHash(0)
    }
}

impl Hasher for IndexHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        let product = u128::from(value) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}
