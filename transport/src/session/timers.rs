//! Owns when a session must be looked at although nothing arrived: acknowledgements, losses by time, probes, pacing.
//!
//! What always holds: `next_timeout` is never later than the moment at which `handle_timeout` would do something.

use super::Session;
use crate::association::Association;
use crate::common::Common;
use crate::lane::Lane;
use crate::limits::{ACK_DELAY_MAX, DATAGRAM_BYTES_FLOOR, Limits, PROBE_INTERVAL_MAX};
use crate::sent::SentPackets;
use crate::space::PacketSpace;
use crate::time::Instant;

impl Session {
    /// When to call [`Session::handle_timeout`] next.
    pub(crate) fn next_timeout(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let acks = self.previous.iter().flat_map(|association| {
            let acks = association.spaces.iter().filter_map(PacketSpace::ack_deadline);
            acks.chain(association.greeting_due())
        });
        let mut next = acks.min();
        let mut consider = |candidate: Option<Instant>| {
            next = match (next, candidate) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        if !self.previous.is_empty() {
            consider(self.close_old_at(limits));
        }
        consider(self.current.greeting_due());
        for space in &self.current.spaces {
            consider(space.ack_deadline());
            consider(space.sent.loss_time());
        }
        consider(self.probe_at());
        for lane in &self.lanes {
            consider(lane.log.next_deadline());
        }
        if !self.current.is_used_up() {
            consider(self.blocked.again_at());
            consider(self.path.next_timeout());
        }
        let waits = |lane: &Lane| lane.log.has_unsent() || !lane.best_effort.is_empty();
        let waits_to_tell = self.blocked.is_due();
        if !self.current.is_used_up() && (waits_to_tell || self.lanes.iter().any(waits)) {
            consider(self.path.next_release(now));
        }
        next
    }

    /// When the probe timer fires (RFC 9002 section 6.2): while anything is in flight, or unsettled with nothing in flight.
    fn probe_at(&self) -> Option<Instant> {
        if !self.is_awaiting() || self.current.is_used_up() {
            return None;
        }
        let all = self.previous.iter().chain([&self.current]);
        let last = all.filter_map(Association::last_sent).max()?;
        let base = SentPackets::probe_delay(&self.path.rtt, ACK_DELAY_MAX);
        // An acknowledgement says nothing of when messages will be settled: an ordered one may wait for another for long.
        let is_in_flight = self.path.bytes_in_flight > 0;
        let count = if is_in_flight { self.probe_count } else { self.settle_probes };
        let delay = base.saturating_mul(1 << count.min(16)).min(PROBE_INTERVAL_MAX);
        Some(last + delay)
    }

    /// Does what is due: declares losses, arms probes.
    pub(crate) fn handle_timeout(&mut self, common: &mut Common, now: Instant) {
        for space in 0..self.current.spaces.len() {
            if self.current.spaces[space].sent.loss_time().is_some_and(|time| time <= now) {
                self.detect_losses(common, now, self.current.local_index(), space);
            }
        }
        if !self.previous.is_empty() {
            self.close_old(common, now);
        }
        self.expire(common, now);
        if self.blocked.again_at().is_some_and(|time| time <= now) {
            self.blocked.tell_all();
        }
        if self.probe_at().is_some_and(|time| time <= now) {
            common.counters.probe_timeouts += 1;
            if self.path.bytes_in_flight > 0 {
                self.probe_count += 1;
            } else {
                self.settle_probes += 1;
            }
            self.probe_lanes();
        }
        self.expire_prospect(common, now);
    }

    /// Gives up messages past their deadline.
    #[inline]
    pub(crate) fn expire(&mut self, common: &mut Common, now: Instant) {
        for lane in &mut self.lanes {
            if lane.log.next_deadline().is_some_and(|deadline| deadline <= now) {
                lane.log.expire(now, &mut common.pool);
            }
        }
    }

    /// Lets every lane that waits for the peer's word ask for it. Beside what is sent again goes a short datagram: where long
    /// ones no longer pass it still does, and shows that they were lost.
    pub(super) fn probe_lanes(&mut self) {
        let is_long = self.path.search.current() > DATAGRAM_BYTES_FLOOR;
        for lane in &mut self.lanes {
            if lane.log.pending() == 0 && self.path.bytes_in_flight == 0 {
                continue;
            }
            lane.probes = 2;
            lane.ping_due = is_long;
            lane.log.probe();
        }
    }

    /// Asks the peer for a sign of life, beside whatever else is sent.
    pub(crate) fn ping(&mut self) {
        if let Some(lane) = self.lanes.first_mut() {
            lane.probes = lane.probes.max(1);
        }
    }
}
