//! What must add up: the sums of each endpoint after every event, and those of all nodes at the end.
//!
//! Owns no sums of its own but those of starts that were killed. Every message offered has one end or
//! is pending; every datagram received was taken or counted as dropped for one reason.

use cubed_transport::{Counters, SendError, Tally};

use super::World;
use crate::ledger::NodeIndex;
use crate::node::Start;
use crate::script::Fault;

/// Sums over starts and nodes.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Totals {
    offered: u64,
    delivered: u64,
    /// May or may not have been accepted: unknown, lost, or pending when their sender was killed.
    open: u64,
    accepted: u64,
    refused: u64,
    replies_late: u64,
    best_effort_sent: u64,
    best_effort_accepted: u64,
    best_effort_refused: u64,
}

impl Totals {
    fn add(&mut self, start: &Start) {
        let (tally, counters) = (start.tally(), start.counters());
        self.offered += tally.offered;
        self.delivered += tally.delivered;
        self.open += tally.unknown + tally.peer_lost + tally.pending;
        self.accepted += counters.acknowledged_accepted;
        self.refused += counters.acknowledged_refused;
        self.replies_late += counters.replies_late;
        self.best_effort_sent += counters.best_effort_sent;
        self.best_effort_accepted += counters.best_effort_accepted;
        self.best_effort_refused += counters.best_effort_refused;
    }
}

/// Datagrams that were received and went no further, each counted once.
fn datagrams_dropped(counters: &Counters) -> u64 {
    // Of what is called dropped, these are parts of datagrams that were taken.
    let within = ["dropped_duplicate_block"];
    let dropped = |name: &str| name.starts_with("dropped_") && !within.contains(&name);
    counters.iter().filter(|(name, _)| dropped(name)).map(|(_, value)| value).sum()
}

impl World {
    /// What must hold at all times at one node.
    pub(super) fn check_sums(&mut self, node: NodeIndex) -> Result<(), Fault> {
        (0..self.shards(node)).try_for_each(|shard| self.check_sums_of(node, shard))
    }

    fn check_sums_of(&mut self, node: NodeIndex, shard: usize) -> Result<(), Fault> {
        let start = self.shard(node, shard);
        let (tally, counters) = (start.endpoint.tally(), start.endpoint.counters());
        let Tally { offered, pending, delivered, refused, expired, peer_lost, unknown, .. } = tally;
        let waiting = start.endpoint.best_effort_pending();
        let sums = [
            (
                "offered = delivered + refused + expired + peer lost + unknown + pending",
                offered,
                delivered + refused + expired + peer_lost + unknown + pending,
            ),
            ("offered = messages, requests and replies taken", offered, start.acknowledged_taken),
            (
                "accepted = messages, requests and answers that the application saw",
                counters.acknowledged_accepted,
                start.recorder.acknowledged,
            ),
            ("best effort: offered = taken", counters.best_effort_offered, start.best_effort_taken),
            (
                "best effort: offered = sent + dropped here + queued",
                counters.best_effort_offered,
                counters.best_effort_sent + counters.best_effort_dropped_local + waiting,
            ),
            (
                "best effort: accepted = what the application saw",
                counters.best_effort_accepted,
                start.recorder.best_effort,
            ),
            (
                "datagrams: received = taken + dropped",
                counters.datagrams_received,
                counters.datagrams_taken + datagrams_dropped(&counters),
            ),
        ];
        let Some((what, left, right)) = sums.into_iter().find(|(_, left, right)| left != right)
        else {
            return Ok(());
        };
        let text = self.describe();
        let what = format!("{what}: {left} is not {right}. {tally:?} {text}");
        Err(self.fault(format!("node {node}, shard {shard}: {what}")))
    }

    /// What must hold at the end over all nodes: what some delivered, others accepted.
    pub(super) fn check_totals(&mut self) -> Result<(), Fault> {
        let mut sums = self.killed;
        for start in self.nodes.iter().filter_map(|node| node.start.as_ref()) {
            sums.add(start);
        }
        let came = sums.accepted + sums.replies_late;
        let holds = sums.delivered <= came
            && came <= sums.delivered + sums.open
            && came + sums.refused <= sums.offered
            && sums.best_effort_accepted + sums.best_effort_refused <= sums.best_effort_sent;
        if holds { Ok(()) } else { Err(self.fault(format!("ends and arrivals differ: {sums:?}"))) }
    }

    /// Ends a node's process; only its sums are left.
    pub(super) fn kill(&mut self, node: NodeIndex) {
        if let Some(start) = self.nodes[node].kill() {
            self.killed.add(&start);
            // What its application had not handed over yet is gone with it.
            let waiting = start.shards.into_iter().flat_map(|shard| shard.waiting.into_values());
            for (token, _) in waiting.flatten() {
                self.ledger.rejected(token, SendError::Closing);
            }
        }
    }
}
