//! What a script may ask a world: time, counters, and what nodes saw. Changes nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::identity::PublicKey;
use cubed_transport::{Counters, Tally};

use super::{BEGUN, World};
use crate::ledger::NodeIndex;
use crate::link::{Link, LinkCounters};
use crate::node::Start;
use crate::script::Seen;

impl World {
    /// Time since the world began.
    pub fn age(&self) -> Duration {
        self.now.saturating_duration_since(BEGUN)
    }

    /// The public key of a node.
    pub fn key(&self, node: NodeIndex) -> PublicKey {
        self.nodes[node].key
    }

    /// How the messages of a running node stand.
    pub fn tally(&self, node: NodeIndex) -> Option<Tally> {
        self.nodes[node].start.as_ref().map(Start::tally)
    }

    /// The counters of a running node.
    pub fn counters(&self, node: NodeIndex) -> Option<Counters> {
        self.nodes[node].start.as_ref().map(Start::counters)
    }

    /// Handshakes begun with a running node and not finished.
    pub fn half_open(&self, node: NodeIndex) -> Option<usize> {
        let shards = &self.nodes[node].start.as_ref()?.shards;
        Some(shards.iter().map(|shard| shard.endpoint.half_open()).sum())
    }

    /// The address of a node.
    pub fn address(&self, node: NodeIndex) -> SocketAddr {
        self.nodes[node].address
    }

    /// How often a running node's application was asked to bind a flow.
    pub fn binds(&self, node: NodeIndex) -> Option<u64> {
        let shards = &self.nodes[node].start.as_ref()?.shards;
        Some(shards.iter().map(|shard| shard.recorder.binds).sum())
    }

    /// What became of the datagrams from one node to another.
    pub fn link_counters(&self, from: NodeIndex, to: NodeIndex) -> Option<LinkCounters> {
        self.links.get(&(from, to)).map(Link::counters)
    }

    /// Whether one running node has a session with another.
    pub fn is_connected(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.nodes[from].start.as_ref().is_some_and(|start| {
            let mut shards = start.shards.iter();
            shards.any(|shard| shard.peer(to).is_some_and(|peer| shard.endpoint.is_connected(peer)))
        })
    }

    /// The indexes, its own and the other's, of the association on which a running node sends to another.
    pub fn association(&self, from: NodeIndex, to: NodeIndex) -> Option<(u32, u32)> {
        let mut shards = self.nodes[from].start.as_ref()?.shards.iter();
        shards.find_map(|shard| shard.endpoint.current_association(shard.peer(to)?))
    }

    /// When `node` first saw this about `other`, at or after `from`.
    pub fn first_seen(
        &self,
        from: Duration,
        node: NodeIndex,
        other: NodeIndex,
        is: impl Fn(&Seen) -> bool,
    ) -> Option<Duration> {
        let found = self.seen.iter().find(|(at, seer, about, seen)| {
            *at >= from && *seer == node && *about == other && is(seen)
        });
        found.map(|(at, ..)| *at)
    }

    /// Messages that wait for an end.
    pub fn open(&self) -> usize {
        self.ledger.open(&self.starts()).count()
    }

    /// For people: some messages that wait, what nodes saw, tallies and counters.
    pub fn describe(&self) -> String {
        let mut text = format!("{} wait:", self.open());
        for number in self.ledger.open(&self.starts()).take(5) {
            let _ = write!(text, "\n    {number}: {:?}", self.ledger.entries()[number]);
        }
        for (at, node, about, seen) in self.seen.iter().rev().take(20).rev() {
            let _ =
                write!(text, "\n  {:.6} s: node {node} saw of {about}: {seen:?}", at.as_secs_f64());
        }
        for node in &self.nodes {
            let Some(start) = &node.start else {
                continue;
            };
            let _ = write!(text, "\n  node {}, start {}:", node.index, start.number);
            let _ = write!(text, " {} shards, {:?}\n   ", start.shards.len(), start.tally());
            for (name, value) in start.counters().iter().filter(|(_, value)| *value > 0) {
                let _ = write!(text, " {name}={value}");
            }
        }
        text
    }
}
