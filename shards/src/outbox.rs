//! What was said while the endpoint was busy: sends and replies of inline handlers, credit of dropped
//! batches, and waits whose futures were dropped there.
//!
//! The endpoint is lent to the datagram being handled, so an inline handler cannot reach it. Its
//! messages are written to one arena and handed over after the receive call. A message for which
//! the endpoint has no room then waits until its peer is writable, and the message that made the
//! handler send it gets its credit back only after that: a destination that is slow slows those who
//! make us send there. Always holds: messages to one destination leave in the order they were given; the
//! outbox keeps within `OUTBOX_BYTES_MAX`, and [`SendError::Full`] says so to whoever exceeds it.

use cubed_transport::time::Instant;
use cubed_transport::{Deferred, Endpoint, FlowId, PeerId, Refusal, RequestId, SendError, Token};

use crate::handed::{Carried, HERE, What};
use crate::limits::{MESSAGE_CHARGE_BYTES, OUTBOX_BYTES_MAX, OUTBOX_STALLED_BYTES_MAX};
use crate::local::{Local, Terms};
use crate::stalled::{Release, Stalled, Target};
use crate::waits::Waits;

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
    /// What the last handler sent to a destination that has no room, if it did.
    blocked: Option<Target>,
    releases: Vec<Release>,
    /// Messages of peers whose answer came from another shard.
    settled: Vec<(Deferred, Result<(), Refusal>)>,
    forgotten: Vec<(Token, Option<PeerId>, Option<RequestId>)>,
    counters: OutboxCounters,
}

struct Entry {
    target: Target,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Takes a message, copying its body.
    pub(crate) fn push(&mut self, target: Target, body: &[u8]) -> Result<(), SendError> {
        let bytes = body.len() + MESSAGE_CHARGE_BYTES as usize;
        if !self.is_empty() && self.bytes() + bytes > OUTBOX_BYTES_MAX {
            return Err(SendError::Full);
        }
        if let Some(waiting) = find(&mut self.stalled, target) {
            if waiting.bytes() + bytes > OUTBOX_STALLED_BYTES_MAX {
                return Err(SendError::Full);
            }
            self.blocked = Some(target);
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(body);
        let end = self.arena.len();
        self.entries.push(Entry { target, start, end });
        self.counters.taken += 1;
        Ok(())
    }

    /// A handler gets a message: that what tasks said before has to wait is none of its doing.
    #[inline]
    pub(crate) fn begin_handling(&mut self) {
        self.blocked = None;
    }

    /// Whether one of the messages pushed since the last [`Outbox::take_blocked`] has to wait.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Where the messages pushed since the last call of this have to wait, if anywhere.
    pub(crate) fn take_blocked(&mut self) -> Option<Target> {
        self.blocked.take()
    }

    /// Keeps credit back until nothing waits for `target` any more.
    pub(crate) fn withhold(&mut self, target: Target, release: Release) {
        match find(&mut self.stalled, target) {
            Some(waiting) => waiting.withhold(release),
            None => self.releases.push(release),
        }
    }

    /// Whether half of the outbox is taken: requests had better be refused than left unanswered.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes() > OUTBOX_BYTES_MAX / 2
    }

    /// Whether messages to this flow wait here for room, so that a direct send would overtake them.
    pub(crate) fn precedes(&self, flow: FlowId) -> bool {
        let same = |target| matches!(target, Target::Flow(other, _) if other == flow);
        self.stalled.iter().any(|one| same(one.target()))
    }

    /// Whether some destination had no room for what waits here.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Whether no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stalled.is_empty()
    }

    /// Whether somebody said something since the last [`Outbox::flush`]; credit and what became of messages is nothing to wait for.
    pub(crate) fn has_messages(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Credit to be given back with the next [`Outbox::flush`].
    pub(crate) fn release(&mut self, release: Release) {
        self.releases.push(release);
    }

    /// What became of a peer's message, to be told with the next [`Outbox::flush`].
    pub(crate) fn settle(&mut self, message: Deferred, result: Result<(), Refusal>) {
        self.settled.push((message, result));
    }

    /// A wait to be forgotten with the next [`Outbox::flush`].
    pub(crate) fn forget(
        &mut self,
        token: Token,
        peer: Option<PeerId>,
        request: Option<RequestId>,
    ) {
        self.forgotten.push((token, peer, request));
    }

    /// Hands everything new to the endpoint. Whether there was anything.
    pub(crate) fn flush(
        &mut self,
        endpoint: &mut Endpoint,
        waits: &mut Waits,
        local: &mut Local,
        now: Instant,
    ) -> bool {
        let worked = !(self.entries.is_empty()
            && self.releases.is_empty()
            && self.settled.is_empty()
            && self.forgotten.is_empty());
        for (token, peer, request) in self.forgotten.drain(..) {
            waits.forget(token, peer);
            if let Some(request) = request {
                endpoint.cancel_request(request);
            }
            local.cancel(token);
        }
        for index in 0..self.entries.len() {
            let Entry { mut target, start, end } = self.entries[index];
            let body = &self.arena[start..end];
            loop {
                if let Some(waiting) = find(&mut self.stalled, target) {
                    waiting.push(target, body);
                    self.counters.stalled += 1;
                    break;
                }
                match offer(endpoint, waits, local, now, target, body) {
                    Ok(()) => {}
                    Err(SendError::Moved(to)) => {
                        target = target.moved(to);
                        continue;
                    }
                    Err(SendError::Full) if waits_for_room(target) => {
                        waits.note_full(target.peer());
                        self.stalled.push(Stalled::new(target, body));
                        self.counters.stalled += 1;
                    }
                    Err(error) => self.counters.drop_message(target, error),
                }
                break;
            }
        }
        self.entries.clear();
        self.arena.clear();
        self.blocked = None;
        for (message, result) in self.settled.drain(..) {
            endpoint.settle(message, result);
        }
        self.give_back(endpoint, local);
        worked
    }

    /// Offers what waits for `peer` again.
    pub(crate) fn retry(
        &mut self,
        endpoint: &mut Endpoint,
        waits: &mut Waits,
        local: &mut Local,
        peer: PeerId,
        now: Instant,
    ) {
        let mut index = 0;
        while index < self.stalled.len() {
            let waiting = &mut self.stalled[index];
            if waiting.target().peer() == peer {
                offer_all(waiting, endpoint, waits, local, now, &mut self.counters);
            }
            if waiting.is_empty() {
                let done = self.stalled.swap_remove(index);
                self.releases.extend(done.into_withheld());
            } else {
                index += 1;
            }
        }
        self.give_back(endpoint, local);
    }

    /// Acknowledged messages that wait here, unknown to the endpoint.
    pub(crate) fn acknowledged_waiting(&self) -> u64 {
        let fresh = self.entries.iter().filter(|entry| entry.target.has_outcome()).count() as u64;
        fresh + self.stalled.iter().map(Stalled::acknowledged).sum::<u64>()
    }

    pub(crate) fn counters(&self) -> OutboxCounters {
        self.counters
    }

    #[cfg(test)]
    pub(crate) fn releases_for_test(&self) -> Vec<(PeerId, u64)> {
        let releases = self.releases.iter();
        releases.map(|release| (release.peer, release.charge)).collect()
    }

    /// As if this target had no room.
    #[cfg(test)]
    pub(crate) fn stall_for_test(&mut self, target: Target) {
        self.stalled.push(Stalled::new(target, b"waits"));
    }

    /// As if all targets had room again: the credit kept back meanwhile.
    #[cfg(test)]
    pub(crate) fn withheld_for_test(&mut self) -> Vec<u64> {
        let withheld = self.stalled.drain(..).flat_map(Stalled::into_withheld);
        withheld.map(|release| release.charge).collect()
    }

    fn give_back(&mut self, endpoint: &mut Endpoint, local: &mut Local) {
        for release in self.releases.drain(..) {
            if release.peer == HERE {
                let Release { session, alias: origin, charge, .. } = release;
                if charge > 0 {
                    local.answer(
                        session as usize,
                        What::Credit { origin, charge },
                        Carried::Nothing,
                    );
                }
                continue;
            }
            endpoint.release(release.peer, release.session, release.alias, release.charge);
        }
    }

    fn bytes(&self) -> usize {
        let overhead = self.entries.len() * MESSAGE_CHARGE_BYTES as usize;
        let stalled: usize = self.stalled.iter().map(Stalled::bytes).sum();
        self.arena.len() + overhead + stalled
    }
}

impl OutboxCounters {
    #[cold]
    fn drop_message(&mut self, target: Target, error: SendError) {
        let counter = match target {
            Target::Flow(..) => {
                self.acknowledged_dropped += u64::from(target.has_outcome());
                &mut self.sends_dropped
            }
            Target::Reply(_) => &mut self.replies_dropped,
        };
        *counter += 1;
        if *counter == 1 {
            tracing::warn!(?target, %error, "first message of a handler that could not be sent");
        }
    }
}

/// Best effort is dropped when there is no room, everything else waits.
fn waits_for_room(target: Target) -> bool {
    target.has_outcome() || matches!(target, Target::Reply(_))
}

/// The messages behind which one to `target` has to wait.
#[inline]
fn find(stalled: &mut [Stalled], target: Target) -> Option<&mut Stalled> {
    stalled.iter_mut().find(|one| one.target().shares_order(target))
}

/// Offers messages until there is no more room or none is left.
fn offer_all(
    waiting: &mut Stalled,
    endpoint: &mut Endpoint,
    waits: &mut Waits,
    local: &mut Local,
    now: Instant,
    counters: &mut OutboxCounters,
) {
    while let Some((target, body)) = waiting.first() {
        match offer(endpoint, waits, local, now, target, body) {
            Ok(()) => {}
            Err(SendError::Moved(to)) => {
                waiting.follow(to);
                continue;
            }
            Err(SendError::Full) => return waits.note_full(target.peer()),
            Err(error) => counters.drop_message(target, error),
        }
        waiting.pop();
    }
}

fn offer(
    endpoint: &mut Endpoint,
    waits: &mut Waits,
    local: &mut Local,
    now: Instant,
    target: Target,
    body: &[u8],
) -> Result<(), SendError> {
    match target {
        Target::Flow(flow, options) if flow.peer == HERE => {
            let terms = Terms { options, token: None, answer_by: None };
            local.send(waits, flow.alias, Carried::Slice(body), terms)
        }
        Target::Reply(to) if to.peer == HERE => {
            local.reply(to.session as usize, to.request, body);
            Ok(())
        }
        Target::Flow(flow, options) => endpoint.send_with(now, flow, body, &options, None),
        Target::Reply(to) => endpoint.reply(to, body),
    }
}
