//! The flows of one shard that others may send to, by name and by number.
//!
//! A flow is looked up by name once per binding and by number per message. Numbers are never reused, so
//! that a message on its way to a flow that is gone cannot reach another one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cubed_router::address::FlowName;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, Disposition, Incoming, Refusal, Row};

use crate::handler::{Handler, run};
use crate::outbox::Outbox;
use crate::queue::SharedQueue;
use crate::registry::Registration;

/// Who takes a flow's messages.
pub(crate) enum Sink {
    Handler(Box<dyn Handler>),
    Queue(SharedQueue),
    /// Another shard of this node has the flow: its messages go there, at most `total_bytes` under way.
    Forward {
        way: u32,
        total_bytes: u64,
    },
}

impl Sink {
    /// Whether both pass messages on alike.
    fn forwards_as(&self, other: &Self) -> bool {
        let terms = |sink: &Self| match *sink {
            Self::Forward { way, total_bytes } => Some((way, total_bytes)),
            Self::Handler(_) | Self::Queue(_) => None,
        };
        terms(self).is_some_and(|one| terms(other) == Some(one))
    }
}

/// One flow.
pub(crate) struct Flow {
    pub(crate) channel: ChannelId,
    pub(crate) name: FlowName,
    pub(crate) sink: Sink,
    pub(crate) window_bytes: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) takes_requests: bool,
    pub(crate) registration: Option<Rc<Registration>>,
    accepted: u64,
    accepted_bytes: u64,
    refused: u64,
}

impl Flow {
    pub(crate) fn new(
        channel: ChannelId,
        name: FlowName,
        sink: Sink,
        window_bytes: u64,
        message_bytes_max: u64,
    ) -> Self {
        Self {
            channel,
            name,
            sink,
            window_bytes,
            message_bytes_max,
            takes_requests: true,
            registration: None,
            accepted: 0,
            accepted_bytes: 0,
            refused: 0,
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sink {
            Sink::Handler(_) | Sink::Forward { .. } => false,
            Sink::Queue(queue) => queue.borrow().is_closed(),
        }
    }

    /// Hands one message to the handler or the queue, which may take its body. By reference: to copy what was just written costs
    /// more than all the rest of it.
    pub(crate) fn deliver(
        &mut self,
        message: &mut Incoming<'_>,
        outbox: &Rc<RefCell<Outbox>>,
        now: Instant,
    ) -> Result<Disposition, Refusal> {
        let bytes = message.body.as_slice().len() as u64;
        let result = match &mut self.sink {
            Sink::Queue(queue) => queue.borrow_mut().push(message).map(|()| Disposition::Held),
            Sink::Handler(handler) => run(&mut **handler, message, outbox, now),
            Sink::Forward { .. } => Err(Refusal::NoSuchFlow),
        };
        match result {
            Ok(_) => {
                self.accepted += 1;
                self.accepted_bytes += bytes;
            }
            Err(_) => self.refused += 1,
        }
        result
    }

    /// Hands a row of messages to the handler.
    #[inline]
    pub(crate) fn deliver_row(
        &mut self,
        row: &mut Row<'_>,
        outbox: &Rc<RefCell<Outbox>>,
        now: Instant,
    ) {
        let Sink::Handler(handler) = &mut self.sink else { return };
        let (messages, bytes) = handler.handle_row(row, outbox, now);
        self.accepted += messages;
        self.accepted_bytes += bytes;
    }
}

/// How a flow stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStats {
    /// The flow's name.
    pub name: FlowName,
    /// Messages accepted.
    pub accepted: u64,
    /// Bytes of their bodies.
    pub accepted_bytes: u64,
    /// Messages refused because the queue or the outbox was full.
    pub refused: u64,
    /// Messages held by the queue and by batches in use; 0 for handlers.
    pub queued: u64,
    /// What these are charged, bytes: their bodies and 64 each.
    pub queued_bytes: u64,
}

/// All flows of one shard.
#[derive(Default)]
pub(crate) struct Flows {
    /// By channel; grows as flows are registered.
    by_name: Vec<HashMap<FlowName, u32>>,
    by_number: Vec<Option<Flow>>,
    /// Flows of other shards that peers send to through this one.
    forwards: HashMap<(ChannelId, FlowName), u32>,
    generation: u32,
}

impl Flows {
    /// Adds a flow; gives it back when the name is taken.
    pub(crate) fn add(&mut self, flow: Flow) -> Result<(), Flow> {
        let channel = usize::from(flow.channel.0);
        if self.by_name.len() <= channel {
            self.by_name.resize_with(channel + 1, HashMap::new);
        }
        if let Some(present) = self.by_name[channel].get(&flow.name) {
            let present = *present;
            if self.get(present).is_some_and(|flow| !flow.is_closed()) {
                return Err(flow);
            }
            self.by_number[present as usize] = None;
        }
        self.by_name[channel].insert(flow.name.clone(), self.by_number.len() as u32);
        self.by_number.push(Some(flow));
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// The number by which messages of peers for a flow of another shard come in here.
    pub(crate) fn forward(&mut self, flow: Flow) -> u32 {
        let target = (flow.channel, flow.name.clone());
        let present = self.forwards.get(&target).copied();
        let is_same = |one: &Flow| {
            one.window_bytes == flow.window_bytes
                && one.message_bytes_max == flow.message_bytes_max
                && one.takes_requests == flow.takes_requests
                && one.sink.forwards_as(&flow.sink)
        };
        if let Some(number) = present
            && self.get(number).is_some_and(is_same)
        {
            return number;
        }
        if let Some(number) = present {
            self.by_number[number as usize] = None;
        }
        let number = self.by_number.len() as u32;
        self.forwards.insert(target, number);
        self.by_number.push(Some(flow));
        number
    }

    /// Removes a flow; whether there was one.
    pub(crate) fn remove(&mut self, channel: ChannelId, name: &str) -> bool {
        let names = self.by_name.get_mut(usize::from(channel.0));
        let Some(number) = names.and_then(|names| names.remove(name)) else {
            return false;
        };
        if let Some(flow) = self.by_number[number as usize].take()
            && let Some(registration) = flow.registration
        {
            registration.withdraw();
        }
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// The number and the flow of a name.
    pub(crate) fn find(&self, channel: ChannelId, name: &str) -> Option<(u32, &Flow)> {
        let number = *self.by_name.get(usize::from(channel.0))?.get(name)?;
        let flow = self.by_number.get(number as usize)?.as_ref()?;
        (!flow.is_closed()).then_some((number, flow))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Flow> {
        self.by_number.get_mut(number as usize)?.as_mut()
    }

    fn get(&self, number: u32) -> Option<&Flow> {
        self.by_number.get(number as usize)?.as_ref()
    }

    /// Changes whenever a flow is added or removed.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Tells all queues that no more messages will come.
    pub(crate) fn stop(&mut self) {
        for flow in self.by_number.iter().flatten() {
            if let Sink::Queue(queue) = &flow.sink {
                queue.borrow_mut().stop();
            }
        }
    }

    pub(crate) fn stats(&self) -> Vec<FlowStats> {
        let stats = |flow: &Flow| {
            let (queued, queued_bytes) = match &flow.sink {
                Sink::Handler(_) | Sink::Forward { .. } => (0, 0),
                Sink::Queue(queue) => queue.borrow().held(),
            };
            FlowStats {
                name: flow.name.clone(),
                accepted: flow.accepted,
                accepted_bytes: flow.accepted_bytes,
                refused: flow.refused,
                queued,
                queued_bytes,
            }
        };
        let flows = self.by_number.iter().flatten();
        flows.filter(|flow| !matches!(flow.sink, Sink::Forward { .. })).map(stats).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: names are unique, numbers are never reused, removal is final.
    use super::*;
    use crate::message::{Context, Message};
    use crate::queue::{Capacity, Queue, QueueState};

    const DEFAULT: ChannelId = ChannelId::DEFAULT;

    fn flow(name: &str) -> Flow {
        let sink = Sink::Handler(Box::new(|_: &Message<'_>, _: &mut Context<'_>| {}));
        Flow::new(DEFAULT, FlowName::new(name).unwrap(), sink, 1, 1)
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut flows = Flows::default();
        assert!(flows.add(flow("a")).is_ok());
        assert!(flows.add(flow("a")).is_err());
        assert_eq!(flows.find(DEFAULT, "a").unwrap().0, 0);
        assert!(flows.find(DEFAULT, "b").is_none());
    }

    #[test]
    fn each_channel_has_names_of_its_own() {
        let mut flows = Flows::default();
        let garden = ChannelId(1);
        assert!(flows.add(flow("a")).is_ok());
        assert!(flows.find(garden, "a").is_none());
        let there = Flow { channel: garden, ..flow("a") };
        assert!(flows.add(there).is_ok());
        assert_eq!(flows.find(garden, "a").unwrap().0, 1);
        assert!(flows.remove(garden, "a") && flows.find(garden, "a").is_none());
        assert_eq!(flows.find(DEFAULT, "a").unwrap().0, 0);
    }

    #[test]
    fn a_removed_flow_gives_its_number_to_nobody() {
        let mut flows = Flows::default();
        assert!(flows.add(flow("a")).is_ok());
        let before = flows.generation();
        assert!(flows.remove(DEFAULT, "a") && !flows.remove(DEFAULT, "a"));
        assert_ne!(flows.generation(), before);
        assert!(flows.add(flow("a")).is_ok());
        assert_eq!(flows.find(DEFAULT, "a").unwrap().0, 1);
        assert!(flows.get_mut(0).is_none());
    }

    #[test]
    fn a_forward_is_replaced_when_any_of_its_terms_changes() {
        let mut flows = Flows::default();
        let mut forward = |total_bytes, window| {
            let sink = Sink::Forward { way: 3, total_bytes };
            flows.forward(Flow::new(DEFAULT, FlowName::new("f").unwrap(), sink, window, 1))
        };
        let numbers =
            [(64, 1), (64, 1), (128, 1), (128, 2)].map(|(total, one)| forward(total, one));
        assert_eq!(numbers, [0, 0, 1, 2]);
        let present = flows.get_mut(2).map(|flow| &flow.sink);
        assert!(matches!(present, Some(Sink::Forward { total_bytes: 128, .. })));
        assert!(flows.get_mut(0).is_none() && flows.get_mut(1).is_none());
    }

    #[test]
    fn the_name_of_a_dropped_queue_is_free_again() {
        let mut flows = Flows::default();
        let state = QueueState::new(Capacity::bytes(100));
        let sink = Sink::Queue(Rc::clone(&state));
        let named = FlowName::new("q").unwrap();
        assert!(flows.add(Flow::new(DEFAULT, named, sink, 1, 1)).is_ok());
        drop(Queue::new(state, Rc::default(), None));
        assert!(flows.find(DEFAULT, "q").is_none());
        assert!(flows.add(flow("q")).is_ok());
    }
}
