//! Goal: nodes of several shards find the shard that owns a flow; what waited before that was known moves there whole, once and in
//! order; a peer is up or down as a whole; another start of it, with other shards, is met like any.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Event, FlowId, Incoming,
    Limits, NodeMode, Outcome, PeerId, Refusal, ReplyTo, SendError, SendOptions, Service, Token,
};

#[derive(Default)]
struct App {
    names: Vec<String>,
    received: Vec<(String, Vec<u8>)>,
    asked: Vec<ReplyTo>,
    answers: Vec<(Token, Result<Vec<u8>, Outcome>)>,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _key: &PublicKey) -> bool {
        true
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        self.names.push(flow.to_owned());
        let flow = self.names.len() as u32 - 1;
        Ok(Binding { flow, window_bytes: 1 << 20, message_bytes_max: 1 << 20 })
    }
    fn generation(&self) -> u32 {
        0
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let name = self.names[message.flow as usize].clone();
        self.received.push((name, message.body.as_slice().to_vec()));
        self.asked.extend(message.request);
        Ok(Disposition::Consumed)
    }
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        self.answers.push((token, result.map(|body| body.as_slice().to_vec())));
    }
}

/// The last character of a name says who owns it, moved on by the salt.
fn owner(salt: &[u8; 32], name: &str, shards: u8) -> u8 {
    (name.as_bytes()[name.len() - 1] - b'0' + salt[0]) % shards
}

type Shards = Vec<(Endpoint, App)>;

/// A node whose salt begins with `start`.
fn node(seed: u8, start: u8, shards: u8, limits: &Limits) -> Shards {
    let shard = |shard| {
        let config = Config {
            incarnation: [16 * seed + start; 16],
            name: format!("node {seed}"),
            role: String::new(),
            mode: NodeMode::PLAIN,
            kind: 0,
            channels: Vec::new(),
            shard,
            shards,
            placement_salt: [start; 32],
            placement: owner,
            limits: limits.clone(),
        };
        let entropy =
            Box::new(SeededEntropy::new(u64::from_le_bytes([seed, start, shard, 0, 0, 0, 0, 1])));
        let endpoint = Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap();
        (endpoint, App::default())
    };
    (0..shards).map(shard).collect()
}

/// Node 0 has one shard and dials node 1.
struct Pair {
    now: Instant,
    nodes: [Shards; 2],
    wire: VecDeque<(usize, Vec<u8>)>,
    events: Vec<Event>,
    peer: PeerId,
    is_cut: bool,
    /// Hellos fall on this shard of node 1.
    hellos_to: Option<usize>,
    limits: Limits,
    /// How often node 1 started again.
    start: u8,
}

const ADDRESSES: [&str; 2] = ["10.0.0.1:1", "10.0.0.2:2"];

fn address(side: usize) -> SocketAddr {
    ADDRESSES[side].parse().unwrap()
}

impl Pair {
    fn new(shards: u8) -> Self {
        Self::with(shards, Limits::default())
    }

    fn with(shards: u8, limits: Limits) -> Self {
        let mut nodes = [node(1, 0, 1, &limits), node(2, 0, shards, &limits)];
        let key = nodes[1][0].0.public_key();
        let peer = nodes[0][0].0.add_peer(key, Some(address(1))).unwrap();
        Self {
            now: Instant::from_nanos(1_000_000_000),
            nodes,
            wire: VecDeque::new(),
            events: Vec::new(),
            peer,
            is_cut: false,
            hellos_to: None,
            limits,
            start: 0,
        }
    }

    fn dialler(&mut self) -> &mut Endpoint {
        &mut self.nodes[0][0].0
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for side in 0..2 {
            for (endpoint, _) in &mut self.nodes[side] {
                while let Some(transmit) = endpoint.poll_transmit(self.now, &mut out) {
                    for segment in out.chunks(transmit.segment_bytes) {
                        self.wire.push_back((1 - side, segment.to_vec()));
                    }
                }
                while let Some(event) = endpoint.poll_event() {
                    if side == 0 {
                        self.events.push(event);
                    }
                }
            }
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.drain();
            if self.wire.is_empty() {
                let all = self.nodes.iter().flatten();
                let next = all.filter_map(|(endpoint, _)| endpoint.poll_timeout()).min();
                self.now = next.unwrap_or(end).max(self.now + Duration::from_micros(20)).min(end);
            } else {
                self.now += Duration::from_micros(20);
            }
            for (side, mut datagram) in std::mem::take(&mut self.wire) {
                if self.is_cut {
                    continue;
                }
                let shards = self.nodes[side].len();
                let steered = usize::from(datagram[1]) % shards;
                let hello = self.hellos_to.filter(|_| datagram[0] == 1 && side == 1);
                let (endpoint, app) = &mut self.nodes[side][hello.unwrap_or(steered)];
                endpoint.handle_datagram(self.now, address(1 - side), &mut datagram, app);
                for to in app.asked.drain(..) {
                    endpoint.reply(to, b"answer").unwrap();
                }
            }
            for (endpoint, app) in self.nodes.iter_mut().flatten() {
                endpoint.handle_timeout(self.now, app);
            }
        }
        let tally = self.dialler().tally();
        let ended = tally.delivered + tally.refused + tally.expired;
        let sum = ended + tally.peer_lost + tally.unknown + tally.pending;
        assert_eq!(tally.offered, sum, "{tally:?}");
    }

    /// Sends, and follows the flow if it has moved.
    fn send(
        &mut self,
        flow: &mut FlowId,
        body: &[u8],
        service: Service,
        token: u64,
    ) -> Result<(), SendError> {
        loop {
            let (now, token) = (self.now, Some(Token(token)));
            match self.dialler().send(now, *flow, body, service, token) {
                Err(SendError::Moved(to)) => *flow = to,
                sent => return sent,
            }
        }
    }

    fn flow(&mut self, name: &str) -> FlowId {
        let peer = self.peer;
        self.dialler().open_flow(peer, name).unwrap()
    }

    /// What arrived at node 1: every message at the shard that owns its flow.
    fn received(&mut self) -> Vec<(String, Vec<u8>)> {
        let shards = self.nodes[1].len() as u8;
        let salt = [self.start; 32];
        let mut all = Vec::new();
        for (shard, (_, app)) in self.nodes[1].iter_mut().enumerate() {
            for (name, body) in app.received.drain(..) {
                assert_eq!(usize::from(owner(&salt, &name, shards)), shard, "{name}");
                all.push((name, body));
            }
        }
        all
    }

    /// Node 1 dies and starts again, with another salt.
    fn restart(&mut self, shards: u8) {
        self.start += 1;
        self.nodes[1] = node(2, self.start, shards, &self.limits);
    }

    fn sessions(&self) -> usize {
        let of = |event: &&Event| matches!(event, Event::Connected { .. });
        self.events.iter().filter(of).count()
    }

    fn life(&mut self) -> Vec<&'static str> {
        let (peer, events) = (self.peer, std::mem::take(&mut self.events));
        let told = events.into_iter().filter_map(|event| match event {
            Event::Up { peer: about } => Some((about, "up")),
            Event::Down { peer: about, .. } => Some((about, "down")),
            _ => None,
        });
        told.map(|(about, what)| {
            assert_eq!(about, peer, "the contact stands for the peer");
            what
        })
        .collect()
    }
}

const NAMES: [&str; 4] = ["a0", "b1", "c2", "d3"];

#[test]
fn what_waits_moves_in_order_with_its_tokens() {
    let mut pair = Pair::new(4);
    let now = pair.now;
    let flows = NAMES.map(|name| pair.flow(name));
    assert!(flows.iter().all(|flow| flow.peer == pair.peer), "nothing is known of its shards");
    let mut token = 0;
    for round in 0..20_u8 {
        for (place, flow) in flows.into_iter().enumerate() {
            let body = [place as u8, round];
            for service in [Service::Ordered, Service::Acknowledged, Service::LatestValue] {
                let sent = pair.dialler().send(now, flow, &body, service, Some(Token(token)));
                sent.unwrap();
                token += 1;
            }
        }
    }
    for (place, flow) in flows.into_iter().enumerate() {
        let (asked, deadline) = (Token(1_000 + place as u64), now + Duration::from_secs(5));
        let body = vec![place as u8, 99].into();
        pair.dialler().request(now, flow, body, asked, deadline).unwrap();
        // Past before there is a session.
        let options = SendOptions { deadline: Some(now), ..SendOptions::default() };
        let late = Some(Token(2_000 + place as u64));
        pair.dialler().send_with(now, flow, b"late", &options, late).unwrap();
    }
    pair.run(1_000);
    let received = pair.received();
    for (place, name) in NAMES.into_iter().enumerate() {
        let mine = received.iter().filter(|(flow, _)| flow == name);
        let rounds: Vec<u32> = mine.map(|(_, body)| body[1].into()).collect();
        // Ordered and plain ones of each round, the last value, and the request.
        for round in 0..20 {
            let expected = if round == 19 { 3 } else { 2 };
            assert_eq!(rounds.iter().filter(|&&other| other == round).count(), expected, "{name}");
        }
        assert_eq!((rounds.len(), rounds.contains(&99)), (42, true), "{place}");
    }
    let (endpoint, app) = &pair.nodes[0][0];
    assert_eq!(app.answers.len(), 4);
    assert!(app.answers.iter().all(|(_, answer)| answer.as_deref() == Ok(b"answer")));
    let mut outcomes: Vec<_> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Outcome { token, outcome } => Some((token.0, *outcome)),
            _ => None,
        })
        .collect();
    outcomes.sort_by_key(|(token, _)| *token);
    let tokens: Vec<u64> = outcomes.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, (0..240).chain(2_000..2_004).collect::<Vec<_>>(), "each ends once");
    let expired = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Expired).count();
    assert_eq!(expired, 4 * 19 + 4, "values that were replaced, and what came too late");
    assert_eq!((endpoint.tally().pending, endpoint.counters().flows_moved), (0, 3));
    assert_eq!(pair.sessions(), 4);
}

#[test]
fn ordered_messages_keep_their_order_on_the_way() {
    let mut pair = Pair::new(4);
    let mut flow = pair.flow("d3");
    for number in 0..200_u8 {
        pair.send(&mut flow, &[number], Service::Ordered, number.into()).unwrap();
        if number > 50 {
            pair.run(1);
        }
    }
    pair.run(1_000);
    let bodies: Vec<u8> = pair.received().into_iter().map(|(_, body)| body[0]).collect();
    assert_eq!(bodies, (0..200).collect::<Vec<u8>>());
}

#[test]
fn a_flow_that_moved_says_where_to_and_is_opened_there() {
    let mut pair = Pair::new(4);
    let old = NAMES.map(|name| pair.flow(name));
    pair.send(&mut old[0].clone(), b"first", Service::Acknowledged, 0).unwrap();
    pair.run(500);
    let new = NAMES.map(|name| pair.flow(name));
    let (now, contact) = (pair.now, pair.peer);
    for (place, (old, new)) in old.into_iter().zip(new).enumerate() {
        assert_eq!(pair.dialler().peer_shard(new.peer), Some(place as u8));
        assert_eq!(pair.dialler().contact(new.peer), Some(contact));
        if old == new {
            continue;
        }
        let deadline = now + Duration::from_secs(1);
        for (bytes, service) in [
            (0, Service::Acknowledged),
            (9, Service::Ordered),
            (0, Service::BestEffort),
            (9, Service::LatestValue),
        ] {
            let sent = pair.dialler().send(now, old, &vec![0; bytes], service, None);
            assert_eq!(sent, Err(SendError::Moved(new)), "{service:?}");
        }
        let asked = pair.dialler().request(now, old, vec![1].into(), Token(7), deadline);
        assert_eq!(asked, Err(SendError::Moved(new)));
    }
    assert_eq!(pair.dialler().requests_waiting(), 0);
}

#[test]
fn who_found_no_room_is_told_when_the_flow_moves() {
    let limits = Limits { queue_bytes_max: 4_000, ..Limits::default() };
    let mut pair = Pair::with(2, limits);
    let mut flows = [pair.flow("a0"), pair.flow("b1")];
    let mut taken = 0;
    while pair
        .send(&mut flows[taken % 2], &[taken as u8; 100], Service::Acknowledged, taken as u64)
        .is_ok()
    {
        taken += 1;
    }
    let contact = pair.peer;
    pair.run(500);
    let told =
        pair.events.iter().any(|e| matches!(e, Event::Writable { peer } if *peer == contact));
    assert!(told && taken > 10, "{taken}");
    for flow in &mut flows {
        pair.send(flow, b"more", Service::Acknowledged, 99).unwrap();
    }
    pair.run(500);
    assert_eq!(pair.received().len(), taken + 2);
}

#[test]
fn a_start_with_fewer_shards_is_noticed_on_each_lane_alone() {
    for name in NAMES {
        let mut pair = Pair::new(4);
        let mut flow = pair.flow(name);
        pair.send(&mut flow, b"to the first start", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        assert_eq!(pair.received().len(), 1);
        pair.restart(1);
        // The lane hears by its next datagram that nobody knows its keys, also where no such shard is any more.
        pair.send(&mut flow, b"to nobody", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        let (tally, counters) = (pair.dialler().tally(), pair.nodes[1][0].0.counters());
        assert_eq!((tally.pending, tally.unknown), (0, 1), "{name}: {counters:?}");
        assert_eq!((counters.restarts_told, counters.dropped_misdelivered), (1, 0), "{name}");
        pair.send(&mut flow, b"to the second start", Service::Acknowledged, 0).unwrap();
        pair.run(100);
        assert_eq!(pair.received().len(), 1, "{name}");
    }
}

#[test]
fn lanes_that_send_are_counted_and_those_that_only_answer_are_not() {
    let mut pair = Pair::new(4);
    let key = pair.nodes[1][0].0.public_key();
    let mut flows = NAMES.map(|name| pair.flow(name));
    let mut counted = |pair: &mut Pair, names: usize| {
        pair.run(1_000);
        pair.dialler().take_sending();
        for flow in &mut flows[..names] {
            pair.send(flow, b"count this lane", Service::Acknowledged, 0).unwrap();
        }
        pair.run(5);
        let others: usize =
            pair.nodes[1].iter_mut().map(|(node, _)| node.take_sending().len()).sum();
        (pair.dialler().take_sending().remove(&(ChannelId::DEFAULT, key)), others)
    };
    // Greetings and first contacts are over before the count.
    counted(&mut pair, NAMES.len());
    let owners = |names: &[&str]| {
        let owners = names.iter().map(|name| owner(&[0; 32], name, 4));
        owners.collect::<std::collections::HashSet<_>>().len() as u16
    };
    for names in [1, 2, NAMES.len()] {
        let (lanes, _) = counted(&mut pair, names);
        assert_eq!(lanes, Some(owners(&NAMES[..names])), "{names} flows");
    }
    assert_eq!(counted(&mut pair, 0), (None, 0));
}

#[test]
fn another_start_with_other_shards_gets_the_flows_anew() {
    let mut pair = Pair::new(4);
    let mut flows = NAMES.map(|name| pair.flow(name));
    for shards in [4, 2, 3, 1, 4] {
        // What meets the former start ends as unknown.
        for flow in &mut flows {
            pair.send(flow, b"who is there", Service::Acknowledged, 0).unwrap();
        }
        pair.run(3_000);
        pair.received();
        for (place, flow) in flows.iter_mut().enumerate() {
            pair.send(flow, &[place as u8], Service::Ordered, 0).unwrap();
            pair.send(flow, &[place as u8], Service::Acknowledged, 0).unwrap();
        }
        pair.run(3_000);
        let received = pair.received();
        assert_eq!(received.len(), 8, "{} shards: {received:?}", pair.nodes[1].len());
        let tally = pair.dialler().tally();
        assert_eq!(tally.pending, 0, "{tally:?}");
        pair.restart(shards);
    }
}

#[test]
fn up_and_down_are_told_once_for_all_lanes() {
    let mut pair = Pair::new(4);
    let (now, peer) = (pair.now, pair.peer);
    pair.dialler().watch(now, peer).unwrap();
    let mut flows = NAMES.map(|name| pair.flow(name));
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(1_000);
    assert_eq!((pair.sessions(), pair.life()), (4, vec!["up"]));
    pair.is_cut = true;
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(10_000);
    assert_eq!(pair.life(), ["down"]);
    assert!(pair.dialler().is_down(peer));
    pair.is_cut = false;
    pair.run(5_000);
    assert_eq!(pair.life(), ["up"]);
    pair.nodes[1].iter_mut().for_each(|(endpoint, _)| endpoint.close());
    pair.run(2_000);
    assert_eq!(pair.life(), ["down"], "although each lane is closed by itself");
    pair.restart(3);
    pair.run(3_000);
    assert_eq!(pair.life(), ["up"]);
    pair.restart(2);
    pair.run(8_000);
    assert_eq!(pair.life(), ["down", "up"]);
}

#[test]
fn a_silent_lane_does_not_make_a_peer_down_that_speaks_on_another() {
    let mut pair = Pair::new(2);
    let mut flows = [pair.flow("a0"), pair.flow("b1")];
    for flow in &mut flows {
        pair.send(flow, b"x", Service::Acknowledged, 0).unwrap();
    }
    pair.run(500);
    pair.life();
    // Shard 1 hangs.
    let hung = pair.nodes[1].pop().unwrap();
    pair.nodes[1].push(node(9, 0, 2, &pair.limits).pop().unwrap());
    for second in 0..10 {
        for flow in &mut flows {
            pair.send(flow, &[second], Service::Acknowledged, 0).unwrap();
        }
        pair.run(1_000);
    }
    assert_eq!(pair.life(), Vec::<&str>::new());
    let peer = pair.peer;
    assert!(!pair.dialler().is_down(peer));
    pair.nodes[1][1] = hung;
    pair.run(3_000);
    assert_eq!(pair.dialler().tally().pending, 0);
}

#[test]
fn an_answer_of_another_shard_belongs_to_the_lane_of_that_shard() {
    let mut pair = Pair::new(4);
    let mut flow = pair.flow("d3");
    pair.send(&mut flow, b"x", Service::Acknowledged, 0).unwrap();
    // Whichever shard is asked for, the third one answers.
    pair.hellos_to = Some(2);
    pair.run(900);
    assert_eq!(pair.dialler().tally().delivered, 0);
    let lanes: Vec<_> = (0..2).map(|lane| pair.dialler().peer_shard(PeerId(lane))).collect();
    assert_eq!(lanes, [Some(2), Some(3)]);
    pair.hellos_to = None;
    pair.run(2_000);
    assert_eq!(pair.received(), [("d3".to_owned(), b"x".to_vec())]);
}
