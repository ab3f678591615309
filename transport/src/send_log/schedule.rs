//! Owns what a send log sends next: losses, then by priority what was never sent.
//!
//! What always holds: higher priority goes first, but each 64th block is of a lower one if any waits, so that nothing
//! starves; a block is numbered in the same breath as it is written.

use super::draft::{Block, Link, NO_ORIGIN, wire_bytes};
use super::{NORMAL, Notify, SendLog};
use crate::endpoint::CLASSES;
use crate::limits::BLOCK_WINDOW;
use crate::slots::SlotPool;

/// After so many blocks of a higher priority one of a lower goes, if any waits.
const PREFERRED_IN_A_ROW_MAX: u32 = 63;

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// This block, again.
    Again(u64),
    /// The next block of this class, for the first time.
    Fresh(u8),
    /// A part from the midst of the large body of this class whose turn it is.
    Midst(u8),
}

impl SendLog {
    /// The next block to send, if any, and its length in a datagram: losses first, then fresh blocks, then what can be cut
    /// or closed now.
    pub(crate) fn peek(&mut self, pool: &mut SlotPool) -> Option<(Pick, usize)> {
        while let Some(&number) = self.lost.front() {
            if let Some(bytes) = self.payload_bytes(number) {
                return Some((Pick::Again(number), bytes));
            }
            // Settled or released for good: it never waits here again, so its mark may stay.
            self.lost.pop_front();
        }
        let next = self.next_number();
        if next >= self.settled + BLOCK_WINDOW {
            return None;
        }
        for class in self.order() {
            if let Some(bytes) = self.midst_bytes(class) {
                return Some((Pick::Midst(class as u8), bytes));
            }
            if self.classes[class].has_unsent() && self.prepare(class, pool) {
                let draft = self.classes[class].drafts.front()?;
                let origin = self.origin_of(class, draft.continues);
                let bytes = wire_bytes(next, origin, draft.payload.len(), draft.full_bytes);
                return Some((Pick::Fresh(class as u8), bytes));
            }
        }
        None
    }

    /// Classes in the order in which they are served now.
    #[inline]
    fn order(&self) -> [usize; CLASSES] {
        if self.preferred_in_a_row < PREFERRED_IN_A_ROW_MAX {
            return [0, 1, 2];
        }
        // Of the lower ones each has every second turn.
        let is_normal_turn = self.opened.is_multiple_of(2) || !self.classes[2].has_unsent();
        if is_normal_turn && self.classes[0].has_unsent() { [1, 2, 0] } else { [2, 1, 0] }
    }

    /// Makes sure that a block of this class stands ready; `false` when none can.
    fn prepare(&mut self, class: usize, pool: &mut SlotPool) -> bool {
        let state = &self.classes[class];
        let is_turn = !state.large.is_empty() && self.is_turn_of_large(class);
        if is_turn && self.cut_large(class, pool) {
            self.classes[class].shorts_in_a_row = 0;
            return true;
        }
        let state = &mut self.classes[class];
        if state.drafts.is_empty() && state.open.exists {
            self.close(class, Link::None);
        }
        !self.classes[class].drafts.is_empty()
    }

    fn origin_of(&self, class: usize, link: Link) -> u64 {
        match link {
            Link::None => NO_ORIGIN,
            Link::Stream => self.classes[class].stream_origin,
            Link::Group(group) => self.groups.get(&group).map_or(NO_ORIGIN, |group| group.origin),
        }
    }

    /// Bytes that writing `number` again takes; `None` when it needs no sending any more.
    #[inline]
    pub(crate) fn payload_bytes(&self, number: u64) -> Option<usize> {
        let block = self.block(number)?;
        if block.is_released() { None } else { Some(block.wire_bytes(number)) }
    }

    /// Appends what [`SendLog::peek`] offered to a datagram. Returns its number, and whether it had been sent before.
    #[inline]
    pub(crate) fn write(&mut self, pick: Pick, out: &mut Vec<u8>) -> (u64, bool) {
        let number = match pick {
            Pick::Again(number) => {
                if self.lost.front() == Some(&number) {
                    self.lost.pop_front();
                    self.blocks[(number - self.base) as usize].is_queued = false;
                }
                number
            }
            Pick::Fresh(class) => self.number_next(usize::from(class)),
            Pick::Midst(class) => self.number_midst(usize::from(class)),
        };
        let block = &mut self.blocks[(number - self.base) as usize];
        block.write(number, out);
        let is_again = block.sends > 0;
        block.sends = block.sends.saturating_add(1);
        (number, is_again)
    }

    /// Gives the first waiting block of a class its number.
    #[inline]
    fn number_next(&mut self, class: usize) -> u64 {
        let number = self.next_number();
        self.on_served(class);
        let state = &mut self.classes[class];
        if !state.large.is_empty() {
            state.shorts_in_a_row += 1;
        }
        let mut draft = state.drafts.pop_front().expect("peek offered it");
        let mut waiters = std::mem::take(&mut draft.waiters);
        for awaited in waiters.drain(..) {
            self.notify.push_back(Notify { block: number, awaited });
        }
        if waiters.capacity() > state.spare_waiters.capacity() {
            state.spare_waiters = waiters;
        }
        let origin = match draft.continues {
            Link::None => NO_ORIGIN,
            Link::Stream => state.stream_origin,
            Link::Group(_) => self.origin_of(class, draft.continues),
        };
        if draft.begins == Link::Stream {
            self.classes[class].stream_origin = number;
        }
        if draft.group != 0 || draft.has_group_link() {
            self.on_group_numbered(&draft, number);
        }
        self.blocks.push_back(Block::new(draft, origin));
        number
    }

    /// Cuts a block from the midst of a large body and gives it its number.
    #[inline]
    fn number_midst(&mut self, class: usize) -> u64 {
        let number = self.next_number();
        self.on_served(class);
        let block = self.cut_midst(class);
        self.blocks.push_back(block);
        number
    }

    /// A class had its turn.
    #[inline]
    fn on_served(&mut self, class: usize) {
        if class != NORMAL || self.preferred_in_a_row > 0 || self.classes[2].has_unsent() {
            self.note_order(class);
        }
    }

    /// Counts how long lower priorities have waited.
    #[cold]
    fn note_order(&mut self, class: usize) {
        let is_preferred = self.classes[class + 1..].iter().any(super::Class::has_unsent);
        let is_lower_turn = self.classes[..class].iter().any(super::Class::has_unsent);
        self.preferred_in_a_row =
            if is_preferred && !is_lower_turn { self.preferred_in_a_row + 1 } else { 0 };
    }
}
