//! Owns the short ways of plain messages into a session's log: those to a flow with credit that needs no name, of which nothing is
//! asked, while nothing waits before them.
//!
//! What always holds: a message that is not taken changed nothing; one taken is charged and counted as offered exactly once, also
//! when the bodies behind it come from an iterator that panics.

#![expect(clippy::inline_always, reason = "a call costs a third of what a short message does")]

use super::Peer;
use crate::common::Common;
use crate::flows::{OutFlow, charge};
use crate::send_log::{LoggedRow, RowLimits, SendLog};

/// A row under way: what was logged of it is charged and counted however it ends.
struct Taking<'p, 'b> {
    flow: &'p mut OutFlow,
    offered: &'p mut u64,
    row: LoggedRow<'b>,
}

impl Drop for Taking<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.flow.used += self.row.charged;
        *self.offered += self.row.messages;
    }
}

impl Peer {
    /// [`Peer::send_row`] of one message, small enough for the caller's loop; `false`: nothing changed.
    #[inline(always)]
    pub(crate) fn send_short(&mut self, common: &mut Common, alias: u32, body: &[u8]) -> bool {
        let Some((log, flow, used)) = self.admit(alias, body) else { return false };
        if !log.push_short(alias, body) {
            return self.send_copied(common, alias, body);
        }
        flow.used = used;
        common.counters.acknowledged_offered += 1;
        true
    }

    /// [`Peer::send_short`] of a body that is longer, or does not surely fit the open block.
    #[inline(never)]
    fn send_copied(&mut self, common: &mut Common, alias: u32, body: &[u8]) -> bool {
        let Some((log, flow, used)) = self.admit(alias, body) else { return false };
        if !log.push_copied(&mut common.pool, alias, body) {
            return false;
        }
        flow.used = used;
        common.counters.acknowledged_offered += 1;
        true
    }

    /// Where a message goes that has credit, needs no name and has nothing before it, and what its flow has used with it.
    #[inline(always)]
    fn admit(&mut self, alias: u32, body: &[u8]) -> Option<(&mut SendLog, &mut OutFlow, u64)> {
        if !self.waiting.is_empty() {
            return None;
        }
        let (session, flow) = (self.session.as_mut()?, self.flows.get_mut(alias as usize)?);
        let bytes = body.len() as u64;
        let used = flow.used + charge(bytes);
        let is_within = bytes <= session.message_bytes_max.min(flow.message_bytes_max)
            && flow.limit.is_some_and(|limit| used <= limit);
        (flow.bound && is_within).then_some((&mut session.lane.log, flow, used))
    }

    /// Takes acknowledged messages of which nothing is asked, to a flow with credit that needs no name, as long as nothing waits
    /// before them. Returns how many, and the body that ended the row: nothing was done with it.
    #[inline]
    pub(crate) fn send_row<'b>(
        &mut self,
        common: &mut Common,
        alias: u32,
        bodies: &mut impl Iterator<Item = &'b [u8]>,
    ) -> (u64, Option<&'b [u8]>) {
        let (Some(session), Some(flow), true) =
            (&mut self.session, self.flows.get_mut(alias as usize), self.waiting.is_empty())
        else {
            return (0, bodies.next());
        };
        let (Some(limit), true) = (flow.limit, flow.bound) else { return (0, bodies.next()) };
        let limits = RowLimits {
            message_bytes_max: session.message_bytes_max.min(flow.message_bytes_max),
            credit: limit.saturating_sub(flow.used),
        };
        let Common { pool, counters, .. } = common;
        let offered = &mut counters.acknowledged_offered;
        let mut taking = Taking { flow, offered, row: LoggedRow::default() };
        session.lane.log.push_row(pool, alias, bodies, limits, &mut taking.row);
        (taking.row.messages, taking.row.rest)
    }
}
