//! Owns the messages of one lane from `push` until they are settled: blocks, the slots they are written in, large bodies
//! waiting to be cut, and who waits for which outcome (docs/ARCHITECTURE.md, "Blocks").
//!
//! What always holds: a block, once closed, never changes; its payload is kept until it is acknowledged and its count of
//! messages until it is settled; `held_bytes` is the sum of the payloads kept, and never passes `bytes_max`.

mod large;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::endpoint::{Outcome, Refusal, Token};
use crate::flows::OutFlow;
use crate::limits::{BLOCK_WINDOW, HEAD_SLACK};
use crate::message::{
    CONTINUE_BYTES_MAX, Continue, FORM_FIRST, FORM_PAD, FORM_WHOLE, HEAD_BYTES_MAX, Head, Target,
};
use crate::slots::SlotPool;
use crate::varint;
use large::Large;

/// Frame type of a block; its number follows, then messages up to the datagram's end.
pub(crate) const FRAME_BLOCK: u8 = 0x08;
/// Messages shorter than this are moved to the next block rather than split: a part costs more than the bytes it saves.
const SPLIT_BODY_BYTES_MIN: usize = 192;
/// A message is split only when at least this much room is left in the block.
const SPLIT_ROOM_BYTES_MIN: usize = 96;
/// Blocks of one large body built in a row before short messages waiting in the open block get their turn.
const CUTS_IN_A_ROW_MAX: u32 = 32;

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
    /// To the asker.
    Reply(u64),
}

#[derive(Debug)]
enum Payload {
    /// Acknowledged: nothing to resend.
    Released,
    /// Copied messages.
    Slot(Vec<u8>),
    /// A part of a large body behind a short head.
    Slice { head: [u8; 40], head_bytes: u8, body: Bytes },
}

#[derive(Debug)]
struct Block {
    payload: Payload,
    /// Aliases whose names it carries.
    names: Vec<u32>,
    /// Messages that end in it.
    ends: u16,
    sent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Notify {
    block: u64,
    index: u16,
    waiter: Waiter,
}

/// What one SETTLED record settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
}

/// Send log of one lane.
#[derive(Debug)]
pub(crate) struct SendLog {
    blocks: VecDeque<Block>,
    /// Number of `blocks[0]`.
    base: u64,
    /// First block never sent.
    fresh: u64,
    /// Block being filled: number `base + blocks.len()`; empty vector means none.
    open: Vec<u8>,
    open_ends: u16,
    open_names: Vec<u32>,
    /// Blocks to send again, oldest loss first.
    lost: VecDeque<u64>,
    large: VecDeque<Large>,
    large_bytes: usize,
    cuts_in_a_row: u32,
    notify: VecDeque<Notify>,
    /// All below are settled, as the receiver told.
    settled: u64,
    held_bytes: usize,
    /// Messages logged and not settled.
    pending: u64,
    /// Bytes of a full block: what a datagram holds between header and tag.
    block_bytes: usize,
    bytes_max: usize,
}

impl SendLog {
    /// An empty log of full blocks of `block_bytes`, keeping at most `bytes_max`.
    pub(crate) fn new(block_bytes: usize, bytes_max: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            base: 0,
            fresh: 0,
            open: Vec::new(),
            open_ends: 0,
            open_names: Vec::new(),
            lost: VecDeque::new(),
            large: VecDeque::new(),
            large_bytes: 0,
            cuts_in_a_row: 0,
            notify: VecDeque::new(),
            settled: 0,
            held_bytes: 0,
            pending: 0,
            block_bytes,
            bytes_max,
        }
    }

    /// Writes one message into the log; `false` when there is no room, and nothing changed.
    #[inline]
    pub(crate) fn push(
        &mut self,
        pool: &mut SlotPool,
        route: &mut Route<'_>,
        request: Option<u64>,
        body: &[u8],
        waiter: Option<Waiter>,
    ) -> bool {
        let number = self.open_number();
        let head = head_of(route, request, body.len(), number);
        if self.open.is_empty() || self.open.len() + head.size() + body.len() > self.block_bytes {
            return self.push_in_parts(pool, route, request, body, waiter);
        }
        head.write(FORM_WHOLE, &mut self.open);
        self.open.extend_from_slice(body);
        self.note_name(route, number);
        self.end_message(waiter);
        self.pending += 1;
        true
    }

    /// [`SendLog::push`] when the open block cannot take the whole message.
    fn push_in_parts(
        &mut self,
        pool: &mut SlotPool,
        route: &mut Route<'_>,
        request: Option<u64>,
        body: &[u8],
        waiter: Option<Waiter>,
    ) -> bool {
        if !self.has_room(body.len()) {
            return false;
        }
        let split = body.len() >= SPLIT_BODY_BYTES_MIN;
        let room = self.block_bytes.saturating_sub(self.open.len());
        let number = self.open_number();
        let head = head_of(route, request, body.len(), number).size();
        if !self.open.is_empty() && (!split || room < head + SPLIT_ROOM_BYTES_MIN) {
            self.pad_and_close();
        }
        if self.open.is_empty() {
            self.open_block(pool);
        }
        let number = self.open_number();
        let head = head_of(route, request, body.len(), number);
        let room = self.block_bytes - self.open.len();
        let whole = head.size() + body.len() <= room;
        let taken = if whole { body.len() } else { room - head.size() };
        head.write(if whole { FORM_WHOLE } else { FORM_FIRST }, &mut self.open);
        self.open.extend_from_slice(&body[..taken]);
        self.note_name(route, number);
        self.continue_message(pool, body, taken, number);
        self.end_message(waiter);
        self.pending += 1;
        true
    }

    /// Writes `body[cut..]` into blocks of its own, the last of which stays open.
    fn continue_message(&mut self, pool: &mut SlotPool, body: &[u8], mut cut: usize, origin: u64) {
        while cut < body.len() {
            self.close();
            self.open_block(pool);
            let part = Continue {
                origin: self.open_number() - origin,
                offset: cut as u64,
                total: body.len() as u64,
            };
            part.write(&mut self.open);
            let taken = (self.block_bytes - self.open.len()).min(body.len() - cut);
            self.open.extend_from_slice(&body[cut..cut + taken]);
            cut += taken;
        }
    }

    /// The next block to send, if any: losses first, then fresh blocks, then what can be cut or closed now.
    pub(crate) fn peek(&mut self, pool: &mut SlotPool) -> Option<u64> {
        while let Some(&number) = self.lost.front() {
            if self.payload_bytes(number).is_some() {
                return Some(number);
            }
            self.lost.pop_front();
        }
        if self.fresh >= self.settled + BLOCK_WINDOW {
            return None;
        }
        if self.fresh == self.base + self.blocks.len() as u64 {
            let turn = self.large.is_empty() || self.cuts_in_a_row >= CUTS_IN_A_ROW_MAX;
            if turn && !self.open.is_empty() {
                self.cuts_in_a_row = 0;
                self.close();
            } else if !self.cut_large(pool) {
                if self.open.is_empty() {
                    return None;
                }
                self.close();
            }
        }
        Some(self.fresh)
    }

    /// Bytes that [`SendLog::write`] appends for `number`; `None` when it needs no sending any more.
    #[inline]
    pub(crate) fn payload_bytes(&self, number: u64) -> Option<usize> {
        match &self.block(number)?.payload {
            Payload::Released => None,
            Payload::Slot(slot) => Some(slot.len()),
            Payload::Slice { head_bytes, body, .. } => Some(usize::from(*head_bytes) + body.len()),
        }
    }

    /// Appends block `number` to a datagram and takes it off the list of what [`SendLog::peek`] offers. Returns whether it
    /// had been sent before.
    #[inline]
    pub(crate) fn write(&mut self, number: u64, out: &mut Vec<u8>) -> bool {
        if self.lost.front() == Some(&number) {
            self.lost.pop_front();
        } else if number == self.fresh {
            self.fresh += 1;
        }
        let index = (number - self.base) as usize;
        let block = &mut self.blocks[index];
        match &block.payload {
            Payload::Released => {}
            Payload::Slot(slot) => out.extend_from_slice(slot),
            Payload::Slice { head, head_bytes, body } => {
                out.extend_from_slice(&head[..usize::from(*head_bytes)]);
                out.extend_from_slice(body);
            }
        }
        std::mem::replace(&mut block.sent, true)
    }

    /// A datagram with block `number` was acknowledged: its payload is released. `bound` hears of names that arrived.
    #[inline]
    pub(crate) fn on_acked(&mut self, number: u64, pool: &mut SlotPool, bound: impl FnMut(u32)) {
        if number < self.base {
            return;
        }
        let index = (number - self.base) as usize;
        if let Some(block) = self.blocks.get_mut(index) {
            release(block, &mut self.held_bytes, self.block_bytes, pool, bound);
        }
    }

    /// A datagram with block `number` was lost: it will be sent again unless another copy arrived.
    pub(crate) fn on_lost(&mut self, number: u64) {
        if self.payload_bytes(number).is_some() && !self.lost.contains(&number) {
            self.lost.push_back(number);
        }
    }

    /// Offers the oldest unacknowledged block again, as a probe; `false` when there is none.
    pub(crate) fn probe(&mut self) -> bool {
        let sent = (self.fresh - self.base) as usize;
        let oldest = self.blocks.iter().take(sent).position(|block| !is_released(block));
        match oldest {
            Some(index) => {
                self.on_lost(self.base + index as u64);
                true
            }
            None => false,
        }
    }

    /// All blocks below `floor` are settled, except the refusals given in ascending order. `None` when the receiver claims
    /// what was never sent.
    pub(crate) fn on_settled(
        &mut self,
        floor: u64,
        refusals: &[(u64, u16, Refusal)],
        pool: &mut SlotPool,
        mut bound: impl FnMut(u32),
        mut on_outcome: impl FnMut(Waiter, Outcome),
    ) -> Option<Settlement> {
        if floor > self.fresh {
            return None;
        }
        let mut settlement = Settlement::default();
        if floor <= self.settled {
            return Some(settlement);
        }
        let refusals = &refusals[refusals.partition_point(|r| r.0 < self.settled)..];
        settlement.refused = refusals.iter().filter(|r| r.0 < floor).count() as u64;
        let mut ends = 0;
        while self.base < floor
            && let Some(mut block) = self.blocks.pop_front()
        {
            ends += u64::from(block.ends);
            release(&mut block, &mut self.held_bytes, self.block_bytes, pool, &mut bound);
            self.base += 1;
        }
        settlement.delivered = ends.checked_sub(settlement.refused)?;
        self.pending -= ends;
        self.settled = floor;
        while let Some(notify) = self.notify.front()
            && notify.block < floor
        {
            let refused = refusals.iter().find(|r| (r.0, r.1) == (notify.block, notify.index));
            let outcome = refused.map_or(Outcome::Delivered, |r| Outcome::Refused(r.2));
            on_outcome(notify.waiter, outcome);
            self.notify.pop_front();
        }
        Some(settlement)
    }

    /// The session ended: tells every waiter, releases everything, returns how many messages had not been settled.
    pub(crate) fn abandon(
        &mut self,
        pool: &mut SlotPool,
        outcome: Outcome,
        mut on_outcome: impl FnMut(Waiter, Outcome),
    ) -> u64 {
        self.notify.drain(..).for_each(|notify| on_outcome(notify.waiter, outcome));
        let waiters = self.large.drain(..).filter_map(|large| large.head.waiter);
        waiters.for_each(|waiter| on_outcome(waiter, outcome));
        for mut block in self.blocks.drain(..) {
            release(&mut block, &mut self.held_bytes, self.block_bytes, pool, |_| {});
        }
        let pending = self.pending;
        *self = Self::new(self.block_bytes, self.bytes_max);
        pending
    }

    /// Messages logged and not settled.
    #[inline]
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether someone waits for an outcome that only the last block sent can bring.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        !self.notify.is_empty()
    }

    /// Whether the log is so full that acknowledgements should come at once.
    #[inline]
    pub(crate) fn is_half_full(&self) -> bool {
        self.held_bytes * 2 > self.bytes_max
    }

    /// Whether a short message would find room.
    #[inline]
    pub(crate) fn has_room(&self, body_bytes: usize) -> bool {
        // Every part takes a whole slot; a head costs at most HEAD_SLACK of it.
        let parts = 2 + body_bytes / (self.block_bytes - HEAD_SLACK);
        self.held_bytes + parts * self.block_bytes <= self.bytes_max
    }

    /// Whether anything could be sent now or later without further calls of `push`.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.lost.is_empty()
            || !self.open.is_empty()
            || !self.large.is_empty()
            || self.fresh < self.base + self.blocks.len() as u64
    }

    #[inline]
    fn open_number(&self) -> u64 {
        self.base + self.blocks.len() as u64
    }

    #[inline]
    fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    fn open_block(&mut self, pool: &mut SlotPool) {
        self.open = pool.take();
        self.held_bytes += self.block_bytes;
        let number = self.open_number();
        self.open.push(FRAME_BLOCK);
        varint::write(number, &mut self.open);
    }

    /// Fills the open block up, so that it does not end a GSO run, and closes it.
    fn pad_and_close(&mut self) {
        if self.open.len() < self.block_bytes {
            self.open.push(FORM_PAD);
            self.open.resize(self.block_bytes, 0);
        }
        self.close();
    }

    fn close(&mut self) {
        self.blocks.push_back(Block {
            payload: Payload::Slot(std::mem::take(&mut self.open)),
            names: std::mem::take(&mut self.open_names),
            ends: std::mem::take(&mut self.open_ends),
            sent: false,
        });
    }

    #[inline]
    fn end_message(&mut self, waiter: Option<Waiter>) {
        if let Some(waiter) = waiter {
            let (block, index) = (self.open_number(), self.open_ends);
            self.notify.push_back(Notify { block, index, waiter });
        }
        self.open_ends += 1;
    }

    #[inline]
    fn note_name(&mut self, route: &mut Route<'_>, number: u64) {
        if let Route::Flow(flow, alias) = route
            && !flow.bound
            && flow.named_in != number
        {
            flow.named_in = number;
            self.open_names.push(*alias);
        }
    }
}

fn is_released(block: &Block) -> bool {
    matches!(block.payload, Payload::Released)
}

#[inline]
fn release(
    block: &mut Block,
    held_bytes: &mut usize,
    block_bytes: usize,
    pool: &mut SlotPool,
    mut bound: impl FnMut(u32),
) {
    match std::mem::replace(&mut block.payload, Payload::Released) {
        Payload::Released => return,
        Payload::Slot(slot) => pool.give(slot),
        Payload::Slice { .. } => {}
    }
    *held_bytes -= block_bytes;
    for alias in block.names.drain(..) {
        bound(alias);
    }
}

#[inline]
fn head_of<'a>(route: &'a Route<'_>, request: Option<u64>, bytes: usize, number: u64) -> Head<'a> {
    let (target, name) = match route {
        Route::Flow(flow, alias) => {
            let known = flow.bound || flow.named_in == number;
            (Target::Flow(*alias), if known { None } else { Some(&*flow.name) })
        }
        Route::Reply(request) => (Target::Reply(*request), None),
    };
    Head { target, name, request, total: bytes as u64 }
}

const _: () = assert!(HEAD_SLACK >= HEAD_BYTES_MAX && HEAD_SLACK >= CONTINUE_BYTES_MAX);
