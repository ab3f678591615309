//! Goal: two ends agree on each direction's key, no two directions share one, and the derivation
//! never drifts from the published vectors.

use super::*;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
const HEADER: &[u8; 16] = b"header, 16 bytes";

fn secret() -> AssociationSecret {
    AssociationSecret::from_bytes([0x42; 32])
}

fn sealed(key: &SealingKey, packet_number: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    let tag = key.seal(packet_number, HEADER, &mut bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn both_ends_open_what_the_other_seals() {
    for suite in SUITES {
        let (seal, open_back) = secret().lane_keys(suite, Role::Dialler, 3, 5);
        let (seal_back, open) = secret().lane_keys(suite, Role::Responder, 5, 3);
        for number in [0, 1, u64::from(u32::MAX) + 1, u64::MAX] {
            let mut there = sealed(&seal, number, b"out");
            assert_eq!(open.open(number, HEADER, &mut there).unwrap(), b"out");
            let mut back = sealed(&seal_back, number, b"");
            assert_eq!(open_back.open(number, HEADER, &mut back).unwrap(), b"");
        }
    }
}

#[test]
fn nothing_else_opens_it() {
    for suite in SUITES {
        let (seal, own_open) = secret().lane_keys(suite, Role::Dialler, 3, 5);
        let good = sealed(&seal, 7, b"payload");
        let refused = |key: &OpeningKey, number, header: &[u8]| {
            key.open(number, header, &mut good.clone()).is_none()
        };
        assert!(refused(&own_open, 7, HEADER), "a packet sent back to its sender");
        for (local, remote) in [(3, 5), (5, 4), (6, 3), (0, 0)] {
            let (_, open) = secret().lane_keys(suite, Role::Responder, local, remote);
            assert!(refused(&open, 7, HEADER), "shards {local} and {remote}");
        }
        let (_, open) = secret().lane_keys(suite, Role::Responder, 5, 3);
        assert!(refused(&open, 8, HEADER), "another packet number");
        assert!(refused(&open, 7, b"Header, 16 bytes"), "another header");
        let other = AssociationSecret::from_bytes([0x43; 32]);
        let (_, open) = other.lane_keys(suite, Role::Responder, 5, 3);
        assert!(refused(&open, 7, HEADER), "another association");
        assert!(open.open(7, HEADER, &mut [0; TAG_BYTES - 1]).is_none(), "shorter than a tag");
    }
}

#[test]
fn every_bit_counts() {
    let (seal, _) = secret().lane_keys(Suite::Aes128Gcm, Role::Dialler, 0, 0);
    let (_, open) = secret().lane_keys(Suite::Aes128Gcm, Role::Responder, 0, 0);
    let good = sealed(&seal, 1, b"payload");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open.open(1, HEADER, &mut bad).is_none(), "bit {bit}");
    }
}

/// The vectors of `docs/PROTOCOL.md`. After a change on purpose, copy the printed lines there and
/// here.
#[test]
fn derivation_matches_the_published_vectors() {
    let lines: Vec<String> = SUITES
        .iter()
        .map(|suite| {
            let key = secret().direction_key(*suite, Role::Dialler, 3, 5);
            let iv = hex(&key.raw.iv);
            let packet = hex(&sealed(&SealingKey(key), 0x0102_0304_0506_0708, b"hello, lane"));
            format!("{suite:?} iv {iv} sealed {packet}")
        })
        .collect();
    assert_eq!(lines.join("\n"), VECTORS.trim(), "\n{}\n", lines.join("\n"));
}

const VECTORS: &str = "
Aes128Gcm iv 72316a65fa3469921d9cfc05 sealed bfe6ecdb1a708f2302a99a2d98bfe7f21d152b9100fb3e4a441b60
Aes256Gcm iv 09bff9fce648712603bf998c sealed 8850aebf928d8b1ce6841e94d6a436b802da55968e7e718e05c521
ChaCha20Poly1305 iv 7eeb75e82369631966753423 sealed d520b883eda4a1d67737a8d0cc49275e2297397f47b5d407f2c4de
";

/// Every type that holds a secret, and every type that holds one of these, shown with a secret of 66s (hex 42).
#[test]
fn no_debug_output_holds_a_secret() {
    use std::net::SocketAddr;

    use crate::association::Association;
    use crate::cookie::CookieSecret;
    use crate::handshake::{ChannelKeys, Credentials, Dial, Established};
    use crate::identity::Identity;
    use crate::random::SeededEntropy;
    use crate::{Config, Endpoint, Limits};

    let identity = Identity::from_seed(&[0x42; 32]);
    let other = Identity::from_seed(&[7; 32]).public_key();
    let established = Established {
        secret: secret(),
        suite: Suite::Aes128Gcm,
        role: Role::Dialler,
        local_index: 1,
        remote_index: 2,
        remote_shard: 0,
        remote_key: other,
        dial_id: [9; 8],
    };
    let address = SocketAddr::from(([10, 0, 0, 1], 1));
    let shown_established = format!("{established:?} {established:#?}");
    let (now, limits) = (crate::time::Instant::default(), Limits::default());
    let association = Association::new(now, address, &established, None, 0, &limits, 1);
    let credentials = Credentials::new(&identity).unwrap();
    let config = Config::new([1; 16], [0; 32]);
    let endpoint = Endpoint::new(config, &identity, Box::new(SeededEntropy::new(1))).unwrap();
    let shown = [
        shown_established,
        format!("{association:?} {association:#?}"),
        format!("{identity:?} {credentials:?} {endpoint:?}"),
        format!("{:?}", CookieSecret::from_bytes([0x42; 32])),
        format!("{:?}", ChannelKeys::new(&other, "channel").unwrap()),
        format!("{:?}", Dial::new(&credentials, other, "", 1, [0; 8], 0).unwrap()),
    ];
    let key = secret().direction_key(Suite::Aes128Gcm, Role::Dialler, 0, 0);
    let decimal = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    let secrets = [&[0x42; 4][..], &key.raw.iv[..4]];
    for (shown, secret) in shown.iter().flat_map(|shown| secrets.map(|secret| (shown, secret))) {
        let shown: String = shown.split_whitespace().collect();
        let packed = decimal(secret).replace(' ', "");
        assert!(!shown.contains(&packed), "{packed} in {shown}");
        assert!(!shown.contains(&hex(secret)), "{} in {shown}", hex(secret));
    }
}

#[test]
fn debug_tells_nothing() {
    let (seal, open) = secret().lane_keys(Suite::Aes128Gcm, Role::Dialler, 0, 0);
    let shown = format!("{:?} {seal:?} {open:?}", secret());
    assert_eq!(shown, "AssociationSecret(..) SealingKey(..) OpeningKey(..)");
}
