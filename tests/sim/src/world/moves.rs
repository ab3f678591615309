//! Where nodes take each other to be, and how long a datagram they take the path to carry.
//!
//! What always holds: nobody's peer is ever believed to be where the spoofer is.

use std::net::SocketAddr;

use super::World;
use crate::ledger::NodeIndex;
use crate::script::Fault;

impl World {
    /// The address of whoever copies datagrams.
    pub fn spoofer() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 66], 53))
    }

    /// Where a running node takes another to be.
    pub fn peer_address(&self, node: NodeIndex, other: NodeIndex) -> Option<SocketAddr> {
        let start = self.nodes[node].start.as_ref()?;
        start.endpoint.peer_address(start.peer(other)?)
    }

    /// The longest datagram that a running node takes the path to another to carry.
    pub fn path_limit(&self, node: NodeIndex, other: NodeIndex) -> Option<u16> {
        let start = self.nodes[node].start.as_ref()?;
        start.endpoint.peer_datagram_bytes(start.peer(other)?)
    }

    /// Notes where a node takes its peers to be, before it sends.
    pub(super) fn note_addresses(&mut self, node: NodeIndex) -> Result<(), Fault> {
        let Some(start) = &mut self.nodes[node].start else {
            return Ok(());
        };
        for peer in start.peers.keys() {
            let Some(address) = start.endpoint.peer_address(*peer) else {
                continue;
            };
            if address == Self::spoofer() {
                return Err(self.fault(format!("node {node} was moved by a spoofer")));
            }
            if start.endpoint.is_connected(*peer) {
                start.addresses.proven(address);
            }
        }
        Ok(())
    }
}
