//! Owns what an application asks about the life of peers: whom to watch, and how they are.
//!
//! What always holds: a watched peer is kept connected until it is unwatched; a peer that is not watched costs no timer here.

use super::{Endpoint, PeerId, PeerPresence, SendError};
use crate::common::Common;
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
        let home = self.home(peer).ok_or(SendError::UnknownPeer)?;
        self.peers[home as usize].watch(&mut self.common, now);
        self.make_ready(home);
        self.arm_peer(home, now);
        Ok(())
    }

    /// Ends what [`Endpoint::watch`] began. The session stays as long as it does by itself.
    pub fn unwatch(&mut self, peer: PeerId) {
        if let Some(home) = self.home(peer) {
            self.peers[home as usize].unwatch(&mut self.common);
        }
    }

    /// The lane that keeps a watched peer connected.
    fn home(&self, peer: PeerId) -> Option<u32> {
        let peer = self.lane(peer)?;
        Some(peer.presence(&self.common).home)
    }

    /// Whether the peer is watched.
    pub fn is_watched(&self, peer: PeerId) -> bool {
        self.lane(peer).is_some_and(|peer| peer.presence(&self.common).is_watched())
    }

    /// How a peer is.
    pub fn presence(&self, peer: PeerId) -> Option<PeerPresence> {
        let contact = self.contact(peer)?;
        self.lane(contact).map(|peer| presence_of(peer, &self.common))
    }

    /// How all watched peers are. Walks all peers.
    pub fn watched(&self) -> impl Iterator<Item = PeerPresence> + '_ {
        let contacts = self.peers.iter().filter(|peer| peer.id == peer.contact);
        let watched = contacts.filter(|peer| peer.presence(&self.common).is_watched());
        watched.map(|peer| presence_of(peer, &self.common))
    }
}

fn presence_of(peer: &Peer, common: &Common) -> PeerPresence {
    let presence = peer.presence(common);
    let (state, since) = presence.state();
    let (arrivals, departures) = (presence.arrivals, presence.departures);
    PeerPresence { peer: peer.id, key: peer.key, state, since, arrivals, departures }
}
