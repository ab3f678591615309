//! Where nodes take each other to be, and how long a datagram they take the path to carry.
//!
//! What always holds: nobody's peer is ever believed to be where the spoofer is.

use std::net::SocketAddr;

use super::World;
use crate::ledger::NodeIndex;
use crate::node::{Shard, Start};
use crate::script::Fault;

impl World {
    /// The address of whoever copies datagrams.
    pub fn spoofer() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 66], 53))
    }

    /// Where a running node takes another to be.
    pub fn peer_address(&self, node: NodeIndex, other: NodeIndex) -> Option<SocketAddr> {
        let mut shards = self.nodes[node].start.as_ref()?.shards.iter();
        shards.find_map(|shard| shard.endpoint.peer_address(shard.peer(other)?))
    }

    /// The longest datagram that a running node takes the path to another to carry.
    pub fn path_limit(&self, node: NodeIndex, other: NodeIndex) -> Option<u16> {
        let mut shards = self.nodes[node].start.as_ref()?.shards.iter();
        shards.find_map(|shard| shard.endpoint.peer_datagram_bytes(shard.peer(other)?))
    }

    /// Notes where a node takes its peers to be, before it sends.
    pub(super) fn note_addresses(&mut self, node: NodeIndex) -> Result<(), Fault> {
        let Some(start) = &mut self.nodes[node].start else {
            return Ok(());
        };
        let Start { shards, addresses, .. } = start;
        for (Shard { endpoint, .. }, peer) in
            shards.iter().flat_map(|shard| shard.peers.keys().map(move |peer| (shard, peer)))
        {
            let Some(address) = endpoint.peer_address(*peer) else {
                continue;
            };
            if address == Self::spoofer() {
                return Err(self.fault(format!("node {node} was moved by a spoofer")));
            }
            if endpoint.is_connected(*peer) {
                addresses.proven(address);
            }
        }
        Ok(())
    }
}
