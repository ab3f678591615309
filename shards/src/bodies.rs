//! Memory for the short bodies of requests and replies, so that none of them allocates.
//!
//! Always holds: a buffer that waits here is empty; a reply shares its memory only with replies that came about when it did, and keeps
//! at most [`REPLIES_TOGETHER_BYTES`] beside its own.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

use crate::limits::{
    REPLIES_TOGETHER_BYTES, REPLY_TOGETHER_BYTES_MAX, SPARE_BODIES_MAX, SPARE_BODY_BYTES_MAX,
};

/// Buffers for bodies that wait to be sent; each goes round.
#[derive(Default)]
pub(crate) struct SpareBodies {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl SpareBodies {
    /// A copy of `body`.
    #[inline]
    pub(crate) fn copy(&self, body: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.borrow_mut().pop().unwrap_or_default();
        // Not twice as much as there was, which might be more than is taken back.
        copy.reserve_exact(body.len());
        copy.extend_from_slice(body);
        copy
    }

    /// Takes a copy back.
    #[inline]
    pub(crate) fn give(&self, mut copy: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BODIES_MAX && copy.capacity() <= SPARE_BODY_BYTES_MAX {
            copy.clear();
            spare.push(copy);
        }
    }
}

/// Where the bodies of short replies are copied to, one behind the other.
#[derive(Default)]
pub(crate) struct ReplyBodies {
    room: BytesMut,
}

impl ReplyBodies {
    /// A copy of `body`.
    #[inline]
    pub(crate) fn copy(&mut self, body: &[u8]) -> Bytes {
        if body.is_empty() || body.len() > REPLY_TOGETHER_BYTES_MAX {
            return Bytes::copy_from_slice(body);
        }
        if self.room.capacity() < body.len() {
            self.room = BytesMut::with_capacity(REPLIES_TOGETHER_BYTES);
        }
        self.room.extend_from_slice(body);
        self.room.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a body is what was copied, whatever else goes through the same memory.
    use super::*;

    #[test]
    fn replies_keep_what_they_say() {
        let mut bodies = ReplyBodies::default();
        let body = |number: usize| vec![number as u8; number * 31 % 700];
        let copies: Vec<_> = (0..1_000).map(|number| bodies.copy(&body(number))).collect();
        for (number, copy) in copies.iter().enumerate() {
            assert_eq!(copy, &body(number));
        }
        // They lie together, so that few of them allocate.
        let follows = |pair: &&[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
        let short: Vec<_> =
            (0..1_000_u32).map(|number| bodies.copy(&number.to_le_bytes())).collect();
        assert!(short.windows(2).filter(follows).count() > 990);
    }

    #[test]
    fn a_copy_goes_round_and_a_large_one_does_not_stay() {
        let bodies = SpareBodies::default();
        let first = bodies.copy(b"first");
        let place = first.as_ptr();
        bodies.give(first);
        let second = bodies.copy(b"2nd");
        assert_eq!((second.as_ptr(), &second[..]), (place, &b"2nd"[..]));
        bodies.give(second);
        // Nor does a longer one make its buffer too large to be taken back.
        for bytes in [SPARE_BODY_BYTES_MAX / 2 + 1, SPARE_BODY_BYTES_MAX, 1] {
            bodies.give(bodies.copy(&vec![1; bytes]));
            assert_eq!(bodies.spare.borrow().len(), 1, "{bytes} B");
        }
        bodies.spare.borrow_mut().clear();
        bodies.give(vec![0; SPARE_BODY_BYTES_MAX + 1]);
        assert!(bodies.spare.borrow().is_empty());
        for _ in 0..2 * SPARE_BODIES_MAX {
            bodies.give(Vec::with_capacity(1));
        }
        assert_eq!(bodies.spare.borrow().len(), SPARE_BODIES_MAX);
    }
}
