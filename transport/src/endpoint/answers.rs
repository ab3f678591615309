//! Owns the half-open answers to the hellos of others, and what decides whether one more is given: load, proof of address,
//! each source's share.
//!
//! What always holds: at most `half_open_max` answers, none older than [`HALF_OPEN_AGE_MAX`]; each belongs to one address, and its
//! REPLY goes there alone, so that a FINISH from there proves it; hellos from unproven addresses cost at most
//! `hellos_per_second` public-key operations each second.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ChannelId;
use crate::allowance::Allowance;
use crate::association::Association;
use crate::handshake::{HalfOpen, Hello};
use crate::identity::PublicKey;
use crate::limits::{HALF_OPEN_AGE_MAX, HALF_OPEN_SOURCES_MIN, HELLO_REPLIES_MAX};
use crate::time::Instant;

/// One that is older than this makes room for another when the table is full: an honest round trip is over by then.
const AGE_MIN: Duration = Duration::from_secs(1);

/// One half-open answer.
pub(super) struct Answer {
    pub(super) half_open: HalfOpen,
    /// The channel that was dialled.
    pub(super) channel: ChannelId,
    /// Where the hello came from and the REPLY went.
    pub(super) from: SocketAddr,
    pub(super) since: Instant,
    /// The dialler finished; who it is shows in its greeting.
    pub(super) stranger: Option<Box<(PublicKey, Association)>>,
    /// The dialler was turned away: this is told each time it finishes or greets again.
    pub(super) refusal: Option<Vec<u8>>,
    /// How often the hello was answered.
    replies: u32,
    /// The hello carried a cookie: it came from where it says.
    is_proven: bool,
}

impl Answer {
    /// Whether its REPLY went out more than once, so that the FINISH measures no round trip.
    pub(super) fn is_repeated(&self) -> bool {
        self.replies > 1
    }
}

/// Why a hello is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The table is full of answers given less than [`AGE_MIN`] ago.
    Full,
    /// Its address holds its share of the table.
    Source,
}

/// All half-open answers of an endpoint.
pub(super) struct Answers {
    /// Oldest first.
    table: VecDeque<Answer>,
    places_max: usize,
    unproven: Allowance,
}

impl Answers {
    pub(super) fn new(places_max: usize, hellos_per_second: u32) -> Self {
        // None at all would shut everybody out who has no cookie yet: zero is taken as one.
        let unproven = Allowance::new(hellos_per_second.max(1), Duration::from_secs(1));
        Self { table: VecDeque::new(), places_max, unproven }
    }

    /// Whether a hello must prove its address before anything is done for it.
    pub(super) fn is_under_load(&self, now: Instant) -> bool {
        self.table.len() * 2 >= self.places_max || !self.unproven.has_any(now)
    }

    /// Answers a hello again that was answered already. `None` when it was not; `Some(false)` when that was often enough.
    pub(super) fn repeat(
        &mut self,
        from: SocketAddr,
        hello: &Hello,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        let is_same = |answer: &&mut Answer| {
            let half_open = &answer.half_open;
            half_open.dial_id() == hello.dial_id()
                && answer.from == from
                && half_open.answers(hello)
        };
        let answer = self.table.iter_mut().find(is_same)?;
        answer.replies = answer.replies.saturating_add(1);
        let allowed = answer.replies <= HELLO_REPLIES_MAX;
        if allowed {
            answer.half_open.reply(out);
        }
        Some(allowed)
    }

    /// Makes sure of a place for one more answer, before any work is done for it. Returns the index of the answer that made
    /// room, if one had to.
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        source: IpAddr,
        is_proven: bool,
    ) -> Result<Option<u32>, NoRoom> {
        if is_proven {
            let share = (self.places_max / HALF_OPEN_SOURCES_MIN).max(1);
            let is_its = |answer: &&Answer| answer.is_proven && answer.from.ip() == source;
            if self.table.iter().filter(is_its).count() >= share {
                return Err(NoRoom::Source);
            }
        } else {
            self.unproven.take(now);
        }
        if self.table.len() < self.places_max {
            return Ok(None);
        }
        match self.table.front() {
            Some(oldest) if oldest.since + AGE_MIN <= now => {
                let oldest = self.table.pop_front();
                Ok(oldest.map(|oldest| oldest.half_open.local_index()))
            }
            _ => Err(NoRoom::Full),
        }
    }

    /// Keeps an answer that was just given.
    pub(super) fn push(
        &mut self,
        now: Instant,
        from: SocketAddr,
        channel: ChannelId,
        half_open: HalfOpen,
        is_proven: bool,
    ) {
        self.table.push_back(Answer {
            half_open,
            channel,
            from,
            since: now,
            stranger: None,
            refusal: None,
            replies: 1,
            is_proven,
        });
    }

    /// The answer whose REPLY told this index.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Answer> {
        self.table.iter_mut().find(|answer| answer.half_open.local_index() == index)
    }

    /// Removes one.
    pub(super) fn take(&mut self, index: u32) -> Option<Answer> {
        let found = self.table.iter().position(|answer| answer.half_open.local_index() == index)?;
        self.table.remove(found)
    }

    /// Forgets one.
    pub(super) fn forget(&mut self, index: u32) {
        self.table.retain(|answer| answer.half_open.local_index() != index);
    }

    /// Forgets one that is too old, if there is any; returns its index.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u32> {
        self.table
            .pop_front_if(|oldest| oldest.since + HALF_OPEN_AGE_MAX <= now)
            .map(|oldest| oldest.half_open.local_index())
    }

    /// When the oldest is to be forgotten.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.table.front().map(|answer| answer.since + HALF_OPEN_AGE_MAX)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
