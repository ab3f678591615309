//! Owns large bodies in a send log: taken by ownership, cut into blocks only when datagrams are built.
//!
//! What always holds: a body is cut from front to back, one part a block. Without terms of its own its first and last part
//! may share a block with other messages; the parts between have blocks of their own and are never copied before they are
//! sealed.

use bytes::Bytes;

use super::awaited::Awaited;
use super::draft::{
    Block, Draft, Link, NO_ORIGIN, NamedAliases, Payload, prefix_bytes, wire_bytes,
};
use super::group::{Group, Terms};
use super::{Asked, Route, SPLIT_ROOM_BYTES_MIN, SendLog, Waiter};
use crate::message::{Continue, FORM_FIRST, HEAD_BYTES_MAX, Head, Sequence, Target};
use crate::slots::{Slot, SlotPool};
use crate::varint;

/// Blocks of short messages sent in a row while large bodies wait: they go first, and do not starve those.
const SHORTS_IN_A_ROW_MAX: u32 = 4;
/// Parts of one body cut in a row before the next large body of its class gets its turn.
const CUTS_OF_ONE_MAX: u32 = 32;

/// A body to be cut; where it goes is written when its first part is cut.
#[derive(Debug)]
pub(super) struct Large {
    target: Target,
    request: Option<u64>,
    sequence: Option<Sequence>,
    pub(super) waiter: Option<Waiter>,
    name: Option<Box<str>>,
    pub(super) body: Bytes,
    /// Bytes already in blocks; zero until its first part is cut.
    cut: usize,
    pub(super) group: u32,
}

impl SendLog {
    /// Takes a large body by ownership, to be cut when datagrams are built; `false` when too much waits already.
    pub(crate) fn push_owned(
        &mut self,
        class: usize,
        route: &mut Route<'_>,
        asked: Asked,
        body: Bytes,
    ) -> bool {
        if !self.has_room_owned(body.len()) {
            return false;
        }
        let group = self.add_group(Group::new(Terms::default(), class));
        self.push_large(class, route, asked, body, group);
        true
    }

    /// Queues a body whose group exists.
    pub(super) fn push_large(
        &mut self,
        class: usize,
        route: &mut Route<'_>,
        asked: Asked,
        body: Bytes,
        group: u32,
    ) {
        let (target, name) = match route {
            Route::Flow(flow, alias) => {
                (Target::Flow(*alias), (!flow.bound).then(|| flow.name.clone()))
            }
            Route::Bound(alias) => (Target::Flow(*alias), None),
            Route::Reply(request) => (Target::Reply(*request), None),
        };
        self.large_bytes += body.len();
        self.pending += 1;
        let Asked { request, sequence, waiter } = asked;
        let large = Large { target, request, sequence, waiter, name, body, cut: 0, group };
        self.classes[class].large.push_back(large);
    }

    /// Whether a large body may be taken: always one, and as many more as the log holds bytes.
    pub(crate) fn has_room_owned(&self, body_bytes: usize) -> bool {
        self.large_bytes == 0 || self.large_bytes + body_bytes <= self.bytes_max
    }

    /// Large bodies that make room no more so far. What found none behind one of them may find it once this has changed.
    pub(crate) fn bodies_gone(&self) -> u64 {
        self.bodies_gone
    }

    /// Whether a part of a large body may become a block. A quarter of the log stays for short messages, so that a large body never
    /// starves them.
    #[inline]
    fn has_room_to_cut(&self) -> bool {
        self.held_bytes + 2 * self.slot_bytes <= self.bytes_max - self.bytes_max / 4
    }

    /// Whether a large body goes before the short messages that wait.
    #[inline]
    pub(super) fn is_turn_of_large(&self, class: usize) -> bool {
        let state = &self.classes[class];
        !state.has_shorts() || state.shorts_in_a_row >= SHORTS_IN_A_ROW_MAX
    }

    /// Cuts one more block from a large body; `false` when there is none or no room for it.
    pub(super) fn cut_large(&mut self, class: usize, pool: &mut SlotPool) -> bool {
        if !self.has_room_to_cut() {
            return false;
        }
        while let Some(mut large) = self.classes[class].large.pop_front() {
            let Some(group) = self.groups.get_mut(&large.group) else {
                debug_assert!(false, "a body without its group");
                continue;
            };
            if large.cut > 0 && group.origin == NO_ORIGIN {
                // Its first part waits among the drafts: later ones name its number.
                self.classes[class].large.push_front(large);
                return false;
            }
            if group.is_at_burst() {
                group.parked = Some(large);
                self.parked += 1;
                continue;
            }
            let is_own = !group.terms.is_plain();
            let has_cut = if large.cut > 0 {
                self.cut_next(class, &mut large, is_own, pool)
            } else if is_own {
                self.cut_first_alone(class, &mut large, pool);
                true
            } else {
                self.cut_first(class, &mut large, pool)
            };
            self.put_back(class, large, has_cut, pool);
            return true;
        }
        false
    }

    /// After a part: the body waits for its next, behind others when it had its share, or is done.
    fn put_back(&mut self, class: usize, large: Large, has_cut: bool, pool: &mut SlotPool) {
        let is_done = large.cut == large.body.len();
        let state = &mut self.classes[class];
        state.cuts = state.cuts.wrapping_add(u32::from(has_cut));
        if let Some(group) = self.groups.get_mut(&large.group) {
            group.drafts += u32::from(has_cut);
            group.is_cut = is_done;
        }
        if !is_done {
            if has_cut && state.cuts.is_multiple_of(CUTS_OF_ONE_MAX) {
                state.large.push_back(large);
            } else {
                state.large.push_front(large);
            }
            return;
        }
        self.large_bytes -= large.body.len();
        self.bodies_gone += 1;
        // The next large body begins in the same block, else the block goes as it is.
        if self.classes[class].open.exists && self.classes[class].open.ends_group() {
            let is_plain = |large: &Large| {
                large.cut == 0
                    && self.groups.get(&large.group).is_some_and(|group| group.terms.is_plain())
            };
            let next = self.classes[class].large.front().is_some_and(is_plain);
            if next && let Some(mut next) = self.classes[class].large.pop_front() {
                let has_cut = self.cut_first(class, &mut next, pool);
                self.put_back(class, next, has_cut, pool);
            } else {
                self.close(class, Link::None);
            }
        }
    }

    /// Bytes in a datagram of the next block, if it is the turn of a body without terms and the part is neither its first nor its
    /// last, as most parts are: such a block is made when it is written ([`SendLog::cut_midst`]).
    #[inline]
    pub(super) fn midst_bytes(&self, class: usize) -> Option<usize> {
        let large = self.classes[class].large.front()?;
        if large.cut == 0 || !self.is_turn_of_large(class) || !self.has_room_to_cut() {
            return None;
        }
        let (next, room) = (self.next_number(), self.room_of_part(large));
        let group = self.groups.get(&large.group)?;
        let is_midst = large.body.len() - large.cut > room;
        if !is_midst || group.origin == NO_ORIGIN || !group.terms.is_plain() {
            return None;
        }
        let place = varint::size(large.cut as u64) + varint::size(large.body.len() as u64);
        Some(wire_bytes(next, group.origin, place + room, self.block_bytes as u16))
    }

    /// Cuts the part that [`SendLog::midst_bytes`] told of, as a block with its number.
    pub(super) fn cut_midst(&mut self, class: usize) -> Block {
        let large = self.classes[class].large.front().expect("peek offered it");
        let (first, room) = (large.cut, self.room_of_part(large));
        let origin = self.groups.get(&large.group).expect("peek saw it").origin;
        let payload = Payload::Slice {
            offset: first as u32,
            total: large.body.len() as u32,
            body: large.body.slice(first..first + room),
        };
        let state = &mut self.classes[class];
        state.large[0].cut += room;
        state.cuts = state.cuts.wrapping_add(1);
        if state.cuts.is_multiple_of(CUTS_OF_ONE_MAX) {
            state.large.rotate_left(1);
        }
        state.shorts_in_a_row = 1;
        self.held_bytes += self.slot_bytes;
        Block::of_midst(payload, origin, self.block_bytes as u16)
    }

    /// Bytes of a body that its next part takes, if so many are left and it is not the first.
    fn room_of_part(&self, large: &Large) -> usize {
        let place = varint::size(large.cut as u64) + varint::size(large.body.len() as u64);
        self.block_bytes - prefix_bytes(self.next_number(), Link::Group(large.group)) - place
    }

    /// A part after the first.
    fn cut_next(
        &mut self,
        class: usize,
        large: &mut Large,
        is_own: bool,
        pool: &mut SlotPool,
    ) -> bool {
        let link = Link::Group(large.group);
        let (offset, total) = (large.cut as u64, large.body.len() as u64);
        let room = self.room_of_part(large);
        let left = large.body.len() - large.cut;
        if left < room && !is_own && !self.classes[class].open.exists {
            // Its last part: later messages may join it.
            self.open_block(class, pool, link);
            let open = &mut self.classes[class].open;
            Continue::write_place(offset, total, &mut open.bytes);
            open.bytes.extend_from_slice(&large.body[large.cut..]);
            open.end_message(large.waiter);
            large.cut = large.body.len();
            return true;
        }
        let taken = room.min(left);
        let body = large.body.slice(large.cut..large.cut + taken);
        large.cut += taken;
        let is_last = taken == left;
        self.held_bytes += self.slot_bytes;
        let waiters =
            if is_last { large.waiter.map(|waiter| Awaited::one(0, waiter)) } else { None };
        self.classes[class].drafts.push_front(Draft {
            payload: Payload::Slice { offset: offset as u32, total: total as u32, body },
            names: NamedAliases::default(),
            ends: u16::from(is_last),
            continues: link,
            begins: Link::None,
            waiters: waiters.into_iter().collect(),
            group: if is_own { large.group } else { 0 },
            full_bytes: if taken == room { self.block_bytes as u16 } else { 0 },
        });
        true
    }

    /// Writes the first part of a large body into the open block, or into a new one; `false` when the open block had to go
    /// first.
    fn cut_first(&mut self, class: usize, large: &mut Large, pool: &mut SlotPool) -> bool {
        let needed = HEAD_BYTES_MAX + large.name.as_ref().map_or(0, |name| name.len());
        let open = &self.classes[class].open;
        if open.exists && open.limit - open.bytes.len() < needed + SPLIT_ROOM_BYTES_MIN {
            self.pad_and_close(class);
            return false;
        }
        if !open.exists {
            self.open_block(class, pool, Link::None);
        }
        let open = &mut self.classes[class].open;
        large.write_first(&mut open.bytes, open.limit);
        if let (Some(_), Target::Flow(alias)) = (&large.name, large.target) {
            open.names.push(alias);
        }
        self.close(class, Link::Group(large.group));
        true
    }

    /// Writes the first part of a body with terms of its own into a block of its own.
    fn cut_first_alone(&mut self, class: usize, large: &mut Large, pool: &mut SlotPool) {
        self.held_bytes += self.slot_bytes;
        let mut bytes = pool.take();
        large.write_first(
            &mut bytes,
            self.block_bytes - prefix_bytes(self.next_number(), Link::None),
        );
        let mut names = NamedAliases::default();
        if let (Some(_), Target::Flow(alias)) = (&large.name, large.target) {
            names.push(alias);
        }
        self.classes[class].drafts.push_front(Draft {
            payload: Payload::Slot(bytes),
            names,
            ends: 0,
            continues: Link::None,
            begins: Link::Group(large.group),
            waiters: Vec::new(),
            group: large.group,
            full_bytes: self.block_bytes as u16,
        });
    }
}

impl Large {
    /// Appends the head and as much of the body as there is room for, but not all of it.
    fn write_first(&mut self, out: &mut Slot, limit: usize) {
        let Self { target, request, sequence, .. } = *self;
        let (name, total) = (self.name.as_deref(), self.body.len() as u64);
        Head { target, name, request, sequence, total }.write(FORM_FIRST, out);
        let taken = (limit - out.len()).min(self.body.len() - 1);
        out.extend_from_slice(&self.body[..taken]);
        self.cut = taken;
    }
}

impl super::Open {
    /// Whether it begins with the end of a large body, and nothing was added since.
    fn ends_group(&self) -> bool {
        matches!(self.continues, Link::Group(_)) && self.ends == 1
    }
}
