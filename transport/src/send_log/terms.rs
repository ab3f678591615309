//! Owns the messages of a send log that have terms: how they are queued, when they are given up, what is told of that.
//!
//! What always holds: a message that was never sent is dropped here and leaves at most a gap in its flow's order, which is
//! told; one that was sent is given up with all blocks of its group, and its outcome is the receiver's answer to SKIP.

use std::cmp::Reverse;

use bytes::Bytes;

use super::awaited::Awaited;
use super::draft::{Draft, Link, NamedAliases, Payload, prefix_bytes, release};
use super::group::{Group, RUNS_MAX, Terms};
use super::{Asked, Ended, Route, SendLog, Waiter, head_of, pad};
use crate::flows::charge;
use crate::message::{FORM_WHOLE, Sequence};
use crate::ranges::Ack;
use crate::slots::SlotPool;
use crate::time::Instant;

/// SKIP frames that may wait for their acknowledgement before ordered messages with terms find no room.
pub(super) const SKIPS_MAX: usize = 4_096;
/// Blocks of messages with terms that go before the one being filled with plain messages.
const PASSED_MAX: u32 = 16;

impl SendLog {
    /// [`SendLog::push`] of a message with terms. Messages with the same terms share a block; one that fills more than a
    /// block is cut when it is sent.
    pub(crate) fn push_with(
        &mut self,
        pool: &mut SlotPool,
        class: usize,
        terms: Terms,
        route: &mut Route<'_>,
        asked: Asked,
        body: impl AsRef<[u8]> + Into<Bytes>,
    ) -> bool {
        let Route::Flow(_, alias) = *route else { return false };
        if self.skips.len() >= SKIPS_MAX {
            return false;
        }
        let bytes = body.as_ref().len();
        let cost = charge(bytes as u64);
        let ordered = match asked.sequence {
            Some(Sequence::Ordered(number)) => Some(number),
            _ => None,
        };
        let limit = self.block_bytes - prefix_bytes(self.next_number(), Link::None);
        let id = if head_of(route, asked, bytes, 0).size() + bytes > limit {
            if !self.has_room_owned(bytes) {
                return false;
            }
            let id = self.add_group(Group::new(terms, class));
            self.push_large(class, route, asked, body.into(), id);
            id
        } else {
            match self.push_shared(pool, class, terms, route, asked, body.as_ref()) {
                Some(id) => id,
                None => return false,
            }
        };
        let Some(group) = self.groups.get_mut(&id) else { return false };
        group.add(alias, cost, ordered);
        if let Some(Sequence::Latest(stamp)) = asked.sequence {
            group.values.push((alias, stamp));
        }
        true
    }

    /// Appends a short message to the last waiting block if that has the same terms and room, else to a new one. Returns
    /// its group.
    fn push_shared(
        &mut self,
        pool: &mut SlotPool,
        class: usize,
        terms: Terms,
        route: &mut Route<'_>,
        asked: Asked,
        body: &[u8],
    ) -> Option<u32> {
        let limit = self.block_bytes - prefix_bytes(self.next_number(), Link::None);
        // The name stands with each message: what shares a block here is short-lived.
        let head = head_of(route, asked, body.len(), 0);
        let needed = head.size() + body.len();
        let is_value = terms.is_value;
        if !self.fits_shared(class, terms, needed, limit) {
            if !self.has_room(class, body.len()) {
                return None;
            }
            self.open_shared(pool, class, terms);
        }
        let drafts = &mut self.classes[class].drafts;
        let draft = if is_value { drafts.front_mut()? } else { drafts.back_mut()? };
        let Payload::Slot(slot) = &mut draft.payload else { return None };
        head.write(FORM_WHOLE, slot);
        slot.extend_from_slice(body);
        if let Route::Flow(flow, alias) = route
            && !flow.bound
            && !draft.names.contains(*alias)
        {
            draft.names.push(*alias);
        }
        if let Some(waiter) = asked.waiter {
            Awaited::note(&mut draft.waiters, draft.ends, waiter);
        }
        draft.ends += 1;
        self.pending += 1;
        Some(draft.group)
    }

    /// Whether the block that messages with these terms would share has room; closes it if not.
    fn fits_shared(&mut self, class: usize, terms: Terms, needed: usize, limit: usize) -> bool {
        let (groups, drafts) = (&self.groups, &mut self.classes[class].drafts);
        // A value is logged when it can be sent, so it goes first.
        let last = if terms.is_value { drafts.front_mut() } else { drafts.back_mut() };
        let is_alike = |group: &Group| group.terms == terms && group.runs.len() < RUNS_MAX;
        let last = last
            .filter(|draft| draft.is_shared() && groups.get(&draft.group).is_some_and(is_alike));
        let Some(draft) = last else { return false };
        let Payload::Slot(slot) = &mut draft.payload else { return false };
        let fits = slot.len() + needed <= limit;
        if !fits {
            pad(slot, limit);
            draft.full_bytes = self.block_bytes as u16;
        }
        fits
    }

    /// Begins a block for messages with these terms.
    fn open_shared(&mut self, pool: &mut SlotPool, class: usize, terms: Terms) {
        let open = &mut self.classes[class].open;
        open.passed += u32::from(!terms.is_value);
        if open.exists && open.passed > PASSED_MAX {
            // What fills it waits for company no longer: those with terms may never let the log run empty.
            self.close(class, Link::None);
        }
        self.held_bytes += self.slot_bytes;
        let mut group = Group::new(terms, class);
        (group.drafts, group.is_cut) = (1, true);
        let group = self.add_group(group);
        let draft = Draft {
            payload: Payload::Slot(pool.take()),
            names: NamedAliases::default(),
            ends: 0,
            continues: Link::None,
            begins: Link::None,
            waiters: std::mem::take(&mut self.classes[class].spare_waiters),
            group,
            full_bytes: 0,
        };
        let drafts = &mut self.classes[class].drafts;
        if terms.is_value {
            drafts.push_front(draft);
        } else {
            drafts.push_back(draft);
        }
    }

    /// Whether values stand ready, before all else of their class.
    pub(crate) fn has_values_ready(&self, class: usize) -> bool {
        let first = self.classes[class].drafts.front();
        let group = first.and_then(|draft| self.groups.get(&draft.group));
        group.is_some_and(|group| group.terms.is_value)
    }

    /// Enters a group and its deadline.
    pub(super) fn add_group(&mut self, group: Group) -> u32 {
        self.last_group = self.last_group.checked_add(1).unwrap_or(1);
        let id = self.last_group;
        if let Some(deadline) = group.terms.deadline {
            self.deadlines.push(Reverse((deadline, id)));
            // Groups that ended leave their deadline behind: sweep when those are the greater part.
            if self.deadlines.len() > 64 + 4 * self.groups.len() {
                let groups = &self.groups;
                self.deadlines.retain(|entry| groups.contains_key(&entry.0.1));
            }
        }
        self.groups.insert(id, group);
        id
    }

    /// The earliest deadline, perhaps of messages that ended meanwhile.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|entry| entry.0.0)
    }

    /// Gives up what is past its deadline.
    pub(crate) fn expire(&mut self, now: Instant, pool: &mut SlotPool) {
        while let Some(&Reverse((deadline, id))) = self.deadlines.peek()
            && deadline <= now
        {
            self.deadlines.pop();
            self.give_up(id, pool);
        }
    }

    /// A newer value was offered for this alias: older ones are not sent again.
    pub(crate) fn note_stamp(&mut self, alias: u32, stamp: u64) {
        let index = alias as usize;
        if self.stamps.len() <= index {
            self.stamps.resize(index + 1, 0);
        }
        self.stamps[index] = stamp;
    }

    /// Whether a block of a group may be sent once more after it was sent `sends` times.
    pub(super) fn may_repeat(&self, id: u32, sends: u16) -> bool {
        let Some(group) = self.groups.get(&id) else { return true };
        let is_newest =
            |value: &(u32, u64)| self.stamps.get(value.0 as usize).is_none_or(|&s| s <= value.1);
        group.terms.retries.is_none_or(|retries| sends <= retries)
            && (group.values.is_empty() || group.values.iter().any(is_newest))
    }

    /// A block with parts or messages of groups got its number.
    #[cold]
    pub(super) fn on_group_numbered(&mut self, draft: &Draft, number: u64) {
        if let Some(group) = self.groups.get_mut(&draft.group) {
            group.on_numbered(number);
            if draft.begins == Link::None && draft.continues == Link::None {
                group.drafts -= 1;
            }
        }
        if let Link::Group(id) = draft.begins
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.origin = number;
            group.drafts -= 1;
        }
        if let Link::Group(id) = draft.continues
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.drafts -= 1;
            if group.terms.is_plain() && group.is_sent() {
                self.remove_group(id);
            }
        }
    }

    /// A block of a group was acknowledged: its body may go on.
    #[cold]
    pub(super) fn on_group_acked(&mut self, id: u32) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.in_flight -= 1;
        if !group.is_at_burst()
            && let Some(large) = group.parked.take()
        {
            self.parked -= 1;
            let class = group.class;
            self.classes[class].large.push_back(large);
        }
    }

    /// Gives up a group: locally if it was never sent, else by SKIP.
    pub(super) fn give_up(&mut self, id: u32, pool: &mut SlotPool) {
        let Some(group) = self.groups.get(&id) else { return };
        if group.is_given_up || (group.terms.only_unsent && !group.is_unsent()) {
            return;
        }
        if group.is_unsent() {
            return self.drop_unsent(id, pool);
        }
        let is_sent = group.is_sent();
        let (numbers, runs, origin) = (group.numbers.clone(), group.runs.clone(), group.origin);
        let missing = self.release_unacknowledged(&numbers, pool);
        if missing.is_empty() && is_sent {
            // All of it arrived: its outcome is on the way.
            return;
        }
        if !is_sent {
            self.drop_rest(id, pool);
        }
        let mut skips = 0;
        // The newest first: if they do not go in one datagram, those that may still be on their way are not told of last.
        for (first, count) in missing.into_iter().rev() {
            skips += 1;
            self.skips.push(id, first, count, first - origin, runs.clone());
        }
        if skips == 0 {
            skips = 1;
            self.skips.push(id, origin, 1, 0, runs);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.is_given_up = true;
            group.skips = skips;
        }
    }

    /// Releases the blocks of these runs that were not acknowledged; returns them as runs.
    fn release_unacknowledged(
        &mut self,
        numbers: &[(u64, u64)],
        pool: &mut SlotPool,
    ) -> Vec<(u64, u64)> {
        let mut missing: Vec<(u64, u64)> = Vec::new();
        for number in numbers.iter().flat_map(|&(first, count)| first..first + count) {
            let Some(index) = number.checked_sub(self.base) else { continue };
            let Some(block) = self.blocks.get_mut(index as usize) else { continue };
            if !release(&mut block.payload, &mut self.held_bytes, self.slot_bytes, pool) {
                continue;
            }
            match missing.last_mut() {
                Some((first, count)) if *first + *count == number => *count += 1,
                _ => missing.push((number, 1)),
            }
        }
        missing
    }

    /// Forgets a group of which nothing was sent.
    fn drop_unsent(&mut self, id: u32, pool: &mut SlotPool) {
        self.drop_rest(id, pool);
        let Some(group) = self.remove_group(id) else { return };
        self.ended.returned.extend(group.charges);
        for run in group.runs {
            self.skips.push(0, 0, 0, 0, vec![run]);
        }
    }

    /// Forgets what of a group has no number yet, and ends its messages: they cannot have been delivered.
    fn drop_rest(&mut self, id: u32, pool: &mut SlotPool) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let (messages, class) = (group.messages, group.class);
        group.is_undelivered = true;
        group.drafts = 0;
        let mut large = group.parked.take();
        self.parked -= usize::from(large.is_some());
        let state = &mut self.classes[class];
        if let Some(index) = state.large.iter().position(|large| large.group == id) {
            large = state.large.remove(index);
        }
        if let Some(large) = large {
            self.large_bytes -= large.body.len();
            self.bodies_gone += 1;
            self.ended.waiters.extend(large.waiter);
        }
        let (held_bytes, slot_bytes, ended) =
            (&mut self.held_bytes, self.slot_bytes, &mut self.ended);
        state.drafts.retain_mut(|draft| {
            if draft.group != id {
                return true;
            }
            release(&mut draft.payload, held_bytes, slot_bytes, pool);
            let waiters = draft.waiters.drain(..).flat_map(Awaited::each);
            ended.waiters.extend(waiters.map(|(_, waiter)| waiter));
            false
        });
        self.pending -= messages;
        self.ended.expired += messages;
    }

    /// Forgets a group; with the last one all deadlines.
    fn remove_group(&mut self, id: u32) -> Option<Group> {
        let group = self.groups.remove(&id);
        if self.groups.is_empty() {
            self.deadlines.clear();
        }
        group
    }

    /// The group is over: what its messages took of credit comes back if the receiver never took them.
    pub(super) fn forget_if_over(&mut self, id: u32) {
        if self.groups.get(&id).is_some_and(Group::is_over)
            && let Some(group) = self.remove_group(id)
            && group.is_undelivered
        {
            self.ended.returned.extend(group.charges);
        }
    }

    /// Whether a SKIP is to be told.
    #[inline]
    pub(crate) fn has_skips_due(&self) -> bool {
        self.skips.is_due()
    }

    /// Appends SKIP frames within `room` bytes, in the datagram with this number; returns whether there were any.
    pub(crate) fn write_skips(&mut self, packet: u64, room: usize, out: &mut Vec<u8>) -> bool {
        self.skips.write(packet, room, out)
    }

    /// A datagram that told of SKIPs was acknowledged.
    pub(crate) fn on_skips_acked(&mut self, ack: &Ack<'_>) {
        let mut known = Vec::new();
        self.skips.on_acked(ack, |group| known.push(group));
        for id in known {
            if let Some(group) = self.groups.get_mut(&id) {
                group.skips -= 1;
                self.forget_if_over(id);
            }
        }
    }

    /// A datagram that told of SKIPs was lost.
    pub(crate) fn tell_skips_again(&mut self) {
        self.skips.tell_again();
    }

    /// Whether messages ended here since the last [`SendLog::take_ended`].
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.expired > 0 || !self.ended.returned.is_empty()
    }

    /// What ended here.
    pub(crate) fn take_ended(&mut self) -> Ended {
        std::mem::take(&mut self.ended)
    }

    /// Takes every waiter of what was never sent.
    pub(super) fn take_unsent_waiters(&mut self, mut on_waiter: impl FnMut(Waiter)) {
        for group in self.groups.values_mut() {
            group.parked.take().and_then(|large| large.waiter).into_iter().for_each(&mut on_waiter);
        }
        for class in &mut self.classes {
            let large = class.large.drain(..).filter_map(|large| large.waiter);
            let drafts = class.drafts.iter_mut().flat_map(|draft| draft.waiters.drain(..));
            let open = class.open.waiters.drain(..);
            let short = drafts.chain(open).flat_map(Awaited::each).map(|entry| entry.1);
            large.chain(short).for_each(&mut on_waiter);
        }
    }
}
