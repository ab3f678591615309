//! Owns one session, which is a lane's: its associations, lane, path and credit, from the first greeting of an incarnation of
//! the peer until that incarnation ends, is given up or breaks the protocol.
//!
//! What always holds: blocks, credit, aliases and duplicates belong to the session and survive a change of association;
//! packet numbers belong to the association.

mod blocked;
mod dormant;
mod memory;
mod paths;
mod receive;
mod succession;
mod timers;
mod transmit;

use std::net::SocketAddr;

use crate::association::Association;
use crate::common::Common;
use crate::endpoint::Outcome;
use crate::flows::{OutCredit, OutFlow};
use crate::frame::Greeting;
use crate::lane::Lane;
use crate::path::Path;
use crate::time::Instant;

use blocked::BlockedFlows;
pub(crate) use dormant::DormantSession;
pub(crate) use paths::Came;
pub(crate) use receive::Taken;
pub(crate) use transmit::{write_association_datagram, write_close};

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Counts the sessions of this peer's place; guards late releases, answers and replies.
    pub(crate) number: u32,
    pub(crate) greeting: Greeting,
    pub(crate) current: Association,
    /// Other associations of this incarnation: received on, not sent on but for greetings and acknowledgements.
    pub(crate) previous: Vec<Association>,
    /// Our index of the association that the peer was last seen to send on.
    pub(crate) peer_sends_on: u32,
    /// Whether our key is smaller than the peer's.
    ours_is_smaller: bool,
    /// When it was last decided which association is sent on.
    changed_at: Instant,
    /// When the peer was last asked for a word before old keys are erased.
    asked_at: Instant,
    /// When to dial for fresh keys, until there are some.
    pub(crate) fresh_keys_at: Option<Instant>,
    /// Fresh keys are to be dialled for from then on, although nothing is sent.
    pub(crate) fresh_keys_from: Option<Instant>,
    pub(crate) lane: Lane,
    pub(crate) path: Path,
    pub(crate) credit: OutCredit,
    /// Longest message that both sides take.
    pub(crate) message_bytes_max: u64,
    /// Probe timeouts in a row (RFC 9002 section 6.2.1).
    probe_count: u32,
    /// Probes in a row with nothing in flight, to hear what became of messages that arrived.
    settle_probes: u32,
    /// Flows that wait for credit: BLOCKED or BIND tells of them.
    pub(crate) blocked: BlockedFlows,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        number: u32,
        greeting: Greeting,
        association: Association,
        ours_is_smaller: bool,
        common: &mut Common,
    ) -> Self {
        common.adopted.push((association.remote_index(), association.local_index()));
        let limits = &common.limits;
        let path = Path::new(now, association.address, limits, association.rtt);
        let lane = Lane::new(limits, path.search.current());
        Self {
            number,
            message_bytes_max: greeting.message_bytes_max.min(limits.message_bytes_max),
            greeting,
            peer_sends_on: association.local_index(),
            current: association,
            previous: Vec::new(),
            ours_is_smaller,
            changed_at: Instant::default(),
            asked_at: Instant::default(),
            fresh_keys_at: None,
            fresh_keys_from: None,
            lane,
            path,
            credit: OutCredit::default(),
            probe_count: 0,
            settle_probes: 0,
            blocked: BlockedFlows::default(),
        }
    }

    /// The association with this index, with whether it is the current one.
    #[inline]
    pub(crate) fn association(&mut self, index: u32) -> Option<(&mut Association, bool)> {
        if self.current.local_index() == index {
            return Some((&mut self.current, true));
        }
        let mut previous = self.previous.iter_mut();
        previous.find(|other| other.local_index() == index).map(|other| (other, false))
    }

    /// Acknowledged messages logged and not settled.
    pub(crate) fn pending(&self) -> u64 {
        self.lane.log.pending()
    }

    /// Whether anything waits for the peer's word.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.path.bytes_in_flight > 0 || self.pending() > 0
    }

    /// Whether messages ended here, without an answer of the receiver.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.lane.log.has_ended()
    }

    /// Tells of messages that ended here, and takes back their credit. Returns how many requests thereby ended.
    #[cold]
    pub(crate) fn tell_ended(
        &mut self,
        common: &mut Common,
        flows: &mut [OutFlow],
        peer: u32,
    ) -> u32 {
        let mut requests_ended = 0;
        let ended = self.lane.log.take_ended();
        common.count(Outcome::Expired, ended.expired);
        for waiter in ended.waiters {
            requests_ended += u32::from(common.ends.tell(waiter, Outcome::Expired, peer));
        }
        for (alias, charge) in ended.returned {
            if let Some(flow) = flows.get_mut(alias as usize) {
                self.credit.untake(flow, charge);
            }
        }
        requests_ended
    }

    /// The session is over: every unsettled message ends with `outcome`, and the flows forget what it knew.
    /// Returns how many requests thereby ended.
    pub(crate) fn end(
        &mut self,
        common: &mut Common,
        flows: &mut [OutFlow],
        outcome: Outcome,
        peer: u32,
    ) -> u32 {
        let mut requests_ended = self.tell_ended(common, flows, peer);
        let Common { pool, ends, .. } = &mut *common;
        let pending = self.lane.log.abandon(pool, outcome, |waiter, outcome| {
            requests_ended += u32::from(ends.tell(waiter, outcome, peer));
        });
        common.count(outcome, pending);
        common.counters.best_effort_dropped_local += self.lane.best_effort.abandon();
        flows.iter_mut().for_each(OutFlow::reset);
        common.retired.push(self.current.local_index());
        common.retired.extend(self.previous.iter().map(Association::local_index));
        common.counters.sessions_ended += 1;
        requests_ended
    }

    /// The peer's address as it stands.
    pub(crate) fn address(&self) -> SocketAddr {
        self.path.address
    }
}
