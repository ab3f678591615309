//! Owns which lanes lead to one peer, and which of the peer's shards owns which flow.
//!
//! What always holds: there is one lane at most to each shard of a peer; the peer's first lane, its *contact*, stands for it as
//! long as it is known. A flow has one lane at which it is sent to; what was never sent moves there with it, all others name it.

use std::collections::HashMap;

use super::{ChannelId, Endpoint, FlowId, Owner, PeerId, SendError};
use crate::association::Association;
use crate::endpoint::{EndCause, Outcome};
use crate::frame::Greeting;
use crate::identity::PublicKey;
use crate::peer::Peer;
use crate::presence::Presence;
use crate::time::Instant;

/// What is known of a peer as a whole.
#[derive(Debug)]
pub(super) struct KnownPeer {
    /// Its lanes, the contact first.
    pub(super) lanes: Vec<u32>,
    placement: Option<Placement>,
}

/// How a start of a peer places flows on its shards.
#[derive(Clone, Copy, Debug)]
struct Placement {
    salt: [u8; 32],
    shards: u8,
    /// When the newest keys that it greeted under were made.
    since: Instant,
}

/// What is known of the lane to one shard of a peer.
enum LaneTo {
    /// Its place.
    Known(u32),
    /// There is none, but others to the same peer.
    Missing { contact: u32 },
    /// Nobody has this key here.
    UnknownPeer,
}

impl KnownPeer {
    pub(super) fn contact(&self) -> u32 {
        self.lanes[0]
    }
}

impl Endpoint {
    /// The contact of the peer that this lane leads to: the same for all its lanes.
    pub fn contact(&self, peer: PeerId) -> Option<PeerId> {
        self.lane(peer).map(|peer| peer.contact)
    }

    /// How many lanes of this node, over all its shards, send to a peer. Each then claims as much less of the path, so that all
    /// together compete as about one flow; see [`Cubic::set_lanes`](crate::congestion::Cubic::set_lanes). One until this is called.
    pub fn set_lanes_sending(&mut self, peer: PeerId, lanes: u16) {
        for index in self.lanes(peer).to_vec() {
            self.peers[index as usize].set_lanes_sending(lanes);
        }
    }

    /// The peers that lanes of this endpoint sent to since the last call, with how many lanes: what [`Endpoint::set_lanes_sending`]
    /// of all shards is to be told of, every second or so. What needs no acknowledgement does not count.
    pub fn take_sending(&mut self) -> HashMap<(ChannelId, PublicKey), u16> {
        let mut lanes = HashMap::new();
        self.sending_count = self.sending_count.wrapping_add(1);
        for index in std::mem::take(&mut self.sending) {
            let peer = &self.peers[index as usize];
            let known = (peer.channel, peer.key);
            if self.by_key.get(&known).is_some_and(|node| node.lanes.contains(&index)) {
                *lanes.entry(known).or_default() += 1;
            }
        }
        lanes
    }

    /// The shard of the peer that this lane leads to; `None` before the first handshake with it.
    pub fn peer_shard(&self, peer: PeerId) -> Option<u8> {
        self.lane(peer)?.remote
    }

    /// The lane with this number, unless it was forgotten.
    #[inline]
    pub(super) fn lane(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.place() as usize).filter(|lane| lane.id == id)
    }

    /// The number of the lane at this place.
    pub(super) fn id_at(&self, index: u32) -> PeerId {
        self.peers[index as usize].id
    }

    /// All lanes to the peer that one of its lanes leads to.
    pub(super) fn lanes(&self, peer: PeerId) -> &[u32] {
        let known = self.lane(peer);
        let node = known.and_then(|peer| self.by_key.get(&(peer.channel, peer.key)));
        node.map_or(&[], |node| &node.lanes)
    }

    /// The first lane to a peer that has a session.
    pub(super) fn connected_lane(&self, peer: PeerId) -> Option<&Peer> {
        let mut lanes = self.lanes(peer).iter().map(|&index| &self.peers[index as usize]);
        lanes.find(|lane| lane.has_session())
    }

    /// The lane to this shard of a peer, if there is one.
    fn find_lane(&self, key: &(ChannelId, PublicKey), shard: u8) -> Option<u32> {
        let mut lanes = self.by_key.get(key)?.lanes.iter().copied();
        lanes.find(|&index| self.peers[index as usize].remote == Some(shard))
    }

    /// The lane to this shard of a peer. A contact that nobody answered yet takes the first shard that comes.
    fn lane_to(&mut self, key: &(ChannelId, PublicKey), shard: u8) -> LaneTo {
        if let Some(index) = self.find_lane(key, shard) {
            return LaneTo::Known(index);
        }
        let Some(node) = self.by_key.get(key) else { return LaneTo::UnknownPeer };
        let contact = node.contact();
        let lane = &mut self.peers[contact as usize];
        if lane.remote.is_some() {
            return LaneTo::Missing { contact };
        }
        lane.remote = Some(shard);
        LaneTo::Known(contact)
    }

    /// The lane to this shard of a peer that the application knows, made if there is none.
    fn make_lane(&mut self, key: (ChannelId, PublicKey), shard: u8) -> Result<u32, SendError> {
        match self.lane_to(&key, shard) {
            LaneTo::UnknownPeer => Err(SendError::UnknownPeer),
            LaneTo::Known(index) => Ok(index),
            LaneTo::Missing { contact } => {
                let id = self.add_new(key.0, key.1, None)?;
                self.join(contact, id.place(), shard);
                Ok(id.place())
            }
        }
    }

    /// The lane to the shard of a peer with which a handshake just ended; places of strangers are taken if need be.
    pub(super) fn add_stranger(
        &mut self,
        now: Instant,
        (channel, key): (ChannelId, PublicKey),
        shard: u8,
    ) -> Result<PeerId, SendError> {
        let contact = match self.lane_to(&(channel, key), shard) {
            LaneTo::Known(index) => return Ok(self.id_at(index)),
            LaneTo::Missing { contact } => Some(contact),
            LaneTo::UnknownPeer => None,
        };
        let id = match self.add_new(channel, key, None) {
            Err(SendError::TooMany) => self.take_place(now, channel, key)?,
            added => added?,
        };
        match contact {
            Some(contact) => self.join(contact, id.place(), shard),
            None => self.peers[id.place() as usize].remote = Some(shard),
        }
        Ok(id)
    }

    /// Makes a lane just added one more of a known peer.
    fn join(&mut self, contact: u32, index: u32, shard: u8) {
        let former = &self.peers[contact as usize];
        let (address, is_configured, contact) = (former.address, former.is_configured, former.id);
        let lanes_sending = former.lanes_sending;
        let lane = &mut self.peers[index as usize];
        lane.remote = Some(shard);
        lane.contact = contact;
        (lane.is_configured, lane.address) = (is_configured, address);
        lane.lanes_sending = lanes_sending;
    }

    /// Makes the lane at this place known by its key.
    pub(super) fn enter(&mut self, index: u32) {
        let Peer { channel, key, .. } = self.peers[index as usize];
        let fresh = || KnownPeer { lanes: Vec::new(), placement: None };
        self.by_key.entry((channel, key)).or_insert_with(fresh).lanes.push(index);
        let place = index as usize;
        if self.common.presences.len() <= place {
            self.common.presences.resize_with(place + 1, || Presence::new(0));
        }
        self.common.presences[place] = Presence::new(index);
    }

    /// Whether nothing else hangs on this lane.
    pub(super) fn is_last_of_its_peer(&self, index: u32) -> bool {
        let lane = &self.peers[index as usize];
        lane.contact != lane.id || self.lanes(lane.id).len() == 1
    }

    /// Forgets that there is a lane at this place.
    pub(super) fn leave(&mut self, index: u32) {
        let Peer { channel, key, .. } = self.peers[index as usize];
        let Some(node) = self.by_key.get_mut(&(channel, key)) else { return };
        node.lanes.retain(|&other| other != index);
        match node.lanes.first() {
            None => drop(self.by_key.remove(&(channel, key))),
            Some(&contact) => {
                let presence = &mut self.common.presences[contact as usize];
                presence.home = if presence.home == index { contact } else { presence.home };
            }
        }
    }

    /// The lane of the shard that answered our dial. If that is another than the one dialled, it takes the dial over.
    pub(super) fn answering_lane(&mut self, now: Instant, dialled: u32, shard: u8) -> Option<u32> {
        let Peer { channel, key, .. } = self.peers[dialled as usize];
        let index = self.add_stranger(now, (channel, key), shard).ok()?.place();
        if index != dialled {
            let dialling = self.peers[dialled as usize].dialling.take()?;
            self.owners.insert(dialling.dial.local_index(), Owner::Peer(index));
            self.peers[index as usize].retire_dial(&mut self.common);
            self.peers[index as usize].dialling = Some(dialling);
            self.peers[dialled as usize].schedule_redial(&self.common, now);
            self.arm_peer(dialled, now);
        }
        Some(index)
    }

    /// The peer greeted under keys of this lane: they get their session, and the flows their places.
    pub(super) fn on_greeting(
        &mut self,
        now: Instant,
        index: u32,
        association: Association,
        greeting: Greeting,
    ) {
        let Peer { channel, key, .. } = self.peers[index as usize];
        let (salt, shards) = (greeting.placement_salt, greeting.shards);
        let Some(node) = self.by_key.get_mut(&(channel, key)) else { return };
        let known = node.placement.filter(|known| known.salt == salt && known.shards == shards);
        let since = association.since;
        if known.is_none() && node.placement.is_some_and(|newer| newer.since > since) {
            // An earlier start of the peer made these keys; its word comes late.
            self.common.erase(association.local_index());
            self.common.counters.dropped_handshake += 1;
            return;
        }
        let since = known.map_or(since, |known| known.since.max(since));
        node.placement = Some(Placement { salt, shards, since });
        if known.is_none() {
            self.end_former(now, index, &greeting);
        }
        let address = association.address;
        self.peers[index as usize].attach(&mut self.common, now, association, greeting);
        for lane in self.lanes(self.id_at(index)).to_vec() {
            let lane = &mut self.peers[lane as usize];
            if !lane.has_session() {
                lane.address = Some(address);
            }
        }
        if known.is_none() {
            self.place(now, index, salt, shards);
        }
        self.make_ready(index);
    }

    /// Another start of the peer greeted on one lane: the sessions of others with the former start are over.
    fn end_former(&mut self, now: Instant, index: u32, greeting: &Greeting) {
        for other in self.lanes(self.id_at(index)).to_vec() {
            let lane = &mut self.peers[other as usize];
            let salt = lane.greeting().map(|greeting| greeting.placement_salt);
            if other == index || salt.is_none_or(|salt| salt == greeting.placement_salt) {
                continue;
            }
            let cause = EndCause::NewIncarnation;
            lane.end_session(&mut self.common, now, cause, Outcome::Unknown);
            if lane.dialling.as_ref().is_some_and(|dialling| dialling.is_answered) {
                // The start that answered may be gone.
                lane.retire_dial(&mut self.common);
                lane.schedule_redial(&self.common, now);
            }
            // The new one is there.
            lane.redial_at = lane.redial_at.map(|_| now);
            self.make_ready(other);
        }
    }

    /// Puts each flow of a peer on the lane of the shard that owns it. No messages of them are in any log.
    fn place(&mut self, now: Instant, greeted: u32, salt: [u8; 32], shards: u8) {
        let Peer { channel, key, .. } = self.peers[greeted as usize];
        let lanes = self.lanes(self.id_at(greeted)).to_vec();
        for &from in &lanes {
            for alias in 0..self.peers[from as usize].flows.len() {
                let lane = &self.peers[from as usize];
                let flow = &lane.flows[alias];
                if flow.moved.is_some() {
                    continue;
                }
                let owner = (self.common.placement)(&salt, &flow.name, shards);
                if lane.remote == Some(owner) {
                    continue;
                }
                // Without room for the lane, the flow stays where it is.
                if let Ok(to) = self.make_lane((channel, key), owner) {
                    self.move_flow(now, from, alias as u32, to);
                }
            }
        }
        let contact = self.peers[greeted as usize].contact;
        let presence = &mut self.common.presences[contact.place() as usize];
        let home = &self.peers[presence.home as usize];
        if home.remote.is_none_or(|remote| remote >= shards) {
            presence.home = greeted;
        }
        for index in lanes {
            self.peers[index as usize].rest(&mut self.common);
        }
    }

    fn move_flow(&mut self, now: Instant, from: u32, alias: u32, to: u32) {
        let name = self.peers[from as usize].flows[alias as usize].name.clone();
        let Ok(there) = self.peers[to as usize].open_flow(&name) else { return };
        let Self { peers, common, .. } = self;
        let unsent = peers[from as usize].take_unsent(common, alias, to);
        let flow = FlowId { peer: peers[to as usize].id, alias: there };
        peers[from as usize].flows[alias as usize].on_moved(flow);
        peers[from as usize].tell_writable(common);
        peers[to as usize].put_unsent(now, there, unsent);
        common.counters.flows_moved += 1;
        self.make_ready(to);
    }

    /// The flow with this name at the peer; the same each time it is asked for, until a greeting shows that another lane has it:
    /// then it answers [`SendError::Moved`].
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`], [`SendError::FlowName`], [`SendError::TooMany`] above 4,096 flows on one lane, or without room for
    /// a lane to the shard that has the flow.
    pub fn open_flow(&mut self, peer: PeerId, name: &str) -> Result<FlowId, SendError> {
        if name.is_empty() || name.len() > crate::limits::FLOW_NAME_BYTES_MAX {
            return Err(SendError::FlowName);
        }
        let contact = self.contact(peer).ok_or(SendError::UnknownPeer)?.place();
        let Peer { channel, key, .. } = self.peers[contact as usize];
        let placement = self.by_key.get(&(channel, key)).and_then(|node| node.placement);
        let lane = match placement {
            Some(Placement { salt, shards, .. }) => {
                let owner = (self.common.placement)(&salt, name, shards);
                self.make_lane((channel, key), owner)?
            }
            None => contact,
        };
        let alias = self.peers[lane as usize].open_flow(name)?;
        Ok(FlowId { peer: self.id_at(lane), alias })
    }
}
