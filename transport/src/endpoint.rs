//! Owns one shard's side of the protocol: its peers, its handshakes, its timers. The front door of this crate.
//!
//! What always holds: after any call the caller drains `poll_transmit`, then `poll_event`, then asks `poll_timeout`; nothing
//! here reads a clock, a socket or the system's randomness.

mod answers;
mod application;
mod commands;
mod config;
mod event;
mod failure;
mod handshake_queue;
mod handshakes;
mod lanes;
mod life;
mod newcomers;
mod options;
mod outcome;
mod places;
mod requests;
mod restarts;
mod rows;
#[cfg(feature = "testing")]
mod testing;
mod trust;
mod types;
mod watching;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use crate::absence::Absence;
use crate::allowance::Allowance;
use crate::common::{Common, Ends};
pub use crate::counters::Counters;
use crate::frame::Greeting;
use crate::handshake::{Credentials, HandshakeError};
use crate::header::LaneHeader;
use crate::identity::{Identity, PublicKey};
use crate::indices::IndexHasher;
pub use crate::limits::{LimitError, Limits};
use crate::peer::{Peer, Received};
use crate::random::Entropy;
use crate::requests::Requests;
use crate::restarted::Notice;
use crate::slots::SlotPool;
use crate::time::Instant;
pub use application::{Application, Binding, Body, Deferred, Disposition, Incoming};
pub use config::{ChannelConfig, Config, ConfigError};
pub use event::{DownCause, EndCause, Event};
pub use failure::DialFailure;
use handshakes::{Handshakes, Local};
use lanes::KnownPeer;
pub use life::{PeerMemory, PeerPresence, PeerState};
pub(crate) use options::CLASSES;
pub use options::{Priority, SendOptions, Service};
pub use outcome::{Outcome, Refusal, SendError};
pub use trust::{ChannelId, Newcomer, NodeMode, PeerInfo, Verdict};
pub use types::{FlowId, PeerId, ReplyTo, Tally, Token, Transmit};

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
    /// The lanes, by place; `by_key` knows which lead to one peer.
    peers: Vec<Peer>,
    /// Places of lanes that were forgotten; the first is given away first.
    vacant: VecDeque<u32>,
    /// Where the search for a stranger to forget goes on.
    forget_from: usize,
    by_key: HashMap<(ChannelId, PublicKey), KnownPeer>,
    owners: HashMap<u32, Owner, IndexHasher>,
    /// Our index of the association that we send on, by the peer's; entries may be stale. The peer chose the key.
    by_remote: HashMap<u32, u32>,
    restarts_told: Allowance,
    /// Peers that may have something to send, each once.
    ready: VecDeque<u32>,
    /// Lanes that sent something to be acknowledged since [`Endpoint::take_sending`], each once.
    sending: Vec<u32>,
    /// The number of this count.
    sending_count: u32,
    /// Peers to look at, by time; [`HALF_OPEN_TIMER`] stands for the half-open answers.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// When the half-open answers are looked at: their one entry among the timers.
    half_open_at: Option<Instant>,
    is_closing: bool,
    /// All sessions were ended for good: nobody's dial is answered.
    is_closed: bool,
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
        config.check()?;
        let locals = locals(&config, identity).map_err(ConfigError::Handshake)?;
        let mut cookie_secret = [0; 32];
        entropy.fill(&mut cookie_secret);
        let handshakes = Handshakes::new(locals, cookie_secret, &config.limits)
            .map_err(ConfigError::Handshake)?;
        let restarts_told = restarts::allowance(&config.limits);
        Ok(Self {
            common: new_common(config, identity.public_key(), entropy),
            handshakes,
            peers: Vec::new(),
            vacant: VecDeque::new(),
            forget_from: 0,
            by_key: HashMap::new(),
            owners: HashMap::default(),
            by_remote: HashMap::new(),
            restarts_told,
            ready: VecDeque::new(),
            sending: Vec::new(),
            sending_count: 1,
            timers: BinaryHeap::new(),
            half_open_at: None,
            is_closing: false,
            is_closed: false,
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
        self.note_absence(now);
        let Some(header) = LaneHeader::decode(datagram) else {
            match Notice::decode(datagram) {
                Some(notice) => self.handle_notice(now, &notice),
                None => self.handle_handshake(now, from, datagram, app),
            }
            return;
        };
        if header.steering != self.common.shard {
            self.on_misdelivered(now, from, &header, datagram);
            return;
        }
        let index = match self.owners.get(&header.association) {
            Some(&Owner::Peer(index)) => index,
            Some(Owner::HalfOpen) => {
                let is_taken = self.handle_stranger(now, &header, datagram, app);
                self.common.counters.datagrams_taken += u64::from(is_taken);
                return;
            }
            None => {
                self.on_unknown_association(now, from, &header, datagram);
                return;
            }
        };
        let peer = &mut self.peers[index as usize];
        let received = peer.handle_datagram(&mut self.common, app, now, from, &header, datagram);
        let is_taken = matches!(received, Received::Taken | Received::Greeted);
        self.common.counters.datagrams_taken += u64::from(is_taken);
        if received != Received::Dropped {
            self.make_ready(index);
        }
        if received == Received::Greeted
            && let Some(greeted) = self.common.greeted.take()
        {
            self.on_greeting(now, index, greeted.0, greeted.1);
        }
        if !self.common.retired.is_empty() || !self.common.adopted.is_empty() {
            self.forget_retired();
        }
        if !self.common.ends.ended_requests.is_empty() {
            self.common.ends.flush(app);
        }
    }

    /// Does what is due by `now`. Call it when [`Endpoint::poll_timeout`] says so; calling it early does no harm.
    pub fn handle_timeout<A: Application>(&mut self, now: Instant, app: &mut A) {
        self.note_absence(now);
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if index == HALF_OPEN_TIMER {
                self.expire_half_open(now);
                continue;
            }
            let peer = &mut self.peers[index as usize];
            peer.alarm.on_taken(at);
            self.handle_peer_timeout(now, index);
        }
        while let Some(waiting) = self.common.ends.requests.expire(now) {
            self.peers[waiting.peer as usize].requests_pending -= 1;
            self.common.ends.ended_requests.push_back((waiting.token, Outcome::Expired));
        }
        self.forget_retired();
        self.common.ends.flush(app);
    }

    /// Whoever comes when a timer is long overdue did not run meanwhile.
    #[inline]
    fn note_absence(&mut self, now: Instant) {
        let Common { absence, counters, .. } = &mut self.common;
        let due = self.timers.peek();
        counters.absences += u64::from(due.is_some_and(|due| absence.note(due.0.0, now)));
    }

    fn handle_peer_timeout(&mut self, now: Instant, index: u32) {
        self.advance_dial(now, index);
        let peer = &mut self.peers[index as usize];
        peer.handle_timeout(&mut self.common, now);
        if self.peers[index as usize].wants_dial(&self.common, now) {
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
                if peer.counted_in != self.sending_count && peer.is_in_flight() {
                    peer.counted_in = self.sending_count;
                    self.sending.push(index);
                }
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

    // -- inside

    /// The inside of a session, for tests that no public call could write; the peer is asked for what it has to send.
    #[cfg(test)]
    pub(crate) fn parts(&mut self, peer: PeerId) -> (&mut crate::session::Session, &mut Common) {
        self.make_ready(peer.place());
        self.peers[peer.place() as usize].wake();
        let session = self.peers[peer.place() as usize].session.as_deref_mut();
        (session.expect("a session"), &mut self.common)
    }

    /// Entries in the heap of timers.
    #[cfg(test)]
    pub(crate) fn timers_waiting(&self) -> usize {
        self.timers.len()
    }

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
        // What is due already was not late before now.
        let next = next.max(now);
        if peer.alarm.set(next) {
            self.timers.push(Reverse((next, index)));
        }
    }

    /// Sets the timer of the half-open answers, if there is none: all may grow equally old, so the next to go was there before.
    fn arm_half_open(&mut self, at: Instant) {
        if self.half_open_at.is_none() {
            self.half_open_at = Some(at);
            self.timers.push(Reverse((at, HALF_OPEN_TIMER)));
        }
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
        if !self.common.adopted.is_empty() {
            self.enter_adopted();
        }
        for farewell in self.common.farewells.drain(..) {
            self.handshakes.out.push_back(farewell);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Common { local, shard, .. } = &self.common;
        let peers = self.peers.len() - self.vacant.len();
        f.debug_struct("Endpoint")
            .field("key", local)
            .field("shard", shard)
            .field("peers", &peers)
            .finish_non_exhaustive()
    }
}

/// Who the node is on each of its channels, the default one first.
fn locals(config: &Config, identity: &Identity) -> Result<Vec<Local>, HandshakeError> {
    let mut locals = vec![Local { name: String::new(), credentials: Credentials::new(identity)? }];
    for ChannelConfig { name, identity } in &config.channels {
        let credentials = match identity {
            Some(identity) => Credentials::new(identity)?,
            None => locals[0].credentials.clone(),
        };
        locals.push(Local { name: name.clone(), credentials });
    }
    Ok(locals)
}

fn new_common(config: Config, key: PublicKey, entropy: Box<dyn Entropy>) -> Common {
    let limits = config.limits;
    let role = if config.role.is_empty() { config.name.clone() } else { config.role };
    let greeting = Greeting {
        incarnation: config.incarnation,
        name: config.name,
        role,
        mode: config.mode.bits(),
        kind: config.kind,
        shards: config.shards,
        placement_salt: config.placement_salt,
        message_bytes_max: limits.message_bytes_max,
    };
    Common {
        shard: config.shard,
        key,
        local: key.fingerprint(),
        counters: Counters::default(),
        absence: Absence::default(),
        ends: Ends {
            events: VecDeque::new(),
            requests: Requests::new(limits.requests_max),
            ended_requests: VecDeque::new(),
        },
        pool: SlotPool::new(limits.payload_bytes()),
        entropy,
        tally: Tally::default(),
        retired: Vec::new(),
        adopted: Vec::new(),
        farewells: Vec::new(),
        placement: config.placement,
        presences: Vec::new(),
        greeted: None,
        refusals: Vec::new(),
        greeting,
        limits,
    }
}
