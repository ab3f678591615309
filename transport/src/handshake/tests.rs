//! Goal: two honest ends always agree and nobody else gets in; no damaged, forged or repeated
//! datagram moves either end; nothing that a peer sends can make an answer longer than its
//! question.

use std::net::SocketAddr;

use proptest::prelude::*;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite;

use super::*;
use crate::cookie::{COOKIE_BYTES, CookieSecret};
use crate::identity::{Identity, PublicKey};
use crate::keys::{Role, Suite};

const DIALLER_INDEX: u32 = 0x1111_2222;
const RESPONDER_INDEX: u32 = 0x3333_4444;
const DIAL: [u8; 8] = *b"dial id.";
const DIALLER_SHARD: u8 = 3;
const RESPONDER_SHARD: u8 = 5;

fn credentials(seed: u8) -> Credentials {
    Credentials::new(&Identity::from_seed(&[seed; 32])).unwrap()
}

fn key(seed: u8) -> PublicKey {
    Identity::from_seed(&[seed; 32]).public_key()
}

fn channels(seed: u8, name: &str) -> [ChannelKeys; 1] {
    [ChannelKeys::new(&key(seed), name).unwrap()]
}

/// A dial by key 1 to key 2.
fn dial(channel: &str) -> Dial {
    Dial::new(&credentials(1), key(2), channel, DIALLER_INDEX, DIAL, DIALLER_SHARD).unwrap()
}

fn accept(channel: &str, hello: &[u8]) -> HalfOpen {
    let hello = Hello::open(&channels(2, channel), hello).unwrap();
    HalfOpen::accept(&credentials(2), &hello, RESPONDER_INDEX, RESPONDER_SHARD).unwrap()
}

fn hello_of(dial: &Dial) -> Vec<u8> {
    let mut out = Vec::new();
    dial.hello(None, &mut out);
    out
}

fn reply_of(half_open: &HalfOpen) -> Vec<u8> {
    let mut out = Vec::new();
    half_open.reply(&mut out);
    out
}

fn finish_of(dial: &Dial) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(dial.finish(&mut out), "a reply was good");
    out
}

/// A whole handshake, and the lengths of its datagrams.
fn shake(dialler: &Credentials, responder: &Credentials) -> (Established, Established, [usize; 3]) {
    let remote = responder.public_key();
    let mut dial = Dial::new(dialler, remote, "", DIALLER_INDEX, DIAL, DIALLER_SHARD).unwrap();
    let hello = hello_of(&dial);
    let opened = Hello::open(&[ChannelKeys::new(&remote, "").unwrap()], &hello).unwrap();
    let mut half_open =
        HalfOpen::accept(responder, &opened, RESPONDER_INDEX, RESPONDER_SHARD).unwrap();
    let mut reply = reply_of(&half_open);
    let at_dialler = dial.handle_reply(&mut reply).unwrap();
    let mut finish = finish_of(&dial);
    let at_responder = half_open.handle_finish(&mut finish).unwrap();
    (at_dialler, at_responder, [hello.len(), reply.len(), finish.len()])
}

/// Whether what `from` seals on a lane opens at `to`.
fn carries(
    from: &Established,
    to: &Established,
    from_shards: (u8, u8),
    to_shards: (u8, u8),
) -> bool {
    let (seal, _) = from.secret.lane_keys(from.suite, from.role, from_shards.0, from_shards.1);
    let (_, open) = to.secret.lane_keys(to.suite, to.role, to_shards.0, to_shards.1);
    let mut packet = b"payload".to_vec();
    let tag = seal.seal(9, b"header", &mut packet);
    packet.extend_from_slice(&tag);
    open.open(9, b"header", &mut packet).is_some_and(|payload| payload == b"payload")
}

/// Every way to damage a datagram: each bit flipped, each shorter length, some longer ones.
fn damaged(good: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..good.len() * 8).map(|bit| {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    });
    let truncated = (0..good.len()).map(|bytes| good[..bytes].to_vec());
    let extended = [1, 16, 200].map(|bytes| [good, &vec![0; bytes]].concat());
    flipped.chain(truncated).chain(extended)
}

#[test]
fn both_ends_agree_on_everything_in_every_suite() {
    let suites: [(SupportedCipherSuite, Suite); 3] = [
        (cipher_suite::TLS13_AES_128_GCM_SHA256, Suite::Aes128Gcm),
        (cipher_suite::TLS13_AES_256_GCM_SHA384, Suite::Aes256Gcm),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, Suite::ChaCha20Poly1305),
    ];
    for (tls, suite) in suites {
        let dialler = Credentials::with_suites(&Identity::from_seed(&[1; 32]), &[tls]).unwrap();
        let (ours, theirs, _) = shake(&dialler, &credentials(2));
        assert_eq!((ours.suite, theirs.suite), (suite, suite));
        assert_eq!((ours.role, theirs.role), (Role::Dialler, Role::Responder));
        assert_eq!((ours.local_index, ours.remote_index), (DIALLER_INDEX, RESPONDER_INDEX));
        assert_eq!((theirs.local_index, theirs.remote_index), (RESPONDER_INDEX, DIALLER_INDEX));
        assert_eq!((ours.remote_key, theirs.remote_key), (key(2), key(1)));
        assert_eq!((ours.remote_shard, theirs.remote_shard), (RESPONDER_SHARD, DIALLER_SHARD));
        assert_eq!((ours.dial_id, theirs.dial_id), (DIAL, DIAL));
        assert!(carries(&ours, &theirs, (3, 5), (5, 3)), "out");
        assert!(carries(&theirs, &ours, (5, 3), (3, 5)), "back");
        assert!(!carries(&ours, &theirs, (3, 5), (3, 5)), "another pair of shards");
        assert!(!carries(&ours, &theirs, (3, 5), (5, 4)), "another pair of shards");
        assert!(!carries(&ours, &ours, (3, 5), (3, 5)), "sent back to its sender");
    }
}

#[test]
fn the_suite_follows_the_cpu() {
    let (ours, ..) = shake(&credentials(1), &credentials(2));
    #[cfg(target_arch = "x86_64")]
    let aes = std::is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    let aes = ours.suite != Suite::ChaCha20Poly1305;
    assert_eq!(ours.suite, if aes { Suite::Aes128Gcm } else { Suite::ChaCha20Poly1305 });
}

#[test]
fn each_handshake_has_its_own_secret() {
    let (one, _, _) = shake(&credentials(1), &credentials(2));
    let (_, two, _) = shake(&credentials(1), &credentials(2));
    assert!(!carries(&one, &two, (3, 5), (5, 3)));
}

#[test]
fn a_node_may_dial_itself() {
    let (ours, theirs, _) = shake(&credentials(1), &credentials(1));
    assert!(carries(&ours, &theirs, (0, 0), (0, 0)));
}

#[test]
fn no_answer_is_longer_than_its_question() {
    let (_, _, [hello, reply, finish]) = shake(&credentials(1), &credentials(2));
    assert_eq!(hello, DATAGRAM_BYTES_MAX);
    assert!(reply <= hello && finish <= reply, "{hello} {reply} {finish}");
    println!("HELLO {hello} B, REPLY {reply} B, FINISH {finish} B");
}

#[test]
fn another_key_that_answers_is_named() {
    // The impersonator knows key 2's public half, so it opens the hello, and holds key 9.
    let mut dial = dial("");
    let hello = Hello::open(&channels(2, ""), &hello_of(&dial)).unwrap();
    let impersonator =
        HalfOpen::accept(&credentials(9), &hello, RESPONDER_INDEX, RESPONDER_SHARD).unwrap();
    let error = dial.handle_reply(&mut reply_of(&impersonator)).unwrap_err();
    let (dialled, answered) = (key(2).fingerprint(), key(9).fingerprint());
    assert_eq!(error, StepError::Failed(HandshakeError::WrongKey { dialled, answered }));
    let text = error.to_string();
    assert!(text.contains(&dialled.to_string()) && text.contains(&answered.to_string()), "{text}");
    assert!(!dial.finish(&mut Vec::new()), "the impersonator learns no identity");
}

#[test]
fn strangers_and_other_channels_are_dropped() {
    let hello = hello_of(&dial("orders"));
    let open = |seed, name| Hello::open(&channels(seed, name), &hello).map(|_| ());
    assert_eq!(open(2, "orders"), Ok(()));
    assert_eq!(open(2, ""), Err(DropReason::Sealed), "the default channel");
    assert_eq!(open(2, "order"), Err(DropReason::Sealed), "another channel");
    assert_eq!(open(3, "orders"), Err(DropReason::Sealed), "dialled another key");
    assert_eq!(Hello::open(&[], &hello).map(|_| ()), Err(DropReason::Sealed), "no channel");
}

#[test]
fn the_dialled_channel_is_found_among_many() {
    let names: Vec<String> = (0..64).map(|number| format!("channel {number}")).collect();
    let channels: Vec<ChannelKeys> =
        names.iter().map(|name| ChannelKeys::new(&key(2), name).unwrap()).collect();
    for name in [&names[0], &names[37], &names[63]] {
        let hello = Hello::open(&channels, &hello_of(&dial(name))).unwrap();
        assert_eq!(hello.channel().name(), name);
    }
}

#[test]
fn a_damaged_hello_opens_nothing() {
    let hello = hello_of(&dial(""));
    let channels = channels(2, "");
    for bad in damaged(&hello) {
        assert!(Hello::open(&channels, &bad).is_err());
    }
    accept("", &hello);
}

#[test]
fn a_damaged_reply_leaves_the_dial_as_it_was() {
    let mut dial = dial("");
    let half_open = accept("", &hello_of(&dial));
    let mut reply = reply_of(&half_open);
    for mut bad in damaged(&reply) {
        assert!(matches!(dial.handle_reply(&mut bad), Err(StepError::Drop(_))));
    }
    dial.handle_reply(&mut reply).unwrap();
}

#[test]
fn a_damaged_finish_leaves_the_half_open_as_it_was() {
    let mut dial = dial("");
    let mut half_open = accept("", &hello_of(&dial));
    dial.handle_reply(&mut reply_of(&half_open)).unwrap();
    let mut finish = finish_of(&dial);
    for mut bad in damaged(&finish) {
        assert!(matches!(half_open.handle_finish(&mut bad), Err(StepError::Drop(_))));
    }
    half_open.handle_finish(&mut finish).unwrap();
}

#[test]
fn a_damaged_cookie_is_dropped() {
    let dial = dial("");
    let hello = Hello::open(&channels(2, ""), &hello_of(&dial)).unwrap();
    let mut good = Vec::new();
    hello.demand_cookie(&[6; COOKIE_BYTES], RESPONDER_SHARD, &mut good);
    for mut bad in damaged(&good) {
        assert!(dial.handle_cookie(&mut bad).is_err());
    }
    assert_eq!(dial.handle_cookie(&mut good), Ok([6; COOKIE_BYTES]));
}

#[test]
fn a_cookie_travels_and_proves_the_address() {
    let secret = CookieSecret::from_bytes([4; 32]);
    let address: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let mut dial = dial("");
    let first = Hello::open(&channels(2, ""), &hello_of(&dial)).unwrap();
    assert_eq!(first.cookie(), None);
    let mut demand = Vec::new();
    let cookie = secret.mint(5, address, first.dial_id(), &first.hash());
    first.demand_cookie(&cookie, RESPONDER_SHARD, &mut demand);
    assert_eq!(demand.len(), 76);

    let returned = dial.handle_cookie(&mut demand).unwrap();
    let mut again = Vec::new();
    dial.hello(Some(&returned), &mut again);
    let second = Hello::open(&channels(2, ""), &again).unwrap();
    let cookie = second.cookie().unwrap();
    assert!(secret.verify(cookie, 6, address, second.dial_id(), &second.hash()));

    let mut half_open = accept("", &again);
    assert!(half_open.answers(&first) && half_open.answers(&second));
    dial.handle_reply(&mut reply_of(&half_open)).unwrap();
    half_open.handle_finish(&mut finish_of(&dial)).unwrap();
}

#[test]
fn sealing_a_hello_with_a_cookie_uses_another_nonce() {
    let dial = dial("");
    let mut with_cookie = Vec::new();
    dial.hello(Some(&[1; COOKIE_BYTES]), &mut with_cookie);
    assert_ne!(hello_of(&dial)[48..60], with_cookie[48..60]);
}

#[test]
fn repeated_datagrams_are_the_same_and_harmless() {
    let mut dial = dial("");
    let hello = hello_of(&dial);
    assert_eq!(hello, hello_of(&dial));
    let mut half_open = accept("", &hello);
    assert!(half_open.answers(&Hello::open(&channels(2, ""), &hello).unwrap()));
    let reply = reply_of(&half_open);
    assert_eq!(reply, reply_of(&half_open));

    let ours = dial.handle_reply(&mut reply.clone()).unwrap();
    let finish = finish_of(&dial);
    let duplicate = StepError::Drop(DropReason::Duplicate);
    assert_eq!(dial.handle_reply(&mut reply.clone()).unwrap_err(), duplicate);
    assert_eq!(finish, finish_of(&dial));

    let theirs = half_open.handle_finish(&mut finish.clone()).unwrap();
    assert_eq!(half_open.handle_finish(&mut finish.clone()).unwrap_err(), duplicate);
    assert!(carries(&ours, &theirs, (0, 0), (0, 0)));
}

#[test]
fn answers_to_another_dial_are_dropped() {
    let other =
        Dial::new(&credentials(1), key(2), "", DIALLER_INDEX, *b"another.", DIALLER_SHARD).unwrap();
    let mut reply = reply_of(&accept("", &hello_of(&other)));
    let mut dial = dial("");
    let error = dial.handle_reply(&mut reply.clone()).unwrap_err();
    assert_eq!(error, StepError::Drop(DropReason::OtherDial));
    reply[8..16].copy_from_slice(&DIAL);
    let error = dial.handle_reply(&mut reply).unwrap_err();
    assert_eq!(error, StepError::Drop(DropReason::Sealed));
}

#[test]
fn a_finish_of_another_attempt_is_dropped() {
    // The responder forgot its first answer: same hello, same indexes, new keys.
    let mut dial = dial("");
    let hello = hello_of(&dial);
    dial.handle_reply(&mut reply_of(&accept("", &hello))).unwrap();
    let error = accept("", &hello).handle_finish(&mut finish_of(&dial)).unwrap_err();
    assert_eq!(error, StepError::Drop(DropReason::Sealed));
}

#[test]
fn what_tls_refuses_ends_the_attempt_alone() {
    // Somebody who knows key 2's public half and speaks no TLS.
    let [channel] = channels(2, "");
    let mut dial = dial("");
    let hello = Hello::open(std::slice::from_ref(&channel), &hello_of(&dial)).unwrap();
    let header = hello.answer(Kind::Reply, 0).to_bytes();
    let mut reply = header.to_vec();
    channel.seal(Role::Responder, DIAL, &header, &[1, 0, 0, 0, 4, 0, 2, 0, 0, 0], &mut reply);
    let error = dial.handle_reply(&mut reply).unwrap_err();
    assert!(matches!(error, StepError::Failed(HandshakeError::Tls(_))), "{error}");
    assert!(!dial.finish(&mut Vec::new()));
    let mut good = reply_of(&accept("", &hello_of(&dial)));
    assert!(matches!(dial.handle_reply(&mut good), Err(StepError::Drop(DropReason::Duplicate))));

    let mut forged = Vec::new();
    hello::write(
        &channel,
        Header { kind: Kind::Hello, ..hello.header },
        None,
        &[1, 0, 0, 0],
        &mut forged,
    );
    let forged = Hello::open(&[channel], &forged).unwrap();
    let error = HalfOpen::accept(&credentials(2), &forged, 1, 0).unwrap_err();
    assert!(matches!(error, HandshakeError::Tls(_)), "{error}");
}

#[test]
fn fields_that_do_not_fit_are_malformed() {
    let [channel] = channels(2, "");
    let mut dial = dial("");
    let hello = Hello::open(std::slice::from_ref(&channel), &hello_of(&dial)).unwrap();
    let header = hello.answer(Kind::Reply, 0).to_bytes();
    for payload in [&[][..], &[1, 0, 0, 0, 4], &[1, 0, 0, 0, 1, 0], &[1, 0, 0, 0, 255, 255, 7]] {
        let mut reply = header.to_vec();
        channel.seal(Role::Responder, DIAL, &header, payload, &mut reply);
        let error = dial.handle_reply(&mut reply).unwrap_err();
        assert_eq!(error, StepError::Drop(DropReason::Malformed));
    }
    let half_open = accept("", &hello_of(&dial));
    dial.handle_reply(&mut reply_of(&half_open)).unwrap();
}

#[test]
fn identities_are_not_readable_on_the_wire() {
    let mut dial = dial("");
    let hello = hello_of(&dial);
    let half_open = accept("", &hello);
    let reply = reply_of(&half_open);
    dial.handle_reply(&mut reply.clone()).unwrap();
    let finish = finish_of(&dial);
    let opened = Hello::open(&channels(2, ""), &hello).unwrap();
    let shows = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|at| at == secret);
    for seed in [1, 2] {
        let text = key(seed).to_string();
        for flight in [&hello[..], &reply, &finish, opened.client_hello()] {
            assert!(!shows(flight, key(seed).as_bytes()));
            assert!(!shows(flight, text.as_bytes()), "SNI is on");
        }
    }
    assert!(shows(opened.client_hello(), b"cubed/1") && !shows(&hello, b"cubed/1"));
}

#[test]
fn peeking_finds_what_routes_a_datagram() {
    let mut dial = dial("");
    let hello = hello_of(&dial);
    let half_open = accept("", &hello);
    let reply = reply_of(&half_open);
    dial.handle_reply(&mut reply.clone()).unwrap();
    let finish = finish_of(&dial);
    let peeked = |datagram: &[u8]| {
        let header = Header::peek(datagram).unwrap();
        assert_eq!(header.dial_id, DIAL);
        (header.kind, header.steering, header.index, header.sender_shard)
    };
    assert_eq!(peeked(&hello), (Kind::Hello, DIAL[0], DIALLER_INDEX, DIALLER_SHARD));
    assert_eq!(peeked(&reply), (Kind::Reply, DIALLER_SHARD, DIALLER_INDEX, RESPONDER_SHARD));
    assert_eq!(peeked(&finish), (Kind::Finish, RESPONDER_SHARD, RESPONDER_INDEX, DIALLER_SHARD));
    for kind in (0..=255).filter(|kind| !(1..=4).contains(kind)) {
        let other = [&[kind], &hello[1..]].concat();
        assert_eq!(Header::peek(&other), Err(DropReason::Kind));
    }
    let newer = [&hello[..7], &[2], &hello[8..]].concat();
    assert_eq!(Header::peek(&newer), Err(DropReason::Version));
    assert_eq!(Header::peek(&[]), Err(DropReason::Kind));
    assert_eq!(Header::peek(&hello[..15]), Err(DropReason::Length));
}

proptest! {
    #[test]
    fn noise_never_moves_either_end(
        kind in 0u8..6,
        tail in prop::collection::vec(any::<u8>(), 0..1300),
        addressed: bool,
    ) {
        let mut dial = dial("");
        let mut half_open = accept("", &hello_of(&dial));
        let mut noise = [&[kind], &tail[..]].concat();
        if addressed && noise.len() >= HEADER_BYTES {
            let index = if kind == 3 { RESPONDER_INDEX } else { DIALLER_INDEX };
            noise[2..6].copy_from_slice(&index.to_le_bytes());
            noise[7] = VERSION;
            noise[8..16].copy_from_slice(&DIAL);
        }
        prop_assert!(Hello::open(&channels(2, ""), &noise).is_err());
        prop_assert!(dial.handle_cookie(&mut noise.clone()).is_err());
        prop_assert!(matches!(dial.handle_reply(&mut noise.clone()), Err(StepError::Drop(_))));
        prop_assert!(matches!(half_open.handle_finish(&mut noise), Err(StepError::Drop(_))));
        dial.handle_reply(&mut reply_of(&half_open)).unwrap();
        half_open.handle_finish(&mut finish_of(&dial)).unwrap();
    }

    /// Insiders, who know the public key, may end an attempt but never crash it.
    #[test]
    fn sealed_noise_never_panics(payload in prop::collection::vec(any::<u8>(), 0..1100)) {
        let [channel] = channels(2, "");
        let mut dial = dial("");
        let hello = Hello::open(std::slice::from_ref(&channel), &hello_of(&dial)).unwrap();
        let header = hello.answer(Kind::Reply, 0).to_bytes();
        let mut reply = header.to_vec();
        channel.seal(Role::Responder, DIAL, &header, &payload, &mut reply);
        prop_assert!(dial.handle_reply(&mut reply).is_err());
        let mut forged = Vec::new();
        hello::write(&channel, hello.header, None, &payload, &mut forged);
        let forged = Hello::open(&[channel], &forged).unwrap();
        prop_assert!(HalfOpen::accept(&credentials(2), &forged, 1, 0).is_err());
    }
}
