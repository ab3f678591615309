//! Goal: a session that was silent gives its memory back, costs no timer, and is the same session as before when anything of any
//! service comes or is sent; whoever makes it wake for nothing changes nothing.

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::Identity;
use cubed_transport::limits::DORMANT_AFTER;
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Body, Config, Counters, Disposition, Endpoint, FlowId, Incoming, Limits, Outcome,
    PeerId, Refusal, ReplyTo, Service, Token,
};
use support::{address, endpoint, open_to_all};

const SERVICES: [Service; 4] =
    [Service::Acknowledged, Service::Ordered, Service::LatestValue, Service::BestEffort];
const MS: Duration = Duration::from_millis(1);

#[derive(Default)]
struct App {
    received: Vec<Vec<u8>>,
    requests: Vec<ReplyTo>,
    answers: Vec<Result<Vec<u8>, Outcome>>,
    holds: bool,
    session: u32,
}

impl Application for App {
    open_to_all!(1 << 16, 1 << 20);
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.session = message.session;
        match message.request {
            Some(to) => self.requests.push(to),
            None => self.received.push(message.body.as_slice().to_vec()),
        }
        Ok(if self.holds { Disposition::Held } else { Disposition::Consumed })
    }
    fn reply(&mut self, _: Token, result: Result<Body<'_>, Outcome>) {
        self.answers.push(result.map(|body| body.as_slice().to_vec()));
    }
}

/// Two endpoints on a link that loses nothing unless told.
struct Pair {
    now: Instant,
    ends: [(Endpoint, App); 2],
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
    /// All that was sent.
    sent: Vec<(usize, Vec<u8>)>,
    /// Of the datagrams sent to come, so many of a side's are lost.
    losses: [usize; 2],
    /// Where each side is.
    addresses: [SocketAddr; 2],
    /// How long a datagram is under way.
    delay: Duration,
}

const PEER: PeerId = PeerId(0);

impl Pair {
    /// Connected over a link of 1 ms, and with nothing more to say.
    fn new() -> Self {
        Self::over(MS, &Limits::default())
    }

    /// The same over a link that takes `delay`, with these limits.
    fn over(delay: Duration, limits: &Limits) -> Self {
        let ends = [1, 2].map(|seed| (endpoint(seed, limits.clone()), App::default()));
        let now = Instant::from_nanos(1_000_000_000);
        let (wire, sent, losses) = (VecDeque::new(), Vec::new(), [0; 2]);
        let addresses = [address(0), address(1)];
        let mut pair = Self { now, ends, wire, sent, losses, addresses, delay };
        let key = pair.ends[1].0.public_key();
        let peer = pair.ends[0].0.add_peer(key, Some(address(1))).unwrap();
        pair.ends[0].0.connect(now, peer).unwrap();
        pair.run(100 * delay);
        pair
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for side in [0, 1] {
                let mut run = Vec::new();
                while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut run) {
                    for datagram in run.chunks(transmit.segment_bytes) {
                        self.sent.push((1 - side, datagram.to_vec()));
                        if self.losses[side] > 0 {
                            self.losses[side] -= 1;
                        } else if transmit.to == self.addresses[1 - side] {
                            self.wire.push_back((
                                self.now + self.delay,
                                1 - side,
                                datagram.to_vec(),
                            ));
                        }
                    }
                }
                while self.ends[side].0.poll_event().is_some() {}
            }
            let timers = self.ends.iter().filter_map(|(end, _)| end.poll_timeout());
            let next = timers.chain(self.wire.front().map(|datagram| datagram.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for (end, app) in &mut self.ends {
                end.handle_timeout(self.now, app);
            }
            while let Some((_, to, mut datagram)) =
                self.wire.pop_front_if(|(at, ..)| *at <= self.now)
            {
                let (end, app) = &mut self.ends[to];
                end.handle_datagram(self.now, self.addresses[1 - to], &mut datagram, app);
            }
        }
        self.now = end;
    }

    /// Nobody says anything until both sessions are dormant.
    fn fall_silent(&mut self) {
        let before = self.rested();
        self.run(DORMANT_AFTER + 100 * MS);
        assert_eq!(self.rested().map(|n| n > 0), [true; 2]);
        assert!(self.rested() >= before);
        assert!(self.is_dormant(), "{:?}", self.ends.each_ref().map(|end| end.0.peer_memory(PEER)));
    }

    fn rested(&self) -> [u64; 2] {
        self.ends.each_ref().map(|(end, _)| end.counters().sessions_rested)
    }

    /// Neither has a timer or more than the memory of a dormant session.
    fn is_dormant(&self) -> bool {
        self.ends.iter().all(|(end, _)| {
            let keys = end.peer_memory(PEER).unwrap().keys;
            end.is_connected(PEER) && end.poll_timeout().is_none() && keys < 1_000
        })
    }

    fn counters(&self) -> [Counters; 2] {
        self.ends.each_ref().map(|(end, _)| end.counters())
    }

    fn flow(&mut self, side: usize, service: Service) -> FlowId {
        self.ends[side].0.open_flow(PEER, &format!("flow {service:?}")).unwrap()
    }

    fn send(&mut self, side: usize, service: Service, body: &[u8]) {
        let flow = self.flow(side, service);
        let now = self.now;
        self.ends[side].0.send(now, flow, body, service, None).unwrap();
    }

    /// Both still have the one session that they began with, and lost nothing of it.
    fn assert_one_session(&self) {
        for counters in self.counters() {
            assert_eq!((counters.sessions_begun, counters.sessions_ended), (1, 0));
            assert_eq!((counters.violations, counters.dropped_forged), (0, 0));
        }
        for (end, _) in &self.ends {
            let tally = end.tally();
            assert_eq!((tally.offered, tally.pending), (tally.delivered, 0));
        }
    }
}

#[test]
fn every_service_goes_on_where_it_was() {
    let mut pair = Pair::new();
    let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
    for round in 0..6_u8 {
        for service in SERVICES {
            for side in [0, 1] {
                // From three rounds on also what takes several blocks.
                for (n, bytes) in
                    [1, 40, 900, 4_000].into_iter().take(1 + usize::from(round)).enumerate()
                {
                    let mut body = vec![round; bytes];
                    body[0] = n as u8;
                    if service == Service::LatestValue && n > 0 {
                        continue;
                    }
                    pair.send(side, service, &body);
                    sent[side].push(body);
                }
                if side == 0 || round % 2 == 0 {
                    pair.run(50 * MS);
                }
            }
            pair.run(50 * MS);
            pair.fall_silent();
        }
    }
    for side in [0, 1] {
        assert_eq!(pair.ends[1 - side].1.received, sent[side]);
    }
    pair.assert_one_session();
    assert!(pair.rested()[0] >= 24);
}

#[test]
fn requests_and_their_late_answers_wake_both() {
    let mut pair = Pair::new();
    for round in 0..3 {
        pair.fall_silent();
        let flow = pair.flow(0, Service::Acknowledged);
        let (now, deadline) = (pair.now, pair.now + Duration::from_mins(10));
        let body = Bytes::from_static(b"what?");
        pair.ends[0].0.request(now, flow, &body, Token(round), deadline).unwrap();
        // The asker waits awake; who is asked has nothing to do for a minute.
        pair.run(Duration::from_mins(1));
        let to = pair.ends[1].1.requests.pop().unwrap();
        pair.ends[1].0.reply(to, b"that").unwrap();
        pair.run(100 * MS);
        assert_eq!(pair.ends[0].1.answers.pop(), Some(Ok(b"that".to_vec())));
    }
    for counters in pair.counters() {
        assert_eq!((counters.sessions_begun, counters.sessions_ended), (1, 0));
    }
}

#[test]
fn credit_that_is_given_back_late_is_told() {
    let mut pair = Pair::new();
    pair.ends[1].1.holds = true;
    let mut taken = 0;
    for _ in 0..64 {
        let flow = pair.flow(0, Service::Acknowledged);
        let now = pair.now;
        let offered = pair.ends[0].0.send(now, flow, &[7; 1_000], Service::Acknowledged, None);
        taken += u64::from(offered.is_ok());
        pair.run(10 * MS);
    }
    assert!(taken < 64, "the window is full");
    pair.fall_silent_with_credit_missing();
    let (session, charge) = (pair.ends[1].1.session, taken * (1_000 + 64));
    pair.ends[1].0.release(PEER, session, 0, charge);
    pair.run(100 * MS);
    pair.send(0, Service::Acknowledged, &[8; 1_000]);
    pair.run(100 * MS);
    assert_eq!(pair.ends[1].1.received.len() as u64, taken + 1);
    pair.assert_one_session();
}

impl Pair {
    /// The receiver rests although its application holds messages; the sender asks for credit now and then.
    fn fall_silent_with_credit_missing(&mut self) {
        self.run(DORMANT_AFTER + 100 * MS);
    }
}

#[test]
fn losses_around_a_rest_do_no_harm() {
    for lost in 1..=3 {
        let mut pair = Pair::new();
        for round in 0..4_u8 {
            for side in [0, 1] {
                pair.send(side, Service::Ordered, &[round; 200]);
                pair.run(30 * MS);
                pair.losses[side] = lost;
                pair.send(side, Service::Ordered, &[round + 100; 200]);
                pair.run(3 * Duration::from_secs(1));
                pair.losses = [0; 2];
                pair.fall_silent();
                pair.losses[1 - side] = lost;
            }
            pair.losses = [0; 2];
        }
        let expected: Vec<_> = (0..4_u8).flat_map(|n| [vec![n; 200], vec![n + 100; 200]]).collect();
        assert!(pair.ends.iter().all(|(_, app)| app.received == expected));
        pair.assert_one_session();
    }
}

#[test]
fn what_is_not_of_the_session_wakes_it_for_nothing() {
    let mut pair = Pair::new();
    pair.send(0, Service::Acknowledged, b"a");
    pair.run(100 * MS);
    pair.fall_silent();
    let before = pair.counters();
    let mut old = std::mem::take(&mut pair.sent);
    old.retain(|(_, datagram)| datagram[0] == 0x40);
    for (to, datagram) in &old {
        for flip in [None, Some(datagram.len() - 1)] {
            let mut datagram = datagram.clone();
            if let Some(place) = flip {
                datagram[place] ^= 1;
            }
            let (end, app) = &mut pair.ends[*to];
            end.handle_datagram(pair.now, address(1 - to), &mut datagram, app);
        }
    }
    pair.run(100 * MS);
    assert!(pair.is_dormant(), "at rest again");
    let after = pair.counters();
    let dropped = |counters: &Counters| {
        counters.dropped_replayed + counters.dropped_too_old + counters.dropped_forged
    };
    let more: u64 = before.iter().zip(&after).map(|(b, a)| dropped(a) - dropped(b)).sum();
    assert_eq!(more, 2 * old.len() as u64, "each of them once as it was, once changed");
    assert_eq!(pair.ends[1].1.received.len(), 1, "nothing was delivered again");
    pair.send(0, Service::Acknowledged, b"b");
    pair.run(100 * MS);
    assert_eq!(pair.ends[1].1.received.len(), 2);
}

#[test]
fn a_forged_datagram_wakes_nobody() {
    let mut pair = Pair::new();
    pair.send(0, Service::Acknowledged, b"a");
    pair.run(100 * MS);
    pair.fall_silent();
    let (rested, held) = (pair.rested(), pair.ends[1].0.peer_memory(PEER));
    for count in 1..=20 {
        pair.forge();
        let end = &pair.ends[1].0;
        assert_eq!(end.counters().dropped_forged, count);
        assert_eq!((end.peer_memory(PEER), end.poll_timeout()), (held, None), "still at rest");
    }
    assert_eq!(pair.rested(), rested);
    pair.send(0, Service::Acknowledged, b"b");
    pair.run(100 * MS);
    assert_eq!(pair.ends[1].1.received.len(), 2, "what is not forged wakes it");
}

#[test]
fn forgeries_at_rest_wear_out_a_key_as_others_do() {
    let mut pair = Pair::over(MS, &Limits { forgeries_per_key: 8, ..Limits::default() });
    pair.fall_silent();
    for _ in 0..3 {
        pair.forge();
    }
    assert!(pair.is_dormant());
    pair.send(0, Service::Acknowledged, b"a");
    pair.run(100 * MS);
    pair.fall_silent();
    pair.forge();
    assert!(pair.is_dormant(), "half of them");
    pair.forge();
    assert!(!pair.is_dormant(), "more: something is to be done");
    pair.run(Duration::from_secs(5));
    let counters = pair.counters();
    assert_eq!((counters[0].rekeys, counters[1].rekeys, counters[1].dropped_forged), (1, 1, 5));
    pair.fall_silent();
    pair.send(0, Service::Acknowledged, b"b");
    pair.run(100 * MS);
    assert_eq!(pair.ends[1].1.received, [b"a", b"b"]);
}

impl Pair {
    /// Somebody sends the second side what looks as if it came from the first, with a number that was not there yet.
    fn forge(&mut self) {
        let mut sent = self.sent.iter().rev();
        let sent = sent.find(|(to, datagram)| *to == 1 && datagram[0] == 0x40);
        let mut forged = sent.expect("the first side said something").1.clone();
        forged[8..16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        let (end, app) = &mut self.ends[1];
        end.handle_datagram(self.now, address(0), &mut forged, app);
    }
}

#[test]
fn what_is_told_of_a_path_is_the_same_while_it_rests() {
    let mut pair = Pair::new();
    for _ in 0..40 {
        pair.send(0, Service::Acknowledged, &[7; 12_000]);
        pair.run(10 * MS);
        pair.losses = [0, usize::from(pair.losses[1] == 0)];
    }
    pair.losses = [0; 2];
    pair.run(Duration::from_secs(2));
    let told = |pair: &Pair| {
        let tell = |end: &Endpoint| {
            (end.path(PEER), end.peer_datagram_bytes(PEER), end.peer_address(PEER))
        };
        pair.ends.each_ref().map(|(end, _)| tell(end))
    };
    let before = told(&pair);
    pair.fall_silent();
    assert_eq!(told(&pair), before);
    for (end, _) in &mut pair.ends {
        end.set_lanes_sending(PEER, 3);
        assert_eq!(end.path(PEER).unwrap().lanes, 3);
        end.set_lanes_sending(PEER, 1);
    }
    assert_eq!(told(&pair), before);
    // Both wake, and the peer says no word that changes what is known.
    pair.send(0, Service::BestEffort, b"awake");
    pair.run(100 * MS);
    assert!(!pair.is_dormant());
    assert_eq!(told(&pair), before);
}

#[test]
fn a_session_rests_also_after_its_peer_moved() {
    for delay in [1, 20, 150, 400] {
        let mut pair = Pair::over(delay * MS, &Limits::default());
        pair.addresses[0].set_port(4_711);
        for _ in 0..2 {
            pair.send(0, Service::Acknowledged, b"from elsewhere");
            pair.run(4 * delay * MS);
        }
        assert_eq!(pair.ends[1].0.peer_address(PEER), Some(pair.addresses[0]));
        // The address that it left is asked for some time.
        pair.run(DORMANT_AFTER);
        pair.fall_silent();
        assert_eq!(pair.ends[1].0.peer_address(PEER), Some(pair.addresses[0]));
        pair.send(1, Service::Acknowledged, b"there you are");
        pair.run(4 * delay * MS);
        assert_eq!(pair.ends[0].1.received.len(), 1);
        pair.assert_one_session();
    }
}

#[test]
fn a_watched_peer_is_asked_on_and_on() {
    let mut pair = Pair::new();
    pair.fall_silent();
    let now = pair.now;
    pair.ends[0].0.watch(now, PEER).unwrap();
    pair.run(Duration::from_secs(30));
    let rested = pair.rested();
    assert!(pair.counters()[0].heartbeats_sent >= 25);
    pair.run(Duration::from_secs(30));
    assert_eq!(pair.rested(), rested, "neither rests");
    pair.ends[0].0.unwatch(PEER);
    pair.fall_silent();
    pair.assert_one_session();
}

#[test]
fn a_dormant_session_can_be_closed_and_renewed() {
    let mut pair = Pair::new();
    pair.fall_silent();
    // The peer restarts: it greets anew while this side rests.
    let config = Config { name: "node 1".into(), ..Config::new([9; 16], [1; 32]) };
    let identity = Identity::from_seed(&[1; 32]);
    let entropy = Box::new(SeededEntropy::new(77));
    let mut again = Endpoint::new(config, &identity, entropy).unwrap();
    let peer = again.add_peer(pair.ends[1].0.public_key(), Some(address(1))).unwrap();
    again.connect(pair.now, peer).unwrap();
    pair.ends[0].0 = again;
    pair.run(100 * MS);
    let counters = pair.counters()[1];
    assert_eq!((counters.sessions_begun, counters.sessions_ended), (2, 1));
    pair.fall_silent();
    pair.ends[0].0.close();
    pair.run(100 * MS);
    assert!(pair.ends.iter().all(|(end, _)| !end.is_connected(PEER)), "CLOSE woke the other");
}

#[test]
fn a_dormant_peer_that_is_forgotten_hears_so() {
    let mut pair = Pair::new();
    pair.fall_silent();
    let now = pair.now;
    assert!(pair.ends[0].0.forget_peer(now, PEER));
    pair.run(100 * MS);
    assert!(pair.ends.iter().all(|(end, _)| !end.is_connected(PEER)), "CLOSE came");
    assert_eq!(pair.counters().map(|counters| counters.sessions_ended), [1; 2]);
}

#[test]
fn keys_that_grew_old_in_a_rest_are_replaced_when_they_are_used() {
    let mut pair = Pair::new();
    pair.fall_silent();
    pair.run(2 * Limits::default().rekey_after);
    assert!(pair.is_dormant());
    pair.send(1, Service::Acknowledged, b"late");
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.ends[0].1.received, [b"late"]);
    assert!(pair.counters().iter().all(|counters| counters.rekeys > 0));
    pair.fall_silent();
    pair.assert_one_session();
}

#[test]
fn messages_now_and_then_leave_no_timer_each() {
    let mut pair = Pair::new();
    for _ in 0..500 {
        pair.send(0, Service::Acknowledged, b"x");
        pair.run(10 * MS);
    }
    let mut wakes = 0;
    while let Some(next) = pair.ends.iter().filter_map(|(end, _)| end.poll_timeout()).min() {
        wakes += 1;
        pair.run(next.saturating_duration_since(pair.now));
    }
    assert!(wakes < 20, "{wakes} until both rest");
}
