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
    /// The peer with this key, which dialled us.
    pub(super) fn add_stranger(
        &mut self,
        now: Instant,
        channel: ChannelId,
        key: PublicKey,
    ) -> Result<PeerId, SendError> {
        if let Some(&index) = self.by_key.get(&(channel, key)) {
            return Ok(PeerId(index));
        }
        if self.peers.len() < self.common.limits.peers_max {
            return self.add_new(channel, key, None);
        }
        let local = self.handshakes.local(channel).ok_or(SendError::UnknownPeer)?;
        let local = local.credentials.public_key();
        let index = self.find_forgettable(now).ok_or(SendError::TooMany)?;
        let id = PeerId(index as u32);
        let former = &mut self.peers[index];
        self.by_key.remove(&(former.channel, former.key));
        let stranger = Peer::new(id, channel, local, key, None, &self.common.limits);
        *former = stranger.succeed(&mut self.common, former);
        self.by_key.insert((channel, key), id.0);
        self.common.counters.peers_forgotten += 1;
        Ok(id)
    }

    fn find_forgettable(&mut self, now: Instant) -> Option<usize> {
        let give_up = self.common.limits.give_up;
        let places = self.peers.len();
        for _ in 0..places.min(PLACES_PER_SEARCH_MAX) {
            let index = self.forget_from % places;
            self.forget_from = index + 1;
            if self.peers[index].is_forgettable(now, give_up) {
                return Some(index);
            }
        }
        None
    }
}
