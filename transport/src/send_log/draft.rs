//! Owns the shapes of a send log's blocks: being filled, waiting to be sent for the first time, sent.
//!
//! What always holds: a block gets its number when it is sent for the first time and never changes afterwards; what its
//! content says about its own number (the distance to the block where a message began) is written only then.

use std::collections::VecDeque;

use bytes::Bytes;

use super::awaited::Awaited;
use super::large::Large;
use crate::limits::MESSAGE_BYTES_CEILING;
use crate::message::Continue;
use crate::slots::{Slot, SlotPool};
use crate::varint;

/// Frame type of a block; its number follows, then messages up to the datagram's end.
pub(crate) const FRAME_BLOCK: u8 = 0x08;
/// Blocks below this number have room for it in [`NUMBER_BYTES`]; the rest of what four bytes hold is left for blocks that
/// overtake one that was filled before.
const NUMBER_SHORT_MAX: u64 = (1 << 30) - (1 << 26);
/// Room kept for a block's number, and for the distance to a message's first block.
const NUMBER_BYTES: usize = 4;
/// Not in the middle of a message.
pub(super) const NO_ORIGIN: u64 = u64::MAX;

/// To which message the part at a block's beginning or end belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// No part there.
    #[default]
    None,
    /// The one message of its class that is split among blocks of many.
    Stream,
    /// The body cut for this group.
    Group(u32),
}

#[derive(Debug)]
pub(super) enum Payload {
    /// Acknowledged, or given up: nothing to send.
    Released,
    /// Copied messages.
    Slot(Slot),
    /// A part of a large body behind its place in it.
    Slice { offset: u32, total: u32, body: Bytes },
}

impl Payload {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Released => 0,
            Self::Slot(slot) => slot.len(),
            Self::Slice { offset, total, body } => {
                varint::size((*offset).into()) + varint::size((*total).into()) + body.len()
            }
        }
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Released => {}
            Self::Slot(slot) => out.extend_from_slice(slot),
            Self::Slice { offset, total, body } => {
                Continue::write_place((*offset).into(), (*total).into(), out);
                out.extend_from_slice(body);
            }
        }
    }
}

const _: () = assert!(MESSAGE_BYTES_CEILING <= u32::MAX as u64, "a place in a body has 32 bits");

/// Aliases whose names a block carries. Few blocks carry any, and blocks are moved about, so it is a word.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a word where there is none, which is nearly always")]
pub(super) struct NamedAliases(Option<Box<Vec<u32>>>);

impl NamedAliases {
    #[cold]
    pub(super) fn push(&mut self, alias: u32) {
        self.0.get_or_insert_default().push(alias);
    }

    #[inline]
    pub(super) fn contains(&self, alias: u32) -> bool {
        self.0.as_ref().is_some_and(|names| names.contains(&alias))
    }

    /// Forgets them, one after the other.
    #[inline]
    pub(super) fn take(&mut self) -> impl Iterator<Item = u32> + use<> {
        self.0.take().into_iter().flat_map(|names| *names)
    }
}

/// A block that was never sent.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) payload: Payload,
    pub(super) names: NamedAliases,
    /// Messages that end in it.
    pub(super) ends: u16,
    pub(super) continues: Link,
    pub(super) begins: Link,
    /// Who waits for which of the messages that end in it.
    pub(super) waiters: Vec<Awaited>,
    /// Group with terms of its own; zero for none.
    pub(super) group: u32,
    /// Length in a datagram when that is a full one's, so that a run of them stays equally long; else zero.
    pub(super) full_bytes: u16,
}

impl Draft {
    /// Whether whole messages with terms may join it: it holds only such, and no padding, behind which nothing may stand even if
    /// datagrams may be longer since.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        let is_single = self.begins == Link::None && self.continues == Link::None;
        self.group != 0 && is_single && self.full_bytes == 0
    }

    /// Whether a part of a body cut for a group stands in it.
    #[inline]
    pub(super) fn has_group_link(&self) -> bool {
        matches!(self.continues, Link::Group(_)) || matches!(self.begins, Link::Group(_))
    }
}

/// A block that was sent.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) payload: Payload,
    pub(super) names: NamedAliases,
    /// Number of the block in which the message at its beginning began, or [`NO_ORIGIN`].
    pub(super) origin: u64,
    pub(super) group: u32,
    pub(super) ends: u16,
    /// How often it was sent.
    pub(super) sends: u16,
    full_bytes: u16,
    /// Whether it waits among the losses.
    pub(super) is_queued: bool,
}

impl Block {
    pub(super) fn new(draft: Draft, origin: u64) -> Self {
        let Draft { payload, names, ends, group, full_bytes, .. } = draft;
        Self { payload, names, origin, group, ends, sends: 0, full_bytes, is_queued: false }
    }

    /// A full one from the midst of a body that has no terms.
    #[inline]
    pub(super) fn of_midst(payload: Payload, origin: u64, full_bytes: u16) -> Self {
        let names = NamedAliases::default();
        Self { payload, names, origin, group: 0, ends: 0, sends: 0, full_bytes, is_queued: false }
    }

    #[inline]
    pub(super) fn is_released(&self) -> bool {
        matches!(self.payload, Payload::Released)
    }

    /// Bytes that [`Block::write`] appends.
    #[inline]
    pub(super) fn wire_bytes(&self, number: u64) -> usize {
        wire_bytes(number, self.origin, self.payload.len(), self.full_bytes)
    }

    /// Bytes that [`Block::write_content`] appends.
    pub(super) fn content_bytes(&self, number: u64) -> usize {
        wire_bytes(number, self.origin, self.payload.len(), 0) - 1 - varint::size(number)
    }

    /// Appends padding up to a full length, the frame's type, the number and the content.
    #[inline]
    pub(super) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let exact = wire_bytes(number, self.origin, self.payload.len(), 0);
        let padding = usize::from(self.full_bytes).saturating_sub(exact);
        if padding > 0 {
            out.resize(out.len() + padding, 0);
        }
        out.push(FRAME_BLOCK);
        varint::write(number, out);
        self.write_content(number, out);
    }

    /// Appends what follows the number: the content that the receiver sees.
    #[inline]
    pub(super) fn write_content(&self, number: u64, out: &mut Vec<u8>) {
        if self.origin != NO_ORIGIN {
            Continue::write_origin(number - self.origin, out);
        }
        self.payload.write(out);
    }
}

/// Length in a datagram of a block with this number. One filled under a higher limit of the path may be longer than full.
#[inline]
pub(super) fn wire_bytes(number: u64, origin: u64, content: usize, full_bytes: u16) -> usize {
    let part = if origin == NO_ORIGIN { 0 } else { 1 + varint::size(number - origin) };
    (1 + varint::size(number) + part + content).max(full_bytes.into())
}

/// Bytes to leave free in a block for what is written in front of its content when it is numbered, `next` or later.
#[inline]
pub(super) fn prefix_bytes(next: u64, continues: Link) -> usize {
    let number = if next < NUMBER_SHORT_MAX { NUMBER_BYTES } else { varint::SIZE_MAX };
    if continues == Link::None { 1 + number } else { 2 * (1 + number) }
}

/// The block being filled with messages that have no terms of their own.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) bytes: Slot,
    /// Whether there is one. If not, the limit is zero, which is all that the short ways look at.
    pub(super) exists: bool,
    pub(super) ends: u16,
    pub(super) names: NamedAliases,
    pub(super) waiters: Vec<Awaited>,
    pub(super) continues: Link,
    /// Content that fits.
    pub(super) limit: usize,
    /// Tells open blocks apart, so that a name stands once in each.
    pub(super) serial: u64,
    /// Blocks of messages with terms begun since, which go before it.
    pub(super) passed: u32,
}

/// Messages of one priority that were never sent.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) drafts: VecDeque<Draft>,
    pub(super) open: Open,
    /// Empty, with the room that a block's waiters needed: the next block to be opened takes it.
    pub(super) spare_waiters: Vec<Awaited>,
    pub(super) large: VecDeque<Large>,
    /// Number of the last block in which a message of [`Link::Stream`] began.
    pub(super) stream_origin: u64,
    /// Parts of large bodies cut.
    pub(super) cuts: u32,
    /// Other blocks sent in a row while large bodies waited.
    pub(super) shorts_in_a_row: u32,
}

impl Class {
    pub(super) fn new() -> Self {
        Self {
            drafts: VecDeque::new(),
            open: Open::default(),
            spare_waiters: Vec::new(),
            large: VecDeque::new(),
            stream_origin: NO_ORIGIN,
            cuts: 0,
            shorts_in_a_row: 0,
        }
    }

    /// Whether a block waits that is no large body's.
    #[inline]
    pub(super) fn has_shorts(&self) -> bool {
        self.open.exists || !self.drafts.is_empty()
    }

    /// Whether anything waits that could be sent as far as this class is concerned.
    #[inline]
    pub(super) fn has_unsent(&self) -> bool {
        self.open.exists || !self.drafts.is_empty() || !self.large.is_empty()
    }
}

/// Forgets a payload and the room that it took; tells whether there was one.
#[inline]
pub(super) fn release(
    payload: &mut Payload,
    held_bytes: &mut usize,
    slot_bytes: usize,
    pool: &mut SlotPool,
) -> bool {
    match std::mem::replace(payload, Payload::Released) {
        Payload::Released => return false,
        Payload::Slot(slot) => pool.give(slot),
        Payload::Slice { .. } => {}
    }
    *held_bytes -= slot_bytes;
    true
}
