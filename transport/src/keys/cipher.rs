//! The AEAD behind a lane's key: seals and opens in place, under a nonce that the caller counts.

use ring::aead;

use super::{Suite, TAG_BYTES};

/// An expanded key of a suite.
pub(super) struct Cipher(aead::LessSafeKey);

impl Cipher {
    /// The cipher of `suite` with these bytes, as many as its key has.
    pub(super) fn new(suite: Suite, key: &[u8]) -> Self {
        let key = aead::UnboundKey::new(suite.algorithm(), key);
        Self(aead::LessSafeKey::new(key.expect("the key has the suite's length")))
    }

    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; aead::NONCE_LEN],
        header: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(header), payload);
        let tag = tag.expect("a datagram is shorter than the AEAD's limit");
        tag.as_ref().try_into().expect("all suites have tags of 16 bytes")
    }

    #[inline]
    pub(super) fn open<'a>(
        &self,
        nonce: [u8; aead::NONCE_LEN],
        header: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, aead::Aad::from(header), sealed).ok()
    }
}
