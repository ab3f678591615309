//! What a script does to the world, one action at a time.
//!
//! What always holds: an action at a node that does not run does nothing, and one that the node refuses is a fault.

use super::World;
use crate::ledger::{Entry, Kind, NodeIndex};
use crate::link::Link;
use crate::node::GARDEN;
use crate::script::{Action, Fault};
use cubed_transport::{ChannelId, SendError};

impl World {
    pub(super) fn act(&mut self, action: Action) -> Result<(), Fault> {
        match action {
            Action::Send { from, to, flow, bytes, service } => {
                let kind = Kind::seen(service, false);
                self.submit(Entry::new(from, to, flow, kind, bytes), None)?;
                self.settle(from)
            }
            Action::SendToAll { from, to, flow, bytes, service } => {
                let kind = Kind::seen(service, false);
                for to in to {
                    self.submit(Entry::new(from, to, flow, kind, bytes), None)?;
                }
                self.settle(from)
            }
            Action::Offer { from, to, flow, bytes, asked } => {
                let entry = Entry::new(from, to, flow, Kind::Acknowledged, bytes);
                self.submit(Entry { asked: Some(asked), ..entry }, None)?;
                self.settle(from)
            }
            Action::Request { from, to, flow, bytes, deadline } => {
                let deadline = self.local(from) + deadline;
                self.submit(Entry::new(from, to, flow, Kind::Request, bytes), Some(deadline))?;
                self.settle(from)
            }
            Action::Connect { from, to } => self.connect(from, to),
            Action::Watch { from, to } => self.watch(from, to),
            Action::Kill(node) => {
                self.kill(node);
                Ok(())
            }
            Action::Jump { node, by } => {
                self.nodes[node].ahead += by;
                self.settle(node)
            }
            Action::Decide { at, about, garden, accept } => {
                let key = self.nodes[about].key;
                let channel = if garden { GARDEN } else { ChannelId::DEFAULT };
                if let Some(start) = &mut self.nodes[at].start {
                    start.decide(channel, key, accept);
                }
                self.settle(at)
            }
            Action::Forget { at, whom } => self.forget(at, whom),
            Action::Restart(node) => self.restart(node),
            Action::Close(node) => {
                if let Some(start) = &mut self.nodes[node].start {
                    start.shards.iter_mut().for_each(|shard| shard.endpoint.close());
                }
                self.settle(node)
            }
            Action::Move { node, address } => {
                self.nodes[node].address = address;
                Ok(())
            }
            Action::SetLink { from, to, config } => {
                self.links
                    .entry((from, to))
                    .or_insert_with(|| Link::new(config.clone()))
                    .set(config);
                Ok(())
            }
        }
    }

    fn connect(&mut self, from: NodeIndex, to: NodeIndex) -> Result<(), Fault> {
        let now = self.local(from);
        let Some(start) = &mut self.nodes[from].start else {
            return Ok(());
        };
        let peer = start.shards[0].peer(to).ok_or(SendError::UnknownPeer);
        let result = peer.and_then(|peer| start.shards[0].endpoint.connect(now, peer));
        result.map_err(|error| self.fault(format!("node {from} cannot dial {to}: {error:?}")))?;
        self.settle(from)
    }

    fn watch(&mut self, from: NodeIndex, to: NodeIndex) -> Result<(), Fault> {
        let now = self.local(from);
        let Some(start) = &mut self.nodes[from].start else {
            return Ok(());
        };
        let peer = start.shards[0].peer(to).ok_or(SendError::UnknownPeer);
        let result = peer.and_then(|peer| start.shards[0].endpoint.watch(now, peer));
        result.map_err(|error| self.fault(format!("node {from} cannot watch {to}: {error:?}")))?;
        self.settle(from)
    }

    fn forget(&mut self, at: NodeIndex, whom: NodeIndex) -> Result<(), Fault> {
        let now = self.local(at);
        let Some(start) = &mut self.nodes[at].start else {
            return Ok(());
        };
        start.shards.iter_mut().for_each(|shard| shard.forget(now, whom));
        self.introduce(at, whom)?;
        for shard in 0..self.shards(at) {
            // What its application holds back goes to the peer that is there from here on.
            if let Some(peer) = self.shard(at, shard).peer(whom) {
                self.on_writable((at, shard), peer)?;
            }
        }
        self.settle(at)
    }

    fn restart(&mut self, node: NodeIndex) -> Result<(), Fault> {
        self.kill(node);
        self.nodes[node].start().map_err(|what| self.fault(what))?;
        for other in 0..self.nodes.len() {
            if self.links.contains_key(&(node, other)) {
                self.introduce(node, other)?;
            }
        }
        self.settle(node)
    }
}
