//! What the endpoint asks of its user while it handles a datagram: policy, flows, ends of requests.
//!
//! Always holds: a message reaches a flow only if the policy of the present generation allows its
//! sender's proven key to do that verb there. What a binding allows travels in its number, so a
//! message costs one index and one bit.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cubed_router::policy::{Policy, Verb};
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, Body, Disposition, Incoming, Outcome, PeerId, Refusal, Token,
};

use crate::flows::Flows;
use crate::outbox::Outbox;
use crate::waits::{End, Waits};

/// The receiving side of one shard.
pub(crate) struct Receiver {
    pub(crate) flows: Flows,
    pub(crate) waits: Waits,
    pub(crate) policy: Arc<Policy>,
    /// How often the policy was replaced.
    pub(crate) policy_swaps: u32,
    /// Peers that this node knows by configuration or has resolved: they may have a session, whatever
    /// the policy lets them do in it.
    pub(crate) known: HashSet<PublicKey>,
    pub(crate) outbox: Rc<RefCell<Outbox>>,
    pub(crate) now: Instant,
    pub(crate) bindings_refused: u64,
}

impl Application for Receiver {
    fn admit(&mut self, key: &PublicKey) -> bool {
        self.known.contains(key) || self.policy.admits(key)
    }

    fn bind(&mut self, _peer: PeerId, key: &PublicKey, flow: &str) -> Result<Binding, Refusal> {
        let result = self.find_allowed(key, flow);
        if let Err(refusal) = result {
            self.bindings_refused += 1;
            tracing::info!(peer = %key.fingerprint(), flow, ?refusal, "flow refused to peer");
        }
        result
    }

    fn generation(&self) -> u32 {
        // Both parts only grow, so the sum changes whenever one of them does.
        self.policy_swaps.wrapping_add(self.flows.generation())
    }

    #[inline]
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
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
        flow.deliver(message, &self.outbox, self.now)
    }

    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        let end = match result {
            Ok(Body::Assembled(body)) => End::Reply(Bytes::from(std::mem::take(body))),
            Ok(body) => End::Reply(Bytes::copy_from_slice(body.as_slice())),
            Err(outcome) => End::Outcome(outcome),
        };
        self.waits.end(token, end);
    }
}

impl Receiver {
    fn find_allowed(&self, key: &PublicKey, name: &str) -> Result<Binding, Refusal> {
        let may = |verb, bit| u32::from(self.policy.allows(key, verb, name)) * bit;
        let allowed = may(Verb::Send, MAY_SEND) | may(Verb::Request, MAY_REQUEST);
        if allowed == 0 {
            // Before the name is looked up: who may not use a flow need not learn whether it exists.
            return Err(Refusal::Denied);
        }
        let (number, flow) = self.flows.find(name).ok_or(Refusal::NoSuchFlow)?;
        Ok(Binding {
            flow: pack(number, allowed),
            window_bytes: flow.window_bytes,
            message_bytes_max: flow.message_bytes_max,
        })
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
