//! Owns two endpoints and the faulty link between them. What always holds: a message ends once, and the sums of the tally hold at
//! every step.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Event, FlowId, Incoming,
    Limits, Outcome, PeerId, Priority, Refusal, RequestId, SendError, SendOptions, Service, Token,
};

#[derive(Default)]
pub(crate) struct App {
    /// Flow's name and body, in order.
    pub(crate) received: Vec<(String, Vec<u8>, Service)>,
    pub(crate) names: Vec<String>,
    pub(crate) answers: Vec<(Token, Result<Vec<u8>, Outcome>)>,
    /// Nobody who dials is admitted.
    pub(crate) admits_none: bool,
    /// Every flow is refused; a change moves the generation.
    pub(crate) refuses: bool,
    pub(crate) generation: u32,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _key: &PublicKey) -> bool {
        !self.admits_none
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        if self.refuses {
            return Err(Refusal::Denied);
        }
        self.names.push(flow.into());
        let message_bytes_max = if flow.starts_with("stuck") { 1_000 } else { 1 << 26 };
        let flow = self.names.len() as u32 - 1;
        Ok(Binding { flow, window_bytes: 1 << 18, message_bytes_max })
    }
    fn generation(&self) -> u32 {
        self.generation
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let name = self.names[message.flow as usize].clone();
        let is_held = name.starts_with("stuck");
        self.received.push((name, message.body.as_slice().to_vec(), message.service));
        Ok(if is_held { Disposition::Held } else { Disposition::Consumed })
    }
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        self.answers.push((token, result.map(|body| body.as_slice().to_vec())));
    }
}

pub(crate) const DELAY: Duration = Duration::from_millis(2);

/// Datagrams from here on are called long.
pub(crate) const LONG: usize = 1_000;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) ends: [(Endpoint, App); 2],
    pub(crate) wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// Of 100 datagrams: how many vanish, come twice, come late.
    pub(crate) faults: [u64; 3],
    /// Datagrams at least so long, from the first to the second, vanish.
    pub(crate) drops_from: usize,
    /// Their number, and how many of them are on the way or lost since the second last spoke.
    pub(crate) long_sent: usize,
    pub(crate) long_in_flight: usize,
    pub(crate) long_in_flight_max: usize,
    pub(crate) outcomes: HashMap<u64, Outcome>,
    pub(crate) carried: u64,
    pub(crate) entropy: SeededEntropy,
    /// Flows that a caller fills whenever it may, before anything else is done, and the tokens that it gave.
    pub(crate) busy: Vec<FlowId>,
    pub(crate) busy_tokens: Range<u64>,
}

pub(crate) fn endpoint(seed: u8) -> Endpoint {
    let config = Config {
        // Long datagrams are dropped here as if by chance; a path that carries more than this would be searched.
        limits: Limits { datagram_bytes: 1_200, ..Limits::default() },
        ..Config::new([seed; 16], [seed; 32])
    };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

pub(crate) fn address(side: usize) -> SocketAddr {
    ["10.0.0.1:1", "10.0.0.2:2"][side].parse().unwrap()
}

impl World {
    /// Two ends with a session.
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self::unconnected(seed);
        let now = world.now;
        world.ends[0].0.connect(now, PeerId(0)).unwrap();
        world.run(Duration::from_millis(50));
        world
    }

    pub(crate) fn unconnected(seed: u64) -> Self {
        let mut ends = [1, 2].map(|seed| (endpoint(seed), App::default()));
        let key = ends[1].0.public_key();
        ends[0].0.add_peer(key, Some(address(1))).unwrap();
        Self {
            now: Instant::from_nanos(1_000_000_000),
            ends,
            wire: BTreeMap::new(),
            faults: [0; 3],
            drops_from: usize::MAX,
            long_sent: 0,
            long_in_flight: 0,
            long_in_flight_max: 0,
            outcomes: HashMap::new(),
            carried: 0,
            entropy: SeededEntropy::new(seed),
            busy: Vec::new(),
            busy_tokens: 1_000_000..1_000_000,
        }
    }

    pub(crate) fn flow(&mut self, name: &str) -> FlowId {
        self.ends[0].0.open_flow(PeerId(0), name).unwrap()
    }

    pub(crate) fn offer(
        &mut self,
        flow: FlowId,
        body: &[u8],
        options: &SendOptions,
        token: u64,
    ) -> Result<(), SendError> {
        let body = Bytes::copy_from_slice(body);
        self.ends[0].0.send_owned_with(self.now, flow, body, options, Some(Token(token)))
    }

    /// Asks, within `time`.
    pub(crate) fn ask(&mut self, flow: FlowId, token: u64, time: Duration) -> RequestId {
        let (now, body) = (self.now, Bytes::from(body(token, 990)));
        self.ends[0].0.request(now, flow, &body, Token(token), now + time).unwrap()
    }

    pub(crate) fn send(&mut self, flow: FlowId, body: &[u8], options: &SendOptions, token: u64) {
        loop {
            match self.offer(flow, body, options, token) {
                Ok(()) => return,
                Err(SendError::Full) => self.run(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn after(&self, millis: u64) -> Instant {
        self.now + Duration::from_millis(millis)
    }

    pub(crate) fn drain(&mut self) {
        for flow in self.busy.clone() {
            let mut token = self.busy_tokens.end;
            while self.offer(flow, &body(token, 900), &SendOptions::default(), token).is_ok() {
                self.busy_tokens.end += 1;
                token = self.busy_tokens.end;
            }
        }
        let mut out = Vec::new();
        for side in 0..2 {
            while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                for segment in out.chunks(transmit.segment_bytes) {
                    self.carry(side, segment);
                }
            }
            while let Some(event) = self.ends[side].0.poll_event() {
                if let Event::Outcome { token, outcome } = event {
                    assert!(self.outcomes.insert(token.0, outcome).is_none(), "ended twice");
                }
            }
        }
    }

    pub(crate) fn carry(&mut self, side: usize, datagram: &[u8]) {
        if side == 0 && datagram[0] == 0x40 && datagram.len() >= LONG {
            self.long_sent += 1;
            self.long_in_flight += 1;
            self.long_in_flight_max = self.long_in_flight_max.max(self.long_in_flight);
        }
        let [lost, twice, late] = self.faults;
        let is_dropped = side == 0 && datagram.len() >= self.drops_from;
        if is_dropped || self.entropy.below(100) < lost {
            return;
        }
        let copies = 1 + u32::from(self.entropy.below(100) < twice);
        for _ in 0..copies {
            let extra = if self.entropy.below(100) < late { self.entropy.below(15) } else { 0 };
            self.carried += 1;
            let at = self.now + DELAY + Duration::from_millis(extra);
            self.wire.insert((at, self.carried), (1 - side, datagram.to_vec()));
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let timer = self.ends.iter().filter_map(|(end, _)| end.poll_timeout()).min();
            let arrival = self.wire.keys().next().map(|key| key.0);
            let next = [timer, arrival].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            while let Some(entry) = self.wire.first_entry()
                && entry.key().0 <= self.now
            {
                let (side, mut datagram) = entry.remove();
                if side == 0 {
                    self.long_in_flight = 0;
                }
                let (end, app) = &mut self.ends[side];
                end.handle_datagram(self.now, address(1 - side), &mut datagram, app);
            }
            for (end, app) in &mut self.ends {
                if end.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.handle_timeout(self.now, app);
                }
            }
            self.check_sums();
        }
    }

    pub(crate) fn check_sums(&self) {
        for (end, _) in &self.ends {
            let t = end.tally();
            let sum = t.delivered + t.refused + t.expired + t.peer_lost + t.unknown + t.pending;
            assert_eq!(t.offered, sum, "{t:?}");
            assert_eq!(end.counters().violations, 0);
        }
    }

    /// Runs until all messages ended.
    pub(crate) fn finish(&mut self) {
        for _ in 0..600 {
            if self.ends[0].0.tally().pending == 0 {
                self.run(Duration::from_millis(100));
                return;
            }
            self.run(Duration::from_millis(100));
        }
        panic!("not ended: {:?} {:?}", self.ends[0].0.tally(), self.ends[0].0.counters());
    }

    pub(crate) fn received(&self, flow: &str) -> Vec<u64> {
        let of_flow = self.ends[1].1.received.iter().filter(|message| message.0 == flow);
        of_flow.map(|message| number(&message.1)).collect()
    }

    /// Delivered exactly if it says so.
    pub(crate) fn check_outcomes(&self) {
        let mut arrived: Vec<u64> =
            self.ends[1].1.received.iter().map(|message| number(&message.1)).collect();
        arrived.sort_unstable();
        assert!(arrived.windows(2).all(|pair| pair[0] != pair[1]), "twice");
        for (token, outcome) in &self.outcomes {
            let is_here = arrived.binary_search(token).is_ok();
            assert_eq!(*outcome == Outcome::Delivered, is_here, "{token}: {outcome:?}");
        }
    }
}

pub(crate) fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![number as u8; bytes.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

pub(crate) fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

pub(crate) const ORDERED: SendOptions = SendOptions {
    service: Service::Ordered,
    deadline: None,
    retries: None,
    priority: Priority::Normal,
    burst: 0,
};
