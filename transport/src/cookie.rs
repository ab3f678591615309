//! Stateless cookies: proof that whoever sent a hello receives at the address it came from. The
//! responder keeps one secret and no state per hello; the same arguments always give the same
//! cookie.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a cookie.
pub const COOKIE_BYTES: usize = 32;

/// How long the cookies of one epoch are minted. They are accepted through the next epoch too, so a
/// cookie lives between one and two of these.
pub const COOKIE_EPOCH_NS: u64 = 120 * 1_000_000_000;

/// The secret behind one node's cookies. All shards of a node share it; it is drawn anew at each
/// start, which ends every cookie given before. Erased on drop, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CookieSecret([u8; 32]);

impl CookieSecret {
    /// The secret with these bytes, which must be random.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The cookie for a hello with this dial id and [hash](crate::handshake::Hello::hash) that came
    /// from `address`.
    ///
    /// `now_ns` counts nanoseconds of the node's own clock. An IPv4 address and its form inside
    /// IPv6 are one address.
    pub fn mint(
        &self,
        now_ns: u64,
        address: SocketAddr,
        dial_id: [u8; 8],
        hello_hash: &[u8; 32],
    ) -> [u8; COOKIE_BYTES] {
        *self.hash(now_ns / COOKIE_EPOCH_NS, address, dial_id, hello_hash).as_bytes()
    }

    /// Whether `cookie` was minted for these arguments in this epoch or the one before.
    pub fn verify(
        &self,
        cookie: &[u8; COOKIE_BYTES],
        now_ns: u64,
        address: SocketAddr,
        dial_id: [u8; 8],
        hello_hash: &[u8; 32],
    ) -> bool {
        let epoch = now_ns / COOKIE_EPOCH_NS;
        // Comparing as `blake3::Hash` takes the same time wherever the cookies differ.
        let minted_in = |epoch| self.hash(epoch, address, dial_id, hello_hash) == *cookie;
        minted_in(epoch) || epoch.checked_sub(1).is_some_and(minted_in)
    }

    fn hash(
        &self,
        epoch: u64,
        address: SocketAddr,
        dial_id: [u8; 8],
        hello_hash: &[u8; 32],
    ) -> blake3::Hash {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        // Each field has a fixed length, so that their concatenation has one reading.
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher
            .update(&epoch.to_le_bytes())
            .update(&ip.octets())
            .update(&address.port().to_le_bytes())
            .update(&dial_id)
            .update(hello_hash);
        hasher.finalize()
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a cookie holds for one address, dial, hello and secret, through this epoch and the
    //! next.

    use super::*;

    const DIAL: [u8; 8] = *b"dial id.";
    const HELLO: [u8; 32] = [3; 32];
    const NOW: u64 = 10 * COOKIE_EPOCH_NS + 5;

    fn secret() -> CookieSecret {
        CookieSecret::from_bytes([7; 32])
    }

    fn address() -> SocketAddr {
        "192.0.2.7:7530".parse().unwrap()
    }

    #[test]
    fn a_cookie_lives_to_the_end_of_the_next_epoch() {
        let cookie = secret().mint(NOW, address(), DIAL, &HELLO);
        let valid_at = |now| secret().verify(&cookie, now, address(), DIAL, &HELLO);
        assert!(valid_at(NOW));
        assert!(valid_at(12 * COOKIE_EPOCH_NS - 1));
        assert!(!valid_at(12 * COOKIE_EPOCH_NS));
        assert!(!valid_at(10 * COOKIE_EPOCH_NS - 1), "minted in the future");
    }

    #[test]
    fn the_first_epoch_has_none_before_it() {
        let cookie = secret().mint(0, address(), DIAL, &HELLO);
        assert!(secret().verify(&cookie, 0, address(), DIAL, &HELLO));
        let never = secret().mint(u64::MAX, address(), DIAL, &HELLO);
        assert!(!secret().verify(&never, 0, address(), DIAL, &HELLO));
    }

    #[test]
    fn a_cookie_holds_for_its_arguments_alone() {
        let cookie = secret().mint(NOW, address(), DIAL, &HELLO);
        let refused = |address: &str, dial_id, hello: &[u8; 32]| {
            !secret().verify(&cookie, NOW, address.parse().unwrap(), dial_id, hello)
        };
        assert!(refused("192.0.2.7:7531", DIAL, &HELLO), "another port");
        assert!(refused("192.0.2.8:7530", DIAL, &HELLO), "another address");
        assert!(refused("192.0.2.7:7530", *b"other id", &HELLO), "another dial");
        assert!(refused("192.0.2.7:7530", DIAL, &[4; 32]), "another hello");
        let other = CookieSecret::from_bytes([8; 32]);
        assert!(!other.verify(&cookie, NOW, address(), DIAL, &HELLO), "another secret");
        for bit in 0..COOKIE_BYTES * 8 {
            let mut bad = cookie;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!secret().verify(&bad, NOW, address(), DIAL, &HELLO), "bit {bit}");
        }
    }

    #[test]
    fn ipv4_inside_ipv6_is_the_same_address() {
        let cookie = secret().mint(NOW, address(), DIAL, &HELLO);
        let mapped = "[::ffff:192.0.2.7]:7530".parse().unwrap();
        assert!(secret().verify(&cookie, NOW, mapped, DIAL, &HELLO));
    }

    /// A vector of `docs/PROTOCOL.md`. After a change on purpose, copy the printed line there and
    /// here.
    #[test]
    fn a_cookie_matches_the_published_vector() {
        let cookie = secret().mint(NOW, address(), DIAL, &HELLO);
        let text = cookie.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(text, "122d2e8fd4d5d436be5d2bea520630e5d9d15aab54e3f0a1fe3630202b6fd360");
    }
}
