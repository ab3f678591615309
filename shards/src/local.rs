//! Flows of this node as a sender on one of its shards: messages go over the hand-off, what comes back ends them.
//!
//! A flow of our own key is sent to as one of a peer is, by a [`cubed_transport::FlowId`] whose peer is [`HERE`]. Policy is not
//! asked: whoever runs code on a shard of this node can register the flow itself, and holds the node's key. Always holds:
//! what a flow's senders on this shard have under way stays within the flow's window; an accepted message ends once;
//! a flow changes its shard only while nothing of it is under way, or when its shard has it no more, so that order is kept.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_router::placement::owner_shard;
use cubed_runtime::Outbound;
use cubed_transport::identity::PublicKey;
use cubed_transport::limits::UNBOUND_CREDIT_BYTES;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, Outcome, SendError, SendOptions, Service, Tally, Token};

use crate::handed::{Carried, Handed, Header, Kind, What};
use crate::limits::{DEADLINES_SPARE_MAX, LOCAL_FLOWS_MAX, MESSAGE_CHARGE_BYTES};
use crate::origins::{Asked, FORWARDED_REQUEST, Origins};
use crate::passed::Passed;
use crate::pending::{Pending, PendingTable};
use crate::registry::{Registered, Registry};
use crate::waits::Waits;

#[cfg(doc)]
use crate::handed::HERE;

mod ends;

/// What does not change while a shard runs.
pub(crate) struct LocalFacts {
    pub(crate) index: u8,
    pub(crate) placement_salt: [u8; 32],
    pub(crate) registry: Arc<Registry>,
    pub(crate) message_bytes_max: u64,
    pub(crate) requests_max: usize,
    /// The node's own key on each channel.
    pub(crate) keys: Vec<PublicKey>,
}

/// What a shard handed to others and took from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalStats {
    /// Messages of this shard to flows of this node.
    pub sent: u64,
    /// Messages that this shard's flows took from the node's own shards, this one included.
    pub taken: u64,
    /// Best-effort messages among those that came here and were refused.
    pub dropped: u64,
    /// Sends that found no room.
    pub full: u64,
    /// Messages of peers that this shard passed on to the shard that has the flow.
    pub forwarded: u64,
    /// Acknowledged messages among those that came here so whose flow had no room, or had gone or changed meanwhile. Their senders are
    /// told that they were refused.
    pub forwarded_refused: u64,
    /// Messages that this shard passed on and that the flow's shard has not answered.
    pub forwarded_unanswered: u64,
    /// Messages of this shard that have not ended.
    pub pending: u64,
    /// System calls made to end the sleep of another shard.
    pub wakes: u64,
}

/// One flow of this node.
pub(crate) struct Way {
    channel: ChannelId,
    name: FlowName,
    pub(crate) to: u8,
    /// Of the registry, when `to` was found.
    generation: u32,
    /// Shard `to` has it no more: look again, whatever is under way.
    is_lost: bool,
    /// Shard `to` knows our number for it.
    is_named: bool,
    outstanding: u64,
    window: u64,
    /// What peers have under way through this shard.
    pub(crate) forwarded: u64,
    value: Option<Value>,
}

/// The latest value, which found no room yet.
struct Value {
    body: Bytes,
    options: SendOptions,
    token: Option<Token>,
}

/// What is asked of one message, and who waits for its end.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) options: SendOptions,
    pub(crate) token: Option<Token>,
    /// It is a request, answered before this instant.
    pub(crate) answer_by: Option<Instant>,
}

/// The sending side of one shard towards its own node.
pub(crate) struct Local {
    pub(crate) facts: LocalFacts,
    out: Outbound<Handed>,
    pub(crate) ways: Vec<Way>,
    by_name: HashMap<(ChannelId, FlowName), u32>,
    pub(crate) origins: Origins,
    pub(crate) asked: Asked,
    pub(crate) passed: Passed,
    pending: PendingTable,
    requests: HashMap<Token, u64>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What must not be turned away and found no room: answers, credit, messages of peers. All of it is bounded by somebody's credit.
    backlog: Vec<VecDeque<Handed>>,
    /// Shards to which a message of ours found no room since there was some.
    is_short: Vec<bool>,
    /// Flows with a value that waits for room.
    valued: Vec<u32>,
    has_room_again: bool,
    is_closing: bool,
    closed: Vec<bool>,
    tally: Tally,
    pub(crate) counters: LocalStats,
}

impl Local {
    pub(crate) fn new(facts: LocalFacts, out: Outbound<Handed>) -> Self {
        let shards = out.shards();
        Self {
            facts,
            out,
            ways: Vec::new(),
            by_name: HashMap::new(),
            origins: Origins::default(),
            asked: Asked::default(),
            passed: Passed::new(shards),
            pending: PendingTable::default(),
            requests: HashMap::new(),
            deadlines: BinaryHeap::new(),
            backlog: (0..shards).map(|_| VecDeque::new()).collect(),
            is_short: vec![false; shards],
            valued: Vec::new(),
            has_room_again: false,
            is_closing: false,
            closed: vec![false; shards],
            tally: Tally::default(),
            counters: LocalStats::default(),
        }
    }

    /// The number of the flow of this name on this channel.
    pub(crate) fn open(&mut self, channel: ChannelId, name: &FlowName) -> Result<u32, SendError> {
        let key = (channel, name.clone());
        if let Some(way) = self.by_name.get(&key) {
            return Ok(*way);
        }
        if self.ways.len() >= LOCAL_FLOWS_MAX {
            return Err(SendError::TooMany);
        }
        let number = self.ways.len() as u32;
        self.by_name.insert(key, number);
        self.ways.push(Way {
            channel,
            name: name.clone(),
            to: 0,
            generation: 0,
            is_lost: true,
            is_named: false,
            outstanding: 0,
            window: UNBOUND_CREDIT_BYTES,
            forwarded: 0,
            value: None,
        });
        Ok(number)
    }

    /// Where messages of peers for this flow go, if another shard has it.
    pub(crate) fn find_elsewhere(&self, channel: ChannelId, name: &str) -> Option<Registered> {
        let found = self.facts.registry.find(channel, name, self.owner(name))?;
        (found.shard != self.facts.index).then_some(found)
    }

    /// Takes one message for a flow of this node.
    pub(crate) fn send(
        &mut self,
        waits: &mut Waits,
        way: u32,
        body: Carried<'_>,
        terms: Terms,
    ) -> Result<(), SendError> {
        let bytes = body.len() as u64;
        self.check(bytes, terms)?;
        let to = self.settle_on_shard(way);
        if self.out.is_closed(usize::from(to)) {
            return Err(SendError::Closing);
        }
        let is_value = terms.options.service == Service::LatestValue;
        let waits_behind = is_value && self.ways[way as usize].value.is_some();
        if !waits_behind && self.has_room(way, bytes + MESSAGE_CHARGE_BYTES) {
            self.count_offered(terms.options.service);
            self.hand_over(way, body, terms);
            return Ok(());
        }
        if !is_value {
            self.counters.full += 1;
            return Err(SendError::Full);
        }
        self.count_offered(terms.options.service);
        let value = Value { body: body.into_bytes(), options: terms.options, token: terms.token };
        match self.ways[way as usize].value.replace(value) {
            Some(older) => self.end(waits, older.token, Outcome::Expired),
            None => self.valued.push(way),
        }
        Ok(())
    }

    /// Room of a message of ours is free again.
    pub(crate) fn give_back(&mut self, way: u32, charge: u64) {
        let outstanding = &mut self.ways[way as usize].outstanding;
        debug_assert!(*outstanding >= charge, "no more comes back than was taken");
        *outstanding = outstanding.saturating_sub(charge);
        self.has_room_again = true;
    }

    /// Hands over what must arrive: an answer, credit, a message that its peer waits to hear of. Nothing reaches a shard that has
    /// ended, and nobody is told that it did: the node ends, and with it the sessions of those who wait.
    pub(crate) fn answer(&mut self, to: usize, what: What, body: Carried<'_>) {
        if self.closed[to] {
            return;
        }
        let mut kept = Some((what, body));
        if self.backlog[to].is_empty() {
            let fill = |slot: &mut Handed| {
                if let Some((what, body)) = kept.take() {
                    slot.set(what, body);
                }
            };
            // Whatever finds no room stays in `kept`.
            let _ = self.out.push_with(to, fill);
        }
        if let Some((what, body)) = kept {
            self.backlog[to].push_back(Handed::new(what, body));
        }
    }

    /// Answers a request that another shard of this node handed over.
    pub(crate) fn reply(&mut self, to: usize, id: u64, body: &[u8]) {
        if id & FORWARDED_REQUEST == 0 {
            // That of a forwarded one is counted where it leaves for its peer.
            self.tally.offered += 1;
            self.tally.delivered += 1;
        }
        self.answer(to, What::Reply { id }, Carried::Slice(body));
    }

    /// What time and room allow, and the wakes of this turn; whether anything happened.
    pub(crate) fn run(&mut self, waits: &mut Waits, now: Instant) -> bool {
        let mut worked = false;
        self.tell_all_taken();
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied()
            && at <= now
        {
            self.deadlines.pop();
            worked |= self.expire(waits, id);
        }
        worked |= self.send_values(waits, now);
        for to in 0..self.backlog.len() {
            while !self.backlog[to].is_empty() && self.out.has_room(to) {
                let Some(item) = self.backlog[to].pop_front() else { break };
                worked = true;
                // There was room; if the shard ended just now, its messages end as unknown.
                let _ = self.out.push(to, item);
            }
            // Whoever waits for a shard that has ended is told so when it tries.
            if self.is_short[to] && (self.closed[to] || self.is_open(to)) {
                self.is_short[to] = false;
                self.has_room_again = true;
            }
        }
        worked | self.out.flush()
    }

    /// Whether somebody who found no room had better try again. Told once.
    pub(crate) fn take_room(&mut self) -> bool {
        std::mem::take(&mut self.has_room_again)
    }

    /// When [`Local::run`] has something to do, at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let requests = self.deadlines.peek().map(|Reverse((at, _))| *at);
        let value = |way: &u32| self.ways[*way as usize].value.as_ref()?.options.deadline;
        requests.into_iter().chain(self.valued.iter().filter_map(value)).min()
    }

    /// Shards that have ended since the last call. Drain what they sent, then [`Local::end_shard`].
    pub(crate) fn newly_closed(&mut self) -> Option<u8> {
        let out = &self.out;
        let mut closed = self.closed.iter_mut().enumerate();
        let (index, flag) = closed.find(|(index, flag)| !**flag && out.is_closed(*index))?;
        *flag = true;
        Some(index as u8)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn stats(&self) -> LocalStats {
        let out = self.out.stats();
        LocalStats {
            pending: self.pending.count() as u64,
            wakes: out.wakes,
            forwarded_unanswered: self.passed.unanswered(),
            ..self.counters
        }
    }

    /// The node's key on the channel of this flow.
    pub(crate) fn key(&self, way: u32) -> Option<PublicKey> {
        let channel = self.ways.get(way as usize)?.channel;
        self.facts.keys.get(usize::from(channel.0)).copied()
    }

    /// Whether the way to this shard has room for a message that may be turned away.
    pub(crate) fn is_open(&mut self, to: usize) -> bool {
        self.backlog[to].is_empty() && self.out.has_room(to)
    }

    /// As [`Local::is_open`], for a sender that waits if not.
    fn has_channel_room(&mut self, to: usize) -> bool {
        let is_open = self.is_open(to);
        self.is_short[to] |= !is_open;
        is_open
    }

    /// Tells the flow's shard our number for it, unless it knows.
    pub(crate) fn name(&mut self, way: u32) {
        let one = &mut self.ways[way as usize];
        if std::mem::replace(&mut one.is_named, true) {
            return;
        }
        let (to, channel, name) = (usize::from(one.to), one.channel, one.name.clone());
        self.answer(to, What::Name { way, channel, name }, Carried::Nothing);
    }

    /// The flow's shard has it no more.
    pub(crate) fn look_again(&mut self, way: u32) {
        if let Some(one) = self.ways.get_mut(way as usize) {
            one.is_lost = true;
        }
    }

    /// The shard that a flow's messages go to.
    #[inline]
    pub(crate) fn settle_on_shard(&mut self, way: u32) -> u8 {
        let generation = self.facts.registry.generation();
        let one = &self.ways[way as usize];
        let is_stale = one.generation != generation && one.outstanding + one.forwarded == 0;
        if is_stale || one.is_lost {
            self.find_shard(way, generation);
        }
        self.ways[way as usize].to
    }

    #[cold]
    fn find_shard(&mut self, way: u32, generation: u32) {
        let one = &self.ways[way as usize];
        let owner = self.owner(one.name.as_str());
        let found = self.facts.registry.find(one.channel, one.name.as_str(), owner);
        let (to, window) =
            found.map_or((owner, UNBOUND_CREDIT_BYTES), |one| (one.shard, one.window_bytes));
        let one = &mut self.ways[way as usize];
        one.is_named &= one.to == to;
        (one.to, one.window, one.generation, one.is_lost) = (to, window, generation, false);
    }

    fn owner(&self, name: &str) -> u8 {
        owner_shard(&self.facts.placement_salt, name, self.out.shards() as u8)
    }

    fn check(&self, bytes: u64, terms: Terms) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let bytes_max = self.facts.message_bytes_max;
        if bytes > bytes_max {
            return Err(SendError::TooLarge { bytes, bytes_max });
        }
        if terms.answer_by.is_some() && self.requests.len() >= self.facts.requests_max {
            return Err(SendError::TooManyRequests);
        }
        Ok(())
    }

    /// Whether window and hand-off have room. One message always fits an empty window.
    fn has_room(&mut self, way: u32, charge: u64) -> bool {
        let one = &self.ways[way as usize];
        let to = usize::from(one.to);
        if one.outstanding > 0 && one.outstanding + charge > one.window {
            return false;
        }
        if !self.has_channel_room(to) {
            return false;
        }
        if self.ways[way as usize].is_named {
            return true;
        }
        self.name(way);
        self.has_channel_room(to)
    }

    /// Hands over one message, for which there is room.
    fn hand_over(&mut self, way: u32, body: Carried<'_>, terms: Terms) {
        let charge = body.len() as u64 + MESSAGE_CHARGE_BYTES;
        let one = &mut self.ways[way as usize];
        one.outstanding += charge;
        let (to, channel) = (one.to, one.channel);
        let Terms { options, token, answer_by } = terms;
        let kind = if options.service == Service::BestEffort {
            Kind::BestEffort
        } else {
            let is_request = answer_by.is_some();
            let pending = Pending { way, to, charge, token, is_request, is_settled: false };
            let id = self.pending.add(pending);
            if let Some(deadline) = answer_by {
                self.note_deadline(deadline, id);
                if let Some(token) = token {
                    self.requests.insert(token, id);
                }
                Kind::Request { id }
            } else {
                Kind::Acknowledged { id }
            }
        };
        let header = Header {
            way,
            origin: way,
            kind,
            service: options.service,
            deadline: options.deadline.or(answer_by),
            sender: self.facts.keys[usize::from(channel.0)],
            charge,
        };
        self.counters.sent += 1;
        self.answer(usize::from(to), What::Message(header), body);
    }

    /// Sends values that waited for room; ends those whose time is over.
    fn send_values(&mut self, waits: &mut Waits, now: Instant) -> bool {
        let mut valued = std::mem::take(&mut self.valued);
        let before = valued.len();
        valued.retain(|way| !self.send_value(waits, *way, now));
        let worked = valued.len() < before;
        self.valued = valued;
        worked
    }

    /// Whether the flow's value waits no longer.
    fn send_value(&mut self, waits: &mut Waits, way: u32, now: Instant) -> bool {
        let Some(value) = self.ways[way as usize].value.take() else { return true };
        let is_over = value.options.deadline.is_some_and(|at| at <= now);
        if is_over {
            self.end(waits, value.token, Outcome::Expired);
            return true;
        }
        self.settle_on_shard(way);
        if !self.has_room(way, value.body.len() as u64 + MESSAGE_CHARGE_BYTES) {
            self.ways[way as usize].value = Some(value);
            return false;
        }
        let Value { body, options, token } = value;
        self.hand_over(way, Carried::Owned(body), Terms { options, token, answer_by: None });
        true
    }

    /// Deadlines of requests that have ended stay behind until they are more than those that matter.
    fn note_deadline(&mut self, deadline: Instant, id: u64) {
        if self.deadlines.len() > DEADLINES_SPARE_MAX + 2 * self.requests.len() {
            let pending = &mut self.pending;
            let mut waits = |id| pending.get_mut(id).is_some_and(|one| one.token.is_some());
            self.deadlines.retain(|Reverse((_, id))| waits(*id));
        }
        self.deadlines.push(Reverse((deadline, id)));
    }

    fn count_offered(&mut self, service: Service) {
        if service != Service::BestEffort {
            self.tally.offered += 1;
            self.tally.pending += 1;
        }
    }
}

#[cfg(test)]
mod tests;
