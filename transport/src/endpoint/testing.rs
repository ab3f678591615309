//! Owns the doors that only tests and fuzzers may use: saying anything to a peer under the real keys of a session.
//!
//! What always holds: nothing here is compiled into a library that does not ask for the feature `testing`.

use super::places::lane_mut;
use super::{Endpoint, PeerId};
use crate::limits::HEADER_BYTES;
use crate::time::Instant;

impl Endpoint {
    /// The indexes, ours and the peer's, of the association that the session with the peer sends on.
    pub fn current_association(&self, peer: PeerId) -> Option<(u32, u32)> {
        self.connected_lane(peer)?.indices()
    }

    /// Seals `payload` for the peer as the next lane datagram of the session, whatever it says, under a number so much larger
    /// than it would have. `None` without a session, or when its keys are used up.
    pub fn seal_payload(
        &mut self,
        now: Instant,
        peer: PeerId,
        payload: &[u8],
        jump: u64,
    ) -> Option<Vec<u8>> {
        let lane = lane_mut(&mut self.peers, peer)?;
        lane.wake();
        let session = lane.session.as_mut()?;
        let entropy = &mut self.common.entropy;
        let packet_number = session.current.space.next_number(now, || entropy.next_u64())?;
        let header = session.current.header(packet_number.saturating_add(jump), true);
        let space = &mut session.current.space;
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(payload);
        space.seal(&header, &mut out, 0);
        space.sent.on_sent_silent(now);
        Some(out)
    }
}
