//! Owns how rows of plain messages are logged: to one flow that needs no name, of which nothing is asked.
//!
//! What always holds: what it writes is what [`SendLog::push`] would have written one by one; what depends on the flow alone is
//! worked out once per row; the first message that cannot go this way ends the row, and has changed nothing. Before another body is
//! asked for, what was logged is counted: the caller's iterator may panic.

#![expect(clippy::inline_always, reason = "a call costs a third of what a short message does")]

use super::{Asked, Link, NORMAL, Route, SPLIT_BODY_BYTES_MIN, SendLog};
use crate::flows::charge;
use crate::limits::OWNED_BODY_BYTES_MIN;
use crate::message::{FORM_WHOLE, PLAIN_HEAD_BYTES_MAX, PlainStart};
use crate::slots::SlotPool;

/// Longest body that is copied by a few moves of fixed length, without a call.
const SHORT_BODY_BYTES_MAX: usize = 64;
/// Room for a head, which is written as one word.
const HEAD_ROOM: usize = size_of::<u64>();
/// Room that a block must have left for a short body: the same for all, so that it is asked for once.
const SHORT_ROOM: usize = HEAD_ROOM + SHORT_BODY_BYTES_MAX;

/// What a row may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowLimits {
    /// Longest body.
    pub(crate) message_bytes_max: u64,
    /// Charge of all together.
    pub(crate) credit: u64,
}

/// How much of a row was logged.
#[derive(Debug, Default)]
pub(crate) struct LoggedRow<'b> {
    pub(crate) messages: u64,
    /// What they are charged.
    pub(crate) charged: u64,
    /// The body behind them, which ended the row.
    pub(crate) rest: Option<&'b [u8]>,
}

impl RowLimits {
    /// Whether a body may follow what is charged so much.
    #[inline(always)]
    fn allow(self, body: &[u8], charged: u64) -> bool {
        let bytes = body.len() as u64;
        bytes <= self.message_bytes_max && charge(bytes) <= self.credit - charged
    }
}

impl LoggedRow<'_> {
    #[inline(always)]
    fn count(&mut self, body: &[u8]) {
        self.charged += charge(body.len() as u64);
        self.messages += 1;
    }
}

impl SendLog {
    /// Writes the messages that `bodies` gives, up to the first that is beyond `limits`, has no room or is too long to be copied. How
    /// much of them was written stands in `row` at any time, also when `bodies` panics.
    #[inline]
    pub(crate) fn push_row<'b>(
        &mut self,
        pool: &mut SlotPool,
        alias: u32,
        bodies: &mut impl Iterator<Item = &'b [u8]>,
        limits: RowLimits,
        row: &mut LoggedRow<'b>,
    ) {
        row.rest = bodies.next();
        let Some(start) = PlainStart::new(FORM_WHOLE, alias) else { return };
        while row.rest.is_some() {
            self.push_shorts(start, bodies, limits, row);
            let Some(body) = row.rest else { break };
            if !limits.allow(body, row.charged) || !self.push_copied(pool, alias, body) {
                break;
            }
            row.count(body);
            row.rest = bodies.next();
        }
    }

    /// Writes short bodies from the rest of `row` on, as long as the open block surely has room for the next.
    #[inline(always)]
    fn push_shorts<'b>(
        &mut self,
        start: PlainStart,
        bodies: &mut impl Iterator<Item = &'b [u8]>,
        limits: RowLimits,
        row: &mut LoggedRow<'b>,
    ) {
        let open = &mut self.classes[NORMAL].open;
        let Some(room) = open.bytes.free(open.limit) else { return };
        // In registers: what is written to the room might else be what they are.
        let (mut written, mut taken) = (0, LoggedRow { ..*row });
        while let Some(body) = taken.rest
            && body.len() <= SHORT_BODY_BYTES_MAX
            && limits.allow(body, taken.charged)
            && let Some(place) =
                room.get_mut(written..).and_then(<[u8]>::first_chunk_mut::<SHORT_ROOM>)
            && let Some(head) = start.head(body.len())
        {
            written += write_short(place, head, body);
            taken.count(body);
            taken.rest = bodies.next();
        }
        open.bytes.fill(written);
        let messages = taken.messages - row.messages;
        open.ends += messages as u16;
        self.pending += messages;
        *row = taken;
    }

    /// Writes one short body, if the open block surely has room for it.
    #[inline(always)]
    pub(crate) fn push_short(&mut self, alias: u32, body: &[u8]) -> bool {
        let open = &mut self.classes[NORMAL].open;
        if body.len() > SHORT_BODY_BYTES_MAX || open.bytes.len() + SHORT_ROOM > open.limit {
            return false;
        }
        let head = PlainStart::new(FORM_WHOLE, alias).and_then(|start| start.head(body.len()));
        let (Some(place), Some(head)) = (open.bytes.place::<SHORT_ROOM>(), head) else {
            return false;
        };
        let written = write_short(place, head, body);
        open.bytes.fill(written);
        open.ends += 1;
        self.pending += 1;
        true
    }

    /// Writes one body that is copied: into the open block, into the next one, or in parts into several.
    pub(crate) fn push_copied(&mut self, pool: &mut SlotPool, alias: u32, body: &[u8]) -> bool {
        if body.len() >= OWNED_BODY_BYTES_MIN {
            return false;
        }
        let head = PlainStart::new(FORM_WHOLE, alias).and_then(|start| start.head(body.len()));
        let Some((head, head_bytes)) = head else { return false };
        let open = &self.classes[NORMAL].open;
        if open.bytes.len() + head_bytes + body.len() > open.limit {
            if body.len() >= SPLIT_BODY_BYTES_MIN {
                let route = &mut Route::Bound(alias);
                let is_taken = self.push_in_parts(pool, NORMAL, route, Asked::default(), body);
                self.pending += u64::from(is_taken);
                return is_taken;
            }
            if !self.has_room(NORMAL, body.len()) {
                return false;
            }
            if open.exists {
                self.pad_and_close(NORMAL);
            }
            self.open_block(NORMAL, pool, Link::None);
        }
        let open = &mut self.classes[NORMAL].open;
        open.bytes.extend_from_slice(&head.to_le_bytes()[..head_bytes]);
        open.bytes.extend_from_slice(body);
        open.ends += 1;
        self.pending += 1;
        true
    }
}

/// Writes a head and a short body; returns their bytes.
#[inline(always)]
fn write_short(
    place: &mut [u8; SHORT_ROOM],
    (head, head_bytes): (u64, usize),
    body: &[u8],
) -> usize {
    place[..HEAD_ROOM].copy_from_slice(&head.to_le_bytes());
    if let Some(place) = place[head_bytes..].first_chunk_mut() {
        copy_short(body, place);
    }
    head_bytes + body.len()
}

/// Copies a short body: in two pieces of fixed length that overlap.
#[inline]
fn copy_short(body: &[u8], place: &mut [u8; SHORT_BODY_BYTES_MAX]) {
    macro_rules! in_pieces_of {
        ($bytes:literal) => {
            if let (Some(first), Some(last)) =
                (body.first_chunk::<$bytes>(), body.last_chunk::<$bytes>())
            {
                place[..$bytes].copy_from_slice(first);
                place[body.len() - $bytes..][..$bytes].copy_from_slice(last);
                return;
            }
        };
    }
    in_pieces_of!(32);
    in_pieces_of!(16);
    in_pieces_of!(8);
    in_pieces_of!(4);
    if let (Some(first), Some(last)) = (body.first(), body.last()) {
        let middle = body.len() / 2;
        place[0] = *first;
        place[middle] = body[middle];
        place[body.len() - 1] = *last;
    }
}

const _: () = assert!(PLAIN_HEAD_BYTES_MAX <= HEAD_ROOM);

#[cfg(test)]
mod tests {
    //! Goal: a row is what its messages one by one would have been, and ends where they would have been refused or split.
    use super::*;
    use crate::flows::OutFlow;

    const BLOCK: usize = 1_420;
    const LIMITS: RowLimits = RowLimits { message_bytes_max: 1 << 20, credit: 1 << 30 };

    /// Logs and pools of their own, filled by rows or message by message.
    struct Filled {
        log: SendLog,
        pool: SlotPool,
        alias: u32,
    }

    impl Filled {
        fn new(alias: u32) -> Self {
            Self { log: SendLog::new(BLOCK, 1 << 20), pool: SlotPool::new(BLOCK), alias }
        }

        fn by_row(&mut self, bodies: &[&[u8]], limits: RowLimits) -> (u64, u64, Option<usize>) {
            let bodies = &mut bodies.iter().copied();
            let mut row = LoggedRow::default();
            self.log.push_row(&mut self.pool, self.alias, bodies, limits, &mut row);
            (row.messages, row.charged, row.rest.map(<[u8]>::len))
        }

        fn one_by_one(&mut self, bodies: &[&[u8]]) {
            let mut flow = OutFlow::new("flow");
            flow.bound = true;
            for body in bodies {
                let mut route = Route::Flow(&mut flow, self.alias);
                assert!(self.log.push(&mut self.pool, &mut route, Asked::default(), body));
            }
        }

        fn written(&self) -> String {
            let open = &self.log.classes[NORMAL].open;
            let drafts = &self.log.classes[NORMAL].drafts;
            let (held, pending) = (self.log.held_bytes, self.log.pending);
            format!("{:?} {} {drafts:?} {held} {pending}", &*open.bytes, open.ends)
        }
    }

    #[test]
    fn a_row_is_what_its_messages_would_have_been() {
        let bytes: Vec<u8> = (1..=255).cycle().take(BLOCK).collect();
        for alias in [0, 1, 63, 64, 4_095] {
            for length in (0..SPLIT_BODY_BYTES_MIN).chain([192, 193, 500, 1_024, 1_410, 1_420]) {
                let bodies = vec![&bytes[..length]; 3 + 3 * BLOCK / (length + 3)];
                let (mut rows, mut single) = (Filled::new(alias), Filled::new(alias));
                let cost = bodies.len() as u64 * charge(length as u64);
                assert_eq!(rows.by_row(&bodies, LIMITS), (bodies.len() as u64, cost, None));
                single.one_by_one(&bodies);
                assert_eq!(rows.written(), single.written(), "{length} B to {alias}");
                assert!(rows.log.classes[NORMAL].drafts.len() >= 2);
            }
        }
    }

    #[test]
    fn a_body_that_is_not_copied_ends_the_row() {
        let (long, longest) = (vec![7; OWNED_BODY_BYTES_MIN], vec![8; OWNED_BODY_BYTES_MIN - 1]);
        let mut filled = Filled::new(3);
        assert_eq!(filled.by_row(&[&long, &longest], LIMITS), (0, 0, Some(long.len())));
        let before = charge(20) + charge(longest.len() as u64);
        let row = filled.by_row(&[&long[..20], &longest, &long, &longest], LIMITS);
        assert_eq!(row, (2, before, Some(long.len())));
        let mut single = Filled::new(3);
        single.one_by_one(&[&long[..20], &longest]);
        assert_eq!(filled.written(), single.written());
    }

    #[test]
    fn a_row_ends_where_its_limits_end() {
        let body = [1; 100];
        let bodies = vec![&body[..]; 9];
        let credit = 5 * charge(100) + 99;
        let mut filled = Filled::new(1);
        let row = filled.by_row(&bodies, RowLimits { credit, ..LIMITS });
        assert_eq!(row, (5, 5 * charge(100), Some(100)));
        let row = filled.by_row(&bodies, RowLimits { message_bytes_max: 99, ..LIMITS });
        assert_eq!(row, (0, 0, Some(100)));
        let row = filled.by_row(&bodies, RowLimits { credit: 0, ..LIMITS });
        assert_eq!(row, (0, 0, Some(100)));
        let mut long_alias = Filled::new(1 << 14);
        assert_eq!(long_alias.by_row(&bodies, LIMITS), (0, 0, Some(100)));
        assert_eq!(long_alias.by_row(&[], LIMITS), (0, 0, None));
    }

    #[test]
    fn a_full_log_ends_the_row_and_keeps_what_was_taken() {
        let body = [1; 60];
        let bodies = vec![&body[..]; 40_000];
        let (mut rows, mut single) = (Filled::new(1), Filled::new(1));
        let (taken, _, rest) = rows.by_row(&bodies, LIMITS);
        assert!((10_000..20_000).contains(&taken) && rest == Some(60), "{taken}");
        single.one_by_one(&bodies[..taken as usize]);
        assert_eq!(rows.written(), single.written());
        assert_eq!(rows.by_row(&bodies, LIMITS), (0, 0, Some(60)));
        assert_eq!(rows.written(), single.written(), "nothing changed");
    }
}
