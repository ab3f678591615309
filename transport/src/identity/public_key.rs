//! Public keys, their fingerprints and their text form. A `PublicKey` is an address: 32 bytes that
//! name a node, a service or a group. Holding one proves nothing about who holds its private half.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::signed_message;

/// Characters of a public key's text form.
pub const PUBLIC_KEY_TEXT_CHARACTERS: usize = TEXT_BYTES * 8 / 5;

/// The 32-byte Ed25519 public key that names a node, a service or a group.
///
/// Text form: RFC 4648 base32 in lower case, no padding, of the 32 bytes followed by the first 3
/// bytes of BLAKE3(`"cubed/1 public key text"`, key). That is exactly 56 characters `a-z2-7`, fits
/// one DNS label, and finds a mistyped key with probability 1 - 2^-24. Only this one spelling is
/// read back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes. Any 32 bytes are taken: whether they are a point of the curve
    /// shows when a signature is verified.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The short name of this key for people and logs.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(first_bytes(&blake3::hash(&self.0)))
    }

    /// Whether `signature` is this key's signature of `message` for `purpose`
    /// (see [`Identity::sign`](super::Identity::sign)).
    ///
    /// # Panics
    ///
    /// When `purpose` contains a zero byte: it would no longer be told apart from the message.
    pub fn verify(&self, purpose: &'static str, message: &[u8], signature: &[u8]) -> bool {
        let signed = signed_message(purpose, message);
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&signed, signature).is_ok()
    }

    fn text_checksum(&self) -> [u8; TEXT_CHECKSUM_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TEXT_CHECKSUM_LABEL).update(&self.0);
        first_bytes(&hasher.finalize())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; TEXT_BYTES];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.text_checksum());
        let text = encode_base32(&bytes);
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyTextError;

    fn from_str(text: &str) -> Result<Self, PublicKeyTextError> {
        let bytes = decode_base32(text)?;
        let key = Self(first_bytes_of(&bytes));
        if key.text_checksum() == bytes[32..] { Ok(key) } else { Err(PublicKeyTextError::Checksum) }
    }
}

/// Text where the format is read by people (TOML, JSON), 32 plain bytes where it is not (postcard).
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(TextVisitor)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = PublicKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a public key of {PUBLIC_KEY_TEXT_CHARACTERS} characters")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PublicKey, E> {
        text.parse().map_err(E::custom)
    }
}

/// The first 8 bytes of BLAKE3 of a public key, shown like `ab12-cd34-ef56-7890`. For people to
/// compare; never an address, and too short to prove that two keys are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// The 8 bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, pair) in self.0.chunks_exact(2).enumerate() {
            let separator = if position == 0 { "" } else { "-" };
            write!(f, "{separator}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why a text is not a public key. The caller's fault: the text was typed or copied wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyTextError {
    /// The text has this many bytes instead of [`PUBLIC_KEY_TEXT_CHARACTERS`].
    Length(usize),
    /// The character that starts at this byte is not one of `a-z2-7`.
    Character(usize),
    /// All characters are allowed but they are not those of one key.
    Checksum,
}

impl fmt::Display for PublicKeyTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => write!(
                f,
                "a public key has {PUBLIC_KEY_TEXT_CHARACTERS} characters, this text has \
                 {bytes} bytes; copy the whole key"
            ),
            Self::Character(position) => write!(
                f,
                "the character at byte {position} cannot occur in a public key (a-z and 2-7 can); \
                 copy the key again"
            ),
            Self::Checksum => f.write_str(
                "the public key's checksum does not match: copy the key again, it was changed",
            ),
        }
    }
}

impl std::error::Error for PublicKeyTextError {}

fn encode_base32(bytes: &[u8; TEXT_BYTES]) -> [u8; PUBLIC_KEY_TEXT_CHARACTERS] {
    let mut text = [0; PUBLIC_KEY_TEXT_CHARACTERS];
    // Five bytes are 40 bits are eight characters.
    for (group, characters) in bytes.chunks_exact(5).zip(text.chunks_exact_mut(8)) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (position, character) in characters.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (35 - 5 * position) & 31) as usize];
        }
    }
    text
}

fn decode_base32(text: &str) -> Result<[u8; TEXT_BYTES], PublicKeyTextError> {
    if text.len() != PUBLIC_KEY_TEXT_CHARACTERS {
        return Err(PublicKeyTextError::Length(text.len()));
    }
    let mut bytes = [0; TEXT_BYTES];
    for (index, characters) in text.as_bytes().chunks_exact(8).enumerate() {
        let mut bits = 0u64;
        for (position, character) in characters.iter().enumerate() {
            let value = character_value(*character)
                .ok_or(PublicKeyTextError::Character(8 * index + position))?;
            bits = bits << 5 | u64::from(value);
        }
        bytes[5 * index..5 * index + 5].copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Ok(bytes)
}

const fn character_value(character: u8) -> Option<u8> {
    match character {
        b'a'..=b'z' => Some(character - b'a'),
        b'2'..=b'7' => Some(character - b'2' + 26),
        _ => None,
    }
}

fn first_bytes<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    first_bytes_of(hash.as_bytes())
}

fn first_bytes_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("both sides have a fixed length and the source is the longer one")
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const TEXT_CHECKSUM_LABEL: &[u8] = b"cubed/1 public key text";
const TEXT_CHECKSUM_BYTES: usize = 3;
const TEXT_BYTES: usize = 32 + TEXT_CHECKSUM_BYTES;
const _: () = assert!(TEXT_BYTES.is_multiple_of(5), "base32 without padding needs whole groups");

#[cfg(test)]
mod tests {
    //! Goal: one key has one text, every other text is refused with a reason, and the forms never
    //! drift.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_and_fingerprint_match_the_published_vectors() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.to_string(), "a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d3uvds");
        assert_eq!(key.fingerprint().to_string(), "ebaf-85b4-65a0-9de2");
    }

    #[test]
    fn wrong_texts_name_what_is_wrong() {
        let text = PublicKey([7; 32]).to_string();
        assert_eq!("".parse::<PublicKey>(), Err(PublicKeyTextError::Length(0)));
        assert_eq!(text[1..].parse::<PublicKey>(), Err(PublicKeyTextError::Length(55)));
        let upper = text.to_uppercase();
        assert_eq!(upper.parse::<PublicKey>(), Err(PublicKeyTextError::Character(0)));
        let foreign = format!("{}é", &text[..54]);
        assert_eq!(foreign.parse::<PublicKey>(), Err(PublicKeyTextError::Character(54)));
        let swapped = format!("{}{}", &text[..55], if text.ends_with('a') { 'b' } else { 'a' });
        assert_eq!(swapped.parse::<PublicKey>(), Err(PublicKeyTextError::Checksum));
    }

    #[test]
    fn binary_serde_is_32_plain_bytes() {
        let key = PublicKey([9; 32]);
        let bytes = postcard::to_stdvec(&key).unwrap();
        assert_eq!(bytes, [9; 32]);
        assert_eq!(postcard::from_bytes::<PublicKey>(&bytes).unwrap(), key);
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 32]) {
            let key = PublicKey(bytes);
            let text = key.to_string();
            prop_assert_eq!(text.len(), PUBLIC_KEY_TEXT_CHARACTERS);
            prop_assert_eq!(text.parse::<PublicKey>(), Ok(key));
        }

        #[test]
        fn one_changed_character_is_refused(
            bytes: [u8; 32],
            position in 0usize..56,
            other in 0usize..32,
        ) {
            let mut text = PublicKey(bytes).to_string().into_bytes();
            prop_assume!(text[position] != ALPHABET[other]);
            text[position] = ALPHABET[other];
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyTextError::Checksum));
        }

        #[test]
        fn any_text_is_refused_or_is_the_one_spelling(text: String) {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
