//! Owns what an application asks about the life of peers: whom to watch, and how they are.
//!
//! What always holds: a watched peer is kept connected until it is unwatched; a peer that is not watched costs no timer here.

use super::{Endpoint, PeerId, PeerPresence, SendError};
use crate::peer::Peer;
use crate::time::Instant;

impl Endpoint {
    /// Watches a peer: it is dialled and kept connected, is asked for a sign of life whenever it says nothing for a second,
    /// and each change is told once as [`Event::Up`](crate::Event::Up) or [`Event::Down`](crate::Event::Down). *Down* comes
    /// `down_after` after its last word, *up* within about a second of its return. Without an address we wait for its dial.
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`], [`SendError::Closing`].
    pub fn watch(&mut self, now: Instant, peer: PeerId) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let state = self.peers.get_mut(peer.0 as usize).ok_or(SendError::UnknownPeer)?;
        state.watch(&mut self.common, now);
        self.make_ready(peer.0);
        self.arm_peer(peer.0, now);
        Ok(())
    }

    /// Ends what [`Endpoint::watch`] began. The session stays as long as it does by itself.
    pub fn unwatch(&mut self, peer: PeerId) {
        if let Some(state) = self.peers.get_mut(peer.0 as usize) {
            state.unwatch();
        }
    }

    /// Whether the peer is watched.
    pub fn is_watched(&self, peer: PeerId) -> bool {
        self.peers.get(peer.0 as usize).is_some_and(|peer| peer.presence.is_watched())
    }

    /// How a peer is.
    pub fn presence(&self, peer: PeerId) -> Option<PeerPresence> {
        self.peers.get(peer.0 as usize).map(presence_of)
    }

    /// How all watched peers are. Walks all peers.
    pub fn watched(&self) -> impl Iterator<Item = PeerPresence> + '_ {
        self.peers.iter().filter(|peer| peer.presence.is_watched()).map(presence_of)
    }
}

fn presence_of(peer: &Peer) -> PeerPresence {
    let (state, since) = peer.presence.state();
    let (arrivals, departures) = (peer.presence.arrivals, peer.presence.departures);
    PeerPresence { peer: peer.id, key: peer.key, state, since, arrivals, departures }
}
