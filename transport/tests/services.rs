//! Goal: each service and each option of a message is obeyed, by itself and beside others, over links that lose, repeat and
//! reorder; a message that ends as expired was not delivered [R32, R33, R34].

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Event, FlowId, Incoming,
    Limits, NodeMode, Outcome, PeerId, Priority, Refusal, SendError, SendOptions, Service, Token,
};

#[derive(Default)]
struct App {
    /// Flow's name and body, in order.
    received: Vec<(String, Vec<u8>, Service)>,
    names: Vec<String>,
    answers: Vec<(Token, Result<Vec<u8>, Outcome>)>,
    /// Every flow is refused; a change moves the generation.
    refuses: bool,
    generation: u32,
}

impl Application for App {
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

const DELAY: Duration = Duration::from_millis(2);

/// Datagrams from here on are called long.
const LONG: usize = 1_000;

struct World {
    now: Instant,
    ends: [(Endpoint, App); 2],
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// Of 100 datagrams: how many vanish, come twice, come late.
    faults: [u64; 3],
    /// Datagrams at least so long, from the first to the second, vanish.
    drops_from: usize,
    /// Their number, and how many of them are on the way or lost since the second last spoke.
    long_sent: usize,
    long_in_flight: usize,
    long_in_flight_max: usize,
    outcomes: HashMap<u64, Outcome>,
    carried: u64,
    entropy: SeededEntropy,
}

fn endpoint(seed: u8) -> Endpoint {
    let config = Config {
        incarnation: [seed; 16],
        name: String::new(),
        role: String::new(),
        mode: NodeMode::PLAIN,
        kind: 0,
        channels: Vec::new(),
        shard: 0,
        shards: 1,
        placement_salt: [seed; 32],
        placement: |_, _, _| 0,
        // Long datagrams are dropped here as if by chance; a path that carries more than this would be searched.
        limits: Limits { datagram_bytes: 1_200, ..Limits::default() },
    };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

fn address(side: usize) -> SocketAddr {
    ["10.0.0.1:1", "10.0.0.2:2"][side].parse().unwrap()
}

impl World {
    /// Two ends with a session.
    fn new(seed: u64) -> Self {
        let mut world = Self::unconnected(seed);
        let now = world.now;
        world.ends[0].0.connect(now, PeerId(0)).unwrap();
        world.run(Duration::from_millis(50));
        world
    }

    fn unconnected(seed: u64) -> Self {
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
        }
    }

    fn flow(&mut self, name: &str) -> FlowId {
        self.ends[0].0.open_flow(PeerId(0), name).unwrap()
    }

    fn offer(
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
    fn ask(&mut self, flow: FlowId, token: u64, time: Duration) {
        let (now, body) = (self.now, Bytes::from(body(token, 990)));
        self.ends[0].0.request(now, flow, body, Token(token), now + time).unwrap();
    }

    fn send(&mut self, flow: FlowId, body: &[u8], options: &SendOptions, token: u64) {
        loop {
            match self.offer(flow, body, options, token) {
                Ok(()) => return,
                Err(SendError::Full) => self.run(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn after(&self, millis: u64) -> Instant {
        self.now + Duration::from_millis(millis)
    }

    fn drain(&mut self) {
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

    fn carry(&mut self, side: usize, datagram: &[u8]) {
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

    fn run(&mut self, time: Duration) {
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

    fn check_sums(&self) {
        for (end, _) in &self.ends {
            let t = end.tally();
            let sum = t.delivered + t.refused + t.expired + t.peer_lost + t.unknown + t.pending;
            assert_eq!(t.offered, sum, "{t:?}");
            assert_eq!(end.counters().violations, 0);
        }
    }

    /// Runs until all messages ended.
    fn finish(&mut self) {
        for _ in 0..600 {
            if self.ends[0].0.tally().pending == 0 {
                self.run(Duration::from_millis(100));
                return;
            }
            self.run(Duration::from_millis(100));
        }
        panic!("not ended: {:?} {:?}", self.ends[0].0.tally(), self.ends[0].0.counters());
    }

    fn received(&self, flow: &str) -> Vec<u64> {
        let of_flow = self.ends[1].1.received.iter().filter(|message| message.0 == flow);
        of_flow.map(|message| number(&message.1)).collect()
    }

    /// Delivered exactly if it says so.
    fn check_outcomes(&self) {
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

fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![number as u8; bytes.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

const ORDERED: SendOptions = SendOptions {
    service: Service::Ordered,
    deadline: None,
    retries: None,
    priority: Priority::Normal,
    burst: 0,
};

#[test]
fn ordered_messages_come_in_order_on_each_flow_and_hold_up_no_others() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        world.faults = [15, 10, 25];
        let (a, b) = (world.flow("a"), world.flow("b"));
        let free = world.flow("free");
        for token in 0..300 {
            let bytes = [8, 100, 1_200, 4_000, 30_000][token as usize % 5];
            let flow = [a, b, free][token as usize % 3];
            let priority =
                [Priority::Normal, Priority::High, Priority::Low][token as usize % 7 % 3];
            let service = [Service::Ordered, Service::Ordered, Service::Acknowledged];
            let service = service[token as usize % 3];
            let options = SendOptions { priority, service, ..ORDERED };
            world.send(flow, &body(token, bytes), &options, token);
        }
        world.finish();
        world.check_outcomes();
        for flow in ["a", "b"] {
            let order = world.received(flow);
            assert_eq!(order.len(), 100);
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{flow}: {order:?}");
        }
        assert!(world.ends[1].0.counters().ordered_held > 0);
        let free = world.received("free");
        assert!(free.windows(2).any(|pair| pair[0] > pair[1]), "nothing was out of order");
    }
}

#[test]
fn deadlines_pass_without_a_trace_or_are_skipped_and_order_goes_on() {
    let mut skips = 0;
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.faults = [30, 10, 20];
        let (a, b) = (world.flow("a"), world.flow("b"));
        for token in 0..400 {
            let bytes = [8, 300, 1_000, 9_000][token as usize % 4];
            let deadline = if token % 3 == 0 { None } else { Some(world.after(5 + token % 40)) };
            let service = [Service::Ordered, Service::Acknowledged][token as usize % 2];
            let options = SendOptions { deadline, service, ..ORDERED };
            world.send([a, b][token as usize / 2 % 2], &body(token, bytes), &options, token);
            if token % 50 == 0 {
                world.run(Duration::from_millis(7));
            }
        }
        world.finish();
        world.check_outcomes();
        let expired = world.outcomes.values().filter(|end| **end == Outcome::Expired).count();
        let delivered = world.outcomes.values().filter(|end| **end == Outcome::Delivered).count();
        assert_eq!((world.outcomes.len(), expired + delivered), (400, 400));
        assert!(expired > 0 && delivered > 134, "{expired} expired, {delivered} delivered");
        for flow in ["a", "b"] {
            let received = &world.ends[1].1.received;
            let is_ordered =
                |m: &&(String, Vec<u8>, Service)| m.0 == flow && m.2 == Service::Ordered;
            let order: Vec<u64> =
                received.iter().filter(is_ordered).map(|m| number(&m.1)).collect();
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{flow}: {order:?}");
        }
        skips += world.ends[1].0.counters().skips_received;
        // The credit of what expired came back: a full window's worth still goes through.
        world.faults = [0; 3];
        for token in 1_000..1_200 {
            world.send(a, &body(token, 10_000), &SendOptions::default(), token);
        }
        world.finish();
        world.check_outcomes();
    }
    assert!(skips > 50, "{skips}");
}

#[test]
fn a_message_unsent_at_its_deadline_never_leaves() {
    let mut world = World::unconnected(3);
    let flow = world.flow("a");
    for (token, priority) in [(1, Priority::Low), (2, Priority::High), (3, Priority::Normal)] {
        let deadline = if token == 3 { None } else { Some(world.after(500)) };
        let options = SendOptions { deadline, priority, ..SendOptions::default() };
        world.send(flow, &body(token, 50), &options, token);
    }
    let options = SendOptions { priority: Priority::High, ..SendOptions::default() };
    world.send(flow, &body(4, 50), &options, 4);
    world.ends[0]
        .0
        .request(world.now, flow, body(5, 9).into(), Token(5), world.now + DELAY)
        .unwrap();
    world.faults = [100, 0, 0];
    world.run(Duration::from_millis(700));
    let ends: Vec<_> = [1, 2].map(|token| world.outcomes.get(&token).copied()).into();
    assert_eq!(ends, [Some(Outcome::Expired); 2]);
    assert_eq!(world.ends[0].1.answers, [(Token(5), Err(Outcome::Expired))]);
    world.faults = [0; 3];
    world.finish();
    assert_eq!(world.received("a"), [4, 3], "high priority first, the expired never");
    assert_eq!(world.ends[0].0.tally().expired, 3);
    assert_eq!(world.ends[1].0.counters().skips_received, 0);
}

#[test]
fn two_messages_in_flight_obey_each_its_own_options() {
    let mut world = World::new(5);
    world.drops_from = LONG;
    let flow = world.flow("a");
    let retries = SendOptions { retries: Some(2), ..SendOptions::default() };
    let deadline = SendOptions { deadline: Some(world.after(700)), ..SendOptions::default() };
    world.send(flow, &body(1, 1_130), &retries, 1);
    world.send(flow, &body(2, 1_130), &deadline, 2);
    world.send(flow, &body(3, 1_130), &SendOptions::default(), 3);
    world.send(flow, &body(4, 40), &retries, 4);
    let begun = world.now;
    let mut ended = [None; 5];
    while world.now < begun + Duration::from_millis(1_500) {
        world.run(Duration::from_millis(1));
        for token in 1..5 {
            if world.outcomes.contains_key(&token) && ended[token as usize].is_none() {
                ended[token as usize] = Some(world.now.saturating_duration_since(begun));
            }
        }
    }
    assert_eq!(world.outcomes.get(&1), Some(&Outcome::Expired));
    assert_eq!(world.outcomes.get(&2), Some(&Outcome::Expired));
    assert_eq!(world.outcomes.get(&3), None, "it asked for no end");
    assert_eq!(world.outcomes.get(&4), Some(&Outcome::Delivered));
    let after = ended[2].unwrap().as_millis();
    assert!((700..=760).contains(&after), "expired {after} ms after it was sent, not 700");
    assert!(ended[1].unwrap() != ended[2].unwrap());
    world.drops_from = usize::MAX;
    world.finish();
    assert_eq!(world.outcomes.get(&3), Some(&Outcome::Delivered));
    world.check_outcomes();
}

#[test]
fn no_block_is_repeated_more_often_than_allowed() {
    for retries in [0, 1, 3] {
        let mut world = World::new(7);
        world.drops_from = LONG;
        let flow = world.flow("a");
        let options = SendOptions { retries: Some(retries), ..SendOptions::default() };
        world.send(flow, &body(1, 1_130), &options, 1);
        for token in 2..60 {
            world.send(flow, &body(token, 20), &SendOptions::default(), token);
            world.run(Duration::from_millis(20));
        }
        world.finish();
        assert_eq!(world.long_sent, 1 + usize::from(retries));
        assert_eq!(world.outcomes[&1], Outcome::Expired);
        world.check_outcomes();
    }
}

#[test]
fn a_burst_is_never_exceeded() {
    for burst in [0u16, 1, 4, 7, 11] {
        let mut world = World::new(9);
        let (flow, other) = (world.flow("a"), world.flow("b"));
        world.send(flow, &body(1, 8), &SendOptions::default(), 1);
        world.run(Duration::from_millis(20));
        world.long_in_flight_max = 0;
        let options = SendOptions { burst, ..SendOptions::default() };
        world.send(flow, &body(2, 40_000), &options, 2);
        world.send(other, &body(3, 100), &SendOptions::default(), 3);
        let begun = world.now;
        while !world.outcomes.contains_key(&3) {
            world.run(Duration::from_millis(1));
        }
        let waited = world.now.saturating_duration_since(begun);
        assert!(waited < 4 * DELAY, "the other waited {waited:?} for the burst");
        world.finish();
        let max = world.long_in_flight_max;
        match burst {
            0 => assert!(max > 11, "{max}"),
            _ => assert_eq!(max, usize::from(burst)),
        }
        assert_eq!(world.received("a"), [1, 2]);
    }
}

#[test]
fn bursts_end_under_loss() {
    for burst in [1u16, 4, 11] {
        let mut world = World::new(u64::from(burst));
        world.faults = [20, 5, 10];
        let flow = world.flow("a");
        for token in 0..12 {
            let deadline = if token % 2 == 0 { None } else { Some(world.after(100)) };
            let options = SendOptions { burst, deadline, ..ORDERED };
            world.send(flow, &body(token, 3_000 + 2_000 * token as usize), &options, token);
        }
        world.finish();
        world.check_outcomes();
        let order = world.received("a");
        assert!(order.len() >= 6 && order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
    }
}

#[test]
fn the_latest_value_wins_at_both_ends() {
    for (seed, bytes) in [(1, 40), (2, 900), (3, 5_000)] {
        let mut world = World::new(seed);
        world.faults = [20, 10, 30];
        let flows = [world.flow("a"), world.flow("b")];
        let options = SendOptions::new(Service::LatestValue);
        for token in 0..2_000 {
            world.offer(flows[token as usize % 2], &body(token, bytes), &options, token).unwrap();
            if token % 10 == 9 {
                world.run(Duration::from_micros(300));
            }
        }
        world.finish();
        world.check_outcomes();
        for (flow, last) in [("a", 1_998), ("b", 1_999)] {
            let values = world.received(flow);
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "older after newer");
            assert_eq!(values.last(), Some(&last));
        }
        assert_eq!(world.outcomes.len(), 2_000);
        assert!(world.ends[0].0.counters().values_superseded > 1_000);
    }
}

#[test]
fn nothing_that_fills_the_window_starves_a_plain_message() {
    for service in [Service::LatestValue, Service::Acknowledged] {
        let mut world = World::new(21);
        // With losses the window holds a few datagrams only, and each place that comes free is wanted.
        world.faults = [25, 0, 0];
        let flows = (0..40).map(|n| world.flow(&format!("busy{n}"))).collect::<Vec<_>>();
        let lone = world.flow("lone");
        let mut token = 0;
        // A full log of other blocks may go before it.
        for round in 0..20_000 {
            if world.outcomes.contains_key(&9_000_000) {
                break;
            }
            for flow in &flows {
                let deadline = Some(world.after(5_000 + round));
                let busy = SendOptions { deadline, ..SendOptions::new(service) };
                token += 1;
                let _ = world.offer(*flow, &body(token, 1_140), &busy, token);
            }
            if round == 200 {
                let plain = SendOptions::default();
                world.offer(lone, &body(9_000_000, 40), &plain, 9_000_000).unwrap();
            }
            world.run(Duration::from_millis(1));
        }
        let lone = (world.received("lone"), world.outcomes.get(&9_000_000));
        assert_eq!(lone, (vec![9_000_000], Some(&Outcome::Delivered)), "{service:?}");
        world.finish();
    }
}

#[test]
fn high_priority_overtakes_a_full_backlog() {
    let mut world = World::new(11);
    let (flow, urgent) = (world.flow("a"), world.flow("urgent"));
    world.send(flow, &body(30_000, 8), &SendOptions::default(), 30_000);
    world.run(Duration::from_millis(20));
    let mut token = 0;
    while world.offer(flow, &body(token, 900), &SendOptions::default(), token).is_ok() {
        token += 1;
    }
    let low = SendOptions { priority: Priority::Low, ..SendOptions::default() };
    world.send(urgent, &body(20_000, 100), &low, 20_000);
    let high = SendOptions { priority: Priority::High, ..SendOptions::default() };
    world.offer(urgent, &body(10_000, 100), &high, 10_000).unwrap();
    assert!(token > 200, "{token} messages before it was full");
    world.finish();
    let position = |wanted: u64| {
        let mut received = world.ends[1].1.received.iter();
        received.position(|message| number(&message.1) == wanted).unwrap()
    };
    assert!(position(10_000) < 3, "at {}", position(10_000));
    assert!(position(20_000) > 60, "at {}", position(20_000));
}

#[test]
fn a_flow_that_is_not_read_stalls_no_other() {
    let mut world = World::new(13);
    let (stuck, flow) = (world.flow("stuck"), world.flow("a"));
    let options = SendOptions::new(Service::Ordered);
    let mut offered = 0;
    for _ in 0..20 {
        while world.offer(stuck, &body(offered, 900), &options, offered).is_ok() {
            offered += 1;
        }
        world.run(Duration::from_millis(10));
    }
    for token in 10_000..14_000 {
        world.send(flow, &body(token, 1_000), &options, token);
    }
    world.run(Duration::from_millis(200));
    assert_eq!(world.received("a").len(), 4_000);
    assert!(world.offer(stuck, &body(offered, 900), &options, offered) == Err(SendError::Full));
}

#[test]
fn a_flow_without_credit_holds_up_none_of_those_that_wait_for_a_session() {
    let mut world = World::unconnected(14);
    let (stuck, flow) = (world.flow("stuck"), world.flow("a"));
    let options = [SendOptions::default(), ORDERED];
    for token in 0..600 {
        world.offer(stuck, &body(token, 900), &options[token as usize % 2], token).unwrap();
    }
    for token in 1_000..1_100 {
        world.offer(flow, &body(token, 900), &options[token as usize % 2], token).unwrap();
    }
    world.run(Duration::from_millis(200));
    assert_eq!(world.received("a").len(), 100);
    let taken = world.received("stuck").len();
    assert!((200..300).contains(&taken), "{taken} fit into the window");
    for token in 2_000..2_100 {
        world.send(flow, &body(token, 900), &options[token as usize % 2], token);
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.received("a").len(), 200);
}

/// What is offered behind a long ordered message must not fill the window of blocks: the message would never end.
#[test]
fn ordered_messages_do_not_overtake_a_long_one_of_their_flow() {
    // Longer than the window of blocks; and bursts so small that others fill the window meanwhile.
    for (bytes, burst) in [(30 << 20, 0), (400_000, 1)] {
        let mut world = World::new(15);
        let (flow, other) = (world.flow("a"), world.flow("b"));
        let options = SendOptions { burst, ..ORDERED };
        world.send(flow, &body(0, bytes), &options, 0);
        for token in 1..100 {
            world.send(flow, &body(token, 40), &ORDERED, token);
        }
        for token in 1_000..21_000 {
            world.send(other, &body(token, 1_300), &SendOptions::default(), token);
        }
        world.finish();
        assert_eq!(world.received("a"), (0..100).collect::<Vec<_>>());
        assert_eq!(world.received("b").len(), 20_000);
        assert_eq!(world.ends[1].0.counters().ordered_held, 0, "none came before its turn");
    }
}

/// Whoever ends a session, and for whatever reason: what had not left goes with the next one, in the same order.
#[test]
fn what_waits_outlives_its_session() {
    for is_ended_here in [false, true] {
        let mut world = World::unconnected(1);
        let stuck = world.flow("stuck");
        let value = world.flow("stuck.value");
        for token in 0..400 {
            let options = [ORDERED, SendOptions::default()][token as usize % 2];
            world.offer(stuck, &body(token, 990), &options, token).unwrap();
        }
        world.ask(stuck, 400, Duration::from_mins(1));
        world.run(Duration::from_millis(50));
        assert!(world.ends[0].0.is_connected(PeerId(0)));
        let latest = SendOptions::new(Service::LatestValue);
        for token in 401..800 {
            world.offer(value, &body(token, 990), &latest, token).unwrap();
            world.run(Duration::from_millis(1));
        }
        let pending = world.ends[0].0.tally().pending;
        assert!(pending > 20, "{pending}: nobody reads, so credit is short");
        world.ends[usize::from(!is_ended_here)].0.reject(PeerId(0));
        world.run(Duration::from_millis(20));
        assert!(!world.ends[0].0.is_connected(PeerId(0)));
        assert_eq!(world.ends[0].1.answers, [], "the request never left");
        let (received, lost) = (world.received("stuck"), world.outcomes.clone());
        world.run(Duration::from_secs(5));
        assert!(world.ends[0].0.is_connected(PeerId(0)), "whoever has something to send dials");
        let again = world.received("stuck").split_off(received.len());
        assert!(!again.is_empty());
        let ended_once = again.iter().all(|token| !lost.contains_key(token));
        assert!(ended_once, "told as ended, and sent all the same: {again:?}");
        let ordered = again.iter().filter(|token| *token % 2 == 0 && **token < 400);
        assert!(ordered.is_sorted(), "{again:?}");
        assert_eq!(world.received("stuck.value").last(), Some(&799), "the newest value");
    }
}

/// A session ends and there is no other one: what waits ends all the same.
#[test]
fn what_waits_ends_when_the_peer_is_gone() {
    for is_closed in [false, true] {
        let mut world = World::unconnected(1);
        let (stuck, value) = (world.flow("stuck"), world.flow("stuck.value"));
        for token in 0..400 {
            world.offer(stuck, &body(token, 990), &ORDERED, token).unwrap();
        }
        world.run(Duration::from_millis(50));
        let latest = SendOptions::new(Service::LatestValue);
        for token in 400..800 {
            world.offer(value, &body(token, 990), &latest, token).unwrap();
            world.run(Duration::from_millis(1));
        }
        assert!(world.ends[0].0.tally().pending > 20);
        if is_closed {
            world.ends[1].0.close();
        } else {
            world.ends[0].0.reject(PeerId(0));
        }
        world.run(Duration::from_millis(20));
        world.drops_from = 0;
        world.run(Duration::from_secs(200));
        assert_eq!(world.ends[0].0.tally().pending, 0, "{:?}", world.ends[0].0.tally());
        assert_eq!(world.outcomes.len(), 800);
        assert_eq!(world.ends[0].0.poll_timeout(), None, "and nothing is dialled for any more");
    }
}

#[test]
fn a_cancelled_request_that_has_not_left_never_does() {
    let mut world = World::unconnected(1);
    let flow = world.flow("ask");
    world.ask(flow, 7, Duration::from_mins(1));
    world.ask(flow, 8, Duration::from_mins(1));
    world.ends[0].0.cancel_request(Token(7));
    world.run(Duration::from_secs(1));
    assert_eq!(world.received("ask"), [8]);
    assert_eq!(world.ends[0].0.tally().expired, 1);
    assert_eq!(world.ends[0].0.tally().pending, 0);
}

/// A refusal is the answer to what was sent, not to what will be.
#[test]
fn a_flow_that_was_refused_is_asked_for_again() {
    for service in
        [Service::Acknowledged, Service::Ordered, Service::LatestValue, Service::BestEffort]
    {
        let mut world = World::new(1);
        let flow = world.flow("later");
        world.ends[1].1.refuses = true;
        let now = world.now;
        let token = |number| Some(Token(number)).filter(|_| service != Service::BestEffort);
        world.ends[0].0.send(now, flow, &body(1, 100), service, token(1)).unwrap();
        world.run(Duration::from_millis(50));
        let refused = Some(&Outcome::Refused(Refusal::Denied));
        assert_eq!(world.outcomes.get(&1), refused.filter(|_| token(1).is_some()));
        world.ends[1].1.refuses = false;
        world.ends[1].1.generation += 1;
        for number in 2..5 {
            let now = world.now;
            world.ends[0].0.send(now, flow, &body(number, 100), service, token(number)).unwrap();
            world.run(Duration::from_millis(50));
        }
        assert_eq!(world.received("later"), [2, 3, 4], "{service:?}");
    }
}
