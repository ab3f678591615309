//! Goal: peers that nobody named fill neither the table nor the queue of answers, and those that somebody named are never forgotten.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::Identity;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Body, Disposition, Endpoint, Incoming, Limits, Outcome, PeerId, Refusal, ReplyTo,
    Token,
};
use support::{endpoint, open_to_all};

/// Takes everything, and keeps what is to be answered.
#[derive(Default)]
struct Anyone {
    asked: Vec<ReplyTo>,
    answers: u64,
}

impl Application for Anyone {
    open_to_all!(1 << 20, 1_000);
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.asked.extend(message.request);
        Ok(Disposition::Consumed)
    }
    fn reply(&mut self, _: Token, result: Result<Body<'_>, Outcome>) {
        self.answers += u64::from(result.is_ok());
    }
}

/// Carries datagrams between both until neither has any.
fn exchange(now: Instant, server: &mut Endpoint, stranger: &mut Endpoint, from: SocketAddr) {
    let apps = &mut [Anyone::default(), Anyone::default()];
    exchange_with(now, &mut [server, stranger], apps, from);
}

/// As [`exchange`], with what the server and the stranger make of messages.
fn exchange_with(
    now: Instant,
    ends: &mut [&mut Endpoint; 2],
    apps: &mut [Anyone; 2],
    from: SocketAddr,
) {
    let addresses = ["10.0.0.1:1".parse().unwrap(), from];
    let mut run = Vec::new();
    let mut worked = true;
    while std::mem::take(&mut worked) {
        for side in [1, 0] {
            while let Some(transmit) = ends[side].poll_transmit(now, &mut run) {
                worked = true;
                for datagram in run.chunks_mut(transmit.segment_bytes) {
                    let (other, app) = (&mut ends[1 - side], &mut apps[1 - side]);
                    other.handle_datagram(now, addresses[side], datagram, app);
                }
            }
            for to in std::mem::take(&mut apps[side].asked) {
                ends[side].reply(to, b"an answer").unwrap();
                worked = true;
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
        server.handle_timeout(now, &mut Anyone::default());
        assert!(visit(now, &mut server, seed), "stranger {seed}");
    }
    assert_eq!(server.counters().peers_forgotten, 20);
    assert!(server.find_peer(&named).is_some());
    let last = Identity::from_seed(&[24; 32]).public_key();
    let peer = server.find_peer(&last).expect("it was here just now");
    assert_eq!(server.peer_key(peer), Some(last));
    assert!(server.find_peer(&Identity::from_seed(&[2; 32]).public_key()).is_none());
}

/// A stranger that missed the end of its session, and comes back when its place was given to another, meets a new session: what
/// the server then counts as delivered was handed over.
#[test]
fn a_forgotten_stranger_meets_no_old_session() {
    let mut server = endpoint(1, Limits { peers_max: 1, ..Limits::default() });
    let mut stranger = endpoint(2, Limits::default());
    let mut apps = [Anyone::default(), Anyone::default()];
    let mut now = Instant::from_nanos(1_000_000_000);
    let from: SocketAddr = "10.0.1.2:7530".parse().unwrap();
    let peer = stranger.add_peer(server.public_key(), "10.0.0.1:1".parse().ok()).unwrap();
    let ask = |now, stranger: &mut Endpoint, number| {
        // A name that the server knows nothing of would end a session that only one side has.
        let flow = stranger.open_flow(peer, &format!("ask.{number}")).unwrap();
        let (body, deadline) = (Bytes::from_static(b"?"), now + Duration::from_secs(2));
        stranger.request(now, flow, &body, Token(number), deadline).unwrap();
    };
    stranger.connect(now, peer).unwrap();
    for number in 0..5 {
        exchange_with(now, &mut [&mut server, &mut stranger], &mut apps, from);
        ask(now, &mut stranger, number);
    }
    let pass = |now: &mut Instant,
                server: &mut Endpoint,
                stranger: &mut Endpoint,
                apps: &mut [Anyone; 2]| {
        for _ in 0..50 {
            exchange_with(*now, &mut [&mut *server, &mut *stranger], apps, from);
            *now += Duration::from_millis(20);
            server.handle_timeout(*now, &mut apps[0]);
            stranger.handle_timeout(*now, &mut apps[1]);
        }
    };
    pass(&mut now, &mut server, &mut stranger, &mut apps);
    assert_eq!(apps[1].answers, 5);
    // The CLOSE is lost.
    server.reject(PeerId(0));
    while server.poll_transmit(now, &mut Vec::new()).is_some() {}
    assert!(!server.is_connected(PeerId(0)) && stranger.is_connected(peer));
    for _ in 0..2 {
        now += Duration::from_mins(5);
        server.handle_timeout(now, &mut Anyone::default());
        stranger.handle_timeout(now, &mut Anyone::default());
        let is_taken = server.counters().peers_forgotten > 0;
        assert!(is_taken || visit(now, &mut server, 3), "its place is given to another");
    }
    assert!(stranger.is_connected(peer), "nothing showed it that its session is over");
    // It asks again, and is told that its session is unknown.
    for number in 5..15 {
        ask(now, &mut stranger, number);
        pass(&mut now, &mut server, &mut stranger, &mut apps);
    }
    assert_eq!(server.counters().peers_forgotten, 2, "it is back");
    let back = server.find_peer(&stranger.public_key()).expect("it is known");
    assert!(server.is_connected(back) && back != PeerId(0), "its old number means nobody");
    let violations = [&server, &stranger].map(|end| end.counters().violations);
    assert_eq!(violations, [0, 0], "neither met numbers of the old session");
    let told = server.tally().delivered;
    assert!(told > 10, "{told}");
    assert_eq!(apps[1].answers, told, "delivered is handed over");
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
        server.handle_datagram(now, from, &mut hello.clone(), &mut Anyone::default());
    }
    assert_eq!(server.counters().handshakes_unsent, 3_000 - 1_024);
    let mut out = Vec::new();
    let mut left = 0;
    while server.poll_transmit(now, &mut out).is_some() {
        left += 1;
    }
    assert_eq!(left, 1_024);
    server.handle_datagram(now, from, &mut hello, &mut Anyone::default());
    assert!(server.poll_transmit(now, &mut out).is_some(), "there is room again");
    assert_eq!(server.counters().handshakes_unsent, 3_000 - 1_024);
}
