//! Registering a flow: its limits, and who takes its messages.

use std::rc::Rc;

use cubed_router::address::FlowName;
use cubed_transport::limits::UNBOUND_CREDIT_BYTES;

use crate::application::Receiver;
use crate::error::FlowError;
use crate::flows::{Flow, Sink};
use crate::limits::{
    HANDLER_WINDOW_BYTES_MIN, MESSAGE_CHARGE_BYTES, QUEUE_BYTES_MAX, QUEUE_HELD_BYTES_MAX,
};
use crate::message::{Context, Message};
use crate::queue::{Capacity, Queue, QueueState};
use crate::registry::{Registered, Registration};
use crate::shared::Shared;

/// A flow about to be registered: end with [`FlowBuilder::handler`] or [`FlowBuilder::queue`].
#[must_use = "a flow is registered by `handler` or `queue`"]
pub struct FlowBuilder {
    shared: Rc<Shared>,
    name: String,
    channel: String,
    message_bytes_max: Option<u64>,
    takes_requests: bool,
    is_pinned: bool,
}

impl FlowBuilder {
    pub(crate) fn new(shared: Rc<Shared>, name: &str) -> Self {
        let (name, channel) = (name.to_owned(), String::new());
        Self {
            shared,
            name,
            channel,
            message_bytes_max: None,
            takes_requests: true,
            is_pinned: false,
        }
    }

    /// Registers the flow on this channel instead of the default one. A flow is on one channel: messages of the others
    /// never reach it. To take them too, register the name on each of them.
    pub fn channel(mut self, name: &str) -> Self {
        name.clone_into(&mut self.channel);
        self
    }

    /// Refuses longer messages, before their first byte travels. Default: the node's limit, 64 MiB.
    pub fn message_bytes_max(mut self, bytes: u64) -> Self {
        self.message_bytes_max = Some(bytes);
        self
    }

    /// Whether requests are taken; otherwise they are refused with [`crate::Refusal::NotAServer`].
    /// Default: they are.
    pub fn takes_requests(mut self, takes: bool) -> Self {
        self.takes_requests = takes;
        self
    }

    /// Pins the flow to this shard: no other shard of the node may register its name. Default: any may, and messages go to the
    /// one that owns the name ([`crate::Shard::owner`]) or, if that has not registered it, to the lowest that has.
    ///
    /// Peers send to the owner, which hands over what is for another shard: that costs a hand-off a message. *Delivered* means
    /// what it always does, that the handler returned or the queue accepted: the owner waits for this shard's word. A message
    /// that comes when the flow has been removed is refused ([`crate::LocalStats::forwarded_refused`]). While this shard stands
    /// still, messages of the owner's other flows arrive but are not told delivered, and their senders find no room in the end. No
    /// session ends for it.
    pub fn pinned(mut self) -> Self {
        self.is_pinned = true;
        self
    }

    /// Calls `handler` for each message, on the shard, while the datagram is open: no copy, no task, no
    /// wake-up. The flow lives until [`crate::Shard::remove_flow`].
    ///
    /// The handler must not block and had better be short: nothing else runs on the shard meanwhile. If
    /// it panics, the node stops. What it sends leaves after it returned (see [`Context`]).
    ///
    /// Each sender has credit for 4 MiB, or for one longest message if that is more. A handler that
    /// sends on what it gets had better lower [`FlowBuilder::message_bytes_max`] to below 4 MiB, so
    /// that what its senders have under way fits the outbox.
    ///
    /// # Errors
    ///
    /// [`FlowError`]: the name is taken or breaks a rule, or a limit is out of range.
    pub fn handler(
        self,
        handler: impl FnMut(&Message<'_>, &mut Context<'_>) + 'static,
    ) -> Result<(), FlowError> {
        let bytes_max = self.shared.facts.message_bytes_max;
        let bytes = self.checked_message_bytes(bytes_max)?;
        let window = HANDLER_WINDOW_BYTES_MIN.max(bytes + MESSAGE_CHARGE_BYTES);
        let total = window.saturating_mul(HANDLER_SENDERS);
        self.add(Sink::Handler(Box::new(handler)), (window, total), bytes).map(drop)
    }

    /// Copies messages into batches, which a task takes with [`Queue::next_batch`]. What a batch holds
    /// is charged to its senders until it is dropped. The flow lives as long as the queue.
    ///
    /// # Errors
    ///
    /// As [`FlowBuilder::handler`].
    pub fn queue(self, capacity: Capacity) -> Result<Queue, FlowError> {
        let sender_bytes = within(capacity.sender_bytes, QUEUE_SENDER_BYTES_MIN, QUEUE_BYTES_MAX)?;
        within(capacity.total_bytes, sender_bytes, QUEUE_HELD_BYTES_MAX)?;
        let bytes_max = self.shared.facts.message_bytes_max;
        let bytes =
            self.checked_message_bytes(bytes_max.min(sender_bytes - MESSAGE_CHARGE_BYTES))?;
        let state = QueueState::new(capacity);
        let outbox = Rc::clone(&self.shared.outbox);
        let total = capacity.total_bytes;
        let registration =
            self.add(Sink::Queue(Rc::clone(&state)), (sender_bytes, total), bytes)?;
        Ok(Queue::new(state, outbox, Some(registration)))
    }

    /// The message limit: what was asked for, which may not exceed `max`, or `max`.
    fn checked_message_bytes(&self, max: u64) -> Result<u64, FlowError> {
        self.message_bytes_max.map_or(Ok(max), |bytes| within(bytes, 0, max))
    }

    fn add(
        self,
        sink: Sink,
        (window_bytes, total_bytes): (u64, u64),
        message_bytes_max: u64,
    ) -> Result<Rc<Registration>, FlowError> {
        let name = FlowName::new(&self.name)?;
        let unknown = |_| FlowError::UnknownChannel(self.channel.clone());
        let channel = self.shared.facts.directory.channel(&self.channel).map_err(unknown)?;
        let mut flow = Flow::new(channel, name, sink, window_bytes, message_bytes_max);
        flow.takes_requests = self.takes_requests;
        let mut state = self.shared.try_state().ok_or(FlowError::InHandler)?;
        let Receiver { flows, local, .. } = &mut state.receiver;
        if flows.find(channel, flow.name.as_str()).is_some() {
            return Err(FlowError::Exists(self.name));
        }
        let registered = Registered {
            shard: self.shared.facts.index,
            window_bytes,
            total_bytes,
            message_bytes_max,
            takes_requests: self.takes_requests,
            is_pinned: self.is_pinned,
        };
        let registration = local.facts.registry.add(channel, &flow.name, registered);
        let pinned = |shard| FlowError::Pinned { name: self.name.clone(), shard };
        let registration = registration.map_err(pinned)?;
        flow.registration = Some(Rc::clone(&registration));
        let added = flows.add(flow);
        added.map_err(|flow| FlowError::Exists(flow.name.as_str().to_owned()))?;
        Ok(registration)
    }
}

/// Credit of a queue to one sender, at least: what a sender may use before it knows better.
const QUEUE_SENDER_BYTES_MIN: u64 = UNBOUND_CREDIT_BYTES;

/// How many senders' windows may be under way to a handler on another shard together.
const HANDLER_SENDERS: u64 = 16;

fn within(bytes: u64, min: u64, max: u64) -> Result<u64, FlowError> {
    if (min..=max).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(FlowError::Capacity { bytes, min, max })
    }
}
