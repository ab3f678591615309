//! One AEAD operation per datagram, by `ring` and nothing around it.
//!
//! The key belongs to one slice and one direction, and the packet number is the nonce, so no nonce
//! is used twice: numbers only rise within a slice and each slice draws a fresh key.

use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::frame::HEADER_BYTES;
use crate::error::{BenchError, Result};

/// Bytes of the authentication tag at the end of each datagram.
pub const TAG_BYTES: usize = 16;

/// Which AEAD seals the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// None: what the datagrams cost without it. The tag is there and says nothing.
    Clear,
}

impl Suite {
    /// AES-128-GCM where the CPU has AES instructions, else ChaCha20-Poly1305.
    pub fn of_this_machine() -> Self {
        if has_aes() { Self::Aes128Gcm } else { Self::ChaCha20Poly1305 }
    }

    /// Bytes of a key.
    pub fn key_bytes(self) -> usize {
        self.algorithm().map_or(0, Algorithm::key_len)
    }

    fn algorithm(self) -> Option<&'static Algorithm> {
        match self {
            Self::Aes128Gcm => Some(&AES_128_GCM),
            Self::ChaCha20Poly1305 => Some(&CHACHA20_POLY1305),
            Self::Clear => None,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// A key ready to seal or open whole datagrams in place.
#[derive(Debug)]
pub struct Seal {
    /// `None` of [`Suite::Clear`].
    key: Option<LessSafeKey>,
}

impl Seal {
    /// Takes `key` for `suite`.
    ///
    /// # Errors
    ///
    /// `Peer` when the key has not the suite's length.
    pub fn new(suite: Suite, key: &[u8]) -> Result<Self> {
        let Some(algorithm) = suite.algorithm() else { return Ok(Self { key: None }) };
        let key = UnboundKey::new(algorithm, key)
            .map_err(|_| BenchError::Peer("agreed on a key of the wrong length".into()))?;
        Ok(Self { key: Some(LessSafeKey::new(key)) })
    }

    /// Encrypts the bytes between header and tag of `datagram` and writes its tag.
    ///
    /// # Panics
    ///
    /// When `datagram` has no room for header and tag, which its one caller checks at the start.
    #[inline]
    pub fn seal(&self, number: u64, datagram: &mut [u8]) {
        let Some(key) = &self.key else { return };
        let (header, rest) = datagram.split_at_mut(HEADER_BYTES);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let sealed = key.seal_in_place_separate_tag(nonce(number), Aad::from(&*header), payload);
        tag.copy_from_slice(sealed.expect("a datagram is far below the AEAD's limit").as_ref());
    }

    /// Decrypts `datagram` and returns its payload; `None` when it was not sealed by this key
    /// under this number.
    #[inline]
    pub fn open<'a>(&self, number: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (header, rest) = datagram.split_at_mut_checked(HEADER_BYTES)?;
        let Some(key) = &self.key else {
            let payload = rest.len().checked_sub(TAG_BYTES)?;
            return Some(&rest[..payload]);
        };
        let opened = key.open_in_place(nonce(number), Aad::from(&*header), rest);
        opened.ok().map(|payload| &*payload)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    //! Goal: a datagram opens as it was sealed, and never after a change.
    use super::*;

    fn sealed(suite: Suite) -> (Seal, Vec<u8>) {
        let seal = Seal::new(suite, &vec![7; suite.key_bytes()]).unwrap();
        let mut datagram: Vec<u8> = (0..100).collect();
        seal.seal(5, &mut datagram);
        (seal, datagram)
    }

    #[test]
    fn opens_what_it_sealed() {
        for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
            let (seal, mut datagram) = sealed(suite);
            let plain: Vec<u8> = (16..84).collect();
            assert_ne!(datagram[16..84], plain[..]);
            assert_eq!(seal.open(5, &mut datagram), Some(&plain[..]));
        }
    }

    #[test]
    fn in_clear_a_datagram_stays_as_it_is() {
        let (seal, mut datagram) = sealed(Suite::Clear);
        let plain: Vec<u8> = (0..100).collect();
        assert_eq!(datagram, plain);
        assert_eq!(seal.open(6, &mut datagram), Some(&plain[16..84]));
        assert_eq!(seal.open(6, &mut datagram[..31]), None);
        assert_eq!(Suite::Clear.key_bytes(), 0);
    }

    #[test]
    fn refuses_any_changed_byte_number_or_length() {
        for index in 0..100 {
            let (seal, mut datagram) = sealed(Suite::Aes128Gcm);
            datagram[index] ^= 1;
            assert_eq!(seal.open(5, &mut datagram), None, "byte {index}");
        }
        let (seal, datagram) = sealed(Suite::Aes128Gcm);
        assert_eq!(seal.open(6, &mut datagram.clone()), None);
        for length in [0, 15, 16, 31, 99] {
            assert_eq!(seal.open(5, &mut datagram[..length].to_vec()), None, "length {length}");
        }
    }

    #[test]
    fn refuses_a_key_of_the_wrong_length() {
        assert!(Seal::new(Suite::Aes128Gcm, &[0; 15]).is_err());
    }
}
