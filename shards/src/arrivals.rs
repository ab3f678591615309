//! What other shards of this node handed over: messages for flows here, and what came back for those of this shard.
//!
//! Always holds: each message is answered once, with its room or with how it ended; a peer's message is settled when the shard
//! that has the flow has taken or refused it.

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_transport::{
    Body, ChannelId, Disposition, Incoming, Refusal, ReplyTo, SendError, Service,
};

use crate::application::Receiver;
use crate::flows::Sink;
use crate::handed::{Carried, HERE, Handed, Header, Kind, Settlement, What};
use crate::limits::{MESSAGE_CHARGE_BYTES, OWNED_BODY_BYTES_MIN};
use crate::origins::{FORWARDED, FORWARDED_REQUEST, UNCHARGED};
use crate::passed::{OnWay, Passing};
use crate::stalled::{Release, Target};

/// A flow as another shard numbers it.
pub(crate) struct NamedFlow {
    channel: ChannelId,
    name: FlowName,
    /// Our number of it, as of a generation of our flows.
    found: Option<u32>,
    generation: u32,
    /// Of the registry, when that shard was last told that nobody has it here.
    told_gone: Option<u32>,
}

impl Receiver {
    /// Takes one item that shard `from` handed over.
    pub(crate) fn take_handed(&mut self, from: usize, item: &mut Handed) {
        match std::mem::take(&mut item.what) {
            What::Nothing => {}
            What::Name { way, channel, name } => self.learn_name(from, way, channel, name),
            What::Message(header) => self.take_message(from, header, item),
            What::Taken { count } => (0..count).for_each(|_| self.on_passed(from, Ok(()))),
            What::Refused(refusal) => self.on_passed(from, Err(refusal)),
            What::Settled { id, settlement } => self.local.settled(&mut self.waits, id, settlement),
            What::Reply { id } if id & FORWARDED_REQUEST != 0 => {
                let long = item.take_long();
                if let Some(to) = self.local.asked.take(id & !FORWARDED_REQUEST) {
                    let body = long.as_deref().unwrap_or(item.short());
                    let pushed = self.outbox.borrow_mut().push(Target::Reply(to), body);
                    self.replies_lost += u64::from(pushed == Err(SendError::Full));
                }
            }
            What::Reply { id } => self.local.replied(&mut self.waits, id, item.take_body()),
            What::Credit { origin, charge } => self.take_credit(origin, charge),
            What::Gone { way } => self.local.look_again(way),
        }
    }

    /// What became of the oldest message that was passed on to shard `to` and has no answer.
    fn on_passed(&mut self, to: usize, result: Result<(), Refusal>) {
        let Some(OnWay { message, way, asked }) = self.local.passed.answered(to) else { return };
        if let Err(refusal) = result {
            if let Some(id) = asked {
                self.local.asked.take(id);
            }
            if refusal == Refusal::NoSuchFlow {
                self.local.look_again(way);
            }
        }
        self.outbox.borrow_mut().settle(message, result);
    }

    /// Passes a peer's message on to the shard that has the flow, whose answer is the peer's.
    pub(crate) fn forward(
        &mut self,
        way: u32,
        total_bytes: u64,
        message: &mut Incoming<'_>,
    ) -> Result<Disposition, Refusal> {
        let local = &mut self.local;
        let to = usize::from(local.settle_on_shard(way));
        let charge = message.body.as_slice().len() as u64 + MESSAGE_CHARGE_BYTES;
        let is_charged = message.service != Service::BestEffort;
        let room = if is_charged {
            local.ways[way as usize].forwarded + charge <= total_bytes
        } else {
            local.is_open(to)
        };
        if !room {
            return Err(Refusal::QueueFull);
        }
        local.name(way);
        let origin = if is_charged {
            local.ways[way as usize].forwarded += charge;
            local.origins.charge((message.peer, message.session, message.alias), way, charge)
        } else {
            UNCHARGED
        };
        let asked = message.request.map(|to| local.asked.add(to));
        let kind = asked
            .map_or(Kind::Forwarded, |id| Kind::ForwardedRequest { id: id | FORWARDED_REQUEST });
        let header = Header {
            way,
            origin,
            kind,
            service: message.service,
            deadline: None,
            sender: *message.sender,
            charge: if is_charged { charge } else { 0 },
        };
        local.counters.forwarded += 1;
        let body = match &mut message.body {
            Body::Borrowed(body) => Carried::Slice(body),
            Body::Assembled(body) => Carried::Owned(std::mem::take(*body).into()),
        };
        local.answer(to, What::Message(header), body);
        if !is_charged {
            return Ok(Disposition::Consumed);
        }
        local.passed.begin(Passing { to, way, asked });
        Ok(Disposition::Deferred)
    }

    fn learn_name(&mut self, from: usize, way: u32, channel: ChannelId, name: FlowName) {
        if self.named_flows.len() <= from {
            self.named_flows.resize_with(from + 1, Vec::new);
        }
        let known = &mut self.named_flows[from];
        if known.len() <= way as usize {
            known.resize_with(way as usize + 1, || None);
        }
        let generation = self.flows.generation();
        let found = self.flows.find(channel, name.as_str()).map(|(number, _)| number);
        known[way as usize] = Some(NamedFlow { channel, name, found, generation, told_gone: None });
    }

    /// Our number of the flow that shard `from` calls `way`.
    #[inline]
    fn find_named(&mut self, from: usize, way: u32) -> Option<u32> {
        let named = self.named_flows.get_mut(from)?.get_mut(way as usize)?.as_mut()?;
        let generation = self.flows.generation();
        if named.generation != generation {
            let found = self.flows.find(named.channel, named.name.as_str());
            (named.found, named.generation) = (found.map(|(number, _)| number), generation);
        }
        named.found
    }

    fn take_message(&mut self, from: usize, header: Header, item: &mut Handed) {
        // Taken whatever becomes of it: what stays in the item stays until its place in the ring is used again.
        let long = item.take_long();
        let is_late = header.deadline.is_some_and(|at| at <= self.now);
        if is_late && let Kind::Acknowledged { id } | Kind::Request { id } = header.kind {
            self.local.answer(
                from,
                What::Settled { id, settlement: Settlement::Expired },
                Carried::Nothing,
            );
            return;
        }
        let result = self.deliver_handed(from, &header, item.short(), long);
        let is_told = header.kind != Kind::BestEffort && header.origin != UNCHARGED;
        if result == Err(Refusal::NoSuchFlow) && !is_told {
            self.tell_gone(from, header.way);
        }
        let credit = What::Credit { origin: header.origin, charge: header.charge };
        let answer = match (header.kind, result) {
            (Kind::BestEffort, result) => {
                self.local.counters.dropped += u64::from(result.is_err());
                credit
            }
            (Kind::Acknowledged { id } | Kind::Request { id }, result) => {
                let settlement = match result {
                    Ok(Disposition::Consumed) => Settlement::Consumed,
                    Ok(Disposition::Held | Disposition::Deferred) => Settlement::Held,
                    Err(refusal) => Settlement::Refused(refusal),
                };
                What::Settled { id, settlement }
            }
            (_, result) => {
                self.answer_for_peer(from, &header, result.err());
                match result {
                    Ok(Disposition::Held) => return,
                    _ => credit,
                }
            }
        };
        if !matches!(answer, What::Credit { charge: 0, .. }) {
            self.local.answer(from, answer, Carried::Nothing);
        }
    }

    /// Has shard `from` look again who has this flow. Once for each change of the registry: it looks after that.
    #[cold]
    fn tell_gone(&mut self, from: usize, way: u32) {
        let generation = self.local.facts.registry.generation();
        let known = self.named_flows.get_mut(from).and_then(|known| known.get_mut(way as usize));
        let Some(Some(named)) = known else { return };
        if named.told_gone.replace(generation) != Some(generation) {
            self.local.answer(from, What::Gone { way }, Carried::Nothing);
        }
    }

    /// Says what became of a peer's message that shard `from` passed on.
    fn answer_for_peer(&mut self, from: usize, header: &Header, refusal: Option<Refusal>) {
        let counters = &mut self.local.counters;
        match refusal {
            // Nobody is told of best effort.
            _ if header.origin == UNCHARGED => counters.dropped += u64::from(refusal.is_some()),
            None => self.local.passed.take(from),
            Some(refusal) => {
                counters.forwarded_refused += 1;
                self.local.refuse_passed(from, refusal);
            }
        }
    }

    fn deliver_handed(
        &mut self,
        from: usize,
        header: &Header,
        short: &[u8],
        long: Option<Bytes>,
    ) -> Result<Disposition, Refusal> {
        let number = self.find_named(from, header.way).ok_or(Refusal::NoSuchFlow)?;
        let flow = self.flows.get_mut(number).ok_or(Refusal::NoSuchFlow)?;
        debug_assert!(
            !matches!(flow.sink, Sink::Forward { .. }),
            "names lead to flows of this shard"
        );
        let request = match header.kind {
            Kind::Request { id } | Kind::ForwardedRequest { id } => {
                Some(ReplyTo { peer: HERE, session: from as u32, request: id })
            }
            _ => None,
        };
        if request.is_some() && !flow.takes_requests {
            return Err(Refusal::NotAServer);
        }
        // Long bodies were made for this message alone, mostly: then they are taken as they are.
        let mut long = long.map(Vec::from);
        let body = match &mut long {
            Some(body) if body.len() >= OWNED_BODY_BYTES_MIN => Body::Assembled(body),
            Some(body) => Body::Borrowed(body),
            None => Body::Borrowed(short),
        };
        if body.as_slice().len() as u64 > flow.message_bytes_max {
            return Err(Refusal::TooLarge);
        }
        self.local.counters.taken += 1;
        let mut message = Incoming {
            peer: HERE,
            sender: &header.sender,
            flow: number,
            alias: header.origin,
            session: from as u32,
            body,
            request,
            service: header.service,
        };
        flow.deliver(&mut message, &self.outbox, self.now)
    }

    fn take_credit(&mut self, origin: u32, charge: u64) {
        if origin & FORWARDED == 0 {
            return self.local.give_back(origin, charge);
        }
        if let Some(((peer, session, alias), way)) = self.local.origins.give_back(origin, charge) {
            self.local.ways[way as usize].forwarded -= charge;
            self.outbox.borrow_mut().release(Release { peer, session, alias, charge });
        }
    }
}
