//! What tests outside this crate and fuzzers need of its inside: every decoder under one roof, and two endpoints in a
//! session, one of which says whatever it is told to.
//!
//! Compiled with the feature `testing` only; not part of the crate's interface.

use std::net::SocketAddr;
use std::time::Duration;

use crate::frame::{self, Credit, Record};
use crate::handshake::{self, ChannelKeys};
use crate::header::LaneHeader;
use crate::identity::{Identity, PublicKey};
use crate::keys::Role;
use crate::limits::HEADER_BYTES;
use crate::message::{Continue, FORM_FIRST, FORM_WHOLE, Head, form};
use crate::random::SeededEntropy;
use crate::ranges::{RangeSet, decode_ack, encode_ack};
use crate::time::Instant;
use crate::varint::{self, Reader};
use crate::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Event, Incoming, Limits,
    Outcome, PeerId, PeerMemory, Refusal, ReplyTo, Token,
};

/// A decoder that took its input, and how many bytes of it.
pub type Accepted = (&'static str, usize);

/// Gives `data` to every decoder of bytes that come from a peer or a person, and says which of them took it. Whatever is accepted
/// must encode to the bytes that were read.
///
/// # Panics
/// When a decoder accepts bytes that are not what its encoder writes.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method alone is not general enough in its lifetime"
)]
#[must_use]
pub fn check_decoders(data: &[u8]) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    if let Some(header) = LaneHeader::decode(data) {
        assert_eq!(header.encode(), data[..HEADER_BYTES], "lane header");
        accepted.push(("lane header", HEADER_BYTES));
    }
    accepted.extend(handshake::Header::peek(data).map(|_| ("handshake header", HEADER_BYTES)));
    accepted.extend(check(data, |r| r.varint(), |v, out| varint::write(*v, out), "varint"));
    accepted.extend(check_ack(data));
    accepted.extend(check(data, Credit::read, Credit::write, "CREDIT"));
    let blocked = |told: &(u32, u64), out: &mut Vec<u8>| frame::write_blocked(told.0, told.1, out);
    accepted.extend(check(data, frame::read_blocked, blocked, "BLOCKED"));
    accepted.extend(check_record(data));
    accepted.extend(check_settled(data));
    if let Some((&flags, rest)) = data.split_first() {
        let read = |r: &mut Reader<'_>| {
            let head = Head::read(flags, r)?;
            let mut out = Vec::new();
            head.write(form(flags), &mut out);
            assert_eq!(out[0], flags, "head");
            Some(out)
        };
        if form(flags) == FORM_WHOLE || form(flags) == FORM_FIRST {
            accepted.extend(check(
                rest,
                read,
                |written, out| out.extend_from_slice(written),
                "head",
            ));
        }
        let fragment = |r: &mut Reader<'_>| Continue::read(flags, r);
        accepted.extend(check(rest, fragment, Continue::write, "later fragment"));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = text.parse::<PublicKey>() {
            assert_eq!(key.to_string(), text, "public key text");
            accepted.push(("public key text", data.len()));
        }
        let _ = Identity::from_pkcs8(text.as_bytes());
    }
    let _ = Identity::from_pkcs8(data);
    accepted
}

/// Reads with `read`; what `write` makes of it must be the bytes read. Frames write their type byte, which was not read.
fn check<T>(
    data: &[u8],
    mut read: impl FnMut(&mut Reader<'_>) -> Option<T>,
    write: impl Fn(&T, &mut Vec<u8>),
    what: &'static str,
) -> Option<Accepted> {
    let mut reader = Reader::new(data);
    let value = read(&mut reader)?;
    let mut again = Vec::new();
    write(&value, &mut again);
    let taken = data.len() - reader.remaining();
    let typed = again.len() - taken;
    assert!(typed <= 1, "{what}: {taken} bytes read, {} written", again.len());
    assert_eq!(again[typed..], data[..taken], "{what}");
    Some((what, taken))
}

fn check_ack(data: &[u8]) -> Option<Accepted> {
    let mut reader = Reader::new(data);
    let ack = decode_ack(&mut reader)?;
    let accepted = Some(("ACK", data.len() - reader.remaining()));
    let numbers: u64 = ack.ranges().map(|(low, high)| high - low).sum();
    if numbers > 10_000 {
        // A set is built number by number.
        return accepted;
    }
    let mut set = RangeSet::new(ack.range_count());
    ack.ranges().for_each(|(low, high)| (low..=high).for_each(|n| assert!(set.insert(n))));
    let mut again = Vec::new();
    encode_ack(&set, ack.delay_us, ack.range_count(), &mut again);
    assert_eq!(again, data[..data.len() - reader.remaining()], "ACK");
    accepted
}

fn check_record(data: &[u8]) -> Option<Accepted> {
    let mut reader = Reader::new(data);
    let record = Record::read(&mut reader).ok()?;
    let taken = data.len() - reader.remaining();
    if !matches!(record, Record::Skipped) {
        let mut again = Vec::new();
        record.write(&mut again);
        assert_eq!(again[1..], data[..taken], "RECORD");
    }
    Some(("RECORD", taken))
}

fn check_settled(data: &[u8]) -> Option<Accepted> {
    let (mut reader, mut refusals) = (Reader::new(data), Vec::new());
    let floor = frame::read_settled(&mut reader, &mut refusals)?;
    let taken = data.len() - reader.remaining();
    let mut again = Vec::new();
    let told = frame::write_settled(floor, &refusals, usize::MAX >> 1, &mut again);
    assert_eq!(told, refusals.len(), "SETTLED");
    assert_eq!(again[1..], data[..taken], "SETTLED");
    Some(("SETTLED", taken))
}

/// An application that takes and counts everything.
#[derive(Debug, Default)]
pub struct Sink {
    /// Messages taken.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests of ours that ended.
    pub replies: u64,
    /// Requests to answer.
    pub asked: Vec<ReplyTo>,
}

impl Application for Sink {
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
        match flow.len() % 3 {
            0 => Err(Refusal::NoSuchFlow),
            1 => Ok(Binding { flow: 1, window_bytes: 1 << 16, message_bytes_max: 1_000 }),
            _ => Ok(Binding { flow: 2, window_bytes: 1 << 18, message_bytes_max: 1 << 20 }),
        }
    }

    fn generation(&self) -> u32 {
        // Bindings are asked for again now and then.
        (self.messages / 64) as u32
    }

    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.messages += 1;
        self.bytes += message.body.as_slice().len() as u64;
        self.asked.extend(message.request);
        match self.messages % 8 {
            0 => Err(Refusal::QueueFull),
            1 => Ok(Disposition::Held),
            _ => Ok(Disposition::Consumed),
        }
    }

    fn reply(&mut self, _token: Token, _result: Result<Body<'_>, Outcome>) {
        self.replies += 1;
    }
}

/// Two endpoints in a session; the first is the hostile one.
#[derive(Debug)]
pub struct Pair {
    /// Virtual time.
    pub now: Instant,
    /// Both endpoints with their applications.
    pub ends: [(Endpoint, Sink); 2],
    /// Datagrams that the honest endpoint sent since [`Pair::inject`] was last called.
    pub answers: Vec<Vec<u8>>,
    /// Added to the packet numbers of what is injected.
    pub jump: u64,
}

/// Runs that may leave at one instant, far above what a window holds: more would have no end.
const RUNS_MAX: usize = 10_000;

const PEER: PeerId = PeerId(0);

impl Pair {
    /// Two endpoints that shook hands and greeted each other.
    ///
    /// # Panics
    /// When the handshake does not finish.
    pub fn connected(limits: &Limits) -> Self {
        let ends = [1, 2].map(|seed| (endpoint(seed, limits.clone()), Sink::default()));
        let now = Instant::from_nanos(1_000_000_000);
        let mut pair = Self { now, ends, answers: Vec::new(), jump: 0 };
        let key = pair.ends[1].0.public_key();
        let [(dialler, _), _] = &mut pair.ends;
        let peer = dialler.add_peer(key, Some(address(1))).expect("there is room for a peer");
        dialler.connect(pair.now, peer).expect("a dial begins");
        pair.exchange(Duration::from_millis(50));
        assert!(pair.ends.iter().all(|(end, _)| end.is_connected(PEER)), "the handshake finished");
        pair
    }

    /// Moves datagrams both ways for `time`.
    pub fn exchange(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for side in 0..2 {
                for mut datagram in self.sent_by(side) {
                    let (other, app) = &mut self.ends[1 - side];
                    other.handle_datagram(self.now, address(side), &mut datagram, app);
                }
            }
            self.now = (self.now + Duration::from_millis(1)).min(end);
            self.tick();
        }
    }

    /// Lets `time` pass without a word from the first endpoint; what the honest one sends goes to [`Pair::answers`].
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tick();
        let sent = self.sent_by(1);
        self.answers.extend(sent);
    }

    /// Seals `payload` under the first endpoint's keys and gives it to the second; `false` when there is no session to do so in.
    ///
    /// # Panics
    /// When the second answers without end.
    pub fn inject(&mut self, payload: &[u8]) -> bool {
        self.answers.clear();
        let (hostile, jump) = (&mut self.ends[0].0, self.jump);
        let Some(mut datagram) = hostile.seal_payload(self.now, PEER, payload, jump) else {
            return false;
        };
        let (honest, app) = &mut self.ends[1];
        honest.handle_datagram(self.now, address(0), &mut datagram, app);
        let sent = self.sent_by(1);
        self.answers.extend(sent);
        for to in std::mem::take(&mut self.ends[1].1.asked) {
            let _ = self.ends[1].0.reply(to, b"an answer");
        }
        true
    }

    /// Whether the honest endpoint still has its session.
    pub fn is_connected(&self) -> bool {
        self.ends[1].0.is_connected(PEER)
    }

    /// What the first endpoint makes the honest one hold.
    pub fn held(&self) -> PeerMemory {
        self.ends[1].0.peer_memory(PEER).unwrap_or_default()
    }

    /// The first endpoint as the honest one knows it.
    pub fn hostile(&self) -> PeerId {
        PEER
    }

    /// Events of the honest endpoint.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[1].0.poll_event()).collect()
    }

    fn tick(&mut self) {
        for (end, app) in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now, app);
            }
        }
    }

    fn sent_by(&mut self, side: usize) -> Vec<Vec<u8>> {
        let (mut run, mut runs, mut sent) = (Vec::new(), 0, Vec::new());
        while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut run) {
            runs += 1;
            assert!(runs < RUNS_MAX, "datagrams without end");
            sent.extend(run.chunks(transmit.segment_bytes).map(<[u8]>::to_vec));
        }
        sent
    }
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + side as u8], 7530))
}

fn endpoint(seed: u8, limits: Limits) -> Endpoint {
    let config =
        Config { name: format!("node {seed}"), limits, ..Config::new([seed; 16], [seed; 32]) };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy)
        .expect("the configuration is in range")
}

/// Seals the payload of a HELLO (`from_dialler`) or REPLY to or from the node with this key on the default channel, as
/// `docs/PROTOCOL.md` says under "The first flight's seal": `bound` precedes it in the datagram.
///
/// # Panics
/// Never: the default channel's name is short.
pub fn seal_first_flight(
    dialled: &PublicKey,
    from_dialler: bool,
    dial_id: [u8; 8],
    bound: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let keys = ChannelKeys::new(dialled, "").expect("the default channel's name is short");
    let mut out = bound.to_vec();
    let sender = if from_dialler { Role::Dialler } else { Role::Responder };
    keys.seal_any(sender, dial_id, bound, payload, &mut out);
    out
}
