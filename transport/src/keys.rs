//! Lane keys: the AEAD that protects one direction of one pair of shards, and how an association's
//! secret becomes such keys. Each (association, sender's role, sender's shard, receiver's shard)
//! has its own key, so a packet number is used once per key as long as each lane counts its own
//! packets.
//!
//! ```text
//! direction secret = HKDF-Expand-SHA256(association secret,
//!                        "cubed/1 lane" | suite | sender role | sender shard | receiver shard, 32)
//! key              = HKDF-Expand-SHA256(direction secret, "cubed/1 lane key", 16 or 32)
//! iv               = HKDF-Expand-SHA256(direction secret, "cubed/1 lane iv", 12)
//! nonce            = iv XOR (4 zero bytes | packet number, big endian)     (RFC 9001, 5.3)
//! ```
//!
//! Suite and role are one byte each, numbered at [`Suite`] and [`Role`]; shards are one byte each.
//! A later step of a direction's key starts from its direction secret, under a label of its own.
//! The expanded form of a key is large; `RawKey` is what it is expanded from.

#[cfg(not(cubed_clear))]
mod cipher;
#[cfg(cubed_clear)]
#[path = "keys/clear.rs"]
mod cipher;

use std::fmt;

use ring::{aead, hkdf};
use zeroize::{Zeroize, Zeroizing};

use cipher::Cipher;

// A build without protection must be asked for by both names, the second of which says what it is for.
#[cfg(all(cubed_clear, not(cubed_for_measuring_only)))]
compile_error!(
    "cubed_clear takes the encryption away. It is for measuring what that costs, by perf-scripts/clear, which also sets \
     cubed_for_measuring_only. Take both out of RUSTFLAGS for anything else."
);

/// Bytes that sealing adds to a payload.
pub const TAG_BYTES: usize = 16;

/// The AEAD of an association: that of the cipher suite which TLS negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`, first choice where the CPU has AES instructions.
    Aes128Gcm = 1,
    /// `TLS_AES_256_GCM_SHA384`.
    Aes256Gcm = 2,
    /// `TLS_CHACHA20_POLY1305_SHA256`, first choice elsewhere.
    ChaCha20Poly1305 = 3,
}

impl Suite {
    /// Datagrams that may fail to open under one key: the integrity limits of RFC 9001 section 6.6 and appendix B.
    pub(crate) const fn forgeries_max(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 52,
            Self::ChaCha20Poly1305 => 1 << 36,
        }
    }

    const fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Which end of a handshake this side was. The two never share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Sent the hello.
    Dialler = 1,
    /// Answered it.
    Responder = 2,
}

impl Role {
    /// The role of the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Responder,
            Self::Responder => Self::Dialler,
        }
    }
}

/// What both ends of an association share and nobody else knows. Erased on drop, never shown; on the heap, so that moving
/// it leaves no copies behind.
pub struct AssociationSecret(Box<Zeroizing<[u8; 32]>>);

impl AssociationSecret {
    /// The secret with these bytes, which must be uniformly random: they are used as an HKDF key as
    /// they are.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let secret = Self(Box::new(Zeroizing::new(bytes)));
        bytes.zeroize();
        secret
    }

    /// The keys of the lane between our shard `local_shard` and the peer's `remote_shard`: for what
    /// we send and for what we receive. `role` is ours. Costs a few microseconds; done once per
    /// lane.
    pub fn lane_keys(
        &self,
        suite: Suite,
        role: Role,
        local_shard: u8,
        remote_shard: u8,
    ) -> (SealingKey, OpeningKey) {
        let sealing = self.direction_key(suite, role, local_shard, remote_shard);
        let opening = self.direction_key(suite, role.other(), remote_shard, local_shard);
        (SealingKey(sealing), OpeningKey(opening))
    }

    fn direction_key(&self, suite: Suite, sender: Role, from_shard: u8, to_shard: u8) -> Key {
        let association = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, self.0.as_slice());
        let mut secret = Zeroizing::new([0; 32]);
        let direction = [suite as u8, sender as u8, from_shard, to_shard];
        expand(&association, &[LABEL_LANE, &direction], secret.as_mut());
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret.as_ref());
        Key::derive(suite, &prk, LABEL_KEY, LABEL_IV)
    }
}

impl fmt::Debug for AssociationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssociationSecret(..)")
    }
}

/// Seals what one shard here sends to one shard there.
pub struct SealingKey(Key);

impl SealingKey {
    /// Encrypts `payload` in place, binds `header` to it, and returns the tag that follows the
    /// payload.
    ///
    /// A packet number must never be used twice with one key, even for the same bytes: the caller
    /// counts.
    ///
    /// # Panics
    ///
    /// When the payload is longer than an AEAD allows (64 GiB), which no datagram is.
    #[inline]
    pub fn seal(&self, packet_number: u64, header: &[u8], payload: &mut [u8]) -> [u8; TAG_BYTES] {
        self.0.cipher.seal(self.0.nonce(packet_number), header, payload)
    }

    /// What [`SealingKey::expand`] makes the same key of.
    pub(crate) fn raw(&self) -> RawKey {
        self.0.raw.clone()
    }

    /// The key that [`SealingKey::raw`] was asked of.
    pub(crate) fn expand(raw: RawKey) -> Self {
        Self(Key::new(raw))
    }
}

/// Opens what one shard there sends to one shard here.
pub struct OpeningKey(Key);

impl OpeningKey {
    /// Decrypts `sealed`, a payload followed by its tag, in place and returns the payload; `None`
    /// when payload, tag, header or packet number are not those that were sealed. `sealed` is then
    /// garbage.
    #[inline]
    pub fn open<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        self.0.cipher.open(self.0.nonce(packet_number), header, sealed)
    }

    /// What [`OpeningKey::expand`] makes the same key of.
    pub(crate) fn raw(&self) -> RawKey {
        self.0.raw.clone()
    }

    /// The key that [`OpeningKey::raw`] was asked of.
    pub(crate) fn expand(raw: RawKey) -> Self {
        Self(Key::new(raw))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey(..)")
    }
}

/// What an AEAD key is expanded from, and the iv that its nonces start from: a twelfth of its expanded form. Erased on drop.
#[derive(Clone)]
pub(crate) struct RawKey {
    suite: Suite,
    /// As many of them as the suite's keys have.
    bytes: [u8; KEY_BYTES_MAX],
    iv: [u8; aead::NONCE_LEN],
}

impl Drop for RawKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
        self.iv.zeroize();
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawKey(..)")
    }
}

/// An AEAD key, expanded. `ring` does not overwrite its part of it on drop; the rest is erased.
struct Key {
    cipher: Cipher,
    raw: RawKey,
}

impl Key {
    fn derive(suite: Suite, secret: &hkdf::Prk, label_key: &[u8], label_iv: &[u8]) -> Self {
        let mut raw = RawKey { suite, bytes: [0; KEY_BYTES_MAX], iv: [0; aead::NONCE_LEN] };
        expand(secret, &[label_key], &mut raw.bytes[..suite.algorithm().key_len()]);
        expand(secret, &[label_iv], &mut raw.iv);
        Self::new(raw)
    }

    fn new(raw: RawKey) -> Self {
        let bytes = &raw.bytes[..raw.suite.algorithm().key_len()];
        Self { cipher: Cipher::new(raw.suite, bytes), raw }
    }

    #[inline]
    fn nonce(&self, packet_number: u64) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.raw.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// HKDF-Expand (RFC 5869, 2.3) of `secret` with the concatenated `info`, filling `out`.
pub(crate) fn expand(secret: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    secret
        .expand(info, OutputBytes(out.len()))
        .and_then(|output| output.fill(out))
        .expect("keys are shorter than the 255 hashes that HKDF can give");
}

struct OutputBytes(usize);

impl hkdf::KeyType for OutputBytes {
    fn len(&self) -> usize {
        self.0
    }
}

const LABEL_LANE: &[u8] = b"cubed/1 lane";
const LABEL_KEY: &[u8] = b"cubed/1 lane key";
const LABEL_IV: &[u8] = b"cubed/1 lane iv";
const KEY_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests;
