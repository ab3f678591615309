//! Owns the messages of one lane from `push` until they are settled: blocks, the slots they are written in, large bodies
//! waiting to be cut, and who waits for which outcome (docs/ARCHITECTURE.md, "Blocks").
//!
//! What always holds: a block gets its number when it is sent for the first time and never changes afterwards; its payload
//! is kept until it is acknowledged or given up and its count of messages until it is settled; `held_bytes` is the sum of
//! the payloads kept, and never passes `bytes_max` by more than an eighth.

mod awaited;
mod dormant;
mod draft;
mod group;
mod large;
mod parts;
mod requests;
mod row;
mod schedule;
mod settle;
mod skips;
mod terms;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use crate::endpoint::{CLASSES, Priority, Token};
use crate::flows::OutFlow;
use crate::indices::IndexHasher;
use crate::limits::{DATAGRAM_BYTES_FLOOR, HEAD_SLACK, payload_bytes};
use crate::message::{
    CONTINUE_BYTES_MAX, Continue, FORM_FIRST, FORM_PAD, FORM_WHOLE, HEAD_BYTES_MAX, Head, Sequence,
    Target,
};
use crate::slots::{Slot, SlotPool};
use crate::time::Instant;
use awaited::Awaited;
pub(crate) use dormant::DormantLog;
pub(crate) use draft::FRAME_BLOCK;
use draft::{Block, Class, Draft, Link, Open, Payload, prefix_bytes};
use group::Group;
pub(crate) use group::Terms;
use parts::Parts;
pub(crate) use row::{LoggedRow, RowLimits};
pub(crate) use schedule::Pick;
use skips::Skips;

/// Messages shorter than this are moved to the next block rather than split: a part costs more than the bytes it saves.
const SPLIT_BODY_BYTES_MIN: usize = 192;
/// A message is split only when at least this much room is left in the block.
const SPLIT_ROOM_BYTES_MIN: usize = 96;
/// Class of a message that asks for nothing.
const NORMAL: usize = Priority::Normal as usize;

/// Who wants to hear how a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// The caller's token.
    Message(Token),
    /// A request of ours, by number.
    Request(u64),
}

/// The address of a message about to be logged.
#[derive(Debug)]
pub(crate) enum Route<'a> {
    /// To a flow; it may have to be named once per block.
    Flow(&'a mut OutFlow, u32),
    /// To a flow that needs no name.
    Bound(u32),
    /// To the asker.
    Reply(u64),
}

/// What a message has beside its route and body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) request: Option<u64>,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) waiter: Option<Waiter>,
}

#[derive(Clone, Copy, Debug)]
struct Notify {
    block: u64,
    awaited: Awaited,
}

/// Messages that ended here without an answer: past their deadline, or out of repetitions.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) expired: u64,
    /// Charges that the receiver will never see: alias and sum.
    pub(crate) returned: Vec<(u32, u64)>,
}

/// Send log of one lane.
#[derive(Debug)]
pub(crate) struct SendLog {
    /// Blocks sent and not settled.
    blocks: VecDeque<Block>,
    /// Number of `blocks[0]`.
    base: u64,
    classes: [Class; CLASSES],
    /// Blocks ever opened.
    opened: u64,
    /// Blocks sent in a row while something of lower priority waited.
    preferred_in_a_row: u32,
    /// Blocks to send again, oldest loss first; each once, and marked so.
    lost: VecDeque<u64>,
    large_bytes: usize,
    /// Large bodies cut to their end or given up so far.
    bodies_gone: u64,
    groups: HashMap<u32, Group, IndexHasher>,
    last_group: u32,
    /// Deadlines of groups; those that ended meanwhile are passed over.
    deadlines: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Bodies whose group is at its bound of unacknowledged blocks.
    parked: usize,
    skips: Skips,
    ended: Ended,
    /// Newest stamp offered for each alias that ever had a value.
    stamps: Vec<u64>,
    notify: VecDeque<Notify>,
    /// All below are settled, as the receiver told.
    settled: u64,
    held_bytes: usize,
    /// Messages logged and not settled.
    pending: u64,
    /// Bytes of a full block: what a datagram holds now between header and tag.
    block_bytes: usize,
    /// What a block costs while its payload is kept: the longest that a block may ever be.
    slot_bytes: usize,
    bytes_max: usize,
    /// Blocks longer than a datagram may be now.
    parts: Option<Box<Parts>>,
}

impl SendLog {
    /// An empty log of full blocks of `slot_bytes`, keeping at most `bytes_max`.
    pub(crate) fn new(slot_bytes: usize, bytes_max: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            base: 0,
            classes: std::array::from_fn(|_| Class::new()),
            opened: 0,
            preferred_in_a_row: 0,
            lost: VecDeque::new(),
            large_bytes: 0,
            bodies_gone: 0,
            groups: HashMap::default(),
            last_group: 0,
            deadlines: BinaryHeap::new(),
            parked: 0,
            skips: Skips::default(),
            ended: Ended::default(),
            stamps: Vec::new(),
            notify: VecDeque::new(),
            settled: 0,
            held_bytes: 0,
            pending: 0,
            block_bytes: slot_bytes,
            slot_bytes,
            bytes_max,
            parts: None,
        }
    }

    /// Writes one message of normal priority into the log; `false` when there is no room, and nothing changed.
    #[inline]
    pub(crate) fn push(
        &mut self,
        pool: &mut SlotPool,
        route: &mut Route<'_>,
        asked: Asked,
        body: &[u8],
    ) -> bool {
        self.push_stream(pool, NORMAL, route, asked, body)
    }

    /// [`SendLog::push`] of any priority.
    pub(crate) fn push_stream(
        &mut self,
        pool: &mut SlotPool,
        class: usize,
        route: &mut Route<'_>,
        asked: Asked,
        body: &[u8],
    ) -> bool {
        let open = &mut self.classes[class].open;
        let head = head_of(route, asked, body.len(), open.serial);
        if open.bytes.len() + head.size() + body.len() > open.limit {
            let is_taken = self.push_in_parts(pool, class, route, asked, body);
            self.pending += u64::from(is_taken);
            return is_taken;
        }
        head.write(FORM_WHOLE, &mut open.bytes);
        open.end_whole(route, asked, body);
        self.pending += 1;
        true
    }

    /// [`SendLog::push`] when the open block cannot take the whole message; the caller counts it.
    fn push_in_parts(
        &mut self,
        pool: &mut SlotPool,
        class: usize,
        route: &mut Route<'_>,
        asked: Asked,
        body: &[u8],
    ) -> bool {
        if !self.has_room(class, body.len()) {
            return false;
        }
        if body.len() < SPLIT_BODY_BYTES_MIN {
            self.push_in_next(pool, class, route, asked, body);
            return true;
        }
        let open = &self.classes[class].open;
        let room = open.limit.saturating_sub(open.bytes.len());
        let head = head_of(route, asked, body.len(), open.serial).size();
        if open.exists && room < head + SPLIT_ROOM_BYTES_MIN {
            self.pad_and_close(class);
        }
        if !self.classes[class].open.exists {
            self.open_block(class, pool, Link::None);
        }
        let open = &mut self.classes[class].open;
        let head = head_of(route, asked, body.len(), open.serial);
        let room = open.limit - open.bytes.len();
        let whole = head.size() + body.len() <= room;
        let mut cut = if whole { body.len() } else { room - head.size() };
        head.write(if whole { FORM_WHOLE } else { FORM_FIRST }, &mut open.bytes);
        open.bytes.extend_from_slice(&body[..cut]);
        open.note_name(route);
        let mut begins = Link::Stream;
        while cut < body.len() {
            self.close(class, std::mem::take(&mut begins));
            self.open_block(class, pool, Link::Stream);
            let open = &mut self.classes[class].open;
            Continue::write_place(cut as u64, body.len() as u64, &mut open.bytes);
            let taken = (open.limit - open.bytes.len()).min(body.len() - cut);
            open.bytes.extend_from_slice(&body[cut..cut + taken]);
            cut += taken;
        }
        self.classes[class].open.end_message(asked.waiter);
        true
    }

    /// [`SendLog::push_in_parts`] of a message that is never split: an empty block has room for it, whatever its head.
    fn push_in_next(
        &mut self,
        pool: &mut SlotPool,
        class: usize,
        route: &mut Route<'_>,
        asked: Asked,
        body: &[u8],
    ) {
        if self.classes[class].open.exists {
            self.pad_and_close(class);
        }
        self.open_block(class, pool, Link::None);
        let open = &mut self.classes[class].open;
        head_of(route, asked, body.len(), open.serial).write(FORM_WHOLE, &mut open.bytes);
        open.end_whole(route, asked, body);
    }

    /// Messages logged and not settled.
    #[inline]
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether someone waits for an outcome, or a body for an acknowledgement, that only the last block sent can bring.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        !self.notify.is_empty() || self.parked > 0
    }

    /// Bytes of payloads kept.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether the log is so full that acknowledgements should come at once.
    #[inline]
    pub(crate) fn is_half_full(&self) -> bool {
        self.held_bytes * 2 > self.bytes_max
    }

    /// Whether a short message of this class would find room. High priority has an eighth more than the others, so that it
    /// overtakes a full log; low priority leaves a quarter free.
    #[inline]
    pub(crate) fn has_room(&self, class: usize, body_bytes: usize) -> bool {
        // Every part takes a whole slot; a head costs at most HEAD_SLACK of it.
        let parts = 2 + body_bytes / (self.block_bytes - HEAD_SLACK);
        self.held_bytes + parts * self.slot_bytes <= self.bytes_max_of(class)
    }

    fn bytes_max_of(&self, class: usize) -> usize {
        match class {
            0 => self.bytes_max + self.bytes_max / 8,
            NORMAL => self.bytes_max,
            _ => self.bytes_max - self.bytes_max / 4,
        }
    }

    /// Whether anything could be sent now or later without further calls of `push` or acknowledgements.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.lost.is_empty() || self.has_parts_due() || self.classes.iter().any(Class::has_unsent)
    }

    /// Whether nothing of this class waits to be sent for the first time.
    pub(crate) fn is_sent_up(&self, class: usize) -> bool {
        !self.classes[class].has_unsent()
    }

    /// Whether a block of this class waits that is no large body's.
    #[inline]
    pub(crate) fn has_shorts(&self, class: usize) -> bool {
        self.classes[class].has_shorts()
    }

    /// The group made last.
    pub(crate) fn last_group(&self) -> u32 {
        self.last_group
    }

    /// Whether the body of this group is to be cut further.
    pub(crate) fn is_uncut(&self, group: u32) -> bool {
        self.groups.get(&group).is_some_and(|group| !group.is_cut && !group.is_given_up)
    }

    /// The number that the next block gets.
    #[inline]
    fn next_number(&self) -> u64 {
        self.base + self.blocks.len() as u64
    }

    #[inline]
    fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    fn open_block(&mut self, class: usize, pool: &mut SlotPool, continues: Link) {
        self.opened += 1;
        self.held_bytes += self.slot_bytes;
        let limit = self.block_bytes - prefix_bytes(self.next_number(), continues);
        let Class { open, spare_waiters, .. } = &mut self.classes[class];
        debug_assert!(!open.exists, "it would be lost");
        // Field by field, here and where it is closed: what was just written by a word is read late by a wider move.
        open.bytes = pool.take();
        open.exists = true;
        std::mem::swap(&mut open.waiters, spare_waiters);
        open.continues = continues;
        open.limit = limit;
        open.serial = self.opened;
        open.passed = 0;
    }

    /// Fills the open block up, so that it does not end a GSO run, and closes it.
    fn pad_and_close(&mut self, class: usize) {
        let open = &mut self.classes[class].open;
        pad(&mut open.bytes, open.limit);
        self.close(class, Link::None);
    }

    fn close(&mut self, class: usize, begins: Link) {
        let Class { open, drafts, .. } = &mut self.classes[class];
        open.exists = false;
        let limit = std::mem::take(&mut open.limit);
        let full_bytes = if open.bytes.len() == limit { self.block_bytes as u16 } else { 0 };
        drafts.push_back(Draft {
            payload: Payload::Slot(std::mem::take(&mut open.bytes)),
            names: std::mem::take(&mut open.names),
            ends: std::mem::take(&mut open.ends),
            continues: open.continues,
            begins,
            waiters: std::mem::take(&mut open.waiters),
            group: 0,
            full_bytes,
        });
    }
}

impl Open {
    /// Appends a whole message's body behind its head.
    #[inline]
    fn end_whole(&mut self, route: &mut Route<'_>, asked: Asked, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.note_name(route);
        self.end_message(asked.waiter);
    }

    #[inline]
    fn end_message(&mut self, waiter: Option<Waiter>) {
        if let Some(waiter) = waiter {
            Awaited::note(&mut self.waiters, self.ends, waiter);
        }
        self.ends += 1;
    }

    #[inline]
    fn note_name(&mut self, route: &mut Route<'_>) {
        if let Route::Flow(flow, alias) = route
            && !flow.bound
            && flow.named_in != self.serial
        {
            flow.named_in = self.serial;
            self.names.push(*alias);
        }
    }
}

/// Fills a block's content up with padding.
fn pad(bytes: &mut Slot, limit: usize) {
    if bytes.len() < limit {
        bytes.push(FORM_PAD);
        bytes.fill_zeros(limit);
    }
}

#[inline]
fn head_of<'a>(route: &'a Route<'_>, asked: Asked, bytes: usize, serial: u64) -> Head<'a> {
    let (target, name) = match route {
        Route::Flow(flow, alias) => {
            let known = flow.bound || flow.named_in == serial;
            (Target::Flow(*alias), if known { None } else { Some(&*flow.name) })
        }
        Route::Bound(alias) => (Target::Flow(*alias), None),
        Route::Reply(request) => (Target::Reply(*request), None),
    };
    let Asked { request, sequence, .. } = asked;
    Head { target, name, request, sequence, total: bytes as u64 }
}

const _: () = assert!(HEAD_SLACK >= HEAD_BYTES_MAX + 255 + 18);
// A message that is not split fits the shortest block.
const _: () = assert!(SPLIT_BODY_BYTES_MIN + HEAD_SLACK <= payload_bytes(DATAGRAM_BYTES_FLOOR));
const _: () = assert!(HEAD_SLACK >= CONTINUE_BYTES_MAX + 18);

#[cfg(test)]
mod tests;
