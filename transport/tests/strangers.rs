//! Goal: peers that nobody named fill neither the table nor the queue of answers, and those that somebody named are never forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Incoming, Limits,
    NodeMode, Outcome, PeerId, Refusal, Token,
};

struct Anyone;

impl Application for Anyone {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Err(Refusal::NoSuchFlow)
    }
    fn generation(&self) -> u32 {
        0
    }
    fn deliver(&mut self, _: Incoming<'_>) -> Result<Disposition, Refusal> {
        Err(Refusal::NoSuchFlow)
    }
    fn reply(&mut self, _: Token, _: Result<Body<'_>, Outcome>) {}
}

fn endpoint(seed: u8, limits: Limits) -> Endpoint {
    let config = Config {
        incarnation: [seed; 16],
        name: String::new(),
        role: String::new(),
        mode: NodeMode::PLAIN,
        kind: 0,
        channels: Vec::new(),
        shard: 0,
        shards: 1,
        placement_salt: [0; 32],
        limits,
    };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

/// Carries datagrams between both until neither has any.
fn exchange(now: Instant, server: &mut Endpoint, stranger: &mut Endpoint, from: SocketAddr) {
    let at: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let mut run = Vec::new();
    let mut worked = true;
    while std::mem::take(&mut worked) {
        while let Some(transmit) = stranger.poll_transmit(now, &mut run) {
            worked = true;
            for datagram in run.chunks_mut(transmit.segment_bytes) {
                server.handle_datagram(now, from, datagram, &mut Anyone);
            }
        }
        while let Some(transmit) = server.poll_transmit(now, &mut run) {
            worked = true;
            for datagram in run.chunks_mut(transmit.segment_bytes) {
                stranger.handle_datagram(now, at, datagram, &mut Anyone);
            }
        }
    }
}

/// A stranger comes, and goes in order; whether it found room.
fn visit(now: Instant, server: &mut Endpoint, seed: u8) -> bool {
    let mut stranger = endpoint(seed, Limits::default());
    let from = SocketAddr::from(([10, 0, 1, seed], 7530));
    let peer = stranger.add_peer(server.public_key(), "10.0.0.1:1".parse().ok()).unwrap();
    stranger.connect(now, peer).unwrap();
    exchange(now, server, &mut stranger, from);
    let found_room = stranger.is_connected(peer);
    stranger.close();
    exchange(now, server, &mut stranger, from);
    found_room
}

#[test]
fn strangers_make_room_for_each_other_and_the_named_stay() {
    let limits = Limits { peers_max: 3, ..Limits::default() };
    let mut server = endpoint(1, limits);
    let named = Identity::from_seed(&[200; 32]).public_key();
    server.add_peer(named, None).unwrap();
    let mut now = Instant::from_nanos(1_000_000_000);
    assert!(visit(now, &mut server, 2));
    assert!(visit(now, &mut server, 3));
    assert!(!visit(now, &mut server, 4), "both were heard of just now");
    assert_eq!(server.counters().dropped_peers_full, 1);
    for seed in 5..25 {
        now += Duration::from_mins(3);
        server.handle_timeout(now, &mut Anyone);
        assert!(visit(now, &mut server, seed), "stranger {seed}");
    }
    assert_eq!(server.counters().peers_forgotten, 20);
    assert!(server.find_peer(&named).is_some());
    let last = Identity::from_seed(&[24; 32]).public_key();
    let peer = server.find_peer(&last).expect("it was here just now");
    assert_eq!(server.peer_key(peer), Some(last));
    assert!(server.find_peer(&Identity::from_seed(&[2; 32]).public_key()).is_none());
}

/// A server that answers nothing while it is asked and asked again keeps no more answers than it may, and answers the next.
#[test]
fn answers_that_wait_to_leave_are_bounded() {
    let limits = Limits { half_open_max: 1, ..Limits::default() };
    let (mut server, mut stranger) = (endpoint(1, limits), endpoint(2, Limits::default()));
    let now = Instant::from_nanos(1_000_000_000);
    let from: SocketAddr = "10.0.1.2:7530".parse().unwrap();
    let peer = stranger.add_peer(server.public_key(), "10.0.0.1:1".parse().ok()).unwrap();
    stranger.connect(now, peer).unwrap();
    let mut hello = Vec::new();
    stranger.poll_transmit(now, &mut hello).expect("a hello");
    // The first gets a REPLY, which fills the table; from then on each is asked for a cookie.
    for _ in 0..3_000 {
        server.handle_datagram(now, from, &mut hello.clone(), &mut Anyone);
    }
    assert_eq!(server.counters().handshakes_unsent, 3_000 - 1_024);
    let mut out = Vec::new();
    let mut left = 0;
    while server.poll_transmit(now, &mut out).is_some() {
        left += 1;
    }
    assert_eq!(left, 1_024);
    server.handle_datagram(now, from, &mut hello, &mut Anyone);
    assert!(server.poll_transmit(now, &mut out).is_some(), "there is room again");
    assert_eq!(server.counters().handshakes_unsent, 3_000 - 1_024);
}
