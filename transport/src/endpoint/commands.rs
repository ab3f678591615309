//! Owns what an application asks of an endpoint: peers, flows, messages, the end.
//!
//! What always holds: a command that fails changed nothing.

use std::net::SocketAddr;

use bytes::Bytes;

use super::places::lane_mut;
use super::{
    ChannelId, Counters, Deferred, Endpoint, FlowId, NodeMode, Outcome, PeerId, PeerInfo,
    PeerMemory, Refusal, SendError, SendOptions, Service, Tally, Token,
};
use crate::frame::Close;
use crate::identity::PublicKey;
use crate::path::{Path, PathStats};
use crate::peer::{Peer, Source};
use crate::send_log::Waiter;
use crate::time::Instant;

impl Endpoint {
    /// Our key.
    pub fn public_key(&self) -> PublicKey {
        self.common.key
    }

    /// The channel with this name; the empty name is the default channel's.
    pub fn find_channel(&self, name: &str) -> Option<ChannelId> {
        self.handshakes.channel(name)
    }

    /// Makes a peer of the default channel known, or gives a known one a new address.
    ///
    /// # Errors
    /// [`SendError::TooMany`] when `peers_max` are known.
    pub fn add_peer(
        &mut self,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, SendError> {
        self.add_peer_on(ChannelId::DEFAULT, key, address)
    }

    /// As [`Endpoint::add_peer`], on any channel. One key on two channels is two peers, which share nothing.
    ///
    /// # Errors
    /// As there, and [`SendError::UnknownPeer`] when there is no such channel.
    pub fn add_peer_on(
        &mut self,
        channel: ChannelId,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, SendError> {
        if let Some(contact) = self.find_peer_on(channel, &key) {
            for lane in self.lanes(contact).to_vec() {
                let lane = &mut self.peers[lane as usize];
                lane.address = address.or(lane.address);
                lane.is_configured = true;
            }
            return Ok(contact);
        }
        let id = self.add_new(channel, key, address)?;
        self.peers[id.place() as usize].is_configured = true;
        Ok(id)
    }

    /// The peer of the default channel with this key.
    pub fn find_peer(&self, key: &PublicKey) -> Option<PeerId> {
        self.find_peer_on(ChannelId::DEFAULT, key)
    }

    /// The peer of a channel with this key.
    pub fn find_peer_on(&self, channel: ChannelId, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(&(channel, *key)).map(|node| self.id_at(node.contact()))
    }

    /// The peers of a channel with whom there is a session, and their keys.
    pub fn connected_on(
        &self,
        channel: ChannelId,
    ) -> impl Iterator<Item = (PeerId, PublicKey)> + '_ {
        let contacts = self.peers.iter().filter(move |peer| peer.id == peer.contact);
        let here = contacts.filter(move |peer| peer.channel == channel);
        let connected = here.filter(|peer| peer.presence(&self.common).sessions() > 0);
        connected.map(|peer| (peer.id, peer.key))
    }

    /// The peers that are known here, with their channels and keys, in no order.
    pub fn known_peers(&self) -> impl Iterator<Item = (PeerId, ChannelId, PublicKey)> + '_ {
        let known = self.by_key.iter();
        known.map(|(&(channel, key), node)| (self.id_at(node.contact()), channel, key))
    }

    /// The channel of a peer.
    pub fn peer_channel(&self, peer: PeerId) -> Option<ChannelId> {
        self.lane(peer).map(|peer| peer.channel)
    }

    /// What a peer proved and told of itself, while there is a session.
    pub fn peer_info(&self, peer: PeerId) -> Option<PeerInfo> {
        let peer = self.connected_lane(peer)?;
        let greeting = peer.greeting()?;
        Some(PeerInfo {
            name: greeting.name.clone(),
            role: greeting.role.clone(),
            mode: NodeMode::from_bits(greeting.mode)?,
            kind: greeting.kind,
            channel: self.handshakes.local(peer.channel)?.name.clone(),
            shards: greeting.shards,
        })
    }

    /// Ends the sessions with a peer that is not to have any; it is told that it is rejected, on each lane.
    pub fn reject(&mut self, peer: PeerId) {
        for index in self.lanes(peer).to_vec() {
            self.peers[index as usize].close(Close::Rejected);
            self.make_ready(index);
        }
    }

    /// The key of a peer.
    pub fn peer_key(&self, peer: PeerId) -> Option<PublicKey> {
        self.lane(peer).map(|peer| peer.key)
    }

    /// The address of a peer: that of its session, else the one it was added with.
    pub fn peer_address(&self, peer: PeerId) -> Option<SocketAddr> {
        let connected = self.connected_lane(peer);
        let address = connected.and_then(|lane| lane.look_at_path(|path| path.address));
        address.or(self.lane(peer)?.address)
    }

    /// What the session of a lane knows of the network between the two.
    pub fn path(&self, peer: PeerId) -> Option<PathStats> {
        self.lane(peer)?.look_at_path(Path::stats)
    }

    /// The longest datagram that the path of a lane is known to carry, bytes, while there is a session.
    pub fn peer_datagram_bytes(&self, peer: PeerId) -> Option<u16> {
        self.lane(peer)?.look_at_path(|path| path.search.current())
    }

    /// The name that a peer gave itself, while there is a session.
    pub fn peer_name(&self, peer: PeerId) -> Option<&str> {
        Some(&self.connected_lane(peer)?.greeting()?.name)
    }

    /// Begins a dial unless there is a session or a dial on some lane of the peer. Ends in [`Event::Connected`](crate::Event::Connected) or [`Event::DialFailed`](crate::Event::DialFailed).
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`], [`SendError::NoAddress`], [`SendError::Closing`].
    pub fn connect(&mut self, now: Instant, peer: PeerId) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let mut lanes = self.lanes(peer).iter().map(|&index| &self.peers[index as usize]);
        if lanes.clone().any(Peer::is_engaged) {
            return Ok(());
        }
        let home = lanes.find(|lane| lane.is_home(&self.common)).ok_or(SendError::UnknownPeer)?;
        if home.address.is_none() {
            return Err(SendError::NoAddress);
        }
        let home = home.id.place();
        self.begin_dial(now, home);
        self.arm_peer(home, now);
        Ok(())
    }

    /// Whether there is a session with the peer.
    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.connected_lane(peer).is_some()
    }

    /// Whether the peer owes us a word and has been silent for `down_after`; see [`Event::Down`](crate::Event::Down).
    pub fn is_down(&self, peer: PeerId) -> bool {
        self.lane(peer).is_some_and(|peer| peer.presence(&self.common).is_down())
    }

    /// Takes one message. An acknowledged one without a session waits, and a dial begins; its end is told as
    /// [`Event::Outcome`](crate::Event::Outcome) if `token` is given. Best effort takes no token.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: &[u8],
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if service == Service::Acknowledged && token.is_none() && self.send_short(flow, body) {
            return Ok(());
        }
        self.send_source(now, flow, Source::Borrowed(body), service, token)
    }

    /// [`Endpoint::send`] for large bodies, which are then not copied before they are sealed.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    pub fn send_owned(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Bytes,
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        self.send_source(now, flow, Source::Owned(body), service, token)
    }

    #[inline(never)]
    fn send_source(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Source<'_>,
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let peer = lane_mut(&mut self.peers, flow.peer).ok_or(SendError::UnknownPeer)?;
        let waiter = token.map(Waiter::Message);
        let sent = match service {
            Service::Acknowledged => peer.send(&mut self.common, now, flow.alias, body, waiter),
            Service::BestEffort => {
                peer.send_best_effort(&mut self.common, now, flow.alias, body.as_slice())
            }
            Service::Ordered | Service::LatestValue => {
                let options = SendOptions::new(service);
                peer.send_with(&mut self.common, now, flow.alias, body, &options, None, waiter)
            }
        };
        if let Err(error) = &sent {
            self.count_rejected(*error);
        }
        self.make_ready(flow.peer.place());
        sent
    }

    #[cold]
    pub(super) fn count_rejected(&mut self, error: SendError) {
        let counters = &mut self.common.counters;
        match error {
            SendError::Full => counters.rejected_full += 1,
            SendError::TooLarge { .. } => counters.rejected_too_large += 1,
            SendError::TooManyRequests => counters.rejected_requests += 1,
            _ => {}
        }
    }

    /// [`Endpoint::send`] with all that may be asked of a message.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    pub fn send_with(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: &[u8],
        options: &SendOptions,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        self.send_source_with(now, flow, Source::Borrowed(body), options, token)
    }

    /// [`Endpoint::send_with`] without copying a large body.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken then.
    pub fn send_owned_with(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Bytes,
        options: &SendOptions,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        self.send_source_with(now, flow, Source::Owned(body), options, token)
    }

    fn send_source_with(
        &mut self,
        now: Instant,
        flow: FlowId,
        body: Source<'_>,
        options: &SendOptions,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if options.is_plain() || options.service == Service::BestEffort {
            return self.send_source(now, flow, body, options.service, token);
        }
        if self.is_closing {
            return Err(SendError::Closing);
        }
        let peer = lane_mut(&mut self.peers, flow.peer).ok_or(SendError::UnknownPeer)?;
        let waiter = token.map(Waiter::Message);
        let sent = peer.send_with(&mut self.common, now, flow.alias, body, options, None, waiter);
        if let Err(error) = &sent {
            self.count_rejected(*error);
        }
        self.make_ready(flow.peer.place());
        sent
    }

    /// Gives back credit for messages answered with [`Disposition::Held`](crate::Disposition::Held): `charge` is the sum of (body + 64).
    pub fn release(&mut self, peer: PeerId, session: u32, alias: u32, charge: u64) {
        let Some(state) = lane_mut(&mut self.peers, peer) else {
            return;
        };
        let has_woken = state.wake();
        let session = state.session.as_mut().filter(|state| state.number == session);
        if session.is_some_and(|session| session.lane.consume(alias, charge)) || has_woken {
            self.make_ready(peer.place());
        }
    }

    /// Says what became of a message answered with [`Disposition::Deferred`](crate::Disposition::Deferred), once. Its sender hears of
    /// it with the next datagram; if its session is over nobody does, and [`Counters::settled_late`] counts it.
    #[expect(clippy::needless_pass_by_value, reason = "a message is answered once")]
    pub fn settle(&mut self, message: Deferred, result: Result<(), Refusal>) {
        let Deferred { peer: id, session: number, end } = message;
        if lane_mut(&mut self.peers, id).is_some_and(Peer::wake) {
            self.make_ready(id.place());
        }
        let is_settled = lane_mut(&mut self.peers, id).is_some_and(|peer| {
            let session = peer.session.as_mut().filter(|session| session.number == number);
            session.is_some_and(|session| session.lane.settle(&mut peer.room, end, result))
        });
        let counters = &mut self.common.counters;
        if !is_settled {
            counters.settled_late += 1;
            return;
        }
        match result {
            Ok(()) => counters.acknowledged_accepted += 1,
            Err(_) => counters.acknowledged_refused += 1,
        }
        self.make_ready(id.place());
    }

    /// Takes no new messages from here on; what is pending goes on.
    pub fn close_to_new(&mut self) {
        self.is_closing = true;
    }

    /// Ends all sessions with a CLOSE to each peer, which `poll_transmit` sends; unsettled messages end as *unknown*, those
    /// that never had a session as *peer lost*. No dial is answered from here on.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.is_closed = true;
        for index in 0..self.peers.len() as u32 {
            let peer = &mut self.peers[index as usize];
            peer.unwatch(&mut self.common);
            peer.abandon_waiting(&mut self.common, Outcome::PeerLost);
            peer.forget_greetings(&mut self.common, None);
            peer.close(Close::Done);
            self.make_ready(index);
        }
        self.forget_retired();
    }

    /// How acknowledged messages stand. Walks all peers.
    pub fn tally(&self) -> Tally {
        Tally {
            offered: self.common.counters.acknowledged_offered,
            pending: self.peers.iter().map(Peer::pending).sum(),
            ..self.common.tally
        }
    }

    /// What the session of a lane makes this node hold now. Walks its flows.
    pub fn peer_memory(&self, peer: PeerId) -> Option<PeerMemory> {
        Some(self.lane(peer)?.memory())
    }

    /// Best-effort messages taken that wait to be sent. Walks all peers.
    pub fn best_effort_pending(&self) -> u64 {
        self.peers.iter().map(Peer::best_effort_pending).sum()
    }

    /// Handshakes begun by others and not finished.
    pub fn half_open(&self) -> usize {
        self.handshakes.answers.len()
    }

    /// A snapshot of what was counted.
    pub fn counters(&self) -> Counters {
        let handshakes_unsent = self.handshakes.out.dropped();
        Counters { handshakes_unsent, ..self.common.counters }
    }
}
