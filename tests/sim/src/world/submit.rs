//! How a message gets from the script to the endpoint that sends it.
//!
//! What always holds: each message is written in the ledger before it is offered, and one that waits for room keeps its turn.

use cubed_transport::time::Instant;
use cubed_transport::{SendError, SendOptions, Service, Token};

use super::World;
use crate::ledger::{Entry, Kind, NodeIndex};
use crate::node::Waiting;
use crate::script::Fault;

impl World {
    /// Writes an entry down and hands it over, or queues it behind those that wait for room.
    pub(super) fn submit(&mut self, entry: Entry, deadline: Option<Instant>) -> Result<(), Fault> {
        let (from, to, kind) = (entry.from, entry.to, entry.kind);
        let (token, _) = self.ledger.write(entry);
        self.submitted.push(self.age());
        let Some(start) = &mut self.nodes[from].start else {
            self.ledger.rejected(token, SendError::Closing);
            return Ok(());
        };
        let shard = start.sender_of(token, self.ledger.entry(token));
        let queue = start.shards[shard].waiting.entry(to).or_default();
        if kind != Kind::BestEffort && !queue.is_empty() {
            queue.push_back((token, deadline));
            return Ok(());
        }
        if self.hand_over(token, deadline)? == Err(SendError::Full) {
            if kind == Kind::BestEffort {
                self.ledger.rejected(token, SendError::Full);
            } else {
                self.wait_for_room((from, shard), to, (token, deadline));
            }
        }
        Ok(())
    }

    pub(super) fn wait_for_room(
        &mut self,
        (from, shard): (NodeIndex, usize),
        to: NodeIndex,
        waiting: Waiting,
    ) {
        self.shard(from, shard).waiting.entry(to).or_default().push_front(waiting);
    }

    /// Hands one entry to its endpoint and writes down what it said.
    pub(super) fn hand_over(
        &mut self,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Result<(), SendError>, Fault> {
        loop {
            match self.offer(token, deadline)? {
                Err(SendError::Moved(flow)) => {
                    let entry = self.ledger.entry(token).clone();
                    let shard = self.running(entry.from).sender_of(token, &entry);
                    self.shard(entry.from, shard).follow(entry.to, entry.flow, flow);
                }
                result => return Ok(result),
            }
        }
    }

    /// Offers one entry to the endpoint of the shard that sends it.
    fn offer(
        &mut self,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Result<(), SendError>, Fault> {
        let entry = self.ledger.entry(token).clone();
        let body = crate::ledger::body(token.0, entry.bytes);
        let (age, now) = (self.age(), self.local(entry.from));
        let start = self.running(entry.from);
        let (number, shard) = (start.number, start.sender_of(token, &entry));
        let start = &mut start.shards[shard];
        let flow = start.flow(entry.to, entry.flow);
        let flow = flow.map_err(|what| Fault { at: age, what })?;
        let endpoint = &mut start.endpoint;
        let acknowledged = Service::Acknowledged;
        let result = match (entry.kind, deadline) {
            (Kind::Request, deadline) => {
                let deadline = deadline.unwrap_or(now);
                endpoint.request(now, flow, &body.into(), token, deadline).map(drop)
            }
            (Kind::BestEffort, _) => endpoint.send(now, flow, &body, Service::BestEffort, None),
            (Kind::Acknowledged, _) if entry.asked.is_some() => {
                let options = entry.asked.map(|asked| SendOptions {
                    deadline: asked.deadline.map(|after| now + after),
                    ..asked.options
                });
                let options = options.unwrap_or_default();
                endpoint.send_owned_with(now, flow, body.into(), &options, Some(token))
            }
            // Both ways in are used, by turns.
            (Kind::Acknowledged, _) if token.0.is_multiple_of(2) => {
                endpoint.send_owned(now, flow, body.into(), acknowledged, Some(token))
            }
            (Kind::Acknowledged, _) => endpoint.send(now, flow, &body, acknowledged, Some(token)),
        };
        match result {
            Ok(()) => {
                match entry.kind {
                    Kind::BestEffort => start.best_effort_taken += 1,
                    Kind::Acknowledged | Kind::Request => start.acknowledged_taken += 1,
                }
                self.ledger.taken(token, number);
            }
            Err(SendError::Full | SendError::Moved(_)) => {}
            Err(error) => self.ledger.rejected(token, error),
        }
        Ok(result)
    }
}
