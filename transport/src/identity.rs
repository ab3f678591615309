//! Identities: an Ed25519 key pair names a node, a service or a group, and its public key is the
//! address. Private keys are erased when dropped, are never shown, and sign nothing without a
//! stated purpose.

mod file;
mod public_key;

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

pub use file::IdentityFileError;
pub use public_key::{Fingerprint, PUBLIC_KEY_TEXT_CHARACTERS, PublicKey, PublicKeyTextError};

/// An Ed25519 key pair. `Debug` shows the fingerprint only; the PKCS#8 bytes are erased on drop.
pub struct Identity {
    key_pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public_key: PublicKey,
}

impl Identity {
    /// Makes a new identity from the system's random numbers.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Randomness`] when the system gives none.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(seed.as_mut()).map_err(|_| IdentityError::Randomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The identity whose private key is this seed (RFC 8032, 5.1.5). For vectors and simulations:
    /// an identity is as secret as its seed.
    ///
    /// # Panics
    ///
    /// Never: each 32-byte string is an Ed25519 private key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed);
        Self::from_pkcs8(&pkcs8).expect("every seed is a private key")
    }

    /// The identity in a PKCS#8 document, with or without its public half (RFC 8410 or RFC 5958).
    ///
    /// # Errors
    ///
    /// [`IdentityError::Pkcs8`] when the document is not an Ed25519 private key, or its public half
    /// belongs to another.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let key_pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| IdentityError::Pkcs8)?;
        let public_key = key_pair.public_key().as_ref().try_into();
        let public_key = PublicKey::from_bytes(public_key.map_err(|_| IdentityError::Pkcs8)?);
        Ok(Self { key_pair, pkcs8: Zeroizing::new(pkcs8.to_vec()), public_key })
    }

    /// The address of whoever holds this identity.
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Signs `cubed/1 <purpose>`, a zero byte and `message`. The purpose keeps a signature made in
    /// one place from meaning anything in another; TLS, whose signatures begin with 64 spaces, is
    /// such a place too.
    ///
    /// # Panics
    ///
    /// When `purpose` contains a zero byte: it would no longer be told apart from the message.
    pub fn sign(&self, purpose: &'static str, message: &[u8]) -> [u8; 64] {
        let signature = self.key_pair.sign(&signed_message(purpose, message));
        signature.as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
    }

    /// The private key as PKCS#8.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key.fingerprint())
    }
}

/// Why there is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Caller: the bytes are not an Ed25519 private key in PKCS#8.
    Pkcs8,
    /// System: no random numbers.
    Randomness,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pkcs8 => {
                "not an Ed25519 private key in PKCS#8: make one with `cubed keygen` or \
                 `openssl genpkey -algorithm ed25519`"
            }
            Self::Randomness => {
                "the system gave no random numbers: check that getrandom(2) is allowed here"
            }
        })
    }
}

impl std::error::Error for IdentityError {}

/// What is signed for `purpose`, on both sides.
fn signed_message(purpose: &'static str, message: &[u8]) -> Vec<u8> {
    assert!(!purpose.contains('\0'), "a purpose is text without zero bytes");
    [SIGNED_PREFIX, purpose.as_bytes(), b"\0", message].concat()
}

const SIGNED_PREFIX: &[u8] = b"cubed/1 ";
/// PKCS#8 version 1 of an Ed25519 seed (RFC 8410, section 7), all but the seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[cfg(test)]
mod tests {
    //! Goal: identities are reproducible from a seed, tell nothing, and signatures hold for one
    //! purpose only.

    use super::*;

    #[test]
    fn a_seed_gives_the_public_key_of_rfc_8032_test_1() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = Identity::from_seed(&seed).public_key();
        assert_eq!(public.as_bytes()[..8], [0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7]);
        assert_eq!(public.as_bytes()[28..], [0xf7, 0x07, 0x51, 0x1a]);
    }

    #[test]
    fn two_generated_identities_differ_and_their_pkcs8_restores_them() {
        let one = Identity::generate().unwrap();
        let two = Identity::generate().unwrap();
        assert_ne!(one.public_key(), two.public_key());
        assert_eq!(Identity::from_pkcs8(one.pkcs8()).unwrap().public_key(), one.public_key());
        assert_eq!(Identity::from_pkcs8(&one.pkcs8()[1..]).unwrap_err(), IdentityError::Pkcs8);
    }

    #[test]
    fn a_signature_holds_for_its_purpose_message_and_key_alone() {
        let identity = Identity::from_seed(&[1; 32]);
        let other = Identity::from_seed(&[2; 32]);
        let signature = identity.sign("group", b"message");
        assert!(identity.public_key().verify("group", b"message", &signature));
        assert!(!identity.public_key().verify("grou", b"pmessage", &signature));
        assert!(!identity.public_key().verify("group", b"massage", &signature));
        assert!(!identity.public_key().verify("group", b"message", &signature[1..]));
        assert!(!other.public_key().verify("group", b"message", &signature));
    }

    #[test]
    #[should_panic(expected = "zero bytes")]
    fn a_purpose_with_a_zero_byte_is_a_mistake() {
        Identity::from_seed(&[1; 32]).sign("a\0b", b"");
    }

    #[test]
    fn debug_shows_the_fingerprint_only() {
        let identity = Identity::from_seed(&[1; 32]);
        let fingerprint = identity.public_key().fingerprint();
        assert_eq!(format!("{identity:?}"), format!("Identity({fingerprint})"));
    }
}
