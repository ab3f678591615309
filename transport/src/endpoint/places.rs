//! Owns the places of lanes: which are taken, and how a lane is forgotten, by the application's word or to make room for another.
//!
//! What always holds: a place is given away only when nothing of its former lane is left; the number by which that was known, and
//! its session's, mean nobody from then on; whoever comes back joins no session from before.

use std::net::SocketAddr;

use super::{ChannelId, Endpoint, Event, PeerId, SendError};
use crate::frame::Close;
use crate::identity::PublicKey;
use crate::peer::Peer;
use crate::presence::Presence;
use crate::time::Instant;

/// Places looked at for one stranger, at most; the next search goes on behind them.
const PLACES_PER_SEARCH_MAX: usize = 1_024;

impl Endpoint {
    /// Forgets a peer and all lanes to it; whether there was one. It is told that it is rejected, by one CLOSE on each lane that has
    /// a session. Messages that a session had taken end as *unknown*, those that waited for one as *peer lost*, requests
    /// likewise; the watch of it ends; dials of ours end without a word. Each lane's number is told as [`Event::Forgotten`] and means
    /// nobody from then on: flows and answers to it are [`SendError::UnknownPeer`]. What still comes under the old keys is dropped
    /// and counted. Added again, the peer is a new one; should it dial, it is a stranger.
    pub fn forget_peer(&mut self, now: Instant, peer: PeerId) -> bool {
        let lanes = self.lanes(peer).to_vec();
        let Some(&contact) = lanes.first() else { return false };
        self.peers[contact as usize].unwatch(&mut self.common);
        for &index in &lanes {
            self.peers[index as usize].end_for_good(&mut self.common, now, Close::Rejected);
        }
        for index in lanes {
            self.leave(index);
            self.vacate(index);
            self.vacant.push_back(index);
        }
        self.forget_retired();
        true
    }

    /// Takes back the word of [`Endpoint::add_peer`]: the peer is as a stranger that dialled us from here on. Its sessions, flows and
    /// messages stay.
    pub fn disown_peer(&mut self, peer: PeerId) {
        for index in self.lanes(peer).to_vec() {
            self.peers[index as usize].is_configured = false;
        }
    }

    /// A further lane, at a place that nobody has.
    ///
    /// # Errors
    /// [`SendError::TooMany`] when `peers_max` are taken.
    pub(super) fn add_new(
        &mut self,
        channel: ChannelId,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, SendError> {
        let local = self.handshakes.local(channel).ok_or(SendError::UnknownPeer)?;
        let local = local.credentials.public_key();
        if let Some(index) = self.vacant.pop_front() {
            return Ok(self.occupy(index, channel, key, address));
        }
        if self.peers.len() >= self.common.limits.peers_max {
            return Err(SendError::TooMany);
        }
        let id = PeerId::first(self.peers.len() as u32);
        let mut peer = Peer::new(id, id, channel, local, key, address, &self.common.limits);
        if self.common.counters.peers_forgotten > 0 {
            // It may be one of those forgotten.
            peer.draw_incarnation(&mut self.common);
        }
        self.peers.push(peer);
        self.enter(id.place());
        Ok(id)
    }

    /// A lane to a peer with this key, at the place of one that is of no use any more.
    pub(super) fn take_place(
        &mut self,
        now: Instant,
        channel: ChannelId,
        key: PublicKey,
    ) -> Result<PeerId, SendError> {
        self.handshakes.local(channel).ok_or(SendError::UnknownPeer)?;
        let index = self.find_forgettable(now).ok_or(SendError::TooMany)?;
        self.leave(index);
        self.vacate(index);
        Ok(self.occupy(index, channel, key, None))
    }

    fn find_forgettable(&mut self, now: Instant) -> Option<u32> {
        let places = self.peers.len();
        for _ in 0..places.min(PLACES_PER_SEARCH_MAX) {
            let index = self.forget_from % places;
            self.forget_from = index + 1;
            let is_over = self.peers[index].is_forgettable(&self.common, now);
            if is_over && self.is_last_of_its_peer(index as u32) {
                return Some(index as u32);
            }
        }
        None
    }

    /// Nothing is left of the lane at this place, and its number means nobody.
    fn vacate(&mut self, index: u32) {
        let Self { peers, common, .. } = self;
        let former = &mut peers[index as usize];
        let peer = former.id;
        *former = former.succeeded_by(peer.next(), former.channel, former.key, &common.limits);
        common.presences[index as usize] = Presence::new(index);
        common.counters.peers_forgotten += 1;
        common.ends.events.push_back(Event::Forgotten { peer });
    }

    /// A new lane at a place that was vacated.
    fn occupy(
        &mut self,
        index: u32,
        channel: ChannelId,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> PeerId {
        let former = &self.peers[index as usize];
        let id = former.id;
        let mut peer = former.succeeded_by(id, channel, key, &self.common.limits);
        if let Some(local) = self.handshakes.local(channel) {
            peer.local = local.credentials.public_key();
        }
        peer.address = address;
        peer.draw_incarnation(&mut self.common);
        self.peers[index as usize] = peer;
        self.enter(index);
        id
    }
}

/// The lane with this number, unless it was forgotten.
#[inline]
pub(super) fn lane_mut(lanes: &mut [Peer], id: PeerId) -> Option<&mut Peer> {
    lanes.get_mut(id.place() as usize).filter(|lane| lane.id == id)
}
