//! Messages to one destination that wait for room, and the credit withheld meanwhile.
//!
//! Bodies lie in one buffer, so that waiting costs a copy and no allocation. Always holds: messages
//! leave in the order they came, and withheld credit is given back when the last one has left.

use std::collections::VecDeque;

use cubed_transport::{FlowId, PeerId, ReplyTo, SendOptions, Service};

use crate::limits::{MESSAGE_CHARGE_BYTES, STALLED_GAP_BYTES_MAX};

/// Where a message of the outbox goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// To a flow of a peer.
    Flow(FlowId, SendOptions),
    /// Back to who asked.
    Reply(ReplyTo),
}

impl Target {
    pub(crate) fn peer(self) -> PeerId {
        match self {
            Self::Flow(flow, _) => flow.peer,
            Self::Reply(to) => to.peer,
        }
    }

    /// The same message, to where its flow has moved.
    pub(crate) fn moved(self, to: FlowId) -> Self {
        match self {
            Self::Flow(_, options) => Self::Flow(to, options),
            Self::Reply(to) => Self::Reply(to),
        }
    }

    /// Whether it is a message whose end is told and counted.
    pub(crate) fn has_outcome(self) -> bool {
        matches!(self, Self::Flow(_, options) if options.service != Service::BestEffort)
    }

    /// Whether the order of these two matters: same flow, or both replies to the same peer.
    pub(crate) fn shares_order(self, other: Self) -> bool {
        match (self, other) {
            (Self::Flow(one, _), Self::Flow(two, _)) => one == two,
            (Self::Reply(one), Self::Reply(two)) => one.peer == two.peer,
            _ => false,
        }
    }
}

/// Credit that goes back to a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) peer: PeerId,
    pub(crate) session: u32,
    pub(crate) alias: u32,
    pub(crate) charge: u64,
}

impl Release {
    pub(crate) fn shares_name(&self, other: &Self) -> bool {
        (self.peer, self.session, self.alias) == (other.peer, other.session, other.alias)
    }
}

/// Messages to one destination that wait for room.
pub(crate) struct Stalled {
    target: Target,
    bodies: Vec<u8>,
    /// Where the first message's body begins.
    head: usize,
    messages: VecDeque<(Target, usize)>,
    withheld: Vec<Release>,
}

impl Stalled {
    /// Begins with the message that found no room.
    pub(crate) fn new(target: Target, body: &[u8]) -> Self {
        let mut stalled = Self {
            target,
            bodies: Vec::new(),
            head: 0,
            messages: VecDeque::new(),
            withheld: Vec::new(),
        };
        stalled.push(target, body);
        stalled
    }

    /// What the messages have in common: a flow, or a peer that gets replies.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    pub(crate) fn push(&mut self, target: Target, body: &[u8]) {
        self.bodies.extend_from_slice(body);
        self.messages.push_back((target, body.len()));
    }

    /// The first message.
    pub(crate) fn first(&self) -> Option<(Target, &[u8])> {
        let (target, bytes) = *self.messages.front()?;
        Some((target, &self.bodies[self.head..self.head + bytes]))
    }

    /// The flow has moved: all of them go there.
    pub(crate) fn follow(&mut self, to: FlowId) {
        self.target = self.target.moved(to);
        for (target, _) in &mut self.messages {
            *target = target.moved(to);
        }
    }

    /// Removes the first message.
    pub(crate) fn pop(&mut self) {
        let Some((_, bytes)) = self.messages.pop_front() else {
            return;
        };
        self.head += bytes;
        if self.messages.is_empty() {
            self.bodies.clear();
            self.head = 0;
        } else if self.head > STALLED_GAP_BYTES_MAX && self.head > self.bodies.len() / 2 {
            // What is moved is less than what has left since the last move.
            self.bodies.drain(..self.head);
            self.head = 0;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What the messages are charged.
    pub(crate) fn bytes(&self) -> usize {
        self.bodies.len() - self.head + self.messages.len() * MESSAGE_CHARGE_BYTES as usize
    }

    /// Messages with an outcome among those that wait.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.messages.iter().filter(|(target, _)| target.has_outcome()).count() as u64
    }

    /// Keeps back the credit of a message that made one of these.
    pub(crate) fn withhold(&mut self, release: Release) {
        let present = self.withheld.iter_mut().rev();
        match present.take(4).find(|one| one.shares_name(&release)) {
            Some(one) => one.charge += release.charge,
            None => self.withheld.push(release),
        }
    }

    /// The credit kept back, once nothing waits any more.
    pub(crate) fn into_withheld(self) -> Vec<Release> {
        self.withheld
    }
}

#[cfg(test)]
mod tests {
    //! Goal: bodies come back whole and in order, whatever is moved meanwhile.
    use super::*;

    fn flow(alias: u32) -> Target {
        let peer = PeerId(1);
        Target::Flow(FlowId { peer, alias }, SendOptions::default())
    }

    #[test]
    fn messages_come_back_in_order_across_moves() {
        let body = |number: usize| vec![number as u8; 1_000 + number % 7];
        let mut stalled = Stalled::new(flow(1), &body(0));
        let (mut pushed, mut popped) = (1, 0);
        while popped < 2_000 {
            // Grows to 500 messages, then shrinks to 1, again and again.
            while pushed < popped + 500 {
                stalled.push(flow(1), &body(pushed));
                pushed += 1;
            }
            for _ in 0..499 {
                assert_eq!(stalled.first().unwrap().1, body(popped));
                stalled.pop();
                popped += 1;
            }
            assert!(stalled.bodies.len() < 4 * STALLED_GAP_BYTES_MAX);
            assert_eq!(stalled.bytes(), body(popped).len() + 64);
        }
        stalled.pop();
        assert!(stalled.is_empty() && stalled.first().is_none());
        assert_eq!(stalled.bytes(), 0);
    }

    #[test]
    fn withheld_credit_is_summed_by_its_name() {
        let release = |alias, charge| Release { peer: PeerId(2), session: 3, alias, charge };
        let mut stalled = Stalled::new(flow(1), b"x");
        for (alias, charge) in [(1, 70), (2, 80), (1, 5)] {
            stalled.withhold(release(alias, charge));
        }
        assert_eq!(stalled.into_withheld(), [release(1, 75), release(2, 80)]);
    }

    #[test]
    fn order_is_shared_by_flow_or_by_the_asker() {
        let reply = |peer, request| {
            let peer = PeerId(peer);
            Target::Reply(ReplyTo { peer, session: 1, request })
        };
        assert!(reply(1, 1).shares_order(reply(1, 2)));
        assert!(!reply(1, 1).shares_order(reply(2, 1)));
        assert!(flow(1).shares_order(flow(1)) && !flow(1).shares_order(flow(2)));
        assert!(!flow(1).shares_order(reply(1, 1)));
    }
}
