//! How messages to flows of this node end: settled, answered, expired, given up by who asked, or uncertain; and what shards are
//! told of the messages of peers that they passed on.
//!
//! Always holds: each ends once in the tally, and its room comes back whether or not anybody still waits for it.

use bytes::Bytes;
use cubed_transport::{Outcome, Refusal, Token};

use super::Local;
use crate::handed::{Carried, Settlement, What};
use crate::waits::{End, Waits};

impl Local {
    /// The future that waited for this reply is gone.
    pub(crate) fn cancel(&mut self, token: Token) {
        let Some(id) = self.requests.remove(&token) else { return };
        self.forget_asker(id);
    }

    /// A message ended on the shard that took it.
    pub(crate) fn settled(&mut self, waits: &mut Waits, id: u64, settlement: Settlement) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        let (way, charge) = (pending.way, pending.charge);
        let outcome = match settlement {
            Settlement::Consumed | Settlement::Held => Outcome::Delivered,
            Settlement::Refused(refusal) => Outcome::Refused(refusal),
            Settlement::Expired => Outcome::Expired,
        };
        let awaits_reply =
            pending.is_request && pending.token.is_some() && outcome == Outcome::Delivered;
        if awaits_reply {
            pending.is_settled = true;
        }
        if settlement != Settlement::Held {
            self.give_back(way, charge);
        }
        if settlement == Settlement::Refused(Refusal::NoSuchFlow) {
            self.look_again(way);
        }
        if awaits_reply {
            return self.count_ended(outcome);
        }
        let token = self.pending.remove(id).and_then(|pending| pending.token);
        self.end(waits, token, outcome);
    }

    /// The flow of a peer's message that shard `from` passed on refused it.
    pub(crate) fn refuse_passed(&mut self, from: usize, refusal: Refusal) {
        self.tell_taken(from);
        self.answer(from, What::Refused(refusal), Carried::Nothing);
    }

    /// Tells shard `from` how many messages it passed on were taken since it was told last.
    fn tell_taken(&mut self, from: usize) {
        let count = self.passed.tell(from);
        if count > 0 {
            self.answer(from, What::Taken { count }, Carried::Nothing);
        }
    }

    /// Tells every shard what was taken of it in this turn.
    pub(super) fn tell_all_taken(&mut self) {
        if self.passed.has_to_tell() {
            (0..self.closed.len()).for_each(|from| self.tell_taken(from));
        }
    }

    /// The reply to a request came.
    pub(crate) fn replied(&mut self, waits: &mut Waits, id: u64, body: Bytes) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        let Some(token) = pending.token else { return };
        if !pending.is_request {
            return;
        }
        self.requests.remove(&token);
        self.forget_asker(id);
        waits.end(token, End::Reply(body));
    }

    /// Nothing more comes from this shard, or from none that matters: what it had is uncertain. In the second case a queue may
    /// still give back the room of what it holds, so that is not done here.
    pub(crate) fn end_shard(&mut self, waits: &mut Waits, shard: Option<u8>) {
        for id in self.pending.on(shard) {
            let Some(pending) = self.pending.remove(id) else { continue };
            if shard.is_some() && !pending.is_settled {
                self.give_back(pending.way, pending.charge);
            }
            if let Some(token) = pending.token {
                self.requests.remove(&token);
                waits.end(token, End::Outcome(Outcome::Unknown));
            }
            if !pending.is_settled {
                self.count_ended(Outcome::Unknown);
            }
        }
        for to in 0..self.backlog.len() {
            if self.closed[to] {
                self.backlog[to].clear();
                self.passed.forget(to);
            }
        }
    }

    /// Takes no more messages.
    pub(crate) fn close_to_new(&mut self) {
        self.is_closing = true;
    }

    /// Ends everything as unknown: the node drains, and its time is over.
    pub(crate) fn close(&mut self, waits: &mut Waits) {
        self.is_closing = true;
        for way in 0..self.ways.len() {
            if let Some(value) = self.ways[way].value.take() {
                self.end(waits, value.token, Outcome::Expired);
            }
        }
        self.end_shard(waits, None);
    }

    /// A request's time is over; whether anybody still waited.
    pub(super) fn expire(&mut self, waits: &mut Waits, id: u64) -> bool {
        let token = self.pending.get_mut(id).and_then(|pending| pending.token);
        let Some(token) = token else { return false };
        self.requests.remove(&token);
        self.forget_asker(id);
        waits.end(token, End::Outcome(Outcome::Expired));
        true
    }

    /// Nobody waits for the reply any more. The message itself still ends, and gives its room back.
    fn forget_asker(&mut self, id: u64) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        pending.token = None;
        if pending.is_settled {
            self.pending.remove(id);
        }
    }

    pub(super) fn end(&mut self, waits: &mut Waits, token: Option<Token>, outcome: Outcome) {
        self.count_ended(outcome);
        if let Some(token) = token {
            self.requests.remove(&token);
            waits.end(token, End::Outcome(outcome));
        }
    }

    fn count_ended(&mut self, outcome: Outcome) {
        self.tally.pending -= 1;
        match outcome {
            Outcome::Delivered => self.tally.delivered += 1,
            Outcome::Refused(_) => self.tally.refused += 1,
            Outcome::Expired => self.tally.expired += 1,
            Outcome::PeerLost => self.tally.peer_lost += 1,
            Outcome::Unknown => self.tally.unknown += 1,
        }
    }
}
