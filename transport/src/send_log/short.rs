//! Owns the short way into a send log: a short body to a flow that needs no name, of which nothing is asked, into a block that
//! surely has room.
//!
//! What always holds: what it writes is what [`SendLog::push`] would have written, by a few moves of fixed length and without a
//! call; where it cannot, nothing has changed.

use super::{NORMAL, SendLog};
use crate::message::{FORM_WHOLE, Head, PLAIN_HEAD_BYTES_MAX};

/// Longest body that goes this way.
pub(crate) const SHORT_BODY_BYTES_MAX: usize = 64;
/// Room for a head, which is written as one word.
const HEAD_ROOM: usize = size_of::<u64>();
/// Room that a block must have left: the same for all short bodies, so that it is asked for once.
const SHORT_ROOM: usize = HEAD_ROOM + SHORT_BODY_BYTES_MAX;

impl SendLog {
    /// [`SendLog::push`] of a body of at most [`SHORT_BODY_BYTES_MAX`] bytes, if it can go the short way.
    #[inline]
    pub(crate) fn push_short(&mut self, alias: u32, body: &[u8]) -> bool {
        let open = &mut self.classes[NORMAL].open;
        if body.len() > SHORT_BODY_BYTES_MAX || open.bytes.len() + SHORT_ROOM > open.limit {
            return false;
        }
        let (Some(place), Some((head, head_bytes))) = (
            open.bytes.place::<SHORT_ROOM>(),
            Head::plain_word(FORM_WHOLE, alias, body.len() as u16),
        ) else {
            return false;
        };
        place[..HEAD_ROOM].copy_from_slice(&head.to_le_bytes());
        if let Some(place) = place[head_bytes..].first_chunk_mut() {
            copy_short(body, place);
        }
        open.bytes.fill(head_bytes + body.len());
        open.ends += 1;
        self.pending += 1;
        true
    }
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
    //! Goal: the short way writes the same bytes as the long one, and refuses where it might not.
    use super::super::{Asked, Route};
    use super::*;
    use crate::flows::OutFlow;
    use crate::slots::SlotPool;

    const BLOCK: usize = 1_420;

    /// A log after these messages, by the short way where it takes them, and how many it took.
    fn logged(alias: u32, bodies: &[&[u8]], by_short: bool) -> (SendLog, usize) {
        let (mut log, mut pool) = (SendLog::new(BLOCK, 1 << 20), SlotPool::new(BLOCK));
        let mut flow = OutFlow::new("flow");
        flow.bound = true;
        let mut taken = 0;
        for body in bodies {
            if by_short && log.push_short(alias, body) {
                taken += 1;
                continue;
            }
            let mut route = Route::Flow(&mut flow, alias);
            assert!(log.push(&mut pool, &mut route, Asked::default(), body));
        }
        (log, taken)
    }

    fn written(log: &SendLog) -> (Vec<u8>, u16, u64) {
        let open = &log.classes[NORMAL].open;
        (open.bytes.to_vec(), open.ends, log.pending)
    }

    #[test]
    fn the_short_way_writes_what_the_long_one_writes() {
        let bytes: Vec<u8> = (1..=255).collect();
        for alias in [0, 1, 63, 64, 4_095] {
            for length in 0..=SHORT_BODY_BYTES_MAX {
                let body = &bytes[..length];
                // The first opens the block, which only the long way does.
                let bodies = [&bytes, body, &bytes[..5], body];
                let (short, taken) = logged(alias, &bodies, true);
                assert_eq!(taken, 3);
                let (long, _) = logged(alias, &bodies, false);
                assert_eq!(written(&short), written(&long), "{length} B to {alias}");
            }
        }
    }

    #[test]
    fn a_block_is_filled_to_its_end_by_either_way() {
        let body: Vec<u8> = (0..64).collect();
        for length in [0, 1, 15, 16, 33, 64] {
            let bodies = vec![&body[..length]; 3 * BLOCK / (length + 3)];
            let ((short, taken), (long, _)) = (logged(7, &bodies, true), logged(7, &bodies, false));
            assert!(taken > bodies.len() / 2);
            assert_eq!(written(&short), written(&long), "{length} B");
            assert!(short.classes[NORMAL].drafts.len() >= 2);
            let drafts = |log: &SendLog| format!("{:?}", log.classes[NORMAL].drafts);
            assert_eq!(drafts(&short), drafts(&long), "{length} B");
        }
    }

    #[test]
    fn what_cannot_go_the_short_way_changes_nothing() {
        let mut log = SendLog::new(BLOCK, 1 << 20);
        assert!(!log.push_short(1, b"no block is open"));
        let (mut log, _) = logged(1, &[b"one"], true);
        let before = written(&log);
        assert!(!log.push_short(1, &[7; SHORT_BODY_BYTES_MAX + 1]));
        assert!(!log.push_short(1 << 14, b"a long alias"));
        assert_eq!(written(&log), before);
    }
}
