//! Owns one shard's side of the protocol: its peers, its handshakes, its timers. The front door of this crate.
//!
//! What always holds: after any call the caller drains `poll_transmit`, then `poll_event`, then asks `poll_timeout`; nothing
//! here reads a clock, a socket or the system's randomness.

mod handshakes;
mod types;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::common::{Common, Ends};
pub use crate::counters::Counters;
use crate::flows::OutFlow;
use crate::frame::{Close, Greeting, Record};
use crate::handshake::{Credentials, HandshakeError};
use crate::header::LaneHeader;
use crate::identity::{Identity, PublicKey};
use crate::indices::IndexHasher;
use crate::limits::{ALIASES_MAX, FLOW_NAME_BYTES_MAX, NODE_NAME_BYTES_MAX};
pub use crate::limits::{LimitError, Limits};
use crate::peer::{Peer, Received, Source};
use crate::random::Entropy;
use crate::requests::Requests;
use crate::send_log::Waiter;
use crate::slots::SlotPool;
use crate::time::Instant;
use handshakes::Handshakes;
pub use types::{
    Application, Binding, Body, DialFailure, Disposition, DownCause, EndCause, Event, FlowId,
    Incoming, Outcome, PeerId, Refusal, ReplyTo, SendError, Service, Tally, Token, Transmit,
};

/// What an endpoint is, beside its identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// Random per process start; tells a restarted node from the one before.
    pub incarnation: [u8; 16],
    /// The node's name for people, at most 64 bytes; told in the greeting, under encryption.
    pub name: String,
    /// This endpoint's shard.
    pub shard: u8,
    /// Shards of the node.
    pub shards: u8,
    /// Key of the placement of flow names on this node's shards; random per node start.
    pub placement_salt: [u8; 32],
    /// What it allows.
    pub limits: Limits,
}

/// Why an endpoint could not be made: the caller's or the system's fault.
#[derive(Debug)]
pub enum ConfigError {
    /// A limit is out of range.
    Limit(LimitError),
    /// The node's name is longer than 64 bytes.
    Name {
        /// Its length.
        bytes: usize,
    },
    /// `shard` is not below `shards`.
    Shard,
    /// TLS could not be set up with this identity.
    Handshake(HandshakeError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(error) => error.fmt(f),
            Self::Name { bytes } => {
                write!(
                    f,
                    "the node's name has {bytes} bytes, at most {NODE_NAME_BYTES_MAX} are allowed"
                )
            }
            Self::Shard => f.write_str("a shard's number must be below the number of shards"),
            Self::Handshake(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Who holds an association index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// An answer to somebody's hello.
    HalfOpen,
    /// A dial or association of this peer.
    Peer(u32),
}

/// One shard's protocol engine. See the [crate's front page](crate) for how it is driven.
pub struct Endpoint {
    common: Common,
    handshakes: Handshakes,
    peers: Vec<Peer>,
    by_key: HashMap<PublicKey, u32>,
    owners: HashMap<u32, Owner, IndexHasher>,
    /// Peers that may have something to send, each once.
    ready: VecDeque<u32>,
    /// Peers to look at, by time; [`HALF_OPEN_TIMER`] stands for the half-open answers.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    is_closing: bool,
}

/// Stands in the timer heap for the half-open answers.
const HALF_OPEN_TIMER: u32 = u32::MAX;

impl Endpoint {
    /// An endpoint with this identity. `entropy` gives indexes, dial ids and skipped numbers; TLS draws its own.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn new(
        config: Config,
        identity: &Identity,
        mut entropy: Box<dyn Entropy>,
    ) -> Result<Self, ConfigError> {
        config.limits.check().map_err(ConfigError::Limit)?;
        if config.name.len() > NODE_NAME_BYTES_MAX {
            return Err(ConfigError::Name { bytes: config.name.len() });
        }
        if config.shard >= config.shards {
            return Err(ConfigError::Shard);
        }
        let credentials = Credentials::new(identity).map_err(ConfigError::Handshake)?;
        let mut cookie_secret = [0; 32];
        entropy.fill(&mut cookie_secret);
        let handshakes =
            Handshakes::new(credentials, cookie_secret).map_err(ConfigError::Handshake)?;
        Ok(Self {
            common: new_common(config, identity.public_key(), entropy),
            handshakes,
            peers: Vec::new(),
            by_key: HashMap::new(),
            owners: HashMap::default(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            is_closing: false,
        })
    }

    // -- input

    /// Takes one UDP datagram (one segment of a GRO batch) and opens it in place. Never fails: what is not taken is counted.
    #[inline]
    pub fn handle_datagram<A: Application>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        app: &mut A,
    ) {
        self.common.counters.datagrams_received += 1;
        self.common.counters.bytes_received += datagram.len() as u64;
        let Some(header) = LaneHeader::decode(datagram) else {
            self.handle_handshake(now, from, datagram, app);
            return;
        };
        if header.steering != self.common.shard {
            self.common.counters.dropped_misdelivered += 1;
            return;
        }
        let index = match self.owners.get(&header.association) {
            Some(&Owner::Peer(index)) => index,
            Some(Owner::HalfOpen) => {
                self.common.counters.dropped_before_greeting += 1;
                return;
            }
            None => {
                self.common.counters.dropped_unknown_association += 1;
                return;
            }
        };
        let peer = &mut self.peers[index as usize];
        let received = peer.handle_datagram(&mut self.common, app, now, from, &header, datagram);
        if received == Received::Taken {
            self.make_ready(index);
        }
        if !self.common.retired.is_empty() {
            self.forget_retired();
        }
        if !self.common.ends.ended_requests.is_empty() {
            self.common.ends.flush(app);
        }
    }

    /// Does what is due by `now`. Call it when [`Endpoint::poll_timeout`] says so; calling it early does no harm.
    pub fn handle_timeout<A: Application>(&mut self, now: Instant, app: &mut A) {
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if index == HALF_OPEN_TIMER {
                self.expire_half_open(now);
                continue;
            }
            let peer = &mut self.peers[index as usize];
            if peer.timer_at == Some(at) {
                peer.timer_at = None;
            }
            self.handle_peer_timeout(now, index);
        }
        while let Some(waiting) = self.common.ends.requests.expire(now) {
            self.peers[waiting.peer as usize].requests_pending -= 1;
            self.common.ends.ended_requests.push_back((waiting.token, Outcome::Expired));
        }
        self.forget_retired();
        self.common.ends.flush(app);
    }

    fn handle_peer_timeout(&mut self, now: Instant, index: u32) {
        self.advance_dial(now, index);
        let peer = &mut self.peers[index as usize];
        peer.handle_timeout(&mut self.common, now);
        if self.peers[index as usize].wants_dial(now) {
            self.begin_dial(now, index);
        }
        self.make_ready(index);
    }

    // -- output

    /// Fills `out` (cleared first, at most 65,507 B) with one GSO run, or returns `None` when nothing may leave now.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        out.clear();
        if let Some((to, datagram)) = self.handshakes.out.pop_front() {
            out.extend_from_slice(&datagram);
            self.common.counters.datagrams_sent += 1;
            return Some(self.on_transmit(to, out.len(), out.len()));
        }
        while let Some(&index) = self.ready.front() {
            let peer = &mut self.peers[index as usize];
            if let Some((to, segment)) = peer.poll_transmit(&mut self.common, now, out) {
                if self.ready.len() > 1 {
                    self.ready.rotate_left(1);
                }
                return Some(self.on_transmit(to, segment, out.len()));
            }
            self.ready.pop_front();
            self.peers[index as usize].is_ready = false;
            self.arm_peer(index, now);
        }
        self.forget_retired();
        None
    }

    fn on_transmit(&mut self, to: SocketAddr, segment_bytes: usize, bytes: usize) -> Transmit {
        self.common.counters.runs_sent += 1;
        self.common.counters.bytes_sent += bytes as u64;
        Transmit { to, segment_bytes }
    }

    /// What happened since the last call, oldest first.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.common.ends.events.pop_front()
    }

    /// When to call [`Endpoint::handle_timeout`] next; `None` when only input can change anything.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.common.ends.ended_requests.is_empty() {
            return Some(Instant::default());
        }
        let timer = self.timers.peek().map(|entry| entry.0.0);
        [timer, self.common.ends.requests.next_deadline()].into_iter().flatten().min()
    }

    // -- commands

    /// Our key.
    pub fn public_key(&self) -> PublicKey {
        self.common.key
    }

    /// Makes a peer known, or gives a known one a new address.
    ///
    /// # Errors
    /// [`SendError::TooMany`] when `peers_max` are known.
    pub fn add_peer(
        &mut self,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, SendError> {
        if let Some(&index) = self.by_key.get(&key) {
            let peer = &mut self.peers[index as usize];
            peer.address = address.or(peer.address);
            return Ok(peer.id);
        }
        if self.peers.len() >= self.common.limits.peers_max {
            return Err(SendError::TooMany);
        }
        let id = PeerId(self.peers.len() as u32);
        self.peers.push(Peer::new(id, key, address));
        self.by_key.insert(key, id.0);
        Ok(id)
    }

    /// The peer with this key.
    pub fn find_peer(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).map(|&index| PeerId(index))
    }

    /// The key of a peer.
    pub fn peer_key(&self, peer: PeerId) -> Option<PublicKey> {
        self.peers.get(peer.0 as usize).map(|peer| peer.key)
    }

    /// The address of a peer: that of its session, else the one it was added with.
    pub fn peer_address(&self, peer: PeerId) -> Option<SocketAddr> {
        let peer = self.peers.get(peer.0 as usize)?;
        peer.session.as_ref().map(|session| session.address()).or(peer.address)
    }

    /// The name that a peer gave itself, while there is a session.
    pub fn peer_name(&self, peer: PeerId) -> Option<&str> {
        let session = self.peers.get(peer.0 as usize)?.session.as_ref()?;
        Some(&session.greeting.name)
    }

    /// Begins a dial unless a session or a dial exists. Ends in [`Event::Connected`] or [`Event::DialFailed`].
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`], [`SendError::NoAddress`], [`SendError::Closing`].
    pub fn connect(&mut self, now: Instant, peer: PeerId) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let state = self.peers.get(peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        if state.session.is_some() || state.dialling.is_some() {
            return Ok(());
        }
        if state.address.is_none() {
            return Err(SendError::NoAddress);
        }
        self.begin_dial(now, peer.0);
        self.arm_peer(peer.0, now);
        Ok(())
    }

    /// Whether there is a session with the peer.
    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.peers.get(peer.0 as usize).is_some_and(|peer| peer.session.is_some())
    }

    /// The flow with this name at the peer; the same each time it is asked for.
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`], [`SendError::FlowName`], [`SendError::TooMany`] above 4,096 flows to one peer.
    pub fn open_flow(&mut self, peer: PeerId, name: &str) -> Result<FlowId, SendError> {
        if name.is_empty() || name.len() > FLOW_NAME_BYTES_MAX {
            return Err(SendError::FlowName);
        }
        let state = self.peers.get_mut(peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        if let Some(&alias) = state.aliases.get(name) {
            return Ok(FlowId { peer, alias });
        }
        if state.flows.len() >= ALIASES_MAX {
            return Err(SendError::TooMany);
        }
        let alias = state.flows.len() as u32;
        state.flows.push(OutFlow::new(name));
        state.aliases.insert(name.into(), alias);
        Ok(FlowId { peer, alias })
    }

    /// Takes one message. An acknowledged one without a session waits, and a dial begins; its end is told as
    /// [`Event::Outcome`] if `token` is given. Best effort takes no token.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: &[u8],
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        self.send_source(now, flow, Source::Borrowed(body), service, token)
    }

    /// [`Endpoint::send`] for large bodies, which are then not copied before they are sealed.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    pub fn send_owned(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Bytes,
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        self.send_source(now, flow, Source::Owned(body), service, token)
    }

    #[inline]
    fn send_source(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Source<'_>,
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let peer = self.peers.get_mut(flow.peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        let sent = match service {
            Service::Acknowledged => {
                let waiter = token.map(Waiter::Message);
                peer.send(&mut self.common, now, flow.alias, body, None, waiter)
            }
            Service::BestEffort => {
                peer.send_best_effort(&mut self.common, now, flow.alias, body.as_slice())
            }
        };
        self.make_ready(flow.peer.0);
        sent
    }

    /// Asks, and expects an answer before `deadline`. Ends in exactly one [`Application::reply`] for `token`, unless cancelled.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    pub fn request(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Bytes,
        token: Token,
        deadline: Instant,
    ) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let peer = self.peers.get_mut(flow.peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        if !self.common.ends.requests.has_room() {
            return Err(SendError::TooManyRequests);
        }
        let number = self.common.ends.requests.begin(token, flow.peer.0, deadline);
        let waiter = Some(Waiter::Request(number));
        let body = Source::Owned(body);
        let sent = peer.send(&mut self.common, now, flow.alias, body, Some(number), waiter);
        if sent.is_err() {
            self.common.ends.requests.cancel(token);
        } else {
            peer.requests_pending += 1;
        }
        self.make_ready(flow.peer.0);
        sent
    }

    /// Forgets a request; its answer will be counted as late and dropped.
    pub fn cancel_request(&mut self, token: Token) {
        if let Some(peer) = self.common.ends.requests.cancel(token) {
            self.peers[peer as usize].requests_pending -= 1;
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`SendError::Full`]: answer again when the peer is writable. [`SendError::NotConnected`]: the asker's session is over.
    pub fn reply(&mut self, to: ReplyTo, body: &[u8]) -> Result<(), SendError> {
        let peer = self.peers.get_mut(to.peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        let sent = peer.reply(&mut self.common, to, Source::Borrowed(body));
        self.make_ready(to.peer.0);
        sent
    }

    /// Gives back credit for messages answered with [`Disposition::Held`]: `charge` is the sum of (body + 64).
    pub fn release(&mut self, peer: PeerId, session: u32, alias: u32, charge: u64) {
        let Some(state) = self.peers.get_mut(peer.0 as usize) else {
            return;
        };
        let Some(session) = state.session.as_mut().filter(|s| s.number == session) else {
            return;
        };
        if session.lanes.iter_mut().fold(false, |due, lane| due | lane.consume(alias, charge)) {
            self.make_ready(peer.0);
        }
    }

    /// Takes no new messages from here on; what is pending goes on.
    pub fn close_to_new(&mut self) {
        self.is_closing = true;
    }

    /// Ends all sessions with a CLOSE to each peer, which `poll_transmit` sends; unsettled messages end as *unknown*, those
    /// that never had a session as *peer lost*.
    pub fn close(&mut self) {
        self.is_closing = true;
        for index in 0..self.peers.len() as u32 {
            let peer = &mut self.peers[index as usize];
            peer.abandon_waiting(&mut self.common, Outcome::PeerLost);
            peer.close(Close::Done);
            self.make_ready(index);
        }
        self.forget_retired();
    }

    /// How acknowledged messages stand. Walks all peers.
    pub fn tally(&self) -> Tally {
        Tally {
            offered: self.common.counters.acknowledged_offered,
            pending: self.peers.iter().map(Peer::pending).sum(),
            ..self.common.tally
        }
    }

    /// A snapshot of what was counted.
    pub fn counters(&self) -> Counters {
        self.common.counters
    }

    /// Requests of ours that wait for an answer.
    pub fn requests_waiting(&self) -> usize {
        self.common.ends.requests.len()
    }

    // -- inside

    #[inline]
    fn make_ready(&mut self, index: u32) {
        let peer = &mut self.peers[index as usize];
        if !peer.is_ready {
            peer.is_ready = true;
            self.ready.push_back(index);
        }
    }

    /// Sets the peer's timer; an entry that turns out too early is set again when it fires.
    fn arm_peer(&mut self, index: u32, now: Instant) {
        let peer = &mut self.peers[index as usize];
        let Some(next) = peer.next_timeout(&self.common, now) else {
            return;
        };
        if peer.timer_at.is_none_or(|at| next < at) {
            peer.timer_at = Some(next);
            self.timers.push(Reverse((next, index)));
        }
    }

    fn arm_half_open(&mut self, at: Instant) {
        self.timers.push(Reverse((at, HALF_OPEN_TIMER)));
    }

    /// Draws an association index that nobody holds.
    fn draw_index(&mut self, owner: Owner) -> u32 {
        loop {
            let index = self.common.entropy.next_u64() as u32;
            if index != 0 && !self.owners.contains_key(&index) {
                self.owners.insert(index, owner);
                return index;
            }
        }
    }

    fn forget_retired(&mut self) {
        for index in self.common.retired.drain(..) {
            self.owners.remove(&index);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Common { local, shard, .. } = &self.common;
        let peers = self.peers.len();
        f.debug_struct("Endpoint")
            .field("key", local)
            .field("shard", shard)
            .field("peers", &peers)
            .finish_non_exhaustive()
    }
}

fn new_common(config: Config, key: PublicKey, entropy: Box<dyn Entropy>) -> Common {
    let limits = config.limits;
    let mut greeting = Vec::new();
    Record::Greeting(Greeting {
        incarnation: config.incarnation,
        name: config.name,
        shards: config.shards,
        placement_salt: config.placement_salt,
        message_bytes_max: limits.message_bytes_max,
    })
    .write(&mut greeting);
    Common {
        shard: config.shard,
        key,
        local: key.fingerprint(),
        counters: Counters::default(),
        ends: Ends {
            events: VecDeque::new(),
            requests: Requests::new(limits.requests_max),
            ended_requests: VecDeque::new(),
        },
        pool: SlotPool::new(limits.payload_bytes()),
        entropy,
        tally: Tally::default(),
        retired: Vec::new(),
        refusals: Vec::new(),
        greeting,
        limits,
    }
}
