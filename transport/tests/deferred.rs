//! Goal: a message whose answer is put off ends when it is answered and not before, as it is answered, in any order and over a
//! link that loses; refusals are told as fast as the link carries them.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use cubed_transport::identity::PublicKey;
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, ChannelId, Deferred, Disposition, Endpoint, Event, FlowId, Incoming,
    Limits, Outcome, PeerId, Refusal, SendError, SendOptions, Service, Token,
};
use support::{address, endpoint};

/// A flow that refuses whatever comes.
const REFUSING: u32 = 2;
/// Memory for refusals that a peer may make us hold (docs/LIMITS.md).
const REFUSALS_BYTES_MAX: usize = 3 << 20;

/// Puts every answer off, or refuses at once.
#[derive(Default)]
struct App {
    /// Number of each message that waits for its answer, and how to give it.
    waiting: Vec<(u64, Deferred)>,
    delivered: Vec<u64>,
    refuses: bool,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        let flow = if flow == "refusing" { REFUSING } else { 1 };
        Ok(Binding { flow, window_bytes: 64 << 20, message_bytes_max: 1 << 20 })
    }
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        if self.refuses || message.flow == REFUSING {
            return Err(Refusal::QueueFull);
        }
        let number = message.body.as_slice()[..8].try_into().expect("8 bytes");
        self.delivered.push(u64::from_le_bytes(number));
        Ok(Disposition::Deferred)
    }
    fn defer(&mut self, message: Deferred) {
        let number = *self.delivered.last().expect("just delivered");
        self.waiting.push((number, message));
    }
}

/// Two endpoints; the first sends.
struct Pair {
    now: Instant,
    ends: [(Endpoint, App); 2],
    outcomes: HashMap<u64, Outcome>,
    drop_one_in: u64,
    /// Lengths of datagrams that do not arrive.
    drops: std::ops::Range<usize>,
    entropy: SeededEntropy,
    flow: FlowId,
}

impl Pair {
    fn connected(drop_one_in: u64) -> Self {
        // Room for all that the tests send, so that no sender waits for an answer.
        let limits = Limits { log_bytes_max: 16 << 20, ..Limits::default() };
        let mut ends = [1, 2].map(|seed| (endpoint(seed, limits.clone()), App::default()));
        let (now, key) = (Instant::from_nanos(1_000_000_000), ends[1].0.public_key());
        let peer = ends[0].0.add_peer(key, Some(address(1))).unwrap();
        ends[0].0.connect(now, peer).unwrap();
        let flow = ends[0].0.open_flow(peer, "f").unwrap();
        let entropy = SeededEntropy::new(7);
        let mut pair = Self {
            now,
            ends,
            outcomes: HashMap::new(),
            drop_one_in: 0,
            drops: 0..0,
            entropy,
            flow,
        };
        pair.run(Duration::from_millis(200));
        pair.drop_one_in = drop_one_in;
        pair
    }

    /// Moves datagrams both ways, 20 us apart.
    fn run(&mut self, time: Duration) {
        let (end, mut out) = (self.now + time, Vec::new());
        while self.now < end {
            let mut wire = Vec::new();
            for side in 0..2 {
                while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                    let run = out.chunks(transmit.segment_bytes);
                    wire.extend(run.map(|datagram| (1 - side, datagram.to_vec())));
                }
                while let Some(event) = self.ends[side].0.poll_event() {
                    if let Event::Outcome { token, outcome } = event {
                        assert_eq!(self.outcomes.insert(token.0, outcome), None, "ends once");
                    }
                }
            }
            let due = self.ends.iter().filter_map(|(end, _)| end.poll_timeout()).min();
            let next = self.now + Duration::from_micros(20);
            let idle = due.unwrap_or(end).max(next).min(end);
            self.now = if wire.is_empty() { idle } else { next };
            for (side, mut datagram) in wire {
                let is_lost = self.drop_one_in > 0 && self.entropy.below(self.drop_one_in) == 0;
                if is_lost || self.drops.contains(&datagram.len()) {
                    continue;
                }
                let (end, app) = &mut self.ends[side];
                end.handle_datagram(self.now, address(1 - side), &mut datagram, app);
            }
            for (end, app) in &mut self.ends {
                end.handle_timeout(self.now, app);
            }
        }
    }

    fn send(&mut self, number: u64, bytes: usize) {
        self.send_as(Service::Acknowledged, number, bytes);
    }

    fn send_as(&mut self, service: Service, number: u64, bytes: usize) {
        let mut body = vec![0; bytes];
        body[..8].copy_from_slice(&number.to_le_bytes());
        let options = SendOptions::new(service);
        let (flow, token) = (self.flow, Some(Token(number)));
        while let Err(error) = self.ends[0].0.send_with(self.now, flow, &body, &options, token) {
            assert_eq!(error, SendError::Full);
            self.run(Duration::from_millis(1));
        }
    }

    /// Opens a flow and sends from here on to it.
    fn turn_to(&mut self, name: &str) {
        self.flow = self.ends[0].0.open_flow(self.flow.peer, name).unwrap();
    }

    /// Asserts that the peer's session is what it was, and what it makes us hold within its limits.
    fn check_peer(&self) {
        let end = &self.ends[1].0;
        let counters = end.counters();
        assert_eq!((counters.peers_over_memory, counters.violations), (0, 0));
        let peer = end.find_peer(&self.ends[0].0.public_key()).unwrap();
        assert!(end.is_connected(peer));
        let held = end.peer_memory(peer).unwrap().refusals;
        assert!(held <= REFUSALS_BYTES_MAX, "{held} B");
    }

    /// Answers the message at this place among those that wait.
    fn answer(&mut self, place: usize, result: Result<(), Refusal>) -> u64 {
        let (end, app) = &mut self.ends[1];
        let (number, message) = app.waiting.remove(place);
        end.settle(message, result);
        number
    }

    fn pending(&self) -> u64 {
        self.ends[0].0.tally().pending
    }

    fn probes(&self) -> u64 {
        self.ends.iter().map(|(end, _)| end.counters().probe_timeouts).sum()
    }
}

#[test]
fn nothing_is_settled_beyond_the_first_message_without_an_answer() {
    let mut pair = Pair::connected(0);
    // Each in a block of its own, so that the answers show one by one.
    (0..20).for_each(|number| {
        pair.send(number, 1_000);
        pair.run(Duration::from_millis(2));
    });
    pair.run(Duration::from_secs(5));
    assert_eq!((pair.ends[1].1.waiting.len(), pair.pending()), (20, 20));
    let before = pair.probes();
    // The last first: the first keeps all of them from being settled.
    (1..20).rev().for_each(|place| _ = pair.answer(place, Ok(())));
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.pending(), 20);
    assert_eq!(pair.answer(0, Err(Refusal::NoSuchFlow)), 0);
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.outcomes[&0], Outcome::Refused(Refusal::NoSuchFlow));
    assert!((1..20).all(|number| pair.outcomes[&number] == Outcome::Delivered));
    assert_eq!((pair.pending(), pair.probes()), (0, before), "told at once");
    let counters = pair.ends[1].0.counters();
    assert_eq!((counters.acknowledged_accepted, counters.acknowledged_refused), (19, 1));
}

#[test]
fn each_message_ends_as_it_was_answered_in_any_order_and_under_loss() {
    for drop_one_in in [0, 20, 4] {
        let mut pair = Pair::connected(drop_one_in);
        let refused = |number| number % 7 == 3;
        let (mut answered, mut lengths) = (0, SeededEntropy::new(5));
        for number in 0..3_000 {
            // Several in a block, and some that take several blocks.
            let bytes = if number % 50 == 0 { 5_000 } else { 8 + lengths.below(300) as usize };
            pair.send(number, bytes);
            if number % 16 == 0 {
                pair.run(Duration::from_micros(200));
            }
            while pair.ends[1].1.waiting.len() > 100 {
                let place = pair.entropy.below(100) as usize;
                let is_refused = refused(pair.ends[1].1.waiting[place].0);
                let result = if is_refused { Err(Refusal::QueueFull) } else { Ok(()) };
                let number = pair.answer(place, result);
                assert_eq!(pair.outcomes.get(&number), None, "it had no answer");
                answered += 1;
            }
        }
        while answered < 3_000 {
            pair.run(Duration::from_millis(10));
            while let Some((number, _)) = pair.ends[1].1.waiting.first() {
                let result = if refused(*number) { Err(Refusal::QueueFull) } else { Ok(()) };
                pair.answer(0, result);
                answered += 1;
            }
        }
        pair.run(Duration::from_secs(20));
        assert_eq!((pair.pending(), pair.outcomes.len()), (0, 3_000));
        for (number, outcome) in &pair.outcomes {
            let expected = Outcome::Refused(Refusal::QueueFull);
            let expected = if refused(*number) { expected } else { Outcome::Delivered };
            assert_eq!(*outcome, expected, "message {number}");
        }
        let mut delivered = pair.ends[1].1.delivered.clone();
        delivered.sort_unstable();
        assert!(delivered.into_iter().eq(0..3_000), "each was handed over once");
    }
}

#[test]
fn an_answer_to_a_session_that_is_over_does_nothing() {
    let mut pair = Pair::connected(0);
    pair.send(0, 8);
    pair.run(Duration::from_millis(20));
    pair.ends[0].0.close();
    pair.run(Duration::from_millis(20));
    assert_eq!(pair.outcomes[&0], Outcome::Unknown);
    pair.answer(0, Ok(()));
    let counters = pair.ends[1].0.counters();
    assert_eq!((counters.acknowledged_accepted, counters.settled_late), (0, 1));
}

#[test]
fn refusals_that_fill_many_datagrams_are_told_without_waiting_for_a_probe() {
    let mut pair = Pair::connected(0);
    pair.ends[1].1.refuses = true;
    (0..20_000).for_each(|number| pair.send(number, 8));
    let before = pair.probes();
    pair.run(Duration::from_millis(100));
    let told = pair.ends[0].0.tally().refused;
    assert_eq!((told, pair.pending(), pair.probes()), (20_000, 0, before));
}

#[test]
fn refusals_behind_a_message_without_an_answer_wait_for_it() {
    const MESSAGES: u64 = 150_000;
    let mut pair = Pair::connected(0);
    pair.send(0, 8);
    pair.run(Duration::from_millis(10));
    pair.turn_to("refusing");
    (1..=MESSAGES).for_each(|number| pair.send(number, 8));
    // Longer than any silence that a peer is given up for.
    for _ in 0..300 {
        pair.run(Duration::from_secs(1));
        pair.check_peer();
    }
    assert_eq!(pair.pending(), MESSAGES + 1, "nothing can be told");
    assert!(pair.ends[1].0.counters().dropped_refusal_limit > 0, "not all of it was taken");
    pair.answer(0, Ok(()));
    pair.run(Duration::from_secs(10));
    pair.check_peer();
    let tally = pair.ends[0].0.tally();
    assert_eq!((tally.delivered, tally.refused, tally.pending), (1, MESSAGES, 0));
}

#[test]
fn refusals_said_later_are_bounded_like_those_said_at_once() {
    const MESSAGES: u64 = 200_000;
    let mut pair = Pair::connected(0);
    (0..MESSAGES).for_each(|number| pair.send(number, 8));
    pair.run(Duration::from_secs(1));
    pair.check_peer();
    assert!(pair.ends[1].0.counters().dropped_refusal_limit > 0, "not all of it was taken");
    // All but the first: nothing can be told of what comes behind it.
    for _ in 0..100 {
        let (end, app) = &mut pair.ends[1];
        let rest = app.waiting.drain(1..).rev();
        rest.for_each(|(_, message)| end.settle(message, Err(Refusal::QueueFull)));
        pair.check_peer();
        pair.run(Duration::from_millis(100));
        pair.check_peer();
    }
    assert_eq!((pair.pending(), pair.answer(0, Ok(()))), (MESSAGES, 0));
    pair.ends[1].1.refuses = true;
    pair.run(Duration::from_secs(10));
    pair.check_peer();
    let tally = pair.ends[0].0.tally();
    assert_eq!((tally.delivered, tally.refused, tally.pending), (1, MESSAGES - 1, 0));
}

#[test]
fn the_room_of_messages_that_were_put_off_and_taken_is_free_again() {
    let mut pair = Pair::connected(0);
    for round in 0..5 {
        (0..40_000).for_each(|number| pair.send(round * 40_000 + number, 8));
        pair.run(Duration::from_millis(200));
        assert_eq!(pair.ends[1].1.waiting.len(), 40_000, "round {round}");
        let waiting = std::mem::take(&mut pair.ends[1].1.waiting);
        for (_, message) in waiting {
            pair.ends[1].0.settle(message, Ok(()));
        }
        pair.run(Duration::from_millis(200));
        pair.check_peer();
    }
    assert_eq!((pair.pending(), pair.ends[1].0.counters().dropped_refusal_limit), (0, 0));
}

#[test]
fn ordered_messages_that_were_put_off_at_once_are_no_debt_of_their_sender() {
    const MESSAGES: u64 = 150_000;
    let mut pair = Pair::connected(0);
    // All of them wait for the first, which is longer than any message but shorter than any block of several.
    pair.drops = 1_000..1_100;
    pair.send_as(Service::Ordered, 0, 1_000);
    pair.run(Duration::from_millis(1));
    (1..MESSAGES).for_each(|number| pair.send_as(Service::Ordered, number, 8));
    pair.run(Duration::from_millis(100));
    let held = pair.ends[1].0.counters().ordered_held;
    assert_eq!((held, pair.ends[1].1.waiting.len()), (MESSAGES - 1, 0));
    pair.drops = 0..0;
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.ends[1].1.waiting.len() as u64, MESSAGES);
    pair.check_peer();
    pair.send(MESSAGES, 8);
    pair.run(Duration::from_secs(1));
    pair.check_peer();
    let waiting = std::mem::take(&mut pair.ends[1].1.waiting);
    for (_, message) in waiting {
        pair.ends[1].0.settle(message, Ok(()));
    }
    pair.run(Duration::from_secs(3));
    pair.answer(0, Ok(()));
    pair.run(Duration::from_secs(1));
    pair.check_peer();
    assert_eq!(pair.ends[0].0.tally().delivered, MESSAGES + 1);
    assert!(pair.ends[1].1.delivered.iter().copied().eq(0..=MESSAGES), "in order");
}
