//! Owns the flows of one peer: outgoing ones (name, alias, credit that we may use) and incoming ones (binding, credit that
//! we granted).
//!
//! What always holds: an alias is never reused within a session; `used <= limit` for a granted outgoing flow; an incoming
//! flow's `received` never passes what it was granted, or the session is broken.

use crate::endpoint::{Binding, FlowId, Refusal};
use crate::limits::{MESSAGE_CHARGE_BYTES, REFUSED_CREDIT_BYTES, UNBOUND_CREDIT_BYTES};

/// What a message of `bytes` costs in credit.
#[inline]
pub(crate) fn charge(bytes: u64) -> u64 {
    bytes + MESSAGE_CHARGE_BYTES
}

/// One outgoing flow; its alias is its index among the peer's flows.
#[derive(Debug)]
pub(crate) struct OutFlow {
    pub(crate) name: Box<str>,
    /// The receiver acknowledged a datagram with the name: the alias alone will do.
    pub(crate) bound: bool,
    /// Block that carries the name already, so that it stands once per block.
    pub(crate) named_in: u64,
    /// Absolute charge granted by the receiver; `None` until its first grant.
    pub(crate) limit: Option<u64>,
    /// Absolute charge used in this session.
    pub(crate) used: u64,
    /// Absolute limit wanted, while a message waits for credit; tells the receiver by BLOCKED.
    pub(crate) wanted: u64,
    /// Longest message that the receiver takes on this flow.
    pub(crate) message_bytes_max: u64,
    /// The receiver takes no messages on this flow, and why.
    pub(crate) refusal: Option<Refusal>,
    /// Sequence of its next ordered message.
    pub(crate) next_sequence: u64,
    /// Class in which its last ordered message waits or waited.
    pub(crate) order_class: u8,
    /// Group of its last ordered message, if that began one; else zero.
    pub(crate) order_group: u32,
    /// Ordered messages that wait for a session, or for room in it.
    pub(crate) ordered_waiting: u32,
    /// Lowest class in which one of them waits.
    pub(crate) waiting_class: u8,
    /// Stamp of the newest value offered.
    pub(crate) stamp: u64,
    /// Another lane has the flow. There is no credit then, so that only who is refused has to look here.
    pub(crate) moved: Option<FlowId>,
}

impl OutFlow {
    pub(crate) fn new(name: &str) -> Self {
        let name = name.into();
        Self {
            name,
            bound: false,
            named_in: u64::MAX,
            limit: None,
            used: 0,
            wanted: 0,
            message_bytes_max: u64::MAX,
            refusal: None,
            next_sequence: 0,
            order_class: 0,
            order_group: 0,
            ordered_waiting: 0,
            waiting_class: 0,
            stamp: 0,
            moved: None,
        }
    }

    /// Forgets what only one session knew.
    pub(crate) fn reset(&mut self) {
        let name = std::mem::take(&mut self.name);
        let (ordered_waiting, waiting_class) = (self.ordered_waiting, self.waiting_class);
        let moved = self.moved;
        *self = Self { name, ordered_waiting, waiting_class, ..Self::new("") };
        if let Some(to) = moved {
            self.on_moved(to);
        }
    }

    /// Another lane has the flow from here on.
    pub(crate) fn on_moved(&mut self, to: FlowId) {
        let name = std::mem::take(&mut self.name);
        let (limit, message_bytes_max) = (Some(0), 0);
        *self = Self { name, limit, message_bytes_max, moved: Some(to), ..Self::new("") };
    }

    /// The flow is back on this lane.
    pub(crate) fn on_returned(&mut self) {
        self.moved = None;
        self.reset();
    }
}

/// Credit of one session's outgoing flows.
#[derive(Debug, Default)]
pub(crate) struct OutCredit {
    /// Charge used by flows that have no grant yet.
    unbound_used: u64,
}

impl OutCredit {
    /// Takes the charge of one message, or tells that there is not enough.
    #[inline]
    pub(crate) fn take(&mut self, flow: &mut OutFlow, charge: u64) -> bool {
        if let Some(limit) = flow.limit {
            if flow.used + charge > limit {
                flow.wanted = flow.used + charge;
                return false;
            }
        } else {
            if self.unbound_used + charge > UNBOUND_CREDIT_BYTES {
                flow.wanted = flow.used + charge;
                return false;
            }
            self.unbound_used += charge;
        }
        flow.used += charge;
        true
    }

    /// Undoes [`OutCredit::take`] for a message that then found no room, or that the receiver will never see.
    #[inline]
    pub(crate) fn untake(&mut self, flow: &mut OutFlow, charge: u64) {
        flow.used = flow.used.saturating_sub(charge);
        if flow.limit.is_none() {
            self.unbound_used = self.unbound_used.saturating_sub(charge);
        }
    }

    /// Records a grant; limits only grow. Returns whether there is more credit than before.
    pub(crate) fn grant(&mut self, flow: &mut OutFlow, limit: u64) -> bool {
        let before = flow.limit;
        if before.is_none() {
            self.unbound_used -= flow.used;
        }
        flow.limit = Some(before.unwrap_or(0).max(limit));
        if flow.limit >= Some(flow.wanted) {
            flow.wanted = 0;
        }
        before < flow.limit
    }
}

/// One incoming flow of a session, found by the sender's alias.
#[derive(Debug)]
pub(crate) struct InFlow {
    pub(crate) name: Box<str>,
    /// What the application said, and under which of its generations.
    pub(crate) binding: Result<Binding, Refusal>,
    pub(crate) generation: u32,
    /// Absolute charge granted to the sender.
    pub(crate) granted: u64,
    /// Absolute charge that arrived.
    pub(crate) received: u64,
    /// Absolute charge that was consumed or refused.
    pub(crate) consumed: u64,
    /// Absolute limit that the sender last asked for.
    wanted: u64,
    /// The grant must be told (again).
    pub(crate) grant_due: bool,
}

impl InFlow {
    pub(crate) fn new(name: &str, binding: Result<Binding, Refusal>, generation: u32) -> Self {
        let mut flow = Self {
            name: name.into(),
            binding,
            generation,
            granted: 0,
            received: 0,
            consumed: 0,
            wanted: 0,
            grant_due: true,
        };
        flow.granted = flow.window();
        flow
    }

    /// Credit kept open for the sender.
    fn window(&self) -> u64 {
        match &self.binding {
            Ok(binding) => binding.window_bytes.max(UNBOUND_CREDIT_BYTES),
            Err(_) => REFUSED_CREDIT_BYTES,
        }
    }

    /// Takes a new answer of the application; returns whether it differs from the old one.
    pub(crate) fn rebind(&mut self, binding: Result<Binding, Refusal>) -> bool {
        let changed = self.binding != binding;
        self.binding = binding;
        self.granted = self.granted.max(self.consumed + self.window());
        self.grant_wanted();
        changed
    }

    /// Records the charge of an arriving message; `false` when the sender overdrew.
    #[inline]
    pub(crate) fn receive(&mut self, charge: u64) -> bool {
        self.received += charge;
        self.received <= self.granted.max(UNBOUND_CREDIT_BYTES)
    }

    /// Charge that may still arrive.
    #[inline]
    pub(crate) fn credit(&self) -> u64 {
        self.granted.max(UNBOUND_CREDIT_BYTES).saturating_sub(self.received)
    }

    /// A message that had begun to arrive was given up by its sender: it counts as never seen, there and here.
    pub(crate) fn unreceive(&mut self, charge: u64) {
        self.received -= charge;
    }

    /// Gives charge back; returns whether a new grant became due just now.
    #[inline]
    pub(crate) fn consume(&mut self, charge: u64) -> bool {
        self.consumed += charge;
        let window = self.window();
        // A quarter of the window: often enough never to stall, rare enough to cost nothing.
        if self.consumed + window >= self.granted + window / 4 {
            self.granted = self.consumed + window;
            if self.wanted > self.granted {
                // A message longer than the window, asked for before this much was consumed.
                self.grant_wanted();
            }
        } else if self.wanted <= self.granted || !self.grant_wanted() {
            return false;
        }
        !std::mem::replace(&mut self.grant_due, true)
    }

    /// The sender wants `wanted` in all for its next message: granted at once, or as soon as enough was consumed, when the
    /// flow allows such a message.
    pub(crate) fn want(&mut self, wanted: u64) {
        self.grant_due = true;
        self.wanted = wanted;
        self.grant_wanted();
    }

    fn grant_wanted(&mut self) -> bool {
        let Ok(binding) = &self.binding else { return false };
        let ceiling = self.consumed + charge(binding.message_bytes_max).max(self.window());
        let fits = self.wanted <= ceiling;
        if fits {
            self.granted = self.granted.max(self.wanted);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    //! Goal: credit is conserved, and large messages get a larger grant only within the flow's limit.
    use super::*;

    fn binding() -> Binding {
        Binding { flow: 0, window_bytes: 100_000, message_bytes_max: 1_000_000 }
    }

    #[test]
    fn unbound_flows_share_one_pool_until_granted() {
        let mut credit = OutCredit::default();
        let (mut a, mut b) = (OutFlow::new("a"), OutFlow::new("b"));
        assert!(credit.take(&mut a, UNBOUND_CREDIT_BYTES - 10));
        assert!(!credit.take(&mut b, 11));
        assert_eq!(b.wanted, 11);
        assert!(credit.grant(&mut a, 1 << 20));
        assert!(credit.take(&mut b, 11));
        credit.untake(&mut b, 11);
        assert_eq!(credit.unbound_used, 0);
    }

    #[test]
    fn grants_follow_consumption_in_quarters() {
        let mut flow = InFlow::new("x", Ok(binding()), 0);
        flow.grant_due = false;
        assert!(flow.receive(30_000));
        assert!(!flow.consume(10_000));
        assert!(flow.consume(15_000));
        assert_eq!(flow.granted, 125_000);
        assert!(!flow.receive(100_000));
    }

    #[test]
    fn a_large_message_is_granted_whole_or_not_at_all() {
        let mut flow = InFlow::new("x", Ok(binding()), 0);
        flow.want(charge(500_000));
        assert_eq!(flow.granted, charge(500_000));
        flow.want(charge(1_000_000) + 1);
        assert_eq!(flow.granted, charge(500_000));
        let mut refused = InFlow::new("x", Err(Refusal::NoSuchFlow), 0);
        refused.want(u64::MAX);
        assert_eq!(refused.granted, REFUSED_CREDIT_BYTES);
    }

    #[test]
    fn a_large_message_behind_others_is_granted_when_they_are_consumed() {
        let mut flow = InFlow::new("x", Ok(binding()), 0);
        assert!(flow.receive(20_000));
        flow.want(20_000 + charge(1_000_000));
        assert_eq!(flow.granted, 100_000);
        flow.grant_due = false;
        assert!(!flow.consume(19_999));
        assert!(flow.consume(1));
        assert_eq!(flow.granted, 20_000 + charge(1_000_000));
    }

    #[test]
    fn a_large_message_is_granted_also_when_much_is_consumed_at_once() {
        let mut flow = InFlow::new("x", Ok(binding()), 0);
        assert!(flow.receive(30_000));
        flow.want(30_000 + charge(1_000_000));
        flow.grant_due = false;
        assert!(flow.consume(30_000));
        assert_eq!(flow.granted, 30_000 + charge(1_000_000));
    }
}
