//! Owns the places of peers that nobody here named: they dialled us, and are forgotten to make room for others.
//!
//! What always holds: a place is taken over only when nothing of its former peer is left, and its session numbers go on, so that a
//! late reply or release of an application never reaches the new one; whoever comes back joins no session from before.

use super::{ChannelId, Endpoint, PeerId, SendError};
use crate::identity::PublicKey;
use crate::peer::Peer;
use crate::time::Instant;

/// Places looked at for one stranger, at most; the next search goes on behind them.
const PLACES_PER_SEARCH_MAX: usize = 1_024;

impl Endpoint {
    /// A lane to a peer with this key, at the place of one that is of no use any more.
    pub(super) fn take_place(
        &mut self,
        now: Instant,
        channel: ChannelId,
        key: PublicKey,
    ) -> Result<PeerId, SendError> {
        let local = self.handshakes.local(channel).ok_or(SendError::UnknownPeer)?;
        let local = local.credentials.public_key();
        let index = self.find_forgettable(now).ok_or(SendError::TooMany)?;
        let id = PeerId(index as u32);
        self.leave(id.0);
        let former = &mut self.peers[index];
        let stranger = Peer::new(id, id, channel, local, key, None, &self.common.limits);
        *former = stranger.succeed(&mut self.common, former);
        self.enter(id.0);
        self.common.counters.peers_forgotten += 1;
        Ok(id)
    }

    fn find_forgettable(&mut self, now: Instant) -> Option<usize> {
        let places = self.peers.len();
        for _ in 0..places.min(PLACES_PER_SEARCH_MAX) {
            let index = self.forget_from % places;
            self.forget_from = index + 1;
            let is_over = self.peers[index].is_forgettable(&self.common, now);
            if is_over && self.is_last_of_its_peer(index as u32) {
                return Some(index);
            }
        }
        None
    }
}
