//! What the endpoint asks of its user while it handles a datagram: policy, flows, ends of requests.
//!
//! Always holds: a message reaches a flow only if the policy of the present generation allows its
//! sender's proven key to do that verb there. What a binding allows travels in its number, so a
//! message costs one index and one bit.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_router::policy::Verb;
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Deferred, Disposition, Incoming, Newcomer, Outcome,
    PeerId, Refusal, Row, Token, Verdict,
};

use crate::arrivals::NamedFlow;
use crate::bodies::ReplyBodies;
use crate::changes::Change;
use crate::flows::{Flow, Flows, Sink};
use crate::local::Local;
use crate::node_shared::NodeShared;
use crate::outbox::Outbox;
use crate::registry::Registered;
use crate::trust::ShardTrust;
use crate::waits::{End, Waits};

/// The receiving side of one shard.
pub(crate) struct Receiver {
    pub(crate) flows: Flows,
    /// Messages to flows of this node, its own shards' and forwarded ones.
    pub(crate) local: Local,
    /// What the other shards call their messages' flows, by shard and number.
    pub(crate) named_flows: Vec<Vec<Option<NamedFlow>>>,
    /// Replies to forwarded requests for which the outbox had no room.
    pub(crate) replies_lost: u64,
    /// For bodies of replies to us.
    pub(crate) replies: ReplyBodies,
    pub(crate) waits: Waits,
    /// By channel, the default one first.
    pub(crate) channels: Vec<ShardTrust>,
    /// How often this shard has heard that somebody's rights may have changed: a policy replaced, a key accepted or not
    /// any more.
    pub(crate) trust_changes: u32,
    pub(crate) node: Arc<NodeShared>,
    pub(crate) outbox: Rc<RefCell<Outbox>>,
    pub(crate) now: Instant,
    pub(crate) bindings_refused: u64,
}

impl Application for Receiver {
    fn admit(&mut self, channel: ChannelId, key: &PublicKey) -> bool {
        self.channels[usize::from(channel.0)].admits(key)
    }

    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let (verdict, removed) = self.channels[usize::from(newcomer.channel.0)].judge(newcomer);
        if !removed.is_empty() {
            let ended = |key| Change::Ended(newcomer.channel, key);
            self.node.tell(removed.into_iter().map(ended));
        }
        verdict
    }

    fn bind(
        &mut self,
        channel: ChannelId,
        _peer: PeerId,
        key: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        let result = self.find_allowed(channel, key, flow);
        if let Err(refusal) = result {
            self.bindings_refused += 1;
            tracing::info!(peer = %key.fingerprint(), flow, ?refusal, "flow refused to peer");
        }
        result
    }

    fn generation(&self) -> u32 {
        // All parts only grow, so the sum changes whenever one of them does.
        let flows = self.flows.generation().wrapping_add(self.local.facts.registry.generation());
        self.trust_changes.wrapping_add(flows)
    }

    #[inline]
    fn deliver(&mut self, mut message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let (number, allowed) = unpack(message.flow);
        let flow = self.flows.get_mut(number).ok_or(Refusal::NoSuchFlow)?;
        let needed = if message.request.is_some() {
            if !flow.takes_requests {
                return Err(Refusal::NotAServer);
            }
            MAY_REQUEST
        } else {
            MAY_SEND
        };
        if allowed & needed == 0 {
            return Err(Refusal::Denied);
        }
        if let Sink::Forward { way, total_bytes } = flow.sink {
            return self.forward(way, total_bytes, &mut message);
        }
        flow.deliver(&mut message, &self.outbox, self.now)
    }

    #[inline]
    fn deliver_row(&mut self, row: &mut Row<'_>) -> Result<Disposition, Refusal> {
        let (number, allowed) = unpack(row.flow());
        if allowed & MAY_SEND != 0
            && let Some(flow) = self.flows.get_mut(number)
            && let Sink::Handler(_) = flow.sink
        {
            flow.deliver_row(row, &self.outbox, self.now);
            return Ok(Disposition::Consumed);
        }
        row.deliver_each(self)
    }

    fn defer(&mut self, message: Deferred) {
        self.local.passed.note(message);
    }

    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        let end = match result {
            Ok(Body::Assembled(body)) => End::Reply(Bytes::from(std::mem::take(body))),
            Ok(body) => End::Reply(self.replies.copy(body.as_slice())),
            Err(outcome) => End::Outcome(outcome),
        };
        self.waits.end(token, end);
    }
}

impl Receiver {
    fn find_allowed(
        &mut self,
        channel: ChannelId,
        key: &PublicKey,
        name: &str,
    ) -> Result<Binding, Refusal> {
        let trust = &self.channels[usize::from(channel.0)];
        let may = |verb, bit| u32::from(trust.allows(key, verb, name)) * bit;
        let allowed = may(Verb::Send, MAY_SEND) | may(Verb::Request, MAY_REQUEST);
        if allowed == 0 {
            // Before the name is looked up: who may not use a flow need not learn whether it exists.
            return Err(Refusal::Denied);
        }
        if let Some((number, flow)) = self.flows.find(channel, name) {
            return Ok(Binding {
                flow: pack(number, allowed),
                window_bytes: flow.window_bytes,
                message_bytes_max: flow.message_bytes_max,
            });
        }
        let found = self.local.find_elsewhere(channel, name).ok_or(Refusal::NoSuchFlow)?;
        let number = self.bind_elsewhere(channel, name, &found)?;
        Ok(Binding {
            flow: pack(number, allowed),
            window_bytes: found.window_bytes,
            message_bytes_max: found.message_bytes_max,
        })
    }

    /// The number by which messages for a flow of another shard come in here.
    fn bind_elsewhere(
        &mut self,
        channel: ChannelId,
        name: &str,
        found: &Registered,
    ) -> Result<u32, Refusal> {
        let name = FlowName::new(name).map_err(|_| Refusal::NoSuchFlow)?;
        let way = self.local.open(channel, &name).map_err(|_| Refusal::QueueFull)?;
        let sink = Sink::Forward { way, total_bytes: found.total_bytes };
        let mut flow = Flow::new(channel, name, sink, found.window_bytes, found.message_bytes_max);
        flow.takes_requests = found.takes_requests;
        Ok(self.flows.forward(flow))
    }
}

const MAY_SEND: u32 = 1;
const MAY_REQUEST: u32 = 2;

const fn pack(number: u32, allowed: u32) -> u32 {
    number << 2 | allowed
}

const fn unpack(binding: u32) -> (u32, u32) {
    (binding >> 2, binding & 3)
}
