//! Owns the handshakes of an endpoint: our dials, the half-open answers to the dials of others, and what becomes of either.
//!
//! What always holds: no state and no public-key work for a datagram that was not sealed for this node; half-open answers
//! are bounded in number and age; bytes sent to an unproven address never exceed what it sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Endpoint, Owner};
use crate::association::Association;
use crate::cookie::CookieSecret;
use crate::endpoint::{Application, DialFailure, Event};
use crate::frame::Close;
use crate::handshake::{
    ChannelKeys, Credentials, Dial, HalfOpen, HandshakeError, Header, Hello, Kind, StepError,
};
use crate::peer::Dialling;
use crate::session::write_close;
use crate::time::Instant;

/// First pause before a hello is repeated; doubles up to [`HELLO_PAUSE_MAX`].
const HELLO_PAUSE_MIN: Duration = Duration::from_millis(100);
const HELLO_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A half-open answer is forgotten after this.
const HALF_OPEN_AGE_MAX: Duration = Duration::from_secs(10);

/// What the handshakes of one endpoint need.
pub(super) struct Handshakes {
    pub(super) credentials: Credentials,
    /// The channels that may be dialled here: for now the default one.
    channels: Vec<ChannelKeys>,
    cookies: CookieSecret,
    /// Half-open answers, oldest first.
    half_open: VecDeque<Answer>,
    /// Datagrams ready to leave.
    pub(super) out: VecDeque<(SocketAddr, Vec<u8>)>,
}

struct Answer {
    half_open: HalfOpen,
    from: SocketAddr,
    since: Instant,
    /// The dialler was not admitted: this is told each time it finishes again.
    refusal: Option<Vec<u8>>,
    is_repeated: bool,
}

impl Handshakes {
    pub(super) fn new(
        credentials: Credentials,
        cookie_secret: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        let channels = vec![ChannelKeys::new(&credentials.public_key(), "")?];
        Ok(Self {
            credentials,
            channels,
            cookies: CookieSecret::from_bytes(cookie_secret),
            half_open: VecDeque::new(),
            out: VecDeque::new(),
        })
    }

    /// When the oldest half-open answer is to be forgotten.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.half_open.front().map(|answer| answer.since + HALF_OPEN_AGE_MAX)
    }

    fn answer_mut(&mut self, index: u32) -> Option<&mut Answer> {
        self.half_open.iter_mut().find(|answer| answer.half_open.local_index() == index)
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
            Kind::Reply => self.handle_reply(now, from, &header, datagram),
            Kind::Cookie => self.handle_cookie(now, &header, datagram),
            Kind::Finish => self.handle_finish(now, from, &header, datagram, app),
        };
        self.common.counters.dropped_handshake += u64::from(taken.is_none());
    }

    /// Somebody dials us. `None` when the datagram was dropped.
    fn handle_hello(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<()> {
        let hello = Hello::open(&self.handshakes.channels, datagram).ok()?;
        let mut answers = self.handshakes.half_open.iter_mut();
        let is_repeated = |half_open: &HalfOpen| {
            half_open.dial_id() == hello.dial_id() && half_open.answers(&hello)
        };
        let repeated = answers.find(|answer| is_repeated(&answer.half_open));
        if let Some(answer) = repeated {
            answer.is_repeated = true;
            let mut reply = Vec::new();
            answer.half_open.reply(&mut reply);
            self.handshakes.out.push_back((from, reply));
            return Some(());
        }
        let half_open_max = self.common.limits.half_open_max;
        let waiting = self.handshakes.half_open.len();
        if waiting * 2 >= half_open_max && !self.prove_address(now, from, &hello) {
            return Some(());
        }
        if waiting >= half_open_max {
            self.common.counters.dropped_half_open_full += 1;
            return Some(());
        }
        let index = self.draw_index(Owner::HalfOpen);
        let (credentials, shard) = (&self.handshakes.credentials, self.common.shard);
        let Ok(half_open) = HalfOpen::accept(credentials, &hello, index, shard) else {
            self.owners.remove(&index);
            return None;
        };
        let mut reply = Vec::new();
        half_open.reply(&mut reply);
        self.handshakes.out.push_back((from, reply));
        let answer = Answer { half_open, from, since: now, refusal: None, is_repeated: false };
        self.handshakes.half_open.push_back(answer);
        self.arm_half_open(now + HALF_OPEN_AGE_MAX);
        Some(())
    }

    /// Under load: whether the hello carries a good cookie. If it carries none, one is sent; nothing is kept.
    fn prove_address(&mut self, now: Instant, from: SocketAddr, hello: &Hello) -> bool {
        let (nanos, id, hash) = (now.as_nanos(), hello.dial_id(), hello.hash());
        let cookies = &self.handshakes.cookies;
        match hello.cookie() {
            Some(cookie) if cookies.verify(cookie, nanos, from, id, &hash) => true,
            Some(_) => {
                self.common.counters.dropped_cookie += 1;
                false
            }
            None => {
                let cookie = cookies.mint(nanos, from, id, &hash);
                let mut out = Vec::new();
                hello.demand_cookie(&cookie, self.common.shard, &mut out);
                self.handshakes.out.push_back((from, out));
                self.common.counters.cookies_sent += 1;
                false
            }
        }
    }

    /// The peer that dialled with this index, if it is a dial of ours.
    fn dialling(&mut self, index: u32) -> Option<(u32, &mut Dialling)> {
        let Some(&Owner::Peer(peer)) = self.owners.get(&index) else {
            return None;
        };
        let dialling = self.peers[peer as usize].dialling.as_deref_mut()?;
        (dialling.dial.local_index() == index).then_some((peer, dialling))
    }

    fn handle_cookie(&mut self, now: Instant, header: &Header, datagram: &mut [u8]) -> Option<()> {
        let (peer, dialling) = self.dialling(header.index)?;
        let cookie = dialling.dial.handle_cookie(datagram).ok()?;
        dialling.cookie = Some(cookie);
        dialling.resend_at = now;
        self.arm_peer(peer, now);
        Some(())
    }

    fn handle_reply(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        datagram: &mut [u8],
    ) -> Option<()> {
        let (peer_index, dialling) = self.dialling(header.index)?;
        let established = match dialling.dial.handle_reply(datagram) {
            Ok(established) => established,
            Err(StepError::Drop(_)) => return None,
            Err(StepError::Failed(error)) => {
                self.on_dial_error(now, peer_index, &error);
                return Some(());
            }
        };
        let rtt = (dialling.hellos == 1).then(|| now.saturating_duration_since(dialling.begun));
        dialling.is_answered = true;
        // The round trip is a fair first guess at when the peer's greeting should be here.
        dialling.pause =
            rtt.map_or(HELLO_PAUSE_MIN, |rtt| (4 * rtt).max(Duration::from_millis(20)));
        dialling.resend_at = now + dialling.pause;
        let mut finish = Vec::new();
        dialling.dial.finish(&mut finish);
        self.handshakes.out.push_back((from, finish));
        let association = Association::new(now, from, established, rtt);
        self.peers[peer_index as usize].add_association(&mut self.common, association);
        self.make_ready(peer_index);
        Some(())
    }

    fn handle_finish<A: Application>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        datagram: &mut [u8],
        app: &mut A,
    ) -> Option<()> {
        match self.owners.get(&header.index) {
            Some(Owner::HalfOpen) => {}
            // Finished before: our first packets were lost, and the greeting repeats itself. Or no FINISH at all.
            Some(Owner::Peer(_)) | None => return None,
        }
        let answer = self.handshakes.answer_mut(header.index)?;
        if let Some(refusal) = &answer.refusal {
            let refusal = refusal.clone();
            self.handshakes.out.push_back((from, refusal));
            return Some(());
        }
        let established = match answer.half_open.handle_finish(datagram) {
            Ok(established) => established,
            Err(StepError::Drop(_)) => return None,
            Err(StepError::Failed(_)) => {
                self.forget_half_open(header.index);
                self.owners.remove(&header.index);
                return None;
            }
        };
        let rtt = (!answer.is_repeated && answer.from == from)
            .then(|| now.saturating_duration_since(answer.since));
        let key = established.remote_key;
        let mut association = Association::new(now, from, established, rtt);
        if !app.admit(&key) {
            tracing::warn!(key = %key.fingerprint(), %from, "not admitted by the policy");
            self.common.counters.dropped_not_admitted += 1;
            let mut refusal = Vec::new();
            let close = Close::NotAdmitted;
            write_close(&mut association, &mut self.common, now, close, &mut refusal);
            self.handshakes.out.push_back((from, refusal.clone()));
            let answer = self.handshakes.answer_mut(header.index)?;
            answer.refusal = Some(refusal);
            return Some(());
        }
        self.forget_half_open(header.index);
        let Ok(peer) = self.add_stranger(now, key) else {
            self.common.counters.dropped_peers_full += 1;
            self.owners.remove(&header.index);
            return Some(());
        };
        self.owners.insert(header.index, Owner::Peer(peer.0));
        self.peers[peer.0 as usize].add_association(&mut self.common, association);
        self.make_ready(peer.0);
        Some(())
    }

    fn forget_half_open(&mut self, index: u32) {
        self.handshakes.half_open.retain(|answer| answer.half_open.local_index() != index);
    }

    /// Forgets half-open answers that were never finished.
    pub(super) fn expire_half_open(&mut self, now: Instant) {
        while let Some(oldest) = self.handshakes.half_open.front()
            && oldest.since + HALF_OPEN_AGE_MAX <= now
        {
            self.owners.remove(&oldest.half_open.local_index());
            self.handshakes.half_open.pop_front();
        }
        if let Some(next) = self.handshakes.next_timeout() {
            self.arm_half_open(next);
        }
    }

    /// Begins to dial a peer.
    pub(super) fn begin_dial(&mut self, now: Instant, index: u32) {
        let peer = &self.peers[index as usize];
        let (key, address) = (peer.key, peer.address);
        let Some(address) = address else { return };
        let local_index = self.draw_index(Owner::Peer(index));
        let mut dial_id = [0; 8];
        self.common.entropy.fill(&mut dial_id);
        let credentials = &self.handshakes.credentials;
        match Dial::new(credentials, key, "", local_index, dial_id, self.common.shard) {
            Ok(dial) => {
                self.common.counters.dials_begun += 1;
                let peer = &mut self.peers[index as usize];
                peer.redial_at = None;
                peer.dialled_at = Some(now);
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
            let (local, after) = (self.common.local, dial_timeout);
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
        self.handshakes.out.push_back((dialling.address, datagram));
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
        let id = peer.id;
        self.common.ends.events.push_back(Event::DialFailed { peer: id, error });
        self.forget_retired();
    }
}
