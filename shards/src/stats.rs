//! What a node has counted: protocol, machine, flows and the joint between them.

use std::net::SocketAddr;

use cubed_runtime::{DriverStats, Machine, SocketBuffers};
use cubed_transport::{Counters, Tally};

use crate::flows::FlowStats;
use crate::local::LocalStats;
use crate::shared::Shared;

/// What one shard has counted since it started.
#[derive(Clone, Debug)]
pub struct ShardStats {
    /// The shard's number.
    pub index: u8,
    /// What the protocol counted: datagrams, messages, every kind of drop.
    pub counters: Counters,
    /// How the acknowledged messages stand, those to flows of this node included.
    pub tally: Tally,
    /// What went between the shards of this node.
    pub local: LocalStats,
    /// What the shard runs on, as chosen at the start.
    pub machine: Machine,
    /// What the socket and its ring counted.
    pub driver: DriverStats,
    /// The port that the shard sends from, if it is not the node's: see [`crate::SourcePorts`].
    pub source_addr: Option<SocketAddr>,
    /// The socket's buffers, as asked for and as granted.
    pub socket_buffers: SocketBuffers,
    /// The flows that others may send to.
    pub flows: Vec<FlowStats>,
    /// Turns of the pump.
    pub turns: u64,
    /// How often the shard went to sleep.
    pub parks: u64,
    /// Calls of other threads that were run.
    pub commands: u64,
    /// Runs of datagrams that the system refused to send; the protocol treats them as lost.
    pub send_errors: u64,
    /// Runs of datagrams, mostly probes of a path's limit, that are longer than the interface carries; lost likewise.
    pub sends_too_long: u64,
    /// Datagrams that this shard received for others, and handed over.
    pub strays_handed: u64,
    /// Datagrams that others received for this shard, and handed over.
    pub strays_taken: u64,
    /// Datagrams for other shards that found no room on their way there; lost like one on a full socket.
    pub strays_dropped: u64,
    /// Hellos that came in a batch with other datagrams and waited for their turn; those of the hellos' own socket are in
    /// [`DriverStats::side_datagrams`].
    pub hellos_queued: u64,
    /// Of such hellos, those that were dropped because too many waited. A dialler repeats.
    pub hellos_dropped: u64,
    /// Flows that peers asked for and were refused, because there is none or policy denies it.
    pub bindings_refused: u64,
    /// Messages that inline handlers and batches sent and replied.
    pub outbox_taken: u64,
    /// Those of them that found no room at once and waited.
    pub outbox_stalled: u64,
    /// Sends of handlers that the protocol refused for good (best effort without room, among others).
    pub outbox_sends_dropped: u64,
    /// Replies that the protocol refused for good: the asker was gone.
    pub outbox_replies_dropped: u64,
    /// Futures that wait for an outcome, a reply, room or a connection now.
    pub waits_open: u64,
    /// Tasks that have not ended, a call that asks for this included.
    pub tasks_open: u64,
}

/// What a node has counted: one entry per shard.
#[derive(Clone, Debug)]
pub struct NodeStats {
    /// The shards, by number.
    pub shards: Vec<ShardStats>,
}

impl NodeStats {
    /// How the acknowledged messages of all shards stand.
    pub fn tally(&self) -> Tally {
        self.shards.iter().fold(Tally::default(), |sum, shard| plus(sum, shard.tally))
    }

    /// A protocol counter by name, summed over all shards; `None` if there is none of that name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let find = |shard: &ShardStats| {
            let found = shard.counters.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value)
        };
        self.shards.iter().map(find).sum()
    }

    /// The flow of this name, summed over the shards that have it; `None` if none has.
    pub fn flow(&self, name: &str) -> Option<FlowStats> {
        let flows = self.shards.iter().flat_map(|shard| &shard.flows);
        let named = flows.filter(|flow| flow.name.as_str() == name).cloned();
        named.reduce(|sum, one| FlowStats {
            name: sum.name,
            accepted: sum.accepted + one.accepted,
            accepted_bytes: sum.accepted_bytes + one.accepted_bytes,
            refused: sum.refused + one.refused,
            queued: sum.queued + one.queued,
            queued_bytes: sum.queued_bytes + one.queued_bytes,
        })
    }
}

/// The sum of two tallies.
pub(crate) fn plus(sum: Tally, one: Tally) -> Tally {
    Tally {
        offered: sum.offered + one.offered,
        delivered: sum.delivered + one.delivered,
        refused: sum.refused + one.refused,
        expired: sum.expired + one.expired,
        peer_lost: sum.peer_lost + one.peer_lost,
        peer_lost_unsent: sum.peer_lost_unsent + one.peer_lost_unsent,
        unknown: sum.unknown + one.unknown,
        pending: sum.pending + one.pending,
    }
}

/// How a drained node's acknowledged messages ended; no message is in two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// All that were ever given to the node: the sum of the others.
    pub offered: u64,
    /// Accepted by the receiving flow.
    pub delivered: u64,
    /// Refused by the receiver, which said why.
    pub refused: u64,
    /// Given up at their deadline or after their last attempt, and not delivered.
    pub expired: u64,
    /// Handed to a session whose peer did not answer for `give_up`: they may have arrived.
    pub peer_lost: u64,
    /// Handed to a session, and no answer by the drain's deadline or the end of the session: they may have arrived.
    pub unknown: u64,
    /// Never sent: there was no session with their peer, or an inline handler's message was never handed to the protocol.
    pub unsent: u64,
}

impl DrainReport {
    /// Those known not to have been delivered.
    pub fn undelivered(&self) -> u64 {
        self.refused + self.expired + self.unsent
    }

    /// Those of which nobody can tell here whether they were delivered: no answer came.
    pub fn uncertain(&self) -> u64 {
        self.peer_lost + self.unknown
    }

    /// `tally` after the sessions have ended, and what the endpoint never saw.
    pub(crate) fn new(tally: Tally, unsent: u64) -> Self {
        Self {
            offered: tally.offered + unsent,
            delivered: tally.delivered,
            refused: tally.refused,
            expired: tally.expired,
            peer_lost: tally.peer_lost - tally.peer_lost_unsent,
            unknown: tally.unknown + tally.pending,
            unsent: unsent + tally.peer_lost_unsent,
        }
    }

    /// Adds another shard's report.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            offered: self.offered + other.offered,
            delivered: self.delivered + other.delivered,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            peer_lost: self.peer_lost + other.peer_lost,
            unknown: self.unknown + other.unknown,
            unsent: self.unsent + other.unsent,
        }
    }
}

impl ShardStats {
    /// Reads everything; `None` from within an inline handler.
    pub(crate) fn read(shared: &Shared) -> Option<Self> {
        let state = shared.try_state()?;
        let (pump, outbox) = (shared.counters.get(), shared.outbox.borrow().counters());
        Some(Self {
            index: shared.facts.index,
            counters: state.endpoint.counters(),
            tally: plus(state.endpoint.tally(), state.receiver.local.tally()),
            local: state.receiver.local.stats(),
            machine: shared.facts.machine,
            driver: pump.driver,
            source_addr: shared.facts.source_addr,
            socket_buffers: shared.facts.socket_buffers,
            flows: state.receiver.flows.stats(),
            turns: pump.turns,
            parks: pump.parks,
            commands: pump.commands,
            send_errors: pump.send_errors,
            sends_too_long: pump.sends_too_long,
            strays_handed: pump.strays.handed,
            strays_taken: pump.strays.taken,
            strays_dropped: pump.strays.dropped,
            hellos_queued: pump.hellos.queued,
            hellos_dropped: pump.hellos.dropped,
            bindings_refused: state.receiver.bindings_refused,
            outbox_taken: outbox.taken,
            outbox_stalled: outbox.stalled,
            outbox_sends_dropped: outbox.sends_dropped,
            outbox_replies_dropped: outbox.replies_dropped + state.receiver.replies_lost,
            waits_open: state.receiver.waits.count() as u64,
            tasks_open: shared.tasks.live(),
        })
    }
}
