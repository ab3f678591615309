//! Owns how an application asks and answers: requests taken, cancelled and replied to.
//!
//! What always holds: a call that fails changed nothing; a request that was taken is told its end once, unless it is cancelled.

use bytes::Bytes;

use super::places::lane_mut;
use super::{Endpoint, FlowId, ReplyTo, SendError, SendOptions, Token};
use crate::peer::Source;
use crate::requests::RequestId;
use crate::send_log::Waiter;
use crate::time::Instant;

impl Endpoint {
    /// Asks, and expects an answer before `deadline`. Ends in exactly one [`Application::reply`](crate::Application::reply) for `token`, unless cancelled.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    #[inline]
    pub fn request(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: &Bytes,
        token: Token,
        deadline: Instant,
    ) -> Result<RequestId, SendError> {
        self.ask(now, flow, Source::Shared(body), token, deadline)
    }

    /// [`Endpoint::request`] of a body that is copied, however long it is.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn request_copied(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: &[u8],
        token: Token,
        deadline: Instant,
    ) -> Result<RequestId, SendError> {
        self.ask(now, flow, Source::Borrowed(body), token, deadline)
    }

    #[inline]
    fn ask(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Source<'_>,
        token: Token,
        deadline: Instant,
    ) -> Result<RequestId, SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let peer = lane_mut(&mut self.peers, flow.peer).ok_or(SendError::UnknownPeer)?;
        if !self.common.ends.requests.has_room() {
            self.count_rejected(SendError::TooManyRequests);
            return Err(SendError::TooManyRequests);
        }
        let number = self.common.ends.requests.next_number();
        let until = coarse(now, deadline);
        if !peer.request_short(&mut self.common, flow.alias, body.as_slice(), number, until) {
            let asked = self.ask_at_length(now, flow, body, number, until);
            if let Err(error) = asked {
                self.count_rejected(error);
                self.make_ready(flow.peer.place());
                return Err(error);
            }
        }
        let begun = self.common.ends.requests.begin(token, flow.peer.place(), deadline);
        debug_assert_eq!(begun, number, "nothing else begins a request");
        self.peers[flow.peer.place() as usize].requests_pending += 1;
        self.make_ready(flow.peer.place());
        Ok(RequestId(number))
    }

    /// Takes a request that cannot go the short way.
    #[inline(never)]
    fn ask_at_length(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Source<'_>,
        number: u64,
        until: Instant,
    ) -> Result<(), SendError> {
        let peer = lane_mut(&mut self.peers, flow.peer).ok_or(SendError::UnknownPeer)?;
        let options = SendOptions { deadline: Some(until), ..SendOptions::default() };
        let (number, waiter) = (Some(number), Some(Waiter::Request(number)));
        peer.send_with(&mut self.common, now, flow.alias, body, &options, number, waiter)
    }

    /// Forgets a request; its answer will be counted as late and dropped. One that has ended is left alone.
    pub fn cancel_request(&mut self, request: RequestId) {
        if let Some(peer) = self.common.ends.requests.cancel(request.0) {
            self.peers[peer as usize].requests_pending -= 1;
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`SendError::Full`]: answer again when the peer is writable. [`SendError::NotConnected`]: the asker's session is over.
    #[inline]
    pub fn reply(&mut self, to: ReplyTo, body: &[u8]) -> Result<(), SendError> {
        let peer = lane_mut(&mut self.peers, to.peer).ok_or(SendError::UnknownPeer)?;
        let is_short = peer.reply_short(&mut self.common, to, body);
        let sent = if is_short {
            Ok(())
        } else {
            peer.reply(&mut self.common, to, Source::Borrowed(body))
        };
        if !peer.is_ready {
            peer.is_ready = true;
            self.ready.push_back(to.peer.place());
        }
        sent
    }

    /// Requests of ours that wait for an answer.
    pub fn requests_waiting(&self) -> usize {
        self.common.ends.requests.len()
    }
}

/// A deadline for what only must not be sent late: rounded up by at most an eighth of the time left, so that requests made
/// at about the same time share blocks.
#[inline]
fn coarse(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now).as_nanos() as u64;
    // A power of two, so that there is no division.
    let step = ((left / 8).max(1).next_power_of_two() / 2).max(1);
    let nanos = deadline.as_nanos();
    Instant::from_nanos(nanos.checked_add(step - 1).map_or(nanos, |sum| sum & !(step - 1)))
}

#[cfg(test)]
mod tests {
    //! Goal: deadlines are rounded up, by at most an eighth of the time left, to few values.
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn deadlines_are_rounded_up_by_an_eighth_at_most() {
        let now = Instant::from_nanos(1_234_567_890_123);
        for nanos in [0, 1, 7, 8, 1_000, 123_456_789, 5_000_000_000, 3_600_000_000_001] {
            let deadline = now + Duration::from_nanos(nanos);
            let late = coarse(now, deadline).as_nanos() - deadline.as_nanos();
            assert!(late <= nanos / 8, "{nanos}: {late}");
        }
        assert_eq!(coarse(now, Instant::from_nanos(u64::MAX)), Instant::from_nanos(u64::MAX));
        let at = |micros: u64| coarse(now, now + Duration::from_micros(5_000_000 + micros));
        assert!((0..100_000).map(at).collect::<BTreeSet<_>>().len() <= 2);
    }
}
