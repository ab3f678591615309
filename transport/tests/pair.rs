//! Goal: two endpoints joined by a simple link do what the contract says: connect, deliver once, settle, refuse, answer.

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::PublicKey;
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Disposition, Endpoint, Event, Incoming, Limits, Outcome,
    PeerId, Refusal, ReplyTo, SendError, Service, Token,
};
use support::endpoint;

#[derive(Default)]
struct App {
    received: Vec<Vec<u8>>,
    answers: Vec<(Token, Result<Vec<u8>, Outcome>)>,
    requests: Vec<(ReplyTo, Vec<u8>)>,
    denies: bool,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _key: &PublicKey) -> bool {
        !self.denies
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        match flow {
            "small" => Ok(Binding { flow: 2, window_bytes: 1 << 16, message_bytes_max: 1000 }),
            "none" => Err(Refusal::NoSuchFlow),
            _ => Ok(Binding { flow: 1, window_bytes: 1 << 20, message_bytes_max: 1 << 26 }),
        }
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        if let Some(to) = message.request {
            self.requests.push((to, message.body.as_slice().to_vec()));
        } else {
            self.received.push(message.body.as_slice().to_vec());
        }
        Ok(Disposition::Consumed)
    }
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        self.answers.push((token, result.map(|body| body.as_slice().to_vec())));
    }
}

struct Pair {
    now: Instant,
    ends: [(Endpoint, App); 2],
    addresses: [SocketAddr; 2],
    wire: VecDeque<(usize, Vec<u8>)>,
    events: [Vec<Event>; 2],
    /// One datagram in this many is dropped.
    drop_one_in: u64,
    /// Of the first side's datagrams, those that begin with this byte are dropped.
    drops_kind: Option<u8>,
    entropy: SeededEntropy,
}

impl Pair {
    fn new() -> Self {
        Self::with(&Limits::default())
    }

    fn with(limits: &Limits) -> Self {
        let mut pair = Self {
            now: Instant::from_nanos(1_000_000_000),
            ends: [1, 2].map(|seed| (endpoint(seed, limits.clone()), App::default())),
            addresses: ["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()],
            wire: VecDeque::new(),
            events: [Vec::new(), Vec::new()],
            drop_one_in: 0,
            drops_kind: None,
            entropy: SeededEntropy::new(9),
        };
        let key = pair.ends[1].0.public_key();
        let address = pair.addresses[1];
        pair.ends[0].0.add_peer(key, Some(address)).unwrap();
        pair
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for side in 0..2 {
            while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                assert_eq!(transmit.to, self.addresses[1 - side]);
                for segment in out.chunks(transmit.segment_bytes) {
                    self.wire.push_back((1 - side, segment.to_vec()));
                }
            }
            while let Some(event) = self.ends[side].0.poll_event() {
                self.events[side].push(event);
            }
        }
    }

    /// Runs for `time`, delivering in rounds of 20 us.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.drain();
            if self.wire.is_empty() {
                let next = self.ends.iter().filter_map(|(end, _)| end.poll_timeout()).min();
                self.now = next.unwrap_or(end).max(self.now + Duration::from_micros(20)).min(end);
            } else {
                self.now += Duration::from_micros(20);
            }
            let count = self.wire.len();
            for _ in 0..count {
                let (side, mut datagram) = self.wire.pop_front().unwrap();
                if self.drop_one_in > 0 && self.entropy.below(self.drop_one_in) == 0 {
                    continue;
                }
                if side == 1 && self.drops_kind == Some(datagram[0]) {
                    continue;
                }
                let from = self.addresses[1 - side];
                let (end, app) = &mut self.ends[side];
                end.handle_datagram(self.now, from, &mut datagram, app);
            }
            for (end, app) in &mut self.ends {
                end.handle_timeout(self.now, app);
            }
            self.check_sums();
        }
    }

    /// One turn of both sides, 4 us apart, as two spinning shards on one machine have it.
    fn hop(&mut self) {
        self.drain();
        self.now += Duration::from_micros(4);
        for (side, mut datagram) in std::mem::take(&mut self.wire) {
            let (end, app) = &mut self.ends[side];
            end.handle_datagram(self.now, self.addresses[1 - side], &mut datagram, app);
        }
        for (end, app) in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now, app);
            }
        }
    }

    fn check_sums(&self) {
        for (end, _) in &self.ends {
            let t = end.tally();
            let sum = t.delivered + t.refused + t.expired + t.peer_lost + t.unknown + t.pending;
            assert_eq!(t.offered, sum, "{t:?}");
        }
    }
}

fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![number as u8; bytes];
    let head = number.to_le_bytes();
    let tagged = bytes.min(8);
    body[..tagged].copy_from_slice(&head[..tagged]);
    body
}

#[test]
fn messages_of_many_sizes_arrive_once_also_under_loss() {
    for drop_one_in in [0, 10, 4] {
        let mut pair = Pair::new();
        pair.drop_one_in = drop_one_in;
        let flow = pair.ends[0].0.open_flow(PeerId(0), "orders.new").unwrap();
        let mut sent = Vec::new();
        for number in 0..300u64 {
            let bytes = [0, 1, 7, 64, 387, 1024, 1400, 3000, 20_000, 200_000][number as usize % 10];
            let body = body(number, bytes);
            loop {
                let now = pair.now;
                match pair.ends[0].0.send(
                    now,
                    flow,
                    &body,
                    Service::Acknowledged,
                    Some(Token(number)),
                ) {
                    Ok(()) => break,
                    Err(SendError::Full) => pair.run(Duration::from_millis(1)),
                    Err(error) => panic!("{error}"),
                }
            }
            sent.push(body);
        }
        pair.run(Duration::from_secs(20));
        let received = &mut pair.ends[1].1.received;
        assert_eq!(received.len(), sent.len(), "{:?}", pair.ends[0].0.tally());
        received.sort();
        sent.sort();
        assert!(*received == sent);
        let delivered =
            |event: &&Event| matches!(event, Event::Outcome { outcome: Outcome::Delivered, .. });
        assert_eq!(pair.events[0].iter().filter(delivered).count(), 300);
        assert_eq!(pair.ends[0].0.tally().pending, 0);
    }
}

#[test]
fn a_64_mib_message_arrives_and_one_byte_more_is_refused_before_sending() {
    let mut pair = Pair::new();
    let flow = pair.ends[0].0.open_flow(PeerId(0), "files").unwrap();
    let now = pair.now;
    let large = Bytes::from(body(7, 64 << 20));
    let more = Bytes::from(vec![0; (64 << 20) + 1]);
    let refused = pair.ends[0].0.send_owned(now, flow, more.clone(), Service::Acknowledged, None);
    assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    pair.ends[0].0.send_owned(now, flow, large.clone(), Service::Acknowledged, None).unwrap();
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.ends[1].1.received.len(), 1);
    assert!(pair.ends[1].1.received[0] == large);
    let refused = pair.ends[0].0.send_owned(now, flow, more, Service::Acknowledged, None);
    assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn worn_keys_are_replaced_and_nothing_is_lost_or_doubled() {
    let limits = Limits { packets_per_key: 300, ..Limits::default() };
    for drop_one_in in [0, 20] {
        let mut pair = Pair::with(&limits);
        pair.drop_one_in = drop_one_in;
        let flow = pair.ends[0].0.open_flow(PeerId(0), "orders.new").unwrap();
        for number in 0..4_000u64 {
            let body = body(number, 1_000);
            while let Err(error) =
                pair.ends[0].0.send(pair.now, flow, &body, Service::Acknowledged, None)
            {
                assert_eq!(error, SendError::Full);
                pair.run(Duration::from_millis(1));
            }
        }
        pair.run(Duration::from_secs(20));
        let mut numbers: Vec<_> =
            pair.ends[1].1.received.iter().map(|body| body[..8].to_vec()).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!((numbers.len(), pair.ends[1].1.received.len()), (4_000, 4_000));
        assert_eq!(pair.ends[0].0.tally().delivered, 4_000);
        assert!(pair.ends[0].0.counters().associations_established > 3);
        assert_eq!(pair.ends[0].0.counters().sessions_begun, 1);
    }
}

#[test]
fn refusals_reach_the_sender() {
    let mut pair = Pair::new();
    let none = pair.ends[0].0.open_flow(PeerId(0), "none").unwrap();
    let now = pair.now;
    for number in 0..400 {
        let end = &mut pair.ends[0].0;
        end.send(now, none, b"lost", Service::Acknowledged, Some(Token(number))).unwrap();
    }
    pair.run(Duration::from_secs(1));
    let refused = Outcome::Refused(Refusal::NoSuchFlow);
    let told = pair.events[0]
        .iter()
        .filter(|event| matches!(event, Event::Outcome { outcome, .. } if *outcome == refused));
    assert_eq!(told.count(), 400);
    assert_eq!(pair.ends[0].0.tally().refused, 400);
    let small = pair.ends[0].0.open_flow(PeerId(0), "small").unwrap();
    let now = pair.now;
    pair.ends[0].0.send(now, small, &[0; 2000], Service::Acknowledged, None).unwrap();
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[0].0.tally().refused, 401);
    let now = pair.now;
    let again = pair.ends[0].0.send(now, small, &[0; 2000], Service::Acknowledged, None);
    assert_eq!(again, Err(SendError::TooLarge { bytes: 2000, bytes_max: 1000 }));
}

#[test]
fn requests_are_answered_or_expire() {
    let mut pair = Pair::new();
    let flow = pair.ends[0].0.open_flow(PeerId(0), "ask").unwrap();
    let (now, deadline) = (pair.now, pair.now + Duration::from_millis(500));
    for token in 0..3 {
        let body = Bytes::from(vec![token as u8]);
        pair.ends[0].0.request(now, flow, &body, Token(token), deadline).unwrap();
    }
    pair.run(Duration::from_millis(100));
    let requests = std::mem::take(&mut pair.ends[1].1.requests);
    assert_eq!(requests.len(), 3);
    for (to, body) in &requests[..2] {
        pair.ends[1].0.reply(*to, &[body[0] + 100]).unwrap();
    }
    pair.run(Duration::from_secs(1));
    let mut answers = std::mem::take(&mut pair.ends[0].1.answers);
    answers.sort_by_key(|answer| answer.0);
    let expected =
        [(Token(0), Ok(vec![100])), (Token(1), Ok(vec![101])), (Token(2), Err(Outcome::Expired))];
    assert_eq!(answers, expected);
    assert_eq!(pair.ends[0].0.requests_waiting(), 0);
    let none = pair.ends[0].0.open_flow(PeerId(0), "none").unwrap();
    let (now, deadline) = (pair.now, pair.now + Duration::from_millis(500));
    pair.ends[0].0.request(now, none, &Bytes::new(), Token(9), deadline).unwrap();
    pair.run(Duration::from_secs(1));
    let refused = Outcome::Refused(Refusal::NoSuchFlow);
    assert_eq!(pair.ends[0].1.answers, [(Token(9), Err(refused))]);
}

#[test]
fn best_effort_arrives_at_most_once_and_in_parts_too() {
    let mut pair = Pair::new();
    let flow = pair.ends[0].0.open_flow(PeerId(0), "ticks").unwrap();
    let now = pair.now;
    let early = pair.ends[0].0.send(now, flow, b"x", Service::BestEffort, None);
    assert_eq!(early, Err(SendError::NotConnected));
    pair.run(Duration::from_millis(100));
    let now = pair.now;
    for number in 0..50 {
        let bytes = if number % 10 == 0 { 10_000 } else { 64 };
        pair.ends[0].0.send(now, flow, &body(number, bytes), Service::BestEffort, None).unwrap();
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[1].1.received.len(), 50);
    assert_eq!(pair.ends[1].0.counters().best_effort_accepted, 50);
}

#[test]
fn a_key_that_is_not_admitted_is_told_so() {
    let mut pair = Pair::new();
    pair.ends[1].1.denies = true;
    let now = pair.now;
    pair.ends[0].0.connect(now, PeerId(0)).unwrap();
    pair.run(Duration::from_secs(1));
    let failed = pair.events[0].iter().find_map(|event| match event {
        Event::DialFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    assert!(failed.unwrap().contains("does not admit our key"));
}

#[test]
fn silence_is_a_failed_dial_then_a_lost_peer() {
    let mut pair = Pair::new();
    pair.drop_one_in = 1;
    let flow = pair.ends[0].0.open_flow(PeerId(0), "x").unwrap();
    let now = pair.now;
    pair.ends[0].0.send(now, flow, b"hello", Service::Acknowledged, Some(Token(1))).unwrap();
    pair.run(Duration::from_secs(6));
    assert!(matches!(pair.events[0][..], [Event::DialFailed { .. }]), "{:?}", pair.events[0]);
    pair.run(Duration::from_mins(2));
    let lost = |event: &Event| matches!(event, Event::Outcome { outcome: Outcome::PeerLost, .. });
    assert!(pair.events[0].iter().any(lost));
}

/// Both dial at once; the second's dial makes the session while the first's FINISH is lost. The session ends, and with it what
/// the first's dial had come to: it dials again at once and tells of no timeout.
#[test]
fn a_session_that_ends_takes_handshakes_under_way_with_it() {
    const FINISH: u8 = 0x03;
    let mut pair = Pair::new();
    let key = pair.ends[0].0.public_key();
    let (now, address) = (pair.now, pair.addresses[0]);
    let peer = pair.ends[1].0.add_peer(key, Some(address)).unwrap();
    pair.drops_kind = Some(FINISH);
    for side in 0..2 {
        pair.ends[side].0.connect(now, PeerId(0)).unwrap();
        pair.ends[side].0.watch(now, PeerId(0)).unwrap();
    }
    pair.run(Duration::from_millis(5));
    assert!(pair.ends.iter().all(|(end, _)| end.is_connected(PeerId(0))));
    assert_eq!(pair.ends[0].0.counters().dials_begun, 1);
    pair.ends[1].0.unwatch(peer);
    pair.ends[0].0.reject(PeerId(0));
    pair.run(Duration::from_millis(5));
    assert!(!pair.ends[0].0.is_connected(PeerId(0)));
    pair.drops_kind = None;
    pair.events[0].clear();
    pair.run(Duration::from_secs(3));
    assert!(pair.ends[0].0.is_connected(PeerId(0)), "{:?}", pair.events[0]);
    pair.run(Duration::from_secs(20));
    let failed = |event: &&Event| matches!(event, Event::DialFailed { .. });
    assert_eq!(pair.events[0].iter().find(failed).map(|_| ()), None, "{:?}", pair.events[0]);
}

#[test]
fn a_dead_peer_is_down_then_lost() {
    let mut pair = Pair::new();
    let flow = pair.ends[0].0.open_flow(PeerId(0), "x").unwrap();
    let now = pair.now;
    pair.ends[0].0.send(now, flow, b"hello", Service::Acknowledged, None).unwrap();
    pair.run(Duration::from_mins(1));
    assert_eq!(pair.ends[0].0.tally().delivered, 1);
    pair.drop_one_in = 1;
    pair.events[0].clear();
    let now = pair.now;
    pair.ends[0].0.send(now, flow, b"anyone?", Service::Acknowledged, Some(Token(1))).unwrap();
    pair.run(Duration::from_millis(2_900));
    assert!(pair.events[0].is_empty(), "{:?}", pair.events[0]);
    pair.run(Duration::from_millis(600));
    assert!(matches!(pair.events[0][..], [Event::Down { .. }]), "{:?}", pair.events[0]);
    pair.run(Duration::from_secs(117));
    let lost = |event: &Event| matches!(event, Event::Outcome { outcome: Outcome::PeerLost, .. });
    assert!(pair.events[0].iter().any(lost), "{:?}", pair.events[0]);
}

#[test]
fn a_round_trip_costs_two_datagrams() {
    let mut pair = Pair::new();
    let flow = pair.ends[0].0.open_flow(PeerId(0), "ask").unwrap();
    pair.ends[0].0.connect(pair.now, PeerId(0)).unwrap();
    pair.run(Duration::from_secs(1));
    let mut sent_before = [0; 2];
    for round in 0..1_000u64 {
        if round == 500 {
            sent_before = [0, 1].map(|side| pair.ends[side].0.counters().datagrams_sent);
        }
        let (now, deadline) = (pair.now, pair.now + Duration::from_secs(1));
        pair.ends[0]
            .0
            .request(now, flow, &Bytes::from_static(b"?"), Token(round), deadline)
            .unwrap();
        pair.hop();
        let (to, _) = pair.ends[1].1.requests.pop().expect("one hop brings the request");
        pair.ends[1].0.reply(to, b"!").unwrap();
        pair.hop();
        pair.ends[0].1.answers.pop().expect("one hop brings the answer").1.unwrap();
    }
    for (side, before) in sent_before.into_iter().enumerate() {
        let sent = pair.ends[side].0.counters().datagrams_sent - before;
        assert!((500..510).contains(&sent), "side {side} sent {sent} datagrams in 500 round trips");
    }
}

#[test]
fn a_spoofed_shard_costs_neither_keys_nor_state() {
    let mut pair = Pair::new();
    pair.ends[0].0.connect(pair.now, PeerId(0)).unwrap();
    // The first lane datagrams come while the associations wait for greetings, the later ones in a session.
    let mut spoofed = [0; 2];
    for _ in 0..8 {
        pair.drain();
        for (side, datagram) in pair.wire.clone() {
            if datagram[0] == 0x40 {
                let mut forged = datagram.clone();
                forged[6] = 200;
                let from = pair.addresses[1 - side];
                let (end, app) = &mut pair.ends[side];
                end.handle_datagram(pair.now, from, &mut forged, app);
                spoofed[side] += 1;
            }
        }
        pair.hop();
    }
    assert!(spoofed[0] > 0 && spoofed[1] > 0);
    for (side, spoofed) in spoofed.into_iter().enumerate() {
        let counters = pair.ends[side].0.counters();
        let seen = counters.dropped_malformed
            + counters.dropped_before_greeting
            + counters.dropped_unknown_association;
        assert_eq!((seen, counters.dropped_forged), (spoofed, 0), "side {side}");
    }
}

#[test]
fn an_idle_peer_costs_no_timer_and_no_datagram_unless_it_is_watched() {
    let mut pair = Pair::new();
    pair.ends[0].0.connect(pair.now, PeerId(0)).unwrap();
    pair.run(Duration::from_secs(20));
    let quiet = |pair: &Pair| pair.ends.iter().all(|(end, _)| end.poll_timeout().is_none());
    assert!(quiet(&pair));
    let sent = |pair: &Pair| pair.ends[0].0.counters().datagrams_sent;
    let before = sent(&pair);
    pair.run(Duration::from_mins(1));
    assert_eq!(sent(&pair), before);
    pair.events[0].clear();
    pair.ends[0].0.watch(pair.now, PeerId(0)).unwrap();
    pair.run(Duration::from_mins(1));
    assert!(matches!(pair.events[0][..], [Event::Up { .. }]), "{:?}", pair.events[0]);
    let beats = pair.ends[0].0.counters().heartbeats_sent;
    assert!((60..=80).contains(&beats), "{beats}");
    assert_eq!(pair.ends[1].0.counters().heartbeats_sent, 0);
    pair.ends[0].0.unwatch(PeerId(0));
    pair.run(Duration::from_secs(10));
    assert!(quiet(&pair));
}
