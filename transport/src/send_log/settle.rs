//! Owns what acknowledgements, losses and settlements do to a send log.
//!
//! What always holds: a block leaves the log when it is settled; a message ends once, by the settlement of the block that it
//! ends in, or before if it cannot have been delivered.

use super::draft::{Class, release};
use super::{Notify, SendLog, Waiter};
use crate::endpoint::Outcome;
use crate::frame::{Reason, RefusedMessage};
use crate::slots::SlotPool;
use crate::work;

/// What one SETTLED record settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) expired: u64,
    /// Whether it settled any block that was not settled before.
    pub(crate) is_news: bool,
}

impl SendLog {
    /// A datagram with block `number` was acknowledged: its payload is released. `bound` hears of names that arrived.
    #[inline]
    pub(crate) fn on_acked(
        &mut self,
        number: u64,
        pool: &mut SlotPool,
        mut bound: impl FnMut(u32),
    ) {
        if number < self.base {
            return;
        }
        let index = (number - self.base) as usize;
        if let Some(block) = self.blocks.get_mut(index)
            && release(&mut block.payload, &mut self.held_bytes, self.slot_bytes, pool)
        {
            block.names.take().for_each(&mut bound);
            if block.group != 0 {
                let group = block.group;
                self.on_group_acked(group);
            }
        }
    }

    /// A datagram with block `number` was lost: it will be sent again unless another copy arrived, or its terms forbid it.
    pub(crate) fn on_lost(&mut self, number: u64, pool: &mut SlotPool) {
        let Some(block) = self.block(number).filter(|block| !block.is_released()) else {
            return;
        };
        let (group, sends) = (block.group, block.sends);
        if group != 0 && !self.may_repeat(group, sends) {
            self.give_up(group, pool);
        } else {
            self.send_again(number);
        }
    }

    /// Puts a block among those to send again, unless it is there: one step, however many are.
    fn send_again(&mut self, number: u64) {
        let block = &mut self.blocks[(number - self.base) as usize];
        if !std::mem::replace(&mut block.is_queued, true) {
            self.lost.push_back(number);
        }
    }

    /// Offers the oldest unacknowledged block that may be sent again, as a probe; `false` when there is none.
    pub(crate) fn probe(&mut self) -> bool {
        let may = |block: &&super::Block| {
            !block.is_released() && (block.group == 0 || self.may_repeat(block.group, block.sends))
        };
        let Some(index) = self.blocks.iter().position(|block| may(&block)) else {
            return false;
        };
        self.send_again(self.base + index as u64);
        true
    }

    /// All blocks below `floor` are settled, except the refusals given in ascending order. `None` when the receiver claims
    /// what was never sent.
    pub(crate) fn on_settled(
        &mut self,
        floor: u64,
        refusals: &[RefusedMessage],
        pool: &mut SlotPool,
        mut bound: impl FnMut(u32),
        on_outcome: impl FnMut(Waiter, Outcome),
    ) -> Option<Settlement> {
        if floor > self.next_number() {
            return None;
        }
        let mut settlement = Settlement::default();
        if floor <= self.settled {
            return Some(settlement);
        }
        let start = refusals.partition_point(|r| r.0 < self.settled);
        let end = refusals.partition_point(|r| r.0 < floor);
        let refusals = &refusals[start..end];
        let is_skip = |r: &&RefusedMessage| r.2 == Reason::Skipped;
        let skips = refusals.iter().filter(is_skip).count();
        settlement.refused = (refusals.len() - skips) as u64;
        for skip in refusals.iter().filter(is_skip) {
            let group = self.block(skip.0)?.group;
            let group = self.groups.get_mut(&group).filter(|group| group.is_given_up)?;
            group.is_undelivered = true;
        }
        let (mut ends, mut expired) = (0, Vec::new());
        while self.base < floor
            && let Some(mut block) = self.blocks.pop_front()
        {
            let number = self.base;
            self.base += 1;
            ends += u64::from(block.ends);
            let was_held = release(&mut block.payload, &mut self.held_bytes, self.slot_bytes, pool);
            if was_held {
                block.names.take().for_each(&mut bound);
            }
            if block.group != 0 && self.settle_group(block.group, was_held) {
                settlement.expired += u64::from(block.ends);
                expired.push(number);
            }
        }
        settlement.delivered = ends.checked_sub(settlement.refused + settlement.expired)?;
        self.pending -= ends;
        self.settled = floor;
        settlement.is_news = true;
        self.tell_settled(floor, refusals, &expired, on_outcome);
        Some(settlement)
    }

    /// Tells who waits for messages below `floor`. Waiters, refusals and blocks expired ascend: each is walked once.
    fn tell_settled(
        &mut self,
        floor: u64,
        mut refusals: &[RefusedMessage],
        mut expired: &[u64],
        mut on_outcome: impl FnMut(Waiter, Outcome),
    ) {
        while let Some(notify) = self.notify.pop_front_if(|notify| notify.block < floor) {
            let Notify { block, awaited } = notify;
            if refusals.is_empty() && expired.is_empty() && awaited.are_requests() {
                continue;
            }
            expired = skip_while(expired, |other| *other < block);
            for (index, waiter) in awaited.each() {
                let place = (block, index);
                refusals = skip_while(refusals, |refusal| (refusal.0, refusal.1) < place);
                let refused = refusals.first().filter(|refusal| (refusal.0, refusal.1) == place);
                let outcome = match refused {
                    _ if expired.first() == Some(&block) => Outcome::Expired,
                    Some((_, _, Reason::Refused(refusal))) => Outcome::Refused(*refusal),
                    _ => Outcome::Delivered,
                };
                on_outcome(waiter, outcome);
            }
        }
    }

    /// One block of a group is settled; returns whether what ends in it was not delivered.
    #[cold]
    fn settle_group(&mut self, id: u32, was_held: bool) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        group.unsettled -= 1;
        let is_undelivered = group.is_given_up && group.is_undelivered;
        if was_held {
            self.on_group_acked(id);
        }
        self.forget_if_over(id);
        is_undelivered
    }

    /// The session ended: tells every waiter, releases everything, returns how many messages had not been settled.
    pub(crate) fn abandon(
        &mut self,
        pool: &mut SlotPool,
        outcome: Outcome,
        mut on_outcome: impl FnMut(Waiter, Outcome),
    ) -> u64 {
        let sent = self.notify.drain(..).flat_map(|notify| notify.awaited.each());
        sent.for_each(|(_, waiter)| on_outcome(waiter, outcome));
        self.take_unsent_waiters(|waiter| on_outcome(waiter, outcome));
        let payloads = self.blocks.drain(..).map(|block| block.payload);
        let drafts = self.classes.iter_mut().flat_map(|class: &mut Class| class.drafts.drain(..));
        for mut payload in payloads.chain(drafts.map(|draft| draft.payload)) {
            release(&mut payload, &mut self.held_bytes, self.slot_bytes, pool);
        }
        let pending = self.pending;
        *self = Self::new(self.slot_bytes, self.bytes_max);
        pending
    }
}

/// What is left of an ascending list above those for which `is_below` holds.
fn skip_while<T>(list: &[T], is_below: impl Fn(&T) -> bool) -> &[T] {
    let below = list.iter().take_while(|item| is_below(item)).count();
    work::count(1 + below);
    &list[below..]
}
