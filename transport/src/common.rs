//! Owns what all peers of one endpoint share: limits, counters, events, requests, slots, randomness.
//!
//! What always holds: peers never see each other; they meet only here, in sums and bounded tables.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::absence::Absence;
use crate::association::Association;
use crate::counters::Counters;
use crate::endpoint::{Application, Event, Limits, Outcome, Tally, Token};
use crate::frame::Greeting;
use crate::identity::{Fingerprint, PublicKey};
use crate::presence::Presence;
use crate::random::Entropy;
use crate::requests::Requests;
use crate::send_log::Waiter;
use crate::slots::SlotPool;

/// Why the content of an authentic datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The peer broke the protocol; its session ends.
    Violation(&'static str),
    /// A block beyond the window: dropped, not acknowledged.
    BlockWindow,
    /// No room for its parts: dropped, not acknowledged.
    AssemblyLimit,
    /// No room for its refusals: dropped, not acknowledged.
    RefusalLimit,
    /// The peer made us hold too much; its session ends.
    OverMemory(&'static str),
    /// No room for the sequences that it gives up: dropped, not acknowledged.
    OrderLimit,
    /// Lane data before the greeting: dropped, not acknowledged.
    BeforeGreeting,
}

/// Shared state of an endpoint's peers.
pub(crate) struct Common {
    pub(crate) limits: Limits,
    pub(crate) shard: u8,
    /// See [`crate::Config::placement`].
    pub(crate) placement: fn(&[u8; 32], &str, u8) -> u8,
    /// Our key.
    pub(crate) key: PublicKey,
    /// Fingerprint of our key, for messages to people.
    pub(crate) local: Fingerprint,
    pub(crate) counters: Counters,
    /// When nobody ran this endpoint last.
    pub(crate) absence: Absence,
    pub(crate) ends: Ends,
    pub(crate) pool: SlotPool,
    pub(crate) entropy: Box<dyn Entropy>,
    /// Settled acknowledged messages; `offered` and `pending` are filled in on demand.
    pub(crate) tally: Tally,
    /// Association indexes no longer in use.
    pub(crate) retired: Vec<u32>,
    /// Associations that are sent on since a moment ago: the peer's index and ours.
    pub(crate) adopted: Vec<(u32, u32)>,
    /// CLOSE datagrams under keys that were retired with them.
    pub(crate) farewells: Vec<(SocketAddr, Vec<u8>)>,
    /// The life of each peer, at the place of its contact; other places are unused.
    pub(crate) presences: Vec<Presence>,
    /// Keys under which a greeting came just now, and the greeting.
    pub(crate) greeted: Option<Box<(Association, Greeting)>>,
    /// Room for decoding SETTLED frames.
    pub(crate) refusals: Vec<crate::frame::RefusedMessage>,
    /// What our greetings say; each association has an incarnation of its own to tell.
    pub(crate) greeting: Greeting,
}

/// How messages and requests end: who is told, and through what.
pub(crate) struct Ends {
    pub(crate) events: VecDeque<Event>,
    pub(crate) requests: Requests,
    /// Requests that ended without an answer, to be told to the application.
    pub(crate) ended_requests: VecDeque<(Token, Outcome)>,
}

impl Ends {
    /// Tells whoever waited for a message how it ended. Returns whether it was a request that thereby ended.
    pub(crate) fn tell(&mut self, waiter: Waiter, outcome: Outcome, peer: u32) -> bool {
        match waiter {
            Waiter::Message(token) => {
                self.events.push_back(Event::Outcome { token, outcome });
                false
            }
            Waiter::Request(number) => {
                if outcome == Outcome::Delivered {
                    return false;
                }
                let Some(waiting) = self.requests.take(number, peer) else {
                    return false;
                };
                self.ended_requests.push_back((waiting.token, outcome));
                true
            }
        }
    }

    /// Tells the application of requests that ended without an answer.
    pub(crate) fn flush<A: Application>(&mut self, app: &mut A) {
        while let Some((token, outcome)) = self.ended_requests.pop_front() {
            app.reply(token, Err(outcome));
        }
    }
}

impl Common {
    /// An association is forgotten while its session, if any, goes on.
    pub(crate) fn erase(&mut self, local_index: u32) {
        self.retired.push(local_index);
        self.counters.associations_erased += 1;
    }

    /// A pause of about this length, by up to a quarter shorter or longer, so that many who wait for one node spread.
    pub(crate) fn jitter(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.75 + 0.5 * (self.entropy.next_u64() as f64 / u64::MAX as f64))
    }

    #[cold]
    pub(crate) fn draw_incarnation(&mut self) -> [u8; 16] {
        let mut incarnation = [0; 16];
        self.entropy.fill(&mut incarnation);
        incarnation
    }

    /// Counts messages that all ended alike.
    pub(crate) fn count(&mut self, outcome: Outcome, messages: u64) {
        let tally = &mut self.tally;
        *match outcome {
            Outcome::Delivered => &mut tally.delivered,
            Outcome::Refused(_) => &mut tally.refused,
            Outcome::Expired => &mut tally.expired,
            Outcome::PeerLost => &mut tally.peer_lost,
            Outcome::Unknown => &mut tally.unknown,
        } += messages;
    }
}
