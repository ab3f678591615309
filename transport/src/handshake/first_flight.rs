//! The seal of the first flight. Its keys come from the dialled public key, the channel and the
//! dial id alone, so it hides nothing from those who know that public key; it keeps out everybody
//! else, and all damage, before TLS sees a byte. The AEAD is AES-128-GCM.
//!
//! ```text
//! channel secret = HKDF-Extract-SHA256("cubed/1 first flight", dialled public key | channel name)
//! key            = HKDF-Expand-SHA256(channel secret, "key" | direction | dial id, 16)
//! nonce          = first 12 bytes of BLAKE3(bound bytes | payload), sent in the clear
//! ```
//!
//! Direction is the sender's [`Role`] as a byte; the bound bytes are all that precede the nonce in
//! the datagram. The nonce follows from what is sealed, because neither side keeps state that could
//! count: a hello is sealed again with a cookie, a responder that forgot an attempt answers anew,
//! and different bytes must never meet under one nonce. Every payload holds 32 random bytes or a
//! cookie, so its hash tells a stranger nothing.

use std::fmt;
use std::sync::Arc;

use ring::{aead, hkdf};
use zeroize::Zeroizing;

use super::{DropReason, HandshakeError};
use crate::identity::PublicKey;
use crate::keys::{Role, TAG_BYTES, expand};

/// Longest channel name, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// Bytes that the seal adds to a payload: the nonce before it, the tag after it.
pub(super) const SEAL_BYTES: usize = aead::NONCE_LEN + TAG_BYTES;

/// A channel of a dialled key: its name, and the secret that seals first flights to it. The empty
/// name is the default channel. Cheap to clone.
#[derive(Clone)]
pub struct ChannelKeys(Arc<Inner>);

struct Inner {
    name: Box<str>,
    secret: hkdf::Prk,
}

impl ChannelKeys {
    /// The keys of channel `name` at the node, service or group with this public key. A dialler
    /// makes them for the key it dials, a responder for its own key and each of its channels.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ChannelName`] when the name is longer than [`CHANNEL_NAME_BYTES_MAX`].
    pub fn new(dialled: &PublicKey, name: &str) -> Result<Self, HandshakeError> {
        if name.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(HandshakeError::ChannelName { bytes: name.len() });
        }
        let input = [dialled.as_bytes(), name.as_bytes()].concat();
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL_SALT).extract(&input);
        Ok(Self(Arc::new(Inner { name: name.into(), secret })))
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Appends nonce, sealed `payload` and tag to `out`. `bound` must precede them in the datagram.
    pub(super) fn seal(
        &self,
        sender: Role,
        dial_id: [u8; 8],
        bound: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let hash = blake3::Hasher::new().update(bound).update(payload).finalize();
        let nonce: [u8; aead::NONCE_LEN] =
            *hash.as_bytes().first_chunk().expect("a hash is longer than a nonce");
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(payload);
        let tag = self
            .key(sender, dial_id)
            .seal_in_place_separate_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(bound),
                &mut out[start..],
            )
            .expect("a datagram is shorter than the AEAD's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// [`ChannelKeys::seal`] for tests outside the handshake.
    #[cfg(feature = "testing")]
    pub(crate) fn seal_any(
        &self,
        sender: Role,
        dial_id: [u8; 8],
        bound: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.seal(sender, dial_id, bound, payload, out);
    }

    /// Opens `sealed` (nonce, payload, tag) in place and returns the payload.
    pub(super) fn open<'a>(
        &self,
        sender: Role,
        dial_id: [u8; 8],
        bound: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], DropReason> {
        let (nonce, sealed) = sealed.split_first_chunk_mut().ok_or(DropReason::Length)?;
        self.key(sender, dial_id)
            .open_in_place(
                aead::Nonce::assume_unique_for_key(*nonce),
                aead::Aad::from(bound),
                sealed,
            )
            .map_err(|_| DropReason::Sealed)
    }

    fn key(&self, sender: Role, dial_id: [u8; 8]) -> aead::LessSafeKey {
        let mut bytes = Zeroizing::new([0; 16]);
        expand(&self.0.secret, &[LABEL_KEY, &[sender as u8], &dial_id], bytes.as_mut());
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, bytes.as_ref());
        aead::LessSafeKey::new(key.expect("AES-128 keys have 16 bytes"))
    }
}

impl fmt::Debug for ChannelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKeys({:?})", self.name())
    }
}

const LABEL_SALT: &[u8] = b"cubed/1 first flight";
const LABEL_KEY: &[u8] = b"key";

#[cfg(test)]
mod tests {
    //! Goal: only the same key, channel, dial and direction open a seal, and no two contents share
    //! a nonce.

    use super::*;

    const DIAL: [u8; 8] = *b"dial id.";

    fn keys(key: u8, name: &str) -> ChannelKeys {
        ChannelKeys::new(&PublicKey::from_bytes([key; 32]), name).unwrap()
    }

    fn sealed(bound: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        keys(7, "orders").seal(Role::Dialler, DIAL, bound, payload, &mut out);
        out
    }

    #[test]
    fn only_the_same_facts_open_it() {
        let good = sealed(b"bound", b"payload");
        let open = |keys: ChannelKeys, sender, dial_id, bound: &[u8]| {
            keys.open(sender, dial_id, bound, &mut good.clone()).map(|payload| payload.to_vec())
        };
        let opened = open(keys(7, "orders"), Role::Dialler, DIAL, b"bound");
        assert_eq!(opened, Ok(b"payload".to_vec()));
        let refused = Err(DropReason::Sealed);
        assert_eq!(open(keys(8, "orders"), Role::Dialler, DIAL, b"bound"), refused);
        assert_eq!(open(keys(7, "order"), Role::Dialler, DIAL, b"bound"), refused);
        assert_eq!(open(keys(7, ""), Role::Dialler, DIAL, b"bound"), refused);
        assert_eq!(open(keys(7, "orders"), Role::Responder, DIAL, b"bound"), refused);
        assert_eq!(open(keys(7, "orders"), Role::Dialler, *b"dial ID.", b"bound"), refused);
        assert_eq!(open(keys(7, "orders"), Role::Dialler, DIAL, b"bounD"), refused);
    }

    #[test]
    fn different_contents_never_share_a_nonce() {
        let nonce = |bound, payload| sealed(bound, payload)[..12].to_vec();
        assert_ne!(nonce(b"bound", b"payload"), nonce(b"bound", b"payloaD"));
        assert_ne!(nonce(b"bound", b"payload"), nonce(b"bounD", b"payload"));
        assert_eq!(nonce(b"bound", b"payload"), nonce(b"bound", b"payload"));
    }

    #[test]
    fn short_input_is_refused() {
        for bytes in 0..SEAL_BYTES {
            let opened = keys(7, "").open(Role::Dialler, DIAL, b"", &mut vec![0; bytes]).is_ok();
            assert!(!opened, "{bytes}");
        }
    }

    #[test]
    fn a_channel_name_has_a_limit() {
        let key = PublicKey::from_bytes([7; 32]);
        assert!(ChannelKeys::new(&key, &"n".repeat(255)).is_ok());
        let error = ChannelKeys::new(&key, &"n".repeat(256)).unwrap_err();
        assert_eq!(error, HandshakeError::ChannelName { bytes: 256 });
    }

    /// A vector of `docs/PROTOCOL.md`. After a change on purpose, copy the printed line there and
    /// here.
    #[test]
    fn the_seal_matches_the_published_vector() {
        let text = sealed(b"bound", b"hello, first flight");
        let text = text.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(
            text,
            "af0410f7d50bd84fecb7f575d2ea530a60ec6f2c0fb194c1\
             fce9d4b5be1745153902a7f1d7e20b90fb9f4d50e22e5d"
        );
    }
}
