//! Endpoints on a wire that records and may drop; every datagram sealed is checked to have a number of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::identity::Identity;
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Config, Counters, Disposition, Endpoint, Event, FlowId, Incoming, Limits, Refusal,
    SendError, Service,
};

use crate::support::open_to_all;

/// One way, on the wire.
pub(crate) const DELAY: Duration = Duration::from_millis(1);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How often each number arrived.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) arrived: HashMap<u64, u32>,
}

impl Application for App {
    open_to_all!(1 << 20, 1 << 20);
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let number = message.body.as_slice().first_chunk().expect("bodies begin with a number");
        *self.arrived.entry(u64::from_le_bytes(*number)).or_default() += 1;
        Ok(Disposition::Consumed)
    }
}

pub(crate) struct End {
    pub(crate) endpoint: Endpoint,
    pub(crate) app: App,
    pub(crate) events: Vec<Event>,
    start: u8,
}

/// One datagram on its way or recorded.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn is_lane(&self) -> bool {
        self.bytes[0] == 0x40
    }

    /// The association's index, as its receiver drew it.
    pub(crate) fn index(&self) -> u32 {
        u32::from_le_bytes(self.bytes[2..6].try_into().unwrap())
    }

    pub(crate) fn number(&self) -> u64 {
        u64::from_le_bytes(self.bytes[8..16].try_into().unwrap())
    }
}

type Drops = Box<dyn FnMut(&Sent) -> bool>;

pub(crate) struct Wire {
    pub(crate) now: Instant,
    pub(crate) ends: Vec<End>,
    pub(crate) recorded: Vec<Sent>,
    pub(crate) is_recording: bool,
    /// Says what is dropped.
    pub(crate) drops: Drops,
    /// Lane datagrams sealed.
    pub(crate) sealed: u64,
    flying: VecDeque<(Instant, Sent)>,
    limits: Limits,
    /// Sender, its start, and the header without its flags: that is key and number.
    numbers: HashSet<(usize, u8, [u8; 16])>,
}

pub(crate) fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (end >> 8) as u8, end as u8], 7_530))
}

fn endpoint(end: usize, start: u8, limits: Limits) -> Endpoint {
    let mut incarnation = [start; 16];
    incarnation[..8].copy_from_slice(&(end as u64).to_le_bytes());
    let config = Config { name: format!("end {end}"), limits, ..Config::new(incarnation, [0; 32]) };
    let entropy = Box::new(SeededEntropy::new(end as u64 * 1_000 + u64::from(start)));
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(end as u64).to_le_bytes());
    Endpoint::new(config, &Identity::from_seed(&seed), entropy).unwrap()
}

impl Wire {
    pub(crate) fn new(ends: usize, limits: Limits) -> Self {
        let fresh = |end| End {
            endpoint: endpoint(end, 1, limits.clone()),
            app: App::default(),
            events: Vec::new(),
            start: 1,
        };
        Self {
            now: Instant::from_nanos(1_000_000_000_000),
            ends: (0..ends).map(fresh).collect(),
            recorded: Vec::new(),
            is_recording: false,
            drops: Box::new(|_| false),
            sealed: 0,
            flying: VecDeque::new(),
            limits,
            numbers: HashSet::new(),
        }
    }

    /// The end's process dies and starts again at once, knowing nobody.
    pub(crate) fn restart(&mut self, end: usize) {
        let start = self.ends[end].start + 1;
        self.ends[end].endpoint = endpoint(end, start, self.limits.clone());
        self.ends[end].start = start;
    }

    pub(crate) fn counters(&self, end: usize) -> Counters {
        self.ends[end].endpoint.counters()
    }

    /// The flow from one end to another, which it thereby knows.
    pub(crate) fn flow(&mut self, from: usize, to: usize) -> FlowId {
        let key = self.ends[to].endpoint.public_key();
        let endpoint = &mut self.ends[from].endpoint;
        let peer = endpoint.add_peer(key, Some(address(to))).unwrap();
        endpoint.open_flow(peer, "numbers").unwrap()
    }

    /// Sends a number in a body of so many bytes; waits for room.
    pub(crate) fn send(&mut self, (from, to): (usize, usize), number: u64, bytes: usize) {
        let flow = self.flow(from, to);
        let mut body = vec![0; bytes.max(8)];
        body[..8].copy_from_slice(&number.to_le_bytes());
        loop {
            let (now, service) = (self.now, Service::Acknowledged);
            match self.ends[from].endpoint.send(now, flow, &body, service, None) {
                Ok(()) => return,
                Err(SendError::Full) => self.run(ms(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.drain();
            let timers = self.ends.iter().filter_map(|end| end.endpoint.poll_timeout()).min();
            let next = timers.into_iter().chain(self.flying.front().map(|flying| flying.0)).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            while self.flying.front().is_some_and(|flying| flying.0 <= self.now) {
                let (_, sent) = self.flying.pop_front().unwrap();
                self.inject(sent.to, address(sent.from), &sent.bytes);
            }
            for end in &mut self.ends {
                if end.endpoint.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.endpoint.handle_timeout(self.now, &mut end.app);
                }
            }
        }
        self.now = until;
    }

    /// Gives an end a datagram, from whoever.
    pub(crate) fn inject(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        let end = &mut self.ends[to];
        end.endpoint.handle_datagram(self.now, from, &mut bytes.to_vec(), &mut end.app);
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for from in 0..self.ends.len() {
            while let Some(transmit) = self.ends[from].endpoint.poll_transmit(self.now, &mut out) {
                for bytes in out.chunks(transmit.segment_bytes) {
                    let to = (0..self.ends.len()).find(|end| address(*end) == transmit.to);
                    if let Some(to) = to {
                        self.carry(Sent { from, to, bytes: bytes.to_vec() });
                    }
                }
            }
            while let Some(event) = self.ends[from].endpoint.poll_event() {
                self.ends[from].events.push(event);
            }
        }
    }

    fn carry(&mut self, sent: Sent) {
        if sent.is_lane() {
            self.sealed += 1;
            let mut key = *sent.bytes.first_chunk::<16>().unwrap();
            key[7] = 0;
            let is_new = self.numbers.insert((sent.from, self.ends[sent.from].start, key));
            assert!(is_new, "{} seals twice under one key and number {key:?}", sent.from);
        }
        if self.is_recording {
            self.recorded.push(sent.clone());
        }
        if !(self.drops)(&sent) {
            self.flying.push_back((self.now + DELAY, sent));
        }
    }

    /// Asserts that exactly these numbers arrived, each once, and nothing waits for an end at the sender.
    pub(crate) fn assert_arrived(&self, (from, to): (usize, usize), numbers: std::ops::Range<u64>) {
        let arrived = &self.ends[to].app.arrived;
        let wrong: Vec<_> =
            numbers.clone().filter(|number| arrived.get(number) != Some(&1)).take(9).collect();
        assert!(wrong.is_empty(), "not once: {wrong:?}\n{:?}", self.counters(from));
        assert_eq!(self.ends[from].endpoint.tally().pending, 0);
    }
}
