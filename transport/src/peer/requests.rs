//! Owns the short way of requests and replies into a session's log: with a session, with credit, into a block that has room.
//!
//! What always holds: what it logs is what [`Peer::send_with`] and [`Peer::reply`] would have logged; where it cannot, nothing has
//! changed.

use super::Peer;
use crate::common::Common;
use crate::endpoint::ReplyTo;
use crate::flows::charge;
use crate::time::Instant;

impl Peer {
    /// [`Peer::send_with`] of a request of normal priority that is sent before `until`, if the block that such requests share takes
    /// it; `false`: nothing changed.
    #[inline]
    pub(crate) fn request_short(
        &mut self,
        common: &mut Common,
        alias: u32,
        body: &[u8],
        number: u64,
        until: Instant,
    ) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let (Some(session), Some(flow)) = (&mut self.session, self.flows.get_mut(alias as usize))
        else {
            return false;
        };
        let bytes = body.len() as u64;
        let cost = charge(bytes);
        let is_within = bytes <= session.message_bytes_max.min(flow.message_bytes_max)
            && flow.limit.is_some_and(|limit| flow.used + cost <= limit);
        if !(flow.bound
            && is_within
            && session.lane.log.push_request(alias, number, until, cost, body))
        {
            return false;
        }
        flow.used += cost;
        common.counters.acknowledged_offered += 1;
        true
    }

    /// [`Peer::reply`], if the open block takes the whole of it; `false`: nothing changed.
    #[inline]
    pub(crate) fn reply_short(&mut self, common: &mut Common, to: ReplyTo, body: &[u8]) -> bool {
        let Some(session) = &mut self.session else { return false };
        if session.number != to.session
            || body.len() as u64 > session.message_bytes_max
            || !session.lane.log.push_reply(to.request, body)
        {
            return false;
        }
        common.counters.acknowledged_offered += 1;
        true
    }
}
