//! Owns how a session passes from one association to the next: which one is sent on, which are still received on, and when
//! an old one is erased.
//!
//! What always holds: nothing but the greeting is sent under keys of which the peer may not know that they belong to the
//! session; what is in flight under old keys stays there until it is acknowledged or lost; the association that the peer was
//! last seen to send on is never erased.

use std::time::Duration;

use super::Session;
use crate::association::Association;
use crate::common::Common;
use crate::limits::{ASSOCIATIONS_KEPT_MAX, Limits, PROBE_INTERVAL_MAX};
use crate::sent::control;
use crate::time::Instant;

/// Two handshakes that finished within this time of each other were dialled at once; both sides then send on the one begun
/// by the smaller key.
const OVERLAP: Duration = Duration::from_secs(1);

/// Probe timeouts for which nothing came under old keys before they are erased.
const QUIET_PROBE_TIMEOUTS: u32 = 3;

impl Session {
    /// Whether keys agreed at that time are older than any of this session. Who greets as another incarnation under such keys was
    /// that before this session began, and is not any more: the datagram was long under way.
    pub(crate) fn is_newer_than(&self, since: Instant) -> bool {
        self.previous.iter().chain([&self.current]).all(|keys| keys.since > since)
    }

    /// A further handshake with the same incarnation finished, and the peer greeted under it.
    pub(crate) fn add_association(
        &mut self,
        common: &mut Common,
        now: Instant,
        mut association: Association,
    ) {
        let index = association.local_index();
        let is_known = association.is_greeting_acknowledged();
        association.is_candidate = true;
        self.previous.push(association);
        if is_known {
            self.settle_candidate(common, now, index);
        }
        if self.previous.len() > ASSOCIATIONS_KEPT_MAX {
            self.erase_quietest(common);
        }
    }

    /// The peer knows whose keys these are: from here on they are sent on, unless others are preferred. Both sides prefer
    /// the newer, and of two that overlap the one that the smaller key began.
    #[cold]
    pub(crate) fn settle_candidate(&mut self, common: &mut Common, now: Instant, index: u32) {
        let found = self.previous.iter().position(|other| other.local_index() == index);
        let Some(found) = found.filter(|&found| self.previous[found].is_candidate) else {
            return;
        };
        self.previous[found].is_candidate = false;
        let (current, other) = (&self.current, &self.previous[found]);
        let (current_leads, other_leads) = (
            current.is_from_smaller(self.ours_is_smaller),
            other.is_from_smaller(self.ours_is_smaller),
        );
        let is_newer = other.since >= current.since;
        let gap = other.since.saturating_duration_since(current.since)
            + current.since.saturating_duration_since(other.since);
        let is_worn = current.is_worn(now, common.limits.packets_per_key);
        let overlaps = gap < OVERLAP && !is_worn && current_leads != other_leads;
        if if overlaps { other_leads } else { is_newer } {
            self.send_on(common, now, found);
        }
        self.changed_at = now;
    }

    /// Sends on other keys of the session from here on.
    fn send_on(&mut self, common: &mut Common, now: Instant, index: usize) {
        std::mem::swap(&mut self.current, &mut self.previous[index]);
        let (address, rtt) = (self.current.address, self.current.rtt);
        if self.path.address != address {
            self.on_address_proven(common, now, address, rtt);
        }
        self.on_new_keys(common);
    }

    /// What is told by packet number is told anew; all else in flight is acknowledged under the keys that it left under.
    fn on_new_keys(&mut self, common: &mut Common) {
        common.counters.rekeys += 1;
        self.fresh_keys_at = None;
        common.adopted.push((self.current.remote_index(), self.current.local_index()));
        self.lane.merge_refusals();
        self.lane.refusals_due = !self.lane.refusals().is_empty();
        self.lane.refusals_told.clear();
        self.lane.log.tell_skips_again();
        // So that the peer sees soon that its old keys are not used any more, also when there is nothing to send.
        self.ping();
    }

    /// The peer sends on another association than before.
    #[cold]
    pub(crate) fn on_peer_moved(&mut self, common: &mut Common, now: Instant, index: u32) {
        self.peer_sends_on = index;
        self.settle_candidate(common, now, index);
    }

    fn erase_quietest(&mut self, common: &mut Common) {
        let others = self.previous.iter().enumerate();
        let others = others.filter(|(_, other)| other.local_index() != self.peer_sends_on);
        let quietest = others.min_by_key(|(_, other)| other.last_received);
        if let Some((index, _)) = quietest {
            self.erase(common, index);
        }
    }

    /// Forgets keys; dropping them overwrites their secrets.
    fn erase(&mut self, common: &mut Common, index: usize) {
        self.give_up_flight(common, index);
        let old = self.previous.swap_remove(index);
        common.erase(old.local_index());
    }

    /// When nothing more can prove what became of packets under old keys: they go out again under the new ones.
    fn flight_ends_at(&self, old: &Association) -> Option<Instant> {
        let sent = &old.space.sent;
        (sent.bytes_in_flight() > 0).then(|| sent.last_sent() + self.path.probe_timeout())
    }

    /// When old keys may be erased, or the peer is to be asked first; `None` when it was asked and sends on them.
    fn erased_at(&self, old: &Association, limits: &Limits) -> Option<Instant> {
        let quiet = QUIET_PROBE_TIMEOUTS * self.path.probe_timeout();
        if old.local_index() == self.peer_sends_on && self.asked_at > self.changed_at {
            return self.is_parted().then_some(self.asked_at + quiet);
        }
        if old.is_candidate {
            return Some(old.last_received.max(old.since) + limits.dial_timeout);
        }
        let next = old.last_received.max(self.changed_at) + quiet;
        Some(next.max(self.asked_at + PROBE_INTERVAL_MAX))
    }

    /// Whether the peer chose other keys than we did, and stays with them although it knows ours: it answered under those. The
    /// smaller key's side stays with what it chose, so the other one does something about it, unless it waits for fresh keys.
    fn is_parted(&self) -> bool {
        !self.ours_is_smaller
            && self.current.last_received > self.asked_at
            && self.fresh_keys_at.is_none()
    }

    /// The peer stays with keys that we did not choose: follows it there. If they are worn, fresh keys are asked for instead, to be
    /// dialled for so late that both sides take them for newer than all before; without traffic nobody else would.
    fn agree(&mut self, common: &mut Common, now: Instant, index: usize) {
        if self.previous[index].is_worn(now, common.limits.packets_per_key) {
            let all = self.previous.iter().chain([&self.current]);
            self.fresh_keys_from = all.map(|other| other.since + OVERLAP).max();
            self.ask(now);
        } else {
            self.send_on(common, now, index);
            self.changed_at = now;
        }
    }

    /// Asks the peer for a word, which shows what it sends on.
    fn ask(&mut self, now: Instant) {
        self.asked_at = now;
        self.ping();
    }

    /// When [`Session::close_old`] would do something.
    #[cold]
    pub(super) fn close_old_at(&self, limits: &Limits) -> Option<Instant> {
        let times = self.previous.iter().flat_map(|old| {
            [old.space.sent.loss_time(), self.flight_ends_at(old), self.erased_at(old, limits)]
        });
        times.flatten().min()
    }

    /// Does what is due for old keys: losses, what is given up, erasing.
    #[cold]
    pub(super) fn close_old(&mut self, common: &mut Common, now: Instant) {
        for index in (0..self.previous.len()).rev() {
            let old = &self.previous[index];
            if old.space.sent.loss_time().is_some_and(|at| at <= now) {
                self.detect_losses(common, now, old.local_index());
            }
            let old = &self.previous[index];
            if self.flight_ends_at(old).is_some_and(|at| at <= now) {
                self.give_up_flight(common, index);
            }
            let old = &self.previous[index];
            if self.erased_at(old, &common.limits).is_some_and(|at| at <= now) {
                let is_left = old.local_index() != self.peer_sends_on;
                if !is_left && self.asked_at > self.changed_at {
                    self.agree(common, now, index);
                } else if is_left && (old.is_candidate || self.is_heard_since(old)) {
                    self.erase(common, index);
                } else {
                    // Its last datagram may have come late, or the path is cut.
                    self.ask(now);
                }
            }
        }
    }

    /// Whether anything came under other keys since `old` were heard last.
    fn is_heard_since(&self, old: &Association) -> bool {
        let others = self.previous.iter().chain([&self.current]);
        let mut others = others.filter(|other| other.local_index() != old.local_index());
        others.any(|other| other.last_received > old.last_received)
    }

    fn give_up_flight(&mut self, common: &mut Common, index: usize) {
        let Self { previous, lane, path, blocked, .. } = self;
        let sent = &mut previous[index].space.sent;
        path.bytes_in_flight -= sent.bytes_in_flight();
        let mut controls = 0;
        sent.give_up(|packet| {
            controls |= packet.control;
            if lane.on_lost(packet, &mut common.pool).is_some() {
                path.search.forget_probe();
            }
        });
        if controls & control::CREDIT != 0 {
            lane.tell_grants_again();
        }
        if controls & control::SKIP != 0 {
            lane.log.tell_skips_again();
        }
        if controls & control::BLOCKED != 0 {
            blocked.tell_all();
        }
    }
}
