//! Owns large bodies in a send log: taken by ownership, cut into blocks only when datagrams are built.
//!
//! What always holds: a body is cut from front to back, one part a block; its first and last part may share a block with
//! other messages, the parts between have blocks of their own and are never copied before they are sealed.

use bytes::Bytes;

use super::{Block, FRAME_BLOCK, Notify, Payload, Route, SPLIT_ROOM_BYTES_MIN, SendLog, Waiter};
use crate::message::{Continue, FORM_FIRST, HEAD_BYTES_MAX, Head, Target};
use crate::slots::SlotPool;
use crate::varint;

/// Where a large body goes; its flow's name is looked up when the first part is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargeHead {
    target: Target,
    request: Option<u64>,
    pub(super) waiter: Option<Waiter>,
}

#[derive(Debug)]
pub(super) struct Large {
    pub(super) head: LargeHead,
    name: Option<Box<str>>,
    body: Bytes,
    /// Bytes already in blocks; zero until its first part is cut.
    cut: usize,
    /// Block of its first part.
    origin: u64,
}

impl SendLog {
    /// Takes a large body by ownership, to be cut when datagrams are built; `false` when too much waits already.
    pub(crate) fn push_owned(
        &mut self,
        route: &mut Route<'_>,
        request: Option<u64>,
        body: Bytes,
        waiter: Option<Waiter>,
    ) -> bool {
        if !self.has_room_owned(body.len()) {
            return false;
        }
        let (target, name) = match route {
            Route::Flow(flow, alias) => {
                (Target::Flow(*alias), (!flow.bound).then(|| flow.name.clone()))
            }
            Route::Reply(request) => (Target::Reply(*request), None),
        };
        self.large_bytes += body.len();
        self.pending += 1;
        let head = LargeHead { target, request, waiter };
        self.large.push_back(Large { head, name, body, cut: 0, origin: 0 });
        true
    }

    /// Whether a large body may be taken: always one, and as many more as the log holds bytes.
    pub(crate) fn has_room_owned(&self, body_bytes: usize) -> bool {
        self.large.is_empty() || self.large_bytes + body_bytes <= self.bytes_max
    }

    /// Cuts one more block from the oldest large body; `false` when there is none or no room for it.
    pub(super) fn cut_large(&mut self, pool: &mut SlotPool) -> bool {
        // A quarter of the log stays for short messages, so that a large body never starves them.
        if self.held_bytes + 2 * self.block_bytes > self.bytes_max - self.bytes_max / 4 {
            return false;
        }
        let Some(large) = self.large.front() else {
            return false;
        };
        if large.cut == 0 {
            return self.cut_first(pool);
        }
        let number = self.open_number();
        let part = Continue {
            origin: number - large.origin,
            offset: large.cut as u64,
            total: large.body.len() as u64,
        };
        let mut head = Vec::with_capacity(40);
        head.push(FRAME_BLOCK);
        varint::write(number, &mut head);
        part.write(&mut head);
        let (room, left) = (self.block_bytes - head.len(), large.body.len() - large.cut);
        if left < room && self.open.is_empty() {
            return self.cut_last(pool);
        }
        if !self.open.is_empty() {
            // Short messages came meanwhile: their block goes first, numbers run on.
            self.close();
            return true;
        }
        let taken = room.min(left);
        let large = &mut self.large[0];
        let body = large.body.slice(large.cut..large.cut + taken);
        large.cut += taken;
        let mut fixed = [0; 40];
        fixed[..head.len()].copy_from_slice(&head);
        let done = large.cut == large.body.len();
        let waiter = large.head.waiter;
        let payload = Payload::Slice { head: fixed, head_bytes: head.len() as u8, body };
        self.held_bytes += self.block_bytes;
        if done {
            self.finish_large();
            if let Some(waiter) = waiter {
                self.notify.push_back(Notify { block: number, index: 0, waiter });
            }
        }
        self.blocks.push_back(Block {
            payload,
            names: Vec::new(),
            ends: u16::from(done),
            sent: false,
        });
        self.cuts_in_a_row += 1;
        true
    }

    /// Writes the first part of a large body into the open block, or into a new one.
    fn cut_first(&mut self, pool: &mut SlotPool) -> bool {
        let large = &self.large[0];
        let (head, total) = (large.head, large.body.len() as u64);
        let needed = HEAD_BYTES_MAX + large.name.as_ref().map_or(0, |name| name.len());
        if !self.open.is_empty()
            && self.block_bytes - self.open.len() < needed + SPLIT_ROOM_BYTES_MIN
        {
            self.pad_and_close();
            return true;
        }
        if self.open.is_empty() {
            self.open_block(pool);
        }
        let number = self.open_number();
        let large = &mut self.large[0];
        let name = large.name.as_deref();
        let written = Head { target: head.target, name, request: head.request, total };
        written.write(FORM_FIRST, &mut self.open);
        let taken = (self.block_bytes - self.open.len()).min(large.body.len() - 1);
        self.open.extend_from_slice(&large.body[..taken]);
        large.cut = taken;
        large.origin = number;
        if let (Some(_), Target::Flow(alias)) = (name, head.target) {
            self.open_names.push(alias);
        }
        self.close();
        true
    }

    /// Writes the last part of a large body into a new open block, where later messages may join it.
    fn cut_last(&mut self, pool: &mut SlotPool) -> bool {
        let large = &self.large[0];
        let (body, cut, origin, waiter) =
            (large.body.clone(), large.cut, large.origin, large.head.waiter);
        self.finish_large();
        self.open_block(pool);
        let part = Continue {
            origin: self.open_number() - origin,
            offset: cut as u64,
            total: body.len() as u64,
        };
        part.write(&mut self.open);
        self.open.extend_from_slice(&body[cut..]);
        self.end_message(waiter);
        self.cut_next_or_close(pool)
    }

    /// After a last part: the next large body begins in the same block, else the block goes as it is.
    fn cut_next_or_close(&mut self, pool: &mut SlotPool) -> bool {
        if self.large.is_empty() {
            self.close();
        } else {
            return self.cut_first(pool);
        }
        true
    }

    fn finish_large(&mut self) {
        if let Some(large) = self.large.pop_front() {
            self.large_bytes -= large.body.len();
        }
    }
}
