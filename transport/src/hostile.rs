//! A peer that proved its key and then does as it likes: a real handshake with an endpoint, then payloads written by hand and
//! sealed under the real keys. For tests.
//!
//! What always holds: everything it sends opens; what it is sent is opened, and acknowledged only if the test says so.

use std::net::SocketAddr;
use std::time::Duration;

use crate::endpoint::{
    Application, Binding, ChannelId, Config, Disposition, Endpoint, Event, Incoming, Limits,
    Newcomer, PeerId, PeerMemory, Refusal, Verdict,
};
use crate::frame::{self, Greeting, Record};
use crate::handshake::{Credentials, Dial, Established};
use crate::header::LaneHeader;
use crate::identity::{Identity, PublicKey};
use crate::limits::HEADER_BYTES;
use crate::random::SeededEntropy;
use crate::ranges::decode_ack;
use crate::space::{KeyLimits, PacketSpace};
use crate::time::Instant;
use crate::varint::Reader;

mod attacks;
mod bystander;
mod effort;
mod numbers;
mod refusals;
mod strangers;
mod waiting;

use bystander::{BYSTANDER, Bystander};

/// Where the hostile peer sends from.
const HOSTILE: ([u8; 4], u16) = ([10, 6, 6, 6], 666);

/// Runs that may leave in one turn, far above what a window holds: more would have no end.
const RUNS_PER_TURN_MAX: u64 = 10_000;

/// An application that takes everything on flows whose names begin with `ok`, and refuses other flows for the reason that they
/// are called by.
#[derive(Default)]
struct Victim {
    delivered: u64,
    /// An honest peer, whose messages are counted by themselves.
    bystander: Option<PublicKey>,
    from_bystander: u64,
    /// Messages are held, as in a queue that nobody reads.
    holds: bool,
    /// What becomes of newcomers other than the honest peer; accepted if nothing is said.
    verdict: Option<Verdict>,
    /// Where those were whose greetings came.
    judged: Vec<SocketAddr>,
}

impl Application for Victim {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }
    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        self.judged.push(newcomer.address);
        let verdict = self.verdict.filter(|_| Some(newcomer.key) != self.bystander.as_ref());
        verdict.unwrap_or(Verdict::Accepted)
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        match flow {
            "denied" => Err(Refusal::Denied),
            "full" => Err(Refusal::QueueFull),
            "closing" => Err(Refusal::Closing),
            _ if flow.starts_with("ok") => {
                Ok(Binding { flow: 0, window_bytes: 1 << 20, message_bytes_max: 64 << 20 })
            }
            _ => Err(Refusal::NoSuchFlow),
        }
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        if self.bystander.as_ref() == Some(message.sender) {
            self.from_bystander += 1;
            return Ok(Disposition::Consumed);
        }
        self.delivered += 1;
        Ok(if self.holds { Disposition::Held } else { Disposition::Consumed })
    }
}

/// An endpoint under attack, and the attacker.
struct Siege {
    now: Instant,
    endpoint: Endpoint,
    victim: Victim,
    /// The attacker's side of the keys, and what it sends under them by shard.
    established: Established,
    spaces: Vec<(u8, PacketSpace)>,
    key: PublicKey,
    events: Vec<Event>,
    /// Datagrams that the endpoint answered with since the siege began.
    answers: u64,
    /// Whether the attacker acknowledges what it is sent.
    acknowledges: bool,
    memory_high: usize,
    /// Highest floor of a SETTLED that the attacker was told, if it reads what it is sent.
    told_floor: u64,
    bystander: Bystander,
    identity: Identity,
    shards: u8,
    /// Added to the packet numbers of what is sent.
    jump: u64,
    /// Handshakes so far.
    dials: u32,
    /// Where the attacker sends from.
    from: SocketAddr,
}

impl Siege {
    /// A handshake, greetings, and a session.
    fn new(limits: Limits) -> Self {
        Self::with_shards(limits, 1)
    }

    fn with_shards(limits: Limits, shards: u8) -> Self {
        let mut siege = Self::unknown(limits);
        siege.shards = shards;
        siege.send(&siege.greeting());
        siege.turn();
        assert!(siege.is_connected(), "the siege begins with a session");
        siege
    }

    /// A handshake, and nothing said yet.
    fn unknown(limits: Limits) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let mut endpoint = besieged(limits);
        let mut victim = Victim::default();
        let hostile = Identity::from_seed(&[6; 32]);
        let bystander = Bystander::new(now, endpoint.public_key());
        victim.bystander = Some(bystander.key);
        let from = SocketAddr::from(HOSTILE);
        let established = shake(now, &hostile, (0, from), (&mut endpoint, &mut victim));
        let key = hostile.public_key();
        Self {
            now,
            endpoint,
            victim,
            established,
            spaces: Vec::new(),
            key,
            events: Vec::new(),
            answers: 0,
            acknowledges: true,
            memory_high: 0,
            told_floor: 0,
            bystander,
            identity: hostile,
            shards: 1,
            jump: 0,
            dials: 1,
            from,
        }
    }

    fn greeting(&self) -> Vec<u8> {
        greeting_of(self.shards)
    }

    /// Shakes hands for a further association of the same session, which is used from here on.
    fn redial(&mut self) {
        // Whatever waits to leave goes before the REPLY.
        self.turn();
        let victim = (&mut self.endpoint, &mut self.victim);
        self.established = shake(self.now, &self.identity, (self.dials, self.from), victim);
        self.dials += 1;
        self.spaces.clear();
        self.send(&self.greeting());
        self.turn();
    }

    fn is_connected(&self) -> bool {
        self.endpoint.find_peer(&self.key).is_some_and(|peer| self.endpoint.is_connected(peer))
    }

    fn memory(&self) -> PeerMemory {
        let peer = self.endpoint.find_peer(&self.key).unwrap();
        self.endpoint.peer_memory(peer).unwrap()
    }

    /// The lane from this shard of ours.
    fn space(&mut self, shard: u8) -> &mut PacketSpace {
        let found = self.spaces.iter().position(|(other, _)| *other == shard);
        let index = found.unwrap_or_else(|| {
            let Established { secret, suite, role, .. } = &self.established;
            let keys = secret.lane_keys(*suite, *role, shard, 0);
            let limits = KeyLimits::new(*suite, &Limits::default());
            self.spaces.push((shard, PacketSpace::new(keys, limits, 1_000_000)));
            self.spaces.len() - 1
        });
        &mut self.spaces[index].1
    }

    /// Seals frames as the peer's shard 0 and hands them to the endpoint.
    fn send(&mut self, frames: &[u8]) {
        self.send_as(0, frames);
    }

    fn send_as(&mut self, shard: u8, frames: &[u8]) {
        let (now, index, jump) = (self.now, self.established.remote_index, self.jump);
        let space = self.space(shard);
        let packet_number = space.next_number(now, || 1).unwrap();
        let header = LaneHeader {
            key_phase: false,
            steering: 0,
            association: index,
            sender_shard: shard,
            ack_now: true,
            packet_number: packet_number.saturating_add(jump),
        };
        let mut datagram = vec![0; HEADER_BYTES];
        datagram.extend_from_slice(frames);
        space.seal(&header, &mut datagram, 0);
        space.sent.on_sent(now, 0, crate::sent::NO_BLOCK, 0);
        self.endpoint.handle_datagram(self.now, self.from, &mut datagram, &mut self.victim);
    }

    /// The end of the endpoint's turn: it sends, and time goes on by a little.
    fn turn(&mut self) {
        let mut run = Vec::new();
        let mut received = Vec::new();
        self.bystander.begin_turn(self.now);
        loop {
            let mut spoke = self.bystander.speak(self.now, &mut self.endpoint, &mut self.victim);
            let runs = self.endpoint.counters().runs_sent;
            while let Some(transmit) = self.endpoint.poll_transmit(self.now, &mut run) {
                let left = self.endpoint.counters().runs_sent - runs;
                assert!(left < RUNS_PER_TURN_MAX, "datagrams without end");
                if transmit.to == SocketAddr::from(BYSTANDER) {
                    spoke = true;
                    self.bystander.hear(self.now, &mut run, transmit.segment_bytes);
                } else {
                    received.extend(run.chunks(transmit.segment_bytes).map(<[u8]>::to_vec));
                }
            }
            if !spoke {
                break;
            }
        }
        self.bystander.check(&self.endpoint, &self.victim);
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
        self.answers += received.len() as u64;
        if self.acknowledges {
            self.acknowledge(&mut received);
        }
        self.now += Duration::from_micros(50);
        if self.endpoint.poll_timeout().is_some_and(|at| at <= self.now) {
            self.endpoint.handle_timeout(self.now, &mut self.victim);
        }
        if self.is_connected() {
            self.memory_high = self.memory_high.max(self.memory().total());
        }
    }

    fn acknowledge(&mut self, received: &mut [Vec<u8>]) {
        let mut highest = None;
        for datagram in received {
            let Some(header) = LaneHeader::decode(datagram) else { continue };
            let now = self.now;
            let space = self.space(0);
            if let Ok(payload) = space.open(&header, datagram) {
                let floor = settled_floor(payload);
                space.on_received(now, &header, true, Duration::ZERO);
                highest = Some(header.packet_number);
                self.told_floor = self.told_floor.max(floor);
            }
        }
        if highest.is_some() {
            let mut frames = Vec::new();
            let now = self.now;
            self.space(0).write_ack(now, 512, &mut frames);
            self.send(&frames);
        }
    }

    /// Whether and why the session ended.
    fn end(&self) -> Option<String> {
        self.events.iter().find_map(|event| match event {
            Event::SessionEnded { cause, .. } => Some(cause.to_string()),
            _ => None,
        })
    }
}

/// Floor of the SETTLED that stands first or behind an acknowledgement; zero if there is none.
fn settled_floor(payload: &[u8]) -> u64 {
    let mut reader = Reader::new(payload);
    while let Some(kind) = reader.u8() {
        match kind {
            frame::ACK if decode_ack(&mut reader).is_some() => {}
            frame::SETTLED => {
                return frame::read_settled(&mut reader, &mut Vec::new()).unwrap_or(0);
            }
            _ => break,
        }
    }
    0
}

/// The endpoint under attack. It takes all flows of a peer to be at the last of its shards.
fn besieged(limits: Limits) -> Endpoint {
    let mut config = Config { name: "victim".into(), limits, ..Config::new([1; 16], [2; 32]) };
    config.placement = |_, _, shards| shards - 1;
    let entropy = Box::new(SeededEntropy::new(1));
    Endpoint::new(config, &Identity::from_seed(&[1; 32]), entropy).unwrap()
}

/// The greeting of a hostile peer that says that it has so many shards.
fn greeting_of(shards: u8) -> Vec<u8> {
    let mut greeting = Vec::new();
    Record::Greeting(Greeting {
        incarnation: [6; 16],
        name: "mallory".into(),
        role: String::new(),
        mode: 0,
        kind: 0,
        shards,
        placement_salt: [0; 32],
        message_bytes_max: 64 << 20,
    })
    .write(&mut greeting);
    greeting
}

/// A handshake of a hostile peer from this address, its dials told apart by number.
fn shake(
    now: Instant,
    hostile: &Identity,
    (number, from): (u32, SocketAddr),
    (endpoint, app): (&mut Endpoint, &mut Victim),
) -> Established {
    let credentials = Credentials::new(hostile).unwrap();
    let dial_id = [9 + number as u8; 8];
    let victim = endpoint.public_key();
    let mut dial = Dial::new(&credentials, victim, "", 77 + number, dial_id, 0).unwrap();
    let mut out = Vec::new();
    dial.hello(None, &mut out);
    endpoint.handle_datagram(now, from, &mut out, app);
    let mut reply = Vec::new();
    endpoint.poll_transmit(now, &mut reply).expect("a reply to a hello");
    let established = dial.handle_reply(&mut reply).expect("a good reply");
    let mut finish = Vec::new();
    dial.finish(&mut finish);
    endpoint.handle_datagram(now, from, &mut finish, app);
    established
}
