//! Goal: who a peer says it is comes proven and sealed; channels share nothing; whoever is not accepted is told so, keeps
//! no state here, and gets in once it is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, ChannelConfig, ChannelId, Config, DialFailure, Disposition, EndCause,
    Endpoint, Event, Incoming, Limits, Newcomer, NodeMode, PeerId, Refusal, Service, Token,
    Verdict,
};

const GARDEN: ChannelId = ChannelId(1);
const HARBOUR: ChannelId = ChannelId(2);

struct App {
    /// What is said of newcomers, by channel.
    verdicts: [Verdict; 3],
    /// Of whom it was asked: channel, name, role, mode, kind, whether we dialled.
    judged: Vec<(ChannelId, String, String, NodeMode, u8, bool)>,
    received: Vec<(u32, Vec<u8>)>,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }
    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let Newcomer { channel, name, role, mode, kind, is_dialled, .. } = *newcomer;
        self.judged.push((channel, name.to_owned(), role.to_owned(), mode, kind, is_dialled));
        self.verdicts[usize::from(channel.0)]
    }
    fn bind(
        &mut self,
        channel: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        let flow = channel.0.into();
        Ok(Binding { flow, window_bytes: 1 << 20, message_bytes_max: 1 << 20 })
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.received.push((message.flow, message.body.as_slice().to_vec()));
        Ok(Disposition::Consumed)
    }
}

/// Two nodes and a perfect link that remembers what it carried.
struct Pair {
    now: Instant,
    ends: [(Endpoint, App); 2],
    addresses: [SocketAddr; 2],
    carried: Vec<Vec<u8>>,
    events: [Vec<Event>; 2],
}

fn config(seed: u8, channels: Vec<ChannelConfig>) -> Config {
    Config {
        name: format!("name-of-{seed}"),
        role: format!("role-of-{seed}"),
        mode: if seed == 1 { NodeMode::PLAIN } else { NodeMode::MAIN },
        kind: 200 + seed,
        channels,
        limits: Limits { peers_max: 4, ..Limits::default() },
        ..Config::new([seed; 16], [seed; 32])
    }
}

fn end(config: Config, seed: u8) -> (Endpoint, App) {
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    let endpoint = Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap();
    let verdicts = [Verdict::Accepted; 3];
    (endpoint, App { verdicts, judged: Vec::new(), received: Vec::new() })
}

/// Channels "garden", with the node's own identity, and "harbour" with another.
fn channels(seed: u8) -> Vec<ChannelConfig> {
    let other = Arc::new(Identity::from_seed(&[seed + 100; 32]));
    vec![
        ChannelConfig { name: "garden".into(), identity: None },
        ChannelConfig { name: "harbour".into(), identity: Some(other) },
    ]
}

impl Pair {
    fn new() -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            ends: [1, 2].map(|seed| end(config(seed, channels(seed)), seed)),
            addresses: ["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()],
            carried: Vec::new(),
            events: [Vec::new(), Vec::new()],
        }
    }

    /// The first node knows the second under this key, on this channel.
    fn meet(&mut self, channel: ChannelId, key: PublicKey) -> PeerId {
        let address = Some(self.addresses[1]);
        self.ends[0].0.add_peer_on(channel, key, address).unwrap()
    }

    fn connect(&mut self, peer: PeerId) {
        self.ends[0].0.connect(self.now, peer).unwrap();
        self.run(Duration::from_millis(500));
    }

    fn send(&mut self, peer: PeerId, body: &[u8]) {
        let end = &mut self.ends[0].0;
        let flow = end.open_flow(peer, "orders").unwrap();
        end.send(self.now, flow, body, Service::Acknowledged, Some(Token(1))).unwrap();
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut out = Vec::new();
        while self.now < until {
            let mut wire = VecDeque::new();
            for side in 0..2 {
                while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                    for datagram in out.chunks(transmit.segment_bytes) {
                        wire.push_back((1 - side, datagram.to_vec()));
                    }
                }
                while let Some(event) = self.ends[side].0.poll_event() {
                    self.events[side].push(event);
                }
            }
            let next = self.ends.iter().filter_map(|(end, _)| end.poll_timeout()).min();
            let step = self.now + Duration::from_micros(50);
            self.now =
                if wire.is_empty() { next.unwrap_or(until).clamp(step, until) } else { step };
            for (side, mut datagram) in wire {
                self.carried.push(datagram.clone());
                let from = self.addresses[1 - side];
                let (end, app) = &mut self.ends[side];
                end.handle_datagram(self.now, from, &mut datagram, app);
            }
            for (end, app) in &mut self.ends {
                end.handle_timeout(self.now, app);
            }
        }
    }

    /// How the dials of the first node failed.
    fn failures(&self) -> Vec<DialFailure> {
        let failure = |event: &Event| match event {
            Event::DialFailed { error, .. } => Some(error.clone()),
            _ => None,
        };
        self.events[0].iter().filter_map(failure).collect()
    }
}

fn key(seed: u8) -> PublicKey {
    Identity::from_seed(&[seed; 32]).public_key()
}

#[test]
fn both_sides_read_who_the_other_is_and_nobody_else_does() {
    let mut pair = Pair::new();
    let bob = pair.meet(GARDEN, key(2));
    assert_eq!(pair.ends[0].0.peer_info(bob), None);
    pair.connect(bob);
    let alice = pair.ends[1].0.find_peer_on(GARDEN, &key(1)).expect("a peer by now");
    for (side, peer, seed) in [(0, bob, 2), (1, alice, 1)] {
        let info = pair.ends[side].0.peer_info(peer).expect("a session");
        let seen =
            (info.name, info.role, info.mode.is_main(), info.kind, info.channel, info.shards);
        let (name, role) = (format!("name-of-{seed}"), format!("role-of-{seed}"));
        assert_eq!(seen, (name, role, seed == 2, 200 + seed, "garden".to_owned(), 1));
        let judged = &pair.ends[side].1.judged;
        assert_eq!(judged.len(), 1, "once per handshake");
        assert_eq!((judged[0].0, &judged[0].2[..]), (GARDEN, &*format!("role-of-{seed}")));
        assert_eq!(judged[0].5, side == 0, "who dialled");
    }
    assert!(pair.carried.len() > 5);
    for word in [b"name-of", b"role-of"] {
        let shows = |datagram: &&Vec<u8>| datagram.windows(word.len()).any(|bytes| bytes == word);
        assert_eq!(pair.carried.iter().find(shows), None);
    }
    let keys = [key(1), key(2)];
    let shows =
        |datagram: &&Vec<u8>| datagram.windows(32).any(|b| keys.iter().any(|k| b == k.as_bytes()));
    assert_eq!(pair.carried.iter().find(shows), None);
}

#[test]
fn a_role_not_given_is_the_name() {
    let mut pair = Pair::new();
    let config = Config { role: String::new(), ..config(1, channels(1)) };
    pair.ends[0] = end(config, 1);
    let bob = pair.meet(ChannelId::DEFAULT, key(2));
    pair.connect(bob);
    assert_eq!(pair.ends[1].1.judged[0].2, "name-of-1");
}

#[test]
fn fields_too_long_and_channels_named_wrongly_are_refused_by_name() {
    let wrong = |change: fn(&mut Config)| {
        let mut config = config(1, Vec::new());
        change(&mut config);
        let identity = Identity::from_seed(&[1; 32]);
        let made = Endpoint::new(config, &identity, Box::new(SeededEntropy::new(1)));
        made.unwrap_err().to_string()
    };
    let channel = |name: String| ChannelConfig { name, identity: None };
    assert!(wrong(|config| config.role = "r".repeat(65)).contains("role has 65 bytes"));
    assert!(wrong(|config| config.name = "n".repeat(65)).contains("name has 65 bytes"));
    assert!(
        wrong(|config| config.channels = [channels(1), channels(1)].concat())
            .contains("\"garden\"")
    );
    let empty = |config: &mut Config| {
        config.channels = vec![ChannelConfig { name: String::new(), identity: None }];
    };
    assert!(wrong(empty).contains("1 to 64 bytes"));
    let mut many = config(1, (0..64).map(|number| channel(format!("c{number}"))).collect());
    let identity = Identity::from_seed(&[1; 32]);
    let make = |config| Endpoint::new(config, &identity, Box::new(SeededEntropy::new(1)));
    assert!(make(many.clone()).unwrap_err().to_string().contains("at most 63"));
    many.channels.pop();
    assert!(make(many).is_ok());
}

#[test]
fn the_right_key_on_another_channel_gets_silence() {
    // Each with the key that the node has on some other channel.
    let dials = [(ChannelId::DEFAULT, key(102)), (GARDEN, key(102)), (HARBOUR, key(2))];
    for (channel, wrong) in dials {
        let mut pair = Pair::new();
        let bob = pair.meet(channel, wrong);
        pair.connect(bob);
        assert_eq!(pair.ends[1].0.counters().datagrams_sent, 0);
        assert!(pair.ends[1].0.counters().dropped_handshake > 0);
        assert!(pair.ends[1].1.judged.is_empty());
    }
    // And a channel that the node has not got.
    let mut pair = Pair::new();
    let orchard = ChannelConfig { name: "orchard".into(), identity: None };
    pair.ends[0] = end(config(1, vec![orchard]), 1);
    let bob = pair.meet(ChannelId(1), key(2));
    pair.connect(bob);
    assert_eq!(pair.ends[1].0.counters().datagrams_sent, 0);
}

#[test]
fn channels_share_neither_peers_nor_sessions_nor_flows() {
    let mut pair = Pair::new();
    pair.ends[1].1.verdicts[2] = Verdict::NotAdmitted;
    let in_garden = pair.meet(GARDEN, key(2));
    let by_default = pair.meet(ChannelId::DEFAULT, key(2));
    let in_harbour = pair.meet(HARBOUR, key(102));
    assert!(in_garden != by_default && in_garden != in_harbour);
    pair.connect(in_garden);
    assert!(pair.ends[0].0.is_connected(in_garden) && !pair.ends[0].0.is_connected(by_default));
    let responder = &pair.ends[1].0;
    assert!(responder.find_peer_on(GARDEN, &key(1)).is_some());
    assert_eq!(responder.find_peer(&key(1)), None);
    assert_eq!(responder.find_peer_on(HARBOUR, &key(1)), None);
    pair.send(in_garden, b"roses");
    pair.run(Duration::from_millis(500));
    assert_eq!(pair.ends[1].1.received, [(1, b"roses".to_vec())]);
    // Accepted in the garden says nothing about the harbour, where the node has yet another key.
    pair.connect(in_harbour);
    assert!(matches!(pair.failures()[..], [DialFailure::NotAdmitted { dialled, local, .. }]
        if dialled == key(102).fingerprint() && local == key(101).fingerprint()));
    pair.connect(by_default);
    pair.send(by_default, b"letters");
    pair.run(Duration::from_millis(500));
    assert_eq!(pair.ends[1].1.received[1..], [(0, b"letters".to_vec())]);
    let sessions = pair.ends[1].0.counters().sessions_begun;
    assert_eq!(sessions, 2, "one for each channel");
}

#[test]
fn whoever_pends_hears_so_and_gets_in_once_accepted_without_a_restart() {
    let mut pair = Pair::new();
    pair.ends[1].1.verdicts[0] = Verdict::Pending;
    let bob = pair.meet(ChannelId::DEFAULT, key(2));
    pair.send(bob, b"at last");
    pair.run(Duration::from_secs(20));
    let failures = pair.failures();
    assert!(matches!(failures[0], DialFailure::Pending { .. }), "{failures:?}");
    let words = failures[0].to_string();
    assert!(words.contains("operator") && words.contains(&key(1).fingerprint().to_string()));
    // After 1, 2, 4, 8 s: slow, but it goes on.
    assert!((4..=6).contains(&failures.len()), "{failures:?}");
    let responder = &pair.ends[1].0;
    assert_eq!(responder.find_peer(&key(1)), None, "no peer is made of a stranger");
    assert_eq!(responder.counters().sessions_begun, 0);
    assert_eq!(responder.counters().dropped_pending, failures.len() as u64);
    let told = pair.events[1].iter().filter(|event| {
        matches!(event, Event::TurnedAway { key: who, verdict: Verdict::Pending, .. } if *who == key(1))
    });
    assert_eq!(told.count(), failures.len());
    pair.ends[1].1.verdicts[0] = Verdict::Accepted;
    pair.run(Duration::from_secs(31));
    assert_eq!(pair.ends[1].1.received, [(0, b"at last".to_vec())]);
    assert_eq!(pair.ends[0].0.tally().delivered, 1);
}

#[test]
fn strangers_take_no_place_of_peers() {
    let mut pair = Pair::new();
    pair.ends[1].1.verdicts = [Verdict::Rejected("it is a test"); 3];
    for seed in 10..20 {
        pair.ends[0] = end(config(seed, Vec::new()), seed);
        let bob = pair.meet(ChannelId::DEFAULT, key(2));
        pair.connect(bob);
        assert!(matches!(pair.failures().pop(), Some(DialFailure::Rejected { .. })));
    }
    assert_eq!(pair.ends[1].0.counters().dropped_rejected, 10);
    assert_eq!(pair.ends[1].0.counters().dropped_peers_full, 0);
    // There is room for four, and there still is.
    pair.ends[1].1.verdicts = [Verdict::Accepted; 3];
    for seed in 20..24 {
        pair.ends[0] = end(config(seed, Vec::new()), seed);
        let bob = pair.meet(ChannelId::DEFAULT, key(2));
        pair.connect(bob);
        assert!(pair.ends[0].0.is_connected(bob));
    }
}

#[test]
fn the_dialler_judges_too_and_says_what_is_wrong() {
    let mut pair = Pair::new();
    pair.ends[0].1.verdicts[0] = Verdict::Rejected("its name has changed");
    let bob = pair.meet(ChannelId::DEFAULT, key(2));
    pair.connect(bob);
    assert!(!pair.ends[0].0.is_connected(bob));
    let words = pair.failures()[0].to_string();
    assert!(words.contains("its name has changed") && words.contains("10.0.0.2:2"), "{words}");
    // The other side had a session until it heard.
    let ended = |event: &Event| {
        matches!(event, Event::SessionEnded { cause: EndCause::RejectedByPeer, .. })
    };
    assert!(pair.events[1].iter().any(ended), "{:?}", pair.events[1]);
}

#[test]
fn a_peer_rejected_later_loses_its_session_and_is_told() {
    let mut pair = Pair::new();
    let bob = pair.meet(ChannelId::DEFAULT, key(2));
    pair.connect(bob);
    let alice = pair.ends[1].0.find_peer(&key(1)).unwrap();
    pair.ends[1].1.verdicts[0] = Verdict::Rejected("the operator said so");
    pair.ends[1].0.reject(alice);
    pair.run(Duration::from_millis(200));
    assert!(!pair.ends[0].0.is_connected(bob) && !pair.ends[1].0.is_connected(alice));
    let ended = |event: &Event| {
        matches!(event, Event::SessionEnded { cause: EndCause::RejectedByPeer, .. })
    };
    assert!(pair.events[0].iter().any(ended), "{:?}", pair.events[0]);
    pair.send(bob, b"please");
    pair.run(Duration::from_secs(3));
    assert!(matches!(pair.failures()[..], [DialFailure::Rejected { .. }, ..]));
    assert!(pair.ends[1].1.received.is_empty());
}
