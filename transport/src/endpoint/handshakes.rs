//! Owns the handshakes of an endpoint: our dials, the half-open answers to the dials of others, and what becomes of either.
//!
//! What always holds: no state and no public-key work for a datagram that was not sealed for this node; half-open answers
//! are bounded in number and age; bytes sent to an unproven address never exceed what it sent.

use std::net::SocketAddr;
use std::time::Duration;

use super::answers::{Answers, NoRoom};
use super::handshake_queue::HandshakeQueue;
use super::{Endpoint, Limits, Owner};
use crate::association::Association;
use crate::common::Common;
use crate::cookie::CookieSecret;
use crate::endpoint::{Application, ChannelId, DialFailure, Event, PeerId};
use crate::frame::Close;
use crate::handshake::{
    ChannelKeys, Credentials, Dial, Established, HalfOpen, HandshakeError, Header, Hello, Kind,
    StepError,
};
use crate::identity::PublicKey;
use crate::limits::HALF_OPEN_AGE_MAX;
use crate::peer::Dialling;
use crate::session::write_close;
use crate::time::Instant;

/// First pause before a hello is repeated; doubles up to [`HELLO_PAUSE_MAX`].
const HELLO_PAUSE_MIN: Duration = Duration::from_millis(100);
const HELLO_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the handshakes of one endpoint need.
pub(super) struct Handshakes {
    /// Who we are on each channel, the default one first.
    pub(super) locals: Vec<Local>,
    /// What opens hellos to each of them, in the same order.
    channels: Vec<ChannelKeys>,
    cookies: CookieSecret,
    pub(super) answers: Answers,
    /// Datagrams ready to leave.
    pub(super) out: HandshakeQueue,
}

/// Who we are on one channel.
pub(super) struct Local {
    pub(super) name: String,
    pub(super) credentials: Credentials,
}

/// Why a handshake datagram was dropped; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    /// Not sealed for this node, corrupted, or of no dial of ours.
    Unopened,
    /// Its cookie is not ours, not for it, or too old.
    Cookie,
    NoRoom(NoRoom),
    /// Came again after it had its answers.
    Repeated,
    /// A FINISH from another address than its hello.
    OtherAddress,
    NotAdmitted,
    /// There is no room for another lane.
    PeersFull,
}

impl Handshakes {
    pub(super) fn new(
        locals: Vec<Local>,
        cookie_secret: [u8; 32],
        limits: &Limits,
    ) -> Result<Self, HandshakeError> {
        let keys = |local: &Local| ChannelKeys::new(&local.credentials.public_key(), &local.name);
        let channels = locals.iter().map(keys).collect::<Result<_, _>>()?;
        Ok(Self {
            locals,
            channels,
            cookies: CookieSecret::from_bytes(cookie_secret),
            answers: Answers::new(limits.half_open_max, limits.hellos_per_second),
            out: HandshakeQueue::new(limits),
        })
    }

    /// The channel with this name.
    pub(super) fn channel(&self, name: &str) -> Option<ChannelId> {
        let found = self.locals.iter().position(|local| local.name == name);
        found.map(|index| ChannelId(index as u8))
    }

    pub(super) fn local(&self, channel: ChannelId) -> Option<&Local> {
        self.locals.get(usize::from(channel.0))
    }
}

impl Endpoint {
    /// Takes a handshake datagram.
    pub(super) fn handle_handshake<A: Application>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        app: &mut A,
    ) {
        if self.is_closed {
            self.common.counters.dropped_closed += 1;
            return;
        }
        let Ok(header) = Header::peek(datagram) else {
            self.common.counters.dropped_malformed += 1;
            return;
        };
        let taken = match header.kind {
            Kind::Hello => self.handle_hello(now, from, datagram),
            Kind::Reply => self.handle_reply(now, &header, datagram),
            Kind::Cookie => self.handle_cookie(now, &header, datagram),
            Kind::Finish => self.handle_finish(now, from, &header, datagram, app),
        };
        let counters = &mut self.common.counters;
        *match taken {
            Ok(()) => &mut counters.datagrams_taken,
            Err(Dropped::Unopened) => &mut counters.dropped_handshake,
            Err(Dropped::Cookie) => &mut counters.dropped_cookie,
            Err(Dropped::NoRoom(NoRoom::Full)) => &mut counters.dropped_half_open_full,
            Err(Dropped::NoRoom(NoRoom::Source)) => &mut counters.dropped_half_open_source,
            Err(Dropped::Repeated) => &mut counters.dropped_handshake_repeated,
            Err(Dropped::OtherAddress) => &mut counters.dropped_finish_address,
            Err(Dropped::NotAdmitted) => &mut counters.dropped_not_admitted,
            Err(Dropped::PeersFull) => &mut counters.dropped_peers_full,
        } += 1;
    }

    /// Somebody dials us. In this order, each step costlier than the one before: the seal, the cookie, the table, TLS.
    fn handle_hello(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Dropped> {
        let Handshakes { channels, answers, .. } = &self.handshakes;
        let hello = Hello::open(channels, datagram).map_err(|_| Dropped::Unopened)?;
        let is_loaded = answers.is_under_load(now);
        let is_proven = self.is_cookie_good(now, from, &hello);
        if is_loaded && !is_proven {
            if hello.cookie().is_some() {
                return Err(Dropped::Cookie);
            }
            self.demand_cookie(now, from, &hello);
            return Ok(());
        }
        let Handshakes { answers, out, .. } = &mut self.handshakes;
        let mut reply = Vec::new();
        if let Some(answered) = answers.repeat(from, &hello, &mut reply) {
            if !answered {
                return Err(Dropped::Repeated);
            }
            out.push_back((from, reply));
            return Ok(());
        }
        let room = self.handshakes.answers.make_room(now, from.ip(), is_proven);
        if let Some(forgotten) = room.map_err(Dropped::NoRoom)? {
            self.owners.remove(&forgotten);
            self.common.counters.half_open_evicted += 1;
        }
        let channel = self.handshakes.channel(hello.channel().name()).ok_or(Dropped::Unopened)?;
        let index = self.draw_index(Owner::HalfOpen);
        self.common.counters.hellos_answered += 1;
        let credentials = &self.handshakes.locals[usize::from(channel.0)].credentials;
        let shard = self.common.shard;
        let Ok(half_open) = HalfOpen::accept(credentials, &hello, index, shard) else {
            self.owners.remove(&index);
            return Err(Dropped::Unopened);
        };
        half_open.reply(&mut reply);
        self.handshakes.out.push_back((from, reply));
        self.handshakes.answers.push(now, from, channel, half_open, is_proven);
        self.arm_half_open(now + HALF_OPEN_AGE_MAX);
        Ok(())
    }

    fn is_cookie_good(&self, now: Instant, from: SocketAddr, hello: &Hello) -> bool {
        let cookies = &self.handshakes.cookies;
        hello.cookie().is_some_and(|cookie| {
            cookies.verify(cookie, now.as_nanos(), from, hello.dial_id(), &hello.hash())
        })
    }

    /// Under load: asks for proof that the hello came from where it says. Keeps nothing.
    fn demand_cookie(&mut self, now: Instant, from: SocketAddr, hello: &Hello) {
        let cookies = &self.handshakes.cookies;
        let cookie = cookies.mint(now.as_nanos(), from, hello.dial_id(), &hello.hash());
        let mut out = Vec::new();
        hello.demand_cookie(&cookie, self.common.shard, &mut out);
        self.handshakes.out.push_back((from, out));
        self.common.counters.cookies_sent += 1;
    }

    /// The peer that dialled with this index, if it is a dial of ours.
    fn dialling(&mut self, index: u32) -> Option<(u32, &mut Dialling)> {
        let Some(&Owner::Peer(peer)) = self.owners.get(&index) else {
            return None;
        };
        let dialling = self.peers[peer as usize].dialling.as_deref_mut()?;
        (dialling.dial.local_index() == index).then_some((peer, dialling))
    }

    fn handle_cookie(
        &mut self,
        now: Instant,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<(), Dropped> {
        let (peer, dialling) = self.dialling(header.index).ok_or(Dropped::Unopened)?;
        let cookie = dialling.dial.handle_cookie(datagram).map_err(|_| Dropped::Unopened)?;
        // The first is answered at once. Another, or a copy, must not draw a long hello for each short datagram.
        if dialling.cookie.replace(cookie).is_none() {
            dialling.resend_at = now;
            self.arm_peer(peer, now);
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        now: Instant,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<(), Dropped> {
        let (peer_index, dialling) = self.dialling(header.index).ok_or(Dropped::Unopened)?;
        let established = match dialling.dial.handle_reply(datagram) {
            Ok(established) => established,
            Err(StepError::Drop(_)) => return Err(Dropped::Unopened),
            Err(StepError::Failed(error)) => {
                self.on_dial_error(now, peer_index, &error);
                return Ok(());
            }
        };
        let rtt = (dialling.hellos == 1).then(|| now.saturating_duration_since(dialling.begun));
        // The round trip is a fair first guess at when the peer's greeting should be here.
        dialling.pause =
            rtt.map_or(HELLO_PAUSE_MIN, |rtt| (4 * rtt).max(Duration::from_millis(20)));
        dialling.resend_at = now + dialling.pause;
        let mut finish = Vec::new();
        dialling.dial.finish(&mut finish);
        // Not where the reply came from, which anybody may write: the dialled address has heard our hello.
        let address = dialling.address;
        let Some(lane) = self.answering_lane(now, peer_index, established.remote_shard) else {
            let dialled = self.peers[peer_index as usize].key.fingerprint();
            let reason =
                "no room for a lane to the shard that answered: raise peers_max".to_owned();
            self.fail_dial(now, peer_index, DialFailure::Handshake { address, dialled, reason });
            return Err(Dropped::PeersFull);
        };
        if let Some(dialling) = &mut self.peers[lane as usize].dialling {
            dialling.is_answered = true;
        }
        self.handshakes.out.push_own((address, finish));
        let association = self.associate(now, address, &established, rtt);
        self.peers[lane as usize].add_association(&mut self.common, association);
        self.make_ready(lane);
        Ok(())
    }

    fn handle_finish<A: Application>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        datagram: &mut [u8],
        app: &mut A,
    ) -> Result<(), Dropped> {
        match self.owners.get(&header.index) {
            Some(Owner::HalfOpen) => {}
            // Finished before: our first packets were lost, and the greeting repeats itself. Or no FINISH at all.
            Some(Owner::Peer(_)) | None => return Err(Dropped::Unopened),
        }
        let answer = self.handshakes.answers.get_mut(header.index).ok_or(Dropped::Unopened)?;
        // The REPLY went to one address: a FINISH from there proves it, from elsewhere it would prove nothing.
        if answer.from != from {
            return Err(Dropped::OtherAddress);
        }
        if let Some(refusal) = &answer.refusal {
            // Nobody opens this FINISH any more: it must not draw more bytes than it has.
            if datagram.len() < refusal.len() {
                return Err(Dropped::Unopened);
            }
            let refusal = refusal.clone();
            self.handshakes.out.push_back((from, refusal));
            return Err(Dropped::Repeated);
        }
        if answer.stranger.is_some() {
            // Its greeting was lost; it repeats itself.
            return Err(Dropped::Repeated);
        }
        let established = match answer.half_open.handle_finish(datagram) {
            Ok(established) => established,
            Err(StepError::Drop(_)) => return Err(Dropped::Unopened),
            Err(StepError::Failed(_)) => {
                self.forget_half_open(header.index);
                self.owners.remove(&header.index);
                return Err(Dropped::Unopened);
            }
        };
        let rtt = (!answer.is_repeated()).then(|| now.saturating_duration_since(answer.since));
        let (key, channel) = (established.remote_key, answer.channel);
        let mut association = self.associate(now, from, &established, rtt);
        if !app.admit(channel, &key) {
            tracing::warn!(key = %key.fingerprint(), %from, "not admitted by the policy");
            self.turn_away(now, header.index, from, &mut association);
            return Err(Dropped::NotAdmitted);
        }
        // Whoever is connected, or being dialled, hears our greeting at once; all others after theirs was judged.
        let contact = self.find_peer_on(channel, &key).filter(|&contact| self.is_engaged(contact));
        if contact.is_none() {
            // Nothing more is kept for whoever has not said who it is. Its greeting is opened under limited keys already.
            let random = self.common.entropy.next_u64();
            let local = self.handshakes.locals[usize::from(channel.0)].credentials.public_key();
            association.limit_life(&self.common.limits, local < key, random);
            if let Some(answer) = self.handshakes.answers.get_mut(header.index) {
                answer.stranger = Some(Box::new((key, association)));
            }
            return Ok(());
        }
        self.forget_half_open(header.index);
        self.enter_finished(now, channel, key, association)
    }

    /// The keys of a finished handshake, for this shard's lane.
    fn associate(
        &mut self,
        now: Instant,
        address: SocketAddr,
        established: &Established,
        rtt: Option<Duration>,
    ) -> Association {
        let Common { shard, limits, entropy, .. } = &mut self.common;
        Association::new(now, address, established, rtt, *shard, limits, entropy.next_u64())
    }

    /// A peer that is engaged finished a handshake: its keys wait for its greeting, on the lane of the shard that dialled.
    fn enter_finished(
        &mut self,
        now: Instant,
        channel: ChannelId,
        key: PublicKey,
        association: Association,
    ) -> Result<(), Dropped> {
        let (index, shard) = (association.local_index(), association.remote_shard());
        let Ok(lane) = self.add_stranger(now, (channel, key), shard) else {
            self.owners.remove(&index);
            return Err(Dropped::PeersFull);
        };
        let lane = lane.place();
        self.owners.insert(index, Owner::Peer(lane));
        self.peers[lane as usize].add_association(&mut self.common, association);
        self.make_ready(lane);
        Ok(())
    }

    /// Tells a dialler that it is not admitted, now and whenever it finishes again.
    fn turn_away(
        &mut self,
        now: Instant,
        index: u32,
        from: SocketAddr,
        association: &mut Association,
    ) {
        let mut refusal = Vec::new();
        write_close(association, &mut self.common, now, Close::NotAdmitted, &mut refusal);
        self.handshakes.out.push_back((from, refusal.clone()));
        if let Some(answer) = self.handshakes.answers.get_mut(index) {
            answer.refusal = Some(refusal);
        }
    }

    /// Whether there is a session with the peer on some lane, or a dial on its way to one.
    fn is_engaged(&self, peer: PeerId) -> bool {
        self.lanes(peer).iter().any(|&index| self.peers[index as usize].is_engaged())
    }

    fn forget_half_open(&mut self, index: u32) {
        self.handshakes.answers.forget(index);
    }

    /// Forgets half-open answers that were never finished.
    pub(super) fn expire_half_open(&mut self, now: Instant) {
        while let Some(index) = self.handshakes.answers.expire(now) {
            self.owners.remove(&index);
            self.common.counters.half_open_expired += 1;
        }
        self.half_open_at = None;
        if let Some(next) = self.handshakes.answers.next_timeout() {
            self.arm_half_open(next);
        }
    }

    /// Begins to dial a peer.
    pub(super) fn begin_dial(&mut self, now: Instant, index: u32) {
        let peer = &self.peers[index as usize];
        let (key, address, channel) = (peer.key, peer.address, peer.channel);
        let Some(address) = address else { return };
        let local_index = self.draw_index(Owner::Peer(index));
        let mut dial_id = [0; 8];
        self.common.entropy.fill(&mut dial_id);
        let Local { name, credentials } = &self.handshakes.locals[usize::from(channel.0)];
        match Dial::new(credentials, key, name, local_index, dial_id, self.common.shard) {
            Ok(mut dial) => {
                self.common.counters.dials_begun += 1;
                let peer = &mut self.peers[index as usize];
                if let Some(shard) = peer.remote {
                    dial.steer(shard);
                }
                peer.on_dialled(now);
                peer.dialling = Some(Box::new(Dialling {
                    dial,
                    address,
                    cookie: None,
                    begun: now,
                    resend_at: now,
                    pause: HELLO_PAUSE_MIN,
                    hellos: 0,
                    is_answered: false,
                }));
                self.advance_dial(now, index);
            }
            Err(error) => {
                self.owners.remove(&local_index);
                self.on_dial_error(now, index, &error);
            }
        }
    }

    /// Repeats the hello or FINISH of a dial when due, or ends the dial when its time is over.
    pub(super) fn advance_dial(&mut self, now: Instant, index: u32) {
        let dial_timeout = self.common.limits.dial_timeout;
        let peer = &mut self.peers[index as usize];
        let Some(dialling) = &mut peer.dialling else {
            return;
        };
        if dialling.resend_at > now {
            return;
        }
        if now >= dialling.begun + dial_timeout {
            let (address, dialled) = (dialling.address, peer.key.fingerprint());
            let (local, after) = (peer.local.fingerprint(), dial_timeout);
            self.fail_dial(now, index, DialFailure::Timeout { address, dialled, local, after });
            return;
        }
        let mut datagram = Vec::new();
        if dialling.is_answered {
            dialling.dial.finish(&mut datagram);
        } else {
            dialling.dial.hello(dialling.cookie.as_ref(), &mut datagram);
            dialling.hellos += 1;
        }
        let end = dialling.begun + dial_timeout;
        dialling.resend_at = (now + self.common.jitter(dialling.pause)).min(end);
        dialling.pause = (2 * dialling.pause).min(HELLO_PAUSE_MAX);
        self.handshakes.out.push_own((dialling.address, datagram));
    }

    /// TLS or the keys say that this attempt is over.
    fn on_dial_error(&mut self, now: Instant, index: u32, error: &HandshakeError) {
        let peer = &self.peers[index as usize];
        let dialled = peer.key.fingerprint();
        let address = peer.dialling.as_ref().map(|dialling| dialling.address).or(peer.address);
        let Some(address) = address else { return };
        let failure = match error {
            HandshakeError::WrongKey { dialled, answered } => {
                DialFailure::WrongKey { address, dialled: *dialled, answered: *answered }
            }
            error => DialFailure::Handshake { address, dialled, reason: error.to_string() },
        };
        self.fail_dial(now, index, failure);
    }

    fn fail_dial(&mut self, now: Instant, index: u32, error: DialFailure) {
        self.common.counters.dials_failed += 1;
        let peer = &mut self.peers[index as usize];
        peer.retire_dial(&mut self.common);
        peer.schedule_redial(&self.common, now);
        let peer = peer.contact;
        self.common.ends.events.push_back(Event::DialFailed { peer, error });
        self.forget_retired();
    }
}
