//! Goal: messages and requests that stand in a row are each delivered once and answered for themselves, wherever the application
//! stops in a row; all credit comes back.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Body, Deferred, Disposition, Endpoint, Event, FlowId, Incoming, Limits, Outcome,
    PeerId, Refusal, ReplyTo, Row, SendError, SendOptions, Service, Token,
};
use support::{address, endpoint, open_to_all};

/// Credit of the flow, and what each message of 8 B takes of it.
const WINDOW_BYTES: u64 = 64 << 10;
const CHARGE: u64 = 8 + 64;
const MESSAGES: u64 = 5_000;

/// What becomes of a message, by its number.
fn answer_to(number: u64) -> Result<Disposition, Refusal> {
    match number % 11 {
        3 => Ok(Disposition::Held),
        5 => Ok(Disposition::Deferred),
        7 => Err(Refusal::QueueFull),
        _ => Ok(Disposition::Consumed),
    }
}

/// Takes at most so many messages of a row; 0 for one by one.
#[derive(Default)]
struct App {
    at_most: usize,
    delivered: Vec<u64>,
    held: Vec<(PeerId, u32, u32)>,
    deferred: Vec<Deferred>,
    /// Whom to reply to, and the number asked.
    asked: Vec<(ReplyTo, u64)>,
    replies: Vec<(u64, Result<u64, Outcome>)>,
}

impl App {
    fn take(&mut self, message: &Incoming<'_>) -> Result<Disposition, Refusal> {
        let number = number_in(message.body.as_slice());
        self.delivered.push(number);
        let answer = answer_to(number);
        if let (Some(to), Ok(_)) = (message.request, answer) {
            self.asked.push((to, number));
        }
        if matches!(answer, Ok(Disposition::Held | Disposition::Deferred)) {
            self.held.push((message.peer, message.session, message.alias));
        }
        answer
    }
}

impl Application for App {
    open_to_all!(WINDOW_BYTES, 8);
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.take(&message)
    }
    fn deliver_row(&mut self, row: &mut Row<'_>) -> Result<Disposition, Refusal> {
        if self.at_most == 0 {
            return row.deliver_each(self);
        }
        let mut last = Ok(Disposition::Consumed);
        for _ in 0..self.at_most {
            match last? {
                Disposition::Consumed => {}
                Disposition::Held => row.hold(),
                Disposition::Deferred => return last,
            }
            last = Ok(Disposition::Consumed);
            let Some(message) = row.next_message() else { break };
            last = self.take(&message);
        }
        last
    }
    fn defer(&mut self, message: Deferred) {
        self.deferred.push(message);
    }
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        self.replies.push((token.0, result.map(|body| number_in(body.as_slice()))));
    }
}

fn number_in(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().expect("8 bytes"))
}

struct Pair {
    now: Instant,
    ends: [(Endpoint, App); 2],
    outcomes: Vec<Option<Outcome>>,
}

impl Pair {
    fn new(at_most: usize) -> (Self, FlowId) {
        let app = || App { at_most, ..App::default() };
        let ends = [1, 2].map(|seed| (endpoint(seed, Limits::default()), app()));
        let now = Instant::from_nanos(1_000_000_000);
        let mut pair = Self { now, ends, outcomes: vec![None; MESSAGES as usize] };
        let key = pair.ends[1].0.public_key();
        let sender = &mut pair.ends[0].0;
        let peer = sender.add_peer(key, Some(address(1))).unwrap();
        sender.connect(now, peer).unwrap();
        let flow = sender.open_flow(peer, "f").unwrap();
        pair.run(200);
        (pair, flow)
    }

    /// So many turns of 100 us.
    fn run(&mut self, turns: u32) {
        let mut out = Vec::new();
        for _ in 0..turns {
            self.now += Duration::from_micros(100);
            for side in 0..2 {
                let mut wire: Vec<Vec<u8>> = Vec::new();
                while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                    wire.extend(out.chunks(transmit.segment_bytes).map(<[u8]>::to_vec));
                }
                let (end, app) = &mut self.ends[1 - side];
                for mut datagram in wire {
                    end.handle_datagram(self.now, address(side), &mut datagram, app);
                }
                for (to, number) in app.asked.drain(..) {
                    end.reply(to, &number.to_le_bytes()).unwrap();
                }
                let (end, app) = &mut self.ends[side];
                end.handle_timeout(self.now, app);
                while let Some(event) = end.poll_event() {
                    if let Event::Outcome { token, outcome } = event {
                        let before = self.outcomes[token.0 as usize].replace(outcome);
                        assert_eq!(before, None, "ends once");
                    }
                }
            }
        }
    }

    /// Gives back what the receiver held, and takes what it deferred.
    fn give_back(&mut self) {
        let (end, app) = &mut self.ends[1];
        for (peer, session, alias) in app.held.drain(..) {
            end.release(peer, session, alias, CHARGE);
        }
        for message in app.deferred.drain(..) {
            end.settle(message, Ok(()));
        }
    }
}

#[test]
fn each_message_of_a_row_is_answered_for_itself() {
    for at_most in [0, 1, 2, 3, 7, 1_000] {
        let (mut pair, flow) = Pair::new(at_most);
        let options = SendOptions::new(Service::Acknowledged);
        for number in 0..MESSAGES {
            let (body, token) = (number.to_le_bytes(), Some(Token(number)));
            let mut tries = 0;
            loop {
                let (now, sender) = (pair.now, &mut pair.ends[0].0);
                match sender.send_with(now, flow, &body, &options, token) {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error, SendError::Full),
                }
                pair.run(10);
                pair.give_back();
                tries += 1;
                assert!(tries < 1_000, "credit is gone, taking {at_most} of a row");
            }
        }
        for _ in 0..50 {
            pair.run(20);
            pair.give_back();
        }
        let delivered = &pair.ends[1].1.delivered;
        assert!(delivered.iter().copied().eq(0..MESSAGES), "once and in order");
        for (number, outcome) in (0..).zip(&pair.outcomes) {
            let wanted = match answer_to(number) {
                Ok(_) => Outcome::Delivered,
                Err(refusal) => Outcome::Refused(refusal),
            };
            assert_eq!(*outcome, Some(wanted), "message {number}, taking {at_most} of a row");
        }
        let counters = pair.ends[1].0.counters();
        let refused = (0..MESSAGES).filter(|number| answer_to(*number).is_err()).count() as u64;
        assert_eq!(counters.acknowledged_refused, refused);
        assert_eq!(counters.acknowledged_accepted, MESSAGES - refused);
    }
}

#[test]
fn each_request_of_a_row_is_answered_for_itself() {
    let (mut pair, flow) = Pair::new(0);
    for number in 0..MESSAGES {
        let body = number.to_le_bytes();
        let mut tries = 0;
        loop {
            let (now, sender) = (pair.now, &mut pair.ends[0].0);
            let deadline = now + Duration::from_mins(1);
            match sender.request_copied(now, flow, &body, Token(number), deadline) {
                Ok(_) => break,
                Err(error) => assert_eq!(error, SendError::Full),
            }
            pair.run(10);
            pair.give_back();
            tries += 1;
            assert!(tries < 1_000, "credit is gone");
        }
        if number % 100 == 0 {
            // One that nothing is asked of stands in between.
            let (now, body) = (pair.now, (number + MESSAGES * 11).to_le_bytes());
            let _ = pair.ends[0].0.send(now, flow, &body, Service::Acknowledged, None);
        }
    }
    for _ in 0..50 {
        pair.run(20);
        pair.give_back();
    }
    let delivered = pair.ends[1].1.delivered.iter().copied();
    assert!(delivered.filter(|number| *number < MESSAGES).eq(0..MESSAGES), "once and in order");
    let mut replies = std::mem::take(&mut pair.ends[0].1.replies);
    replies.sort_unstable_by_key(|reply| reply.0);
    let wanted = |number| {
        (number, answer_to(number).map_or_else(|r| Err(Outcome::Refused(r)), |_| Ok(number)))
    };
    for (number, reply) in (0..MESSAGES).zip(&replies) {
        assert_eq!(*reply, wanted(number));
    }
    assert_eq!((replies.len() as u64, pair.ends[0].0.requests_waiting()), (MESSAGES, 0));
    assert_eq!(pair.ends[0].0.tally().pending, 0);
}

#[test]
fn a_message_too_long_for_its_flow_is_refused_amid_a_row() {
    let (mut pair, flow) = Pair::new(1_000);
    let options = SendOptions::new(Service::Acknowledged);
    // None of these is held, deferred or refused for itself.
    for (token, body) in [(0, &[0; 8][..]), (1, &[1; 9]), (2, &[0; 8]), (3, &[1; 9]), (4, &[0; 8])]
    {
        let sender = &mut pair.ends[0].0;
        sender.send_with(pair.now, flow, body, &options, Some(Token(token))).unwrap();
    }
    pair.run(200);
    let ends: Vec<_> = pair.outcomes[..5].iter().map(|outcome| outcome.expect("ended")).collect();
    let (taken, refused) = (Outcome::Delivered, Outcome::Refused(Refusal::TooLarge));
    assert_eq!(ends, [taken, refused, taken, refused, taken]);
}

#[test]
fn a_row_whose_bodies_panic_is_taken_up_to_there() {
    const PANICS_AT: usize = 500;
    let (mut pair, flow) = Pair::new(1_000);
    let body = 11_u64.to_le_bytes();
    let sender = &mut pair.ends[0].0;
    sender.send(pair.now, flow, &body, Service::Acknowledged, None).unwrap();
    pair.run(200);
    for at in [0, 1, PANICS_AT, 3 * PANICS_AT] {
        let bodies = |number| if number == at { panic!("no such body") } else { &body[..] };
        let (sender, mut bodies) = (&mut pair.ends[0].0, (0..).map(bodies));
        let row = catch_unwind(AssertUnwindSafe(|| sender.send_row(flow, &mut bodies)));
        assert_eq!(row.is_err(), at <= PANICS_AT, "there is credit for more than {PANICS_AT}");
        pair.run(200);
    }
    // All the credit there is, again and again: what was taken before the panic was charged.
    for _ in 0..10 {
        let mut bodies = std::iter::repeat(&body[..]);
        let (taken, _) = pair.ends[0].0.send_row(flow, &mut bodies);
        assert!(taken > 0);
        pair.run(200);
    }
    let [(sender, _), (receiver, app)] = &pair.ends;
    assert_eq!(receiver.counters().violations, 0);
    assert_eq!(sender.tally().pending, 0);
    let offered = sender.counters().acknowledged_offered;
    assert_eq!((app.delivered.len() as u64, sender.tally().delivered), (offered, offered));
    assert!(offered > 10 * WINDOW_BYTES / CHARGE / 2);
}
