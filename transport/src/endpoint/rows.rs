//! Owns the short ways by which an application hands over plain messages.
//!
//! What always holds: what is not taken changed nothing, and goes the general way ([`Endpoint::send`]).

#![expect(clippy::inline_always, reason = "a call costs a third of what a short message does")]

use super::places::lane_mut;
use super::{Endpoint, FlowId};

impl Endpoint {
    /// [`Endpoint::send_row`] of one message, small enough for the caller's loop. `false` changed nothing and says nothing: `send` it.
    #[inline(always)]
    #[must_use = "false: the message was not taken"]
    pub fn send_short(&mut self, flow: FlowId, body: &[u8]) -> bool {
        let Some(peer) = lane_mut(&mut self.peers, flow.peer) else { return false };
        if self.is_closing || !peer.send_short(&mut self.common, flow.alias, body) {
            return false;
        }
        if !peer.is_ready {
            peer.is_ready = true;
            self.ready.push_back(flow.peer.place());
        }
        true
    }

    /// [`Endpoint::send`] of acknowledged messages without tokens, one for each body, where it costs least: with a session, with
    /// credit, with room in the log. Returns how many were taken, and the body behind them if they are not all: nothing was done
    /// with it, and nothing is said of it; `send` it.
    #[inline]
    #[must_use = "a body that was not taken is to be sent otherwise"]
    pub fn send_row<'b>(
        &mut self,
        flow: FlowId,
        bodies: &mut impl Iterator<Item = &'b [u8]>,
    ) -> (u64, Option<&'b [u8]>) {
        let peer = lane_mut(&mut self.peers, flow.peer).filter(|_| !self.is_closing);
        let Some(peer) = peer else { return (0, bodies.next()) };
        // Before any body is asked for: what was taken leaves also when `bodies` panics.
        if !peer.is_ready {
            peer.is_ready = true;
            self.ready.push_back(flow.peer.place());
        }
        peer.send_row(&mut self.common, flow.alias, bodies)
    }
}
