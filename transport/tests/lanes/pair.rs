//! A node of one shard that dials a node of several, whose lanes share one wire.
//!
//! What always holds: at each shard only what it owns is received, and what was offered has ended or is pending.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Event, FlowId, Incoming,
    Limits, Outcome, PeerId, Refusal, ReplyTo, SendError, Service, Token,
};

#[derive(Default)]
pub(crate) struct App {
    pub(crate) names: Vec<String>,
    pub(crate) received: Vec<(String, Vec<u8>)>,
    pub(crate) asked: Vec<ReplyTo>,
    pub(crate) answers: Vec<(Token, Result<Vec<u8>, Outcome>)>,
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
pub(crate) fn owner(salt: &[u8; 32], name: &str, shards: u8) -> u8 {
    (name.as_bytes()[name.len() - 1] - b'0' + salt[0]) % shards
}

pub(crate) type Shards = Vec<(Endpoint, App)>;

/// A node whose salt begins with `start`.
pub(crate) fn node(seed: u8, start: u8, shards: u8, limits: &Limits) -> Shards {
    node_as(seed, [start; 2], shards, limits)
}

/// A node whose salt does not begin with the number that its incarnation is made of.
pub(crate) fn node_as(seed: u8, [start, salt]: [u8; 2], shards: u8, limits: &Limits) -> Shards {
    let shard = |shard| {
        let config = Config {
            name: format!("node {seed}"),
            shard,
            shards,
            placement: owner,
            limits: limits.clone(),
            ..Config::new([16 * seed + start; 16], [salt; 32])
        };
        let entropy =
            Box::new(SeededEntropy::new(u64::from_le_bytes([seed, start, shard, 0, 0, 0, 0, 1])));
        let endpoint = Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap();
        (endpoint, App::default())
    };
    (0..shards).map(shard).collect()
}

/// Node 0 has one shard and dials node 1.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) nodes: [Shards; 2],
    pub(crate) wire: VecDeque<(usize, Vec<u8>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) peer: PeerId,
    pub(crate) is_cut: bool,
    /// What goes to node 1's second shard is lost.
    pub(crate) is_second_cut: bool,
    /// Requests are kept until [`Pair::answer`].
    pub(crate) is_mute: bool,
    /// What belongs to lanes is held back on its way to the dialler, until [`Pair::let_go`].
    pub(crate) held: Option<Vec<Vec<u8>>>,
    /// Hellos fall on this shard of node 1.
    pub(crate) hellos_to: Option<usize>,
    pub(crate) limits: Limits,
    /// How often node 1 started again.
    pub(crate) start: u8,
}

const ADDRESSES: [&str; 2] = ["10.0.0.1:1", "10.0.0.2:2"];

pub(crate) fn address(side: usize) -> SocketAddr {
    ADDRESSES[side].parse().unwrap()
}

/// Whether a datagram belongs to a lane, whatever its key phase.
fn is_lane(datagram: &[u8]) -> bool {
    datagram[0] & 0x40 != 0
}

fn answer(endpoint: &mut Endpoint, app: &mut App) {
    for to in app.asked.drain(..) {
        endpoint.reply(to, b"answer").unwrap();
    }
}

impl Pair {
    pub(crate) fn new(shards: u8) -> Self {
        Self::with(shards, Limits::default())
    }

    pub(crate) fn with(shards: u8, limits: Limits) -> Self {
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
            is_second_cut: false,
            is_mute: false,
            held: None,
            hellos_to: None,
            limits,
            start: 0,
        }
    }

    pub(crate) fn dialler(&mut self) -> &mut Endpoint {
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

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.advance(end);
        }
        let tally = self.dialler().tally();
        let ended = tally.delivered + tally.refused + tally.expired;
        let sum = ended + tally.peer_lost + tally.unknown + tally.pending;
        assert_eq!(tally.offered, sum, "{tally:?}");
    }

    /// So many times what is on the wire arrives.
    pub(crate) fn step(&mut self, times: u32) {
        for _ in 0..times {
            self.advance(self.now + Duration::from_millis(1));
        }
    }

    /// Everything on the wire arrives, or else the next timer fires, by `end`.
    fn advance(&mut self, end: Instant) {
        self.drain();
        if self.wire.is_empty() {
            let all = self.nodes.iter().flatten();
            let next = all.filter_map(|(endpoint, _)| endpoint.poll_timeout()).min();
            self.now = next.unwrap_or(end).max(self.now + Duration::from_micros(20)).min(end);
        } else {
            self.now += Duration::from_micros(20);
        }
        for (side, datagram) in std::mem::take(&mut self.wire) {
            self.arrive(side, datagram);
        }
        for (endpoint, app) in self.nodes.iter_mut().flatten() {
            endpoint.handle_timeout(self.now, app);
        }
    }

    fn arrive(&mut self, side: usize, mut datagram: Vec<u8>) {
        if let Some(held) = self.held.as_mut().filter(|_| side == 0 && is_lane(&datagram)) {
            held.push(datagram);
            return;
        }
        let shards = self.nodes[side].len();
        let steered = usize::from(datagram[1]) % shards;
        if self.is_cut || self.is_second_cut && (side, steered) == (1, 1) {
            return;
        }
        let hello = self.hellos_to.filter(|_| datagram[0] == 1 && side == 1);
        let (endpoint, app) = &mut self.nodes[side][hello.unwrap_or(steered)];
        endpoint.handle_datagram(self.now, address(1 - side), &mut datagram, app);
        if !self.is_mute {
            answer(endpoint, app);
        }
    }

    /// Answers what was asked while the pair was mute.
    pub(crate) fn answer(&mut self) {
        self.nodes.iter_mut().flatten().for_each(|(endpoint, app)| answer(endpoint, app));
    }

    /// What was held back arrives.
    pub(crate) fn let_go(&mut self, held: Vec<Vec<u8>>) {
        self.wire.extend(held.into_iter().map(|datagram| (0, datagram)));
    }

    /// Sends, and follows the flow if it has moved.
    pub(crate) fn send(
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

    pub(crate) fn flow(&mut self, name: &str) -> FlowId {
        let peer = self.peer;
        self.dialler().open_flow(peer, name).unwrap()
    }

    /// What arrived at node 1: every message at the shard that owns its flow.
    pub(crate) fn received(&mut self) -> Vec<(String, Vec<u8>)> {
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
    pub(crate) fn restart(&mut self, shards: u8) {
        self.start += 1;
        self.nodes[1] = node(2, self.start, shards, &self.limits);
    }

    pub(crate) fn sessions(&self) -> usize {
        let of = |event: &&Event| matches!(event, Event::Connected { .. });
        self.events.iter().filter(of).count()
    }

    pub(crate) fn life(&mut self) -> Vec<&'static str> {
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
