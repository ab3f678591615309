//! What was said while the endpoint was busy: sends and replies of inline handlers, credit of dropped
//! batches, and waits whose futures were dropped there.
//!
//! The endpoint is lent to the datagram being handled, so an inline handler cannot reach it. Its
//! messages are written to one arena and handed over after the receive call. A message for which
//! the endpoint has no room then is kept and tried again when its peer is writable. Always holds:
//! messages to one destination leave in the order they were given; the outbox keeps within
//! `OUTBOX_BYTES_MAX`, and [`SendError::Full`] says so to whoever exceeds it.

use std::collections::VecDeque;

use bytes::Bytes;
use cubed_transport::time::Instant;
use cubed_transport::{Endpoint, FlowId, PeerId, ReplyTo, SendError, Service, Token};

use crate::limits::{MESSAGE_CHARGE_BYTES, OUTBOX_BYTES_MAX, OUTBOX_STALLED_BYTES_MAX};
use crate::waits::Waits;

/// Where a message of the outbox goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// To a flow of a peer.
    Flow(FlowId, Service),
    /// Back to who asked.
    Reply(ReplyTo),
}

impl Target {
    fn peer(self) -> PeerId {
        match self {
            Self::Flow(flow, _) => flow.peer,
            Self::Reply(to) => to.peer,
        }
    }

    /// Whether the order of these two matters: same flow, or both replies to the same peer.
    fn shares_order(self, other: Self) -> bool {
        match (self, other) {
            (Self::Flow(one, _), Self::Flow(two, _)) => one == two,
            (Self::Reply(one), Self::Reply(two)) => one.peer == two.peer,
            _ => false,
        }
    }
}

/// Credit that a dropped batch gives back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) peer: PeerId,
    pub(crate) session: u32,
    pub(crate) alias: u32,
    pub(crate) charge: u64,
}

/// What became of the outbox's messages, beyond those that left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutboxCounters {
    /// Messages taken.
    pub(crate) taken: u64,
    /// Messages that found no room at once and waited.
    pub(crate) stalled: u64,
    /// Sends that the endpoint refused for good.
    pub(crate) sends_dropped: u64,
    /// Acknowledged sends among these, which the endpoint's tally has not seen.
    pub(crate) acknowledged_dropped: u64,
    /// Replies that the endpoint refused for good; their askers wait until their deadlines.
    pub(crate) replies_dropped: u64,
}

/// The outbox of one shard.
#[derive(Default)]
pub(crate) struct Outbox {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    stalled: Vec<Stalled>,
    stalled_bytes: usize,
    releases: Vec<Release>,
    forgotten: Vec<(Token, Option<PeerId>)>,
    counters: OutboxCounters,
}

struct Entry {
    target: Target,
    start: usize,
    end: usize,
}

/// Messages to one destination that wait for room.
struct Stalled {
    bodies: VecDeque<(Target, Bytes)>,
    bytes: usize,
}

impl Stalled {
    fn target(&self) -> Option<Target> {
        self.bodies.front().map(|(target, _)| *target)
    }
}

impl Outbox {
    /// Takes a message, copying its body.
    pub(crate) fn push(&mut self, target: Target, body: &[u8]) -> Result<(), SendError> {
        if !self.has_room(target, body.len()) {
            return Err(SendError::Full);
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(body);
        let end = self.arena.len();
        self.entries.push(Entry { target, start, end });
        self.counters.taken += 1;
        Ok(())
    }

    /// Whether half of the outbox is taken: requests had better be refused than left unanswered.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes() > OUTBOX_BYTES_MAX / 2
    }

    /// Whether messages to this flow wait here for room, so that a direct send would overtake them.
    pub(crate) fn precedes(&self, flow: FlowId) -> bool {
        let same = |target| matches!(target, Target::Flow(other, _) if other == flow);
        self.stalled
            .iter()
            .any(|one| one.target().is_some_and(same))
    }

    /// Whether some destination had no room for what waits here.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Whether no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stalled.is_empty()
    }

    /// Credit to be given back with the next [`Outbox::flush`].
    pub(crate) fn release(&mut self, release: Release) {
        self.releases.push(release);
    }

    /// A wait to be forgotten with the next [`Outbox::flush`].
    pub(crate) fn forget(&mut self, token: Token, peer: Option<PeerId>) {
        self.forgotten.push((token, peer));
    }

    /// Hands everything new to the endpoint. Whether there was anything.
    pub(crate) fn flush(
        &mut self,
        endpoint: &mut Endpoint,
        waits: &mut Waits,
        now: Instant,
    ) -> bool {
        let worked =
            !(self.entries.is_empty() && self.releases.is_empty() && self.forgotten.is_empty());
        for (token, peer) in self.forgotten.drain(..) {
            waits.forget(token, peer);
            endpoint.cancel_request(token);
        }
        for release in self.releases.drain(..) {
            endpoint.release(release.peer, release.session, release.alias, release.charge);
        }
        for index in 0..self.entries.len() {
            let Entry { target, start, end } = self.entries[index];
            if !self.stalled.is_empty() && self.joins_stalled(target, start, end) {
                continue;
            }
            match offer(endpoint, now, target, &self.arena[start..end]) {
                Ok(()) => {}
                Err(SendError::Full) if keeps(target) => {
                    waits.note_full(target.peer());
                    self.stall(target, start, end);
                }
                Err(error) => self.drop_message(target, error),
            }
        }
        self.entries.clear();
        self.arena.clear();
        worked
    }

    /// Offers what waits for `peer` again.
    pub(crate) fn retry(
        &mut self,
        endpoint: &mut Endpoint,
        waits: &mut Waits,
        peer: PeerId,
        now: Instant,
    ) {
        let mut index = 0;
        while index < self.stalled.len() {
            let aimed = |target: Target| target.peer() == peer;
            if self.stalled[index].target().is_some_and(aimed) {
                self.retry_one(index, endpoint, waits, now);
            }
            if self.stalled[index].bodies.is_empty() {
                self.stalled.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Acknowledged messages that wait here, unknown to the endpoint.
    pub(crate) fn acknowledged_waiting(&self) -> u64 {
        let acknowledged =
            |target: &Target| matches!(target, Target::Flow(_, Service::Acknowledged));
        let fresh = self.entries.iter().map(|entry| &entry.target);
        let stalled = self
            .stalled
            .iter()
            .flat_map(|one| one.bodies.iter().map(|(target, _)| target));
        fresh
            .chain(stalled)
            .filter(|target| acknowledged(target))
            .count() as u64
    }

    #[cfg(test)]
    pub(crate) fn releases_for_test(&self) -> Vec<(PeerId, u64)> {
        let releases = self.releases.iter();
        releases
            .map(|release| (release.peer, release.charge))
            .collect()
    }

    pub(crate) fn counters(&self) -> OutboxCounters {
        self.counters
    }

    fn bytes(&self) -> usize {
        let overhead = self.entries.len() * MESSAGE_CHARGE_BYTES as usize;
        self.arena.len() + overhead + self.stalled_bytes
    }

    fn has_room(&self, target: Target, body_bytes: usize) -> bool {
        let bytes = body_bytes + MESSAGE_CHARGE_BYTES as usize;
        let waiting = self
            .stalled
            .iter()
            .find(|one| one.target().is_some_and(|other| other.shares_order(target)));
        if waiting.is_some_and(|one| one.bytes + bytes > OUTBOX_STALLED_BYTES_MAX) {
            return false;
        }
        self.is_empty() || self.bytes() + bytes <= OUTBOX_BYTES_MAX
    }

    /// Queues the message behind those that wait for the same destination, if any do.
    fn joins_stalled(&mut self, target: Target, start: usize, end: usize) -> bool {
        let Self {
            stalled,
            arena,
            stalled_bytes,
            ..
        } = self;
        let shares =
            |one: &&mut Stalled| one.target().is_some_and(|other| other.shares_order(target));
        let Some(waiting) = stalled.iter_mut().find(shares) else {
            return false;
        };
        let bytes = end - start + MESSAGE_CHARGE_BYTES as usize;
        waiting
            .bodies
            .push_back((target, Bytes::copy_from_slice(&arena[start..end])));
        waiting.bytes += bytes;
        *stalled_bytes += bytes;
        self.counters.stalled += 1;
        true
    }

    #[cold]
    fn stall(&mut self, target: Target, start: usize, end: usize) {
        self.stalled.push(Stalled {
            bodies: VecDeque::from([(target, Bytes::copy_from_slice(&self.arena[start..end]))]),
            bytes: end - start + MESSAGE_CHARGE_BYTES as usize,
        });
        self.stalled_bytes += end - start + MESSAGE_CHARGE_BYTES as usize;
        self.counters.stalled += 1;
    }

    fn retry_one(
        &mut self,
        index: usize,
        endpoint: &mut Endpoint,
        waits: &mut Waits,
        now: Instant,
    ) {
        while let Some((target, body)) = self.stalled[index].bodies.front() {
            let (target, bytes) = (*target, body.len() + MESSAGE_CHARGE_BYTES as usize);
            match offer(endpoint, now, target, body) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    waits.note_full(target.peer());
                    return;
                }
                Err(error) => self.drop_message(target, error),
            }
            let waiting = &mut self.stalled[index];
            waiting.bodies.pop_front();
            waiting.bytes -= bytes;
            self.stalled_bytes -= bytes;
        }
    }

    #[cold]
    fn drop_message(&mut self, target: Target, error: SendError) {
        let counter = match target {
            Target::Flow(_, service) => {
                self.counters.acknowledged_dropped += u64::from(service == Service::Acknowledged);
                &mut self.counters.sends_dropped
            }
            Target::Reply(_) => &mut self.counters.replies_dropped,
        };
        *counter += 1;
        if *counter == 1 {
            tracing::warn!(
                ?target,
                ?error,
                "first message of a handler that could not be sent"
            );
        }
    }
}

/// Best effort is dropped when there is no room, everything else waits.
fn keeps(target: Target) -> bool {
    !matches!(target, Target::Flow(_, Service::BestEffort))
}

fn offer(
    endpoint: &mut Endpoint,
    now: Instant,
    target: Target,
    body: &[u8],
) -> Result<(), SendError> {
    match target {
        Target::Flow(flow, service) => endpoint.send(now, flow, body, service, None),
        Target::Reply(to) => endpoint.reply(to, body),
    }
}
