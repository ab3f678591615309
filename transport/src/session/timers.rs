//! Owns when a session must be looked at although nothing arrived: acknowledgements, losses by time, probes, pacing.
//!
//! What always holds: `next_timeout` is never later than the moment at which `handle_timeout` would do something.

use super::Session;
use crate::common::Common;
use crate::limits::{ACK_DELAY_MAX, DATAGRAM_BYTES_FLOOR, Limits, PROBE_INTERVAL_MAX};
use crate::sent::SentPackets;
use crate::time::Instant;

impl Session {
    /// When to call [`Session::handle_timeout`] next.
    pub(crate) fn next_timeout(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let old = self.previous.iter();
        let told = old.flat_map(|old| [old.space.ack_deadline(), old.greeting_due()]);
        let mut next = told.flatten().min();
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
        consider(self.current.space.ack_deadline());
        consider(self.current.space.sent.loss_time());
        consider(self.probe_at());
        consider(self.lane.log.next_deadline());
        if !self.current.space.is_used_up() {
            consider(self.blocked.again_at());
            consider(self.path.next_timeout());
            let is_unsent = self.lane.log.has_unsent() || !self.lane.best_effort.is_empty();
            if is_unsent || self.blocked.is_due() {
                consider(self.path.next_release(now));
            }
        }
        next
    }

    /// When the probe timer fires (RFC 9002 section 6.2): while anything is in flight, or unsettled with nothing in flight.
    fn probe_at(&self) -> Option<Instant> {
        if !self.is_awaiting() || self.current.space.is_used_up() {
            return None;
        }
        let all = self.previous.iter().chain([&self.current]);
        let last = all.map(|association| association.space.sent.last_sent()).max()?;
        let base = SentPackets::probe_delay(&self.path.rtt, ACK_DELAY_MAX);
        // An acknowledgement says nothing of when messages will be settled: an ordered one may wait for another for long.
        let is_in_flight = self.path.bytes_in_flight > 0;
        let count = if is_in_flight { self.probe_count } else { self.settle_probes };
        let delay = base.saturating_mul(1 << count.min(16)).min(PROBE_INTERVAL_MAX);
        Some(last + delay)
    }

    /// Does what is due: declares losses, arms probes.
    pub(crate) fn handle_timeout(&mut self, common: &mut Common, now: Instant) {
        if self.current.space.sent.loss_time().is_some_and(|time| time <= now) {
            self.detect_losses(common, now, self.current.local_index());
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
            self.probe();
        }
        self.expire_prospect(common, now);
    }

    /// Gives up messages past their deadline.
    #[inline]
    pub(crate) fn expire(&mut self, common: &mut Common, now: Instant) {
        if self.lane.log.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.lane.log.expire(now, &mut common.pool);
        }
    }

    /// Asks for the peer's word if the lane waits for it. Beside what is sent again goes a short datagram: where long ones no longer
    /// pass it still does, and shows that they were lost.
    pub(super) fn probe(&mut self) {
        if self.is_awaiting() {
            self.lane.probes = 2;
            self.lane.ping_due = self.path.search.current() > DATAGRAM_BYTES_FLOOR;
            self.lane.log.probe();
        }
    }

    /// Asks the peer for a sign of life, beside whatever else is sent.
    pub(crate) fn ping(&mut self) {
        self.lane.probes = self.lane.probes.max(1);
    }
}
