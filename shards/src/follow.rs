//! A shard follows what changed for all shards of its node: policies, keys that lost or won their place, peers.
//!
//! Always holds: a session that may not stay ends in the turn in which its shard reads of it.

use std::net::SocketAddr;

use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, DialFailure, Endpoint, PeerId};

use crate::changes::Change;
use crate::limits::CHANGES_PER_TURN_MAX;
use crate::ports::plain;
use crate::shared::{Shared, State};
use crate::trust::ShardTrust;

/// Reads and obeys some of what changed; whether there was anything.
#[inline]
pub(crate) fn follow(shared: &Shared, state: &mut State) -> bool {
    let is_behind = shared.node().changes.is_ahead_of(state.followed);
    if is_behind {
        follow_some(shared, state);
    }
    is_behind
}

#[cold]
fn follow_some(shared: &Shared, state: &mut State) {
    let mut changes = Vec::new();
    shared.node().changes.read(&mut state.followed, CHANGES_PER_TURN_MAX, &mut changes);
    for change in changes {
        obey(shared, state, change);
    }
}

fn obey(shared: &Shared, state: &mut State, change: Change) {
    let State { endpoint, receiver, .. } = state;
    let (channels, now) = (&mut receiver.channels, shared.now());
    if !matches!(change, Change::Peer(..) | Change::Forgotten(..)) {
        receiver.trust_changes = receiver.trust_changes.wrapping_add(1);
    }
    match change {
        Change::Rights => {}
        Change::Policy(channel) => {
            let trust = &mut channels[usize::from(channel.0)];
            trust.policy = trust.channel.policy();
            end_all_without_right(endpoint, trust, channel);
        }
        Change::Ended(channel, key) => {
            if !channels[usize::from(channel.0)].policy.admits(&key)
                && let Some(peer) = endpoint.find_peer_on(channel, &key)
            {
                endpoint.reject(peer);
            }
        }
        Change::Peer(channel, key) => {
            if let Some(peer) = endpoint.find_peer_on(channel, &key) {
                look_up(endpoint, &channels[usize::from(channel.0)], peer, channel, key, now);
            }
        }
        Change::Forgotten(channel, key) => {
            if let Some(peer) = endpoint.find_peer_on(channel, &key) {
                forget(endpoint, &channels[usize::from(channel.0)], peer, key, now);
            }
        }
        Change::Accepted(channel, key, seen_at) => {
            let trust = &channels[usize::from(channel.0)];
            if shared.looks_after(&key)
                && let address = known_address(endpoint, trust, channel, &key).unwrap_or(seen_at)
                && let Ok(peer) = endpoint.add_peer_on(channel, key, Some(address))
            {
                // It is told by being dialled; should that fail, it comes by itself.
                let _ = endpoint.connect(shared.now(), peer);
            }
        }
        Change::Everything => {
            for (trust, channel) in channels.iter_mut().zip((0..).map(ChannelId)) {
                trust.policy = trust.channel.policy();
                end_all_without_right(endpoint, trust, channel);
            }
            look_all_up(endpoint, channels, now);
        }
    }
}

/// Where a peer is by configuration, or by its session.
fn known_address(
    endpoint: &Endpoint,
    trust: &ShardTrust,
    channel: ChannelId,
    key: &PublicKey,
) -> Option<SocketAddr> {
    let configured = trust.addresses(key);
    let configured = configured.and_then(|addresses| addresses.first().copied());
    let peer = endpoint.find_peer_on(channel, key);
    configured.or_else(|| endpoint.peer_address(peer?))
}

fn end_all_without_right(endpoint: &mut Endpoint, trust: &ShardTrust, channel: ChannelId) {
    let connected: Vec<_> = endpoint.connected_on(channel).collect();
    for (peer, key) in connected {
        if !trust.may_stay(&key) {
            endpoint.reject(peer);
        }
    }
}

/// Takes over what the node's table says of a peer that this shard has met.
fn look_up(
    endpoint: &mut Endpoint,
    trust: &ShardTrust,
    peer: PeerId,
    channel: ChannelId,
    key: PublicKey,
    now: Instant,
) {
    match trust.addresses(&key) {
        Some(addresses) => {
            if let Some(address) = addresses.first() {
                // It is known here, so there is room for it.
                let _ = endpoint.add_peer_on(channel, key, Some(*address));
            }
        }
        None => forget(endpoint, trust, peer, key, now),
    }
}

/// The node's table has this peer no more, or had it not for a moment. Whoever the policy or the keep knows stays, as a stranger.
fn forget(endpoint: &mut Endpoint, trust: &ShardTrust, peer: PeerId, key: PublicKey, now: Instant) {
    if trust.has_right(&key) {
        endpoint.disown_peer(peer);
    } else {
        endpoint.forget_peer(now, peer);
    }
}

fn look_all_up(endpoint: &mut Endpoint, channels: &[ShardTrust], now: Instant) {
    let known: Vec<_> = endpoint.known_peers().collect();
    for (peer, channel, key) in known {
        look_up(endpoint, &channels[usize::from(channel.0)], peer, channel, key, now);
    }
}

/// A peer that did not answer is dialled at its next address, if it has several. Whoever is turned away is not.
#[cold]
pub(crate) fn try_next_address(state: &mut State, peer: PeerId, failure: &DialFailure) {
    let State { endpoint, receiver, .. } = state;
    let (Some(channel), Some(key)) = (endpoint.peer_channel(peer), endpoint.peer_key(peer)) else {
        return;
    };
    if !matches!(failure, DialFailure::Timeout { .. }) {
        return;
    }
    let trust = &receiver.channels[usize::from(channel.0)];
    let addresses = trust.addresses(&key).unwrap_or_default();
    let tried = endpoint.peer_address(peer);
    let tried = addresses.iter().position(|address| Some(*address) == tried);
    // One that the peer was met at, and that nobody gave, makes room for the first of those given.
    let next = tried.map_or(0, |tried| (tried + 1) % addresses.len());
    if let Some(address) = addresses.get(next) {
        // It is known here, so there is room for it.
        let _ = endpoint.add_peer_on(channel, key, Some(*address));
    }
}

/// A peer that dialled from a port of a shard's own is dialled at the port of its node from here on, if that is known: there
/// datagrams reach the shard that they name without a detour. For nodes with own ports, which promise that nothing stands between
/// them: elsewhere the port that a peer was met at may be the one that its NAT keeps open.
pub(crate) fn prefer_listed(state: &mut State, peer: PeerId) {
    let State { endpoint, receiver, .. } = state;
    let (Some(channel), Some(key)) = (endpoint.peer_channel(peer), endpoint.peer_key(peer)) else {
        return;
    };
    let Some(met) = endpoint.peer_address(peer).map(plain) else { return };
    let addresses = receiver.channels[usize::from(channel.0)].addresses(&key).unwrap_or_default();
    let mut listed = addresses.iter().map(|address| (address, plain(*address)));
    // Not one of another host: the peer was met elsewhere, and that may be news.
    if let Some((address, _)) = listed.find(|(_, at)| at.ip() == met.ip() && *at != met) {
        // It is known here, so there is room for it.
        let _ = endpoint.add_peer_on(channel, key, Some(*address));
    }
}
