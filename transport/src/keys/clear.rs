//! What stands in the AEAD's place in builds that measure what the AEAD costs: a copy, which protects nothing.
//!
//! Each byte of a payload is read and written once, as by a copy. The tag depends on key, nonce and lengths alone, so that keys
//! and numbers that do not belong together still meet a refusal and the protocol runs as it always does; whoever is on the path
//! can read everything and change it. Only `--cfg cubed_clear` brings it in (see `perf-scripts/clear`), and nodes so built
//! speak with nobody else, for their TLS names another protocol.

use ring::aead;

use super::{Suite, TAG_BYTES};

/// As much of a key as a copy needs.
pub(super) struct Cipher {
    pad: [u8; TAG_BYTES],
}

impl Cipher {
    /// The stand-in for the cipher of `suite` with these bytes.
    pub(super) fn new(_: Suite, key: &[u8]) -> Self {
        let pad = key.first_chunk().expect("keys have at least 16 bytes");
        Self { pad: *pad }
    }

    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; aead::NONCE_LEN],
        header: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        self.copy(payload);
        self.tag(nonce, header, payload.len())
    }

    #[inline]
    pub(super) fn open<'a>(
        &self,
        nonce: [u8; aead::NONCE_LEN],
        header: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let (payload, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>()?;
        if *tag != self.tag(nonce, header, payload.len()) {
            return None;
        }
        self.copy(payload);
        Some(payload)
    }

    /// Writes each byte anew, changed so that the compiler cannot leave it out; done twice it changes nothing.
    #[inline]
    fn copy(&self, payload: &mut [u8]) {
        let (whole, rest) = payload.as_chunks_mut::<TAG_BYTES>();
        for chunk in whole {
            *chunk = (u128::from_ne_bytes(*chunk) ^ u128::from_ne_bytes(self.pad)).to_ne_bytes();
        }
        for (byte, pad) in rest.iter_mut().zip(self.pad) {
            *byte ^= pad;
        }
    }

    #[inline]
    fn tag(&self, nonce: [u8; aead::NONCE_LEN], header: &[u8], length: usize) -> [u8; TAG_BYTES] {
        let mut tag = self.pad;
        for (byte, nonce) in tag.iter_mut().zip(nonce) {
            *byte = byte.wrapping_add(nonce);
        }
        let lengths = ((length as u32) ^ (header.len() as u32).rotate_left(16)).to_le_bytes();
        for (byte, length) in tag[aead::NONCE_LEN..].iter_mut().zip(lengths) {
            *byte = byte.wrapping_add(length);
        }
        tag
    }
}
