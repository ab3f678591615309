//! Owns messages that arrive in fragments until they are whole.
//!
//! What always holds: the bodies being assembled never pass the peer's room, and there are at most `messages_max` of them;
//! a body is never longer than the total that its first seen fragment announced.

use std::collections::HashMap;

use crate::endpoint::{ReplyTo, Service};
use crate::indices::IndexHasher;
use crate::message::{Sequence, Target};

/// Short bodies kept for reuse, so that a message split over two blocks costs no allocation.
const SPARE_BODIES_MAX: usize = 16;
/// Charged for each message in fragments beyond its body: its entry in a table that is up to half empty.
const PARTIAL_BYTES: usize = 5 * size_of::<(u64, Partial)>() / 2;
/// Entries kept in a table that has become empty.
const SPARE_ENTRIES_MAX: usize = 64;
/// Longest body kept for reuse.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// What the first fragment of a message tells about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentMeta {
    pub(crate) target: Target,
    pub(crate) request: Option<ReplyTo>,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) service: Service,
}

/// A message whose fragments are all here.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) meta: FragmentMeta,
    pub(crate) body: Vec<u8>,
    /// Block that its last fragment came in, and the message's place among those ending there.
    pub(crate) end: (u64, u16),
}

/// Why a fragment was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragmentError {
    /// No room now: drop the datagram without acknowledging it.
    Limit,
    /// Fragments of one message contradict each other: the peer's fault.
    Contradiction,
}

#[derive(Debug)]
struct Partial {
    meta: Option<FragmentMeta>,
    end: Option<(u64, u16)>,
    body: Vec<u8>,
    total: usize,
    /// Taken from the peer's room.
    cost: usize,
    received: usize,
}

/// Messages in fragments, by the number of the block (or best-effort message) that they began with.
#[derive(Debug)]
pub(crate) struct Assembly {
    partial: HashMap<u64, Partial, IndexHasher>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    messages_max: usize,
}

impl Assembly {
    pub(crate) fn new(messages_max: usize) -> Self {
        let partial = HashMap::default();
        Self { partial, spare: Vec::new(), bytes: 0, messages_max }
    }

    /// Takes the fragment at `offset` of the message that began in `origin`. The caller has made sure that no fragment comes twice.
    /// `meta` comes with the first fragment, `end` with the last. Bytes are taken from `left`, the peer's room, and given back.
    #[expect(clippy::too_many_arguments, reason = "the fields of one fragment, and the room")]
    pub(crate) fn insert(
        &mut self,
        left: &mut usize,
        origin: u64,
        total: usize,
        offset: usize,
        fragment: &[u8],
        meta: Option<FragmentMeta>,
        end: Option<(u64, u16)>,
    ) -> Result<Option<Assembled>, FragmentError> {
        self.begin(left, origin, total)?;
        let Some(partial) = self.partial.get_mut(&origin) else {
            return Err(FragmentError::Limit);
        };
        if partial.total != total
            || offset + fragment.len() > total
            || partial.received + fragment.len() > total
        {
            return Err(FragmentError::Contradiction);
        }
        place(&mut partial.body, offset, fragment);
        partial.received += fragment.len();
        partial.meta = partial.meta.or(meta);
        partial.end = partial.end.or(end);
        if partial.received < total {
            return Ok(None);
        }
        let (Some(meta), Some(end)) = (partial.meta, partial.end) else {
            return Err(FragmentError::Contradiction);
        };
        let body = self.remove(left, origin).unwrap_or_default();
        Ok(Some(Assembled { meta, body, end }))
    }

    fn begin(&mut self, left: &mut usize, origin: u64, total: usize) -> Result<(), FragmentError> {
        if self.partial.contains_key(&origin) {
            return Ok(());
        }
        if self.partial.len() >= self.messages_max {
            return Err(FragmentError::Limit);
        }
        if total.saturating_add(PARTIAL_BYTES) > *left {
            self.drop_spare(left);
        }
        let spare = if total <= SPARE_BYTES_MAX { self.spare.pop() } else { None };
        let mut body = spare.unwrap_or_default();
        *left += body.capacity();
        let mut cost = total.max(body.capacity()).saturating_add(PARTIAL_BYTES);
        if cost > *left {
            (body, cost) = (Vec::new(), total.saturating_add(PARTIAL_BYTES));
        }
        *left = left.checked_sub(cost).ok_or(FragmentError::Limit)?;
        self.bytes += total;
        body.clear();
        body.reserve_exact(total);
        let partial = Partial { meta: None, end: None, body, total, cost, received: 0 };
        self.partial.insert(origin, partial);
        Ok(())
    }

    /// Whether there are so many messages in fragments that a block's fragments must be looked at before the block is taken.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.partial.len() * 2 > self.messages_max
    }

    /// Whether a fragment of the message that began in `origin` would find room.
    pub(crate) fn fits(&self, left: usize, origin: u64, total: u64) -> bool {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let has_room = || {
            usize::try_from(total).is_ok_and(|total| {
                total.checked_add(PARTIAL_BYTES).is_some_and(|cost| cost <= left + spare)
            })
        };
        self.partial.contains_key(&origin) || (self.partial.len() < self.messages_max && has_room())
    }

    /// Gives a delivered body's memory back for the next message.
    pub(crate) fn recycle(&mut self, left: &mut usize, body: Vec<u8>) {
        if body.capacity() > 0
            && body.capacity() <= SPARE_BYTES_MAX.min(*left)
            && self.spare.len() < SPARE_BODIES_MAX
        {
            *left -= body.capacity();
            self.spare.push(body);
        }
    }

    /// Forgets the message that began in `origin`, if it is not whole; returns what its first fragment told, if that came.
    pub(crate) fn forget(
        &mut self,
        left: &mut usize,
        origin: u64,
    ) -> Option<(Option<FragmentMeta>, usize)> {
        let partial = self.partial.get(&origin)?;
        let (meta, total) = (partial.meta, partial.total);
        let body = self.remove(left, origin)?;
        self.recycle(left, body);
        Some((meta, total))
    }

    /// Forgets the message with the smallest origin, to make room for newer ones; `false` when there is none.
    pub(crate) fn evict_oldest(&mut self, left: &mut usize) -> bool {
        let Some(&oldest) = self.partial.keys().min() else {
            return false;
        };
        self.remove(left, oldest);
        true
    }

    /// Takes a message out and gives its room back. A table that was large goes when it is empty.
    #[inline]
    fn remove(&mut self, left: &mut usize, origin: u64) -> Option<Vec<u8>> {
        let partial = self.partial.remove(&origin)?;
        self.bytes -= partial.total;
        *left += partial.cost;
        if self.partial.is_empty() && self.partial.capacity() > SPARE_ENTRIES_MAX {
            self.partial = HashMap::default();
        }
        Some(partial.body)
    }

    /// Whether no message is incomplete.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// Gives back the memory of bodies that were delivered.
    pub(crate) fn drop_spare(&mut self, left: &mut usize) {
        *left += self.spare.drain(..).map(|body| body.capacity()).sum::<usize>();
    }

    /// Bytes of all bodies being assembled.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory held, measured at what was reserved.
    pub(crate) fn held_bytes(&self) -> usize {
        let bodies = self.partial.values().map(|partial| partial.body.capacity());
        let spare = self.spare.iter().map(Vec::capacity);
        let entries = self.partial.capacity() * 8 / 7;
        entries * (1 + size_of::<(u64, Partial)>()) + bodies.chain(spare).sum::<usize>()
    }
}

/// Copies `fragment` to `offset`, appending where fragments come in order.
#[inline]
fn place(body: &mut Vec<u8>, offset: usize, fragment: &[u8]) {
    if body.len() == offset {
        body.extend_from_slice(fragment);
        return;
    }
    let end = offset + fragment.len();
    if body.len() < end {
        body.resize(end, 0);
    }
    body[offset..end].copy_from_slice(fragment);
}

#[cfg(test)]
mod tests {
    //! Goal: any order of fragments gives the body; limits hold; contradictions are caught.
    use super::*;
    use proptest::prelude::*;

    fn meta() -> FragmentMeta {
        let (target, service) = (Target::Flow(1), Service::Acknowledged);
        FragmentMeta { target, request: None, sequence: None, service }
    }

    proptest! {
        #[test]
        fn any_order_gives_the_body(body in proptest::collection::vec(any::<u8>(), 2..600), cut in 1usize..200, seed in any::<u64>()) {
            let mut fragments: Vec<_> = body.chunks(cut).enumerate().map(|(i, fragment)| (i * cut, fragment)).collect();
            let rotate = seed as usize % fragments.len();
            fragments.rotate_left(rotate);
            if seed & 1 == 1 { fragments.reverse(); }
            let (mut assembly, mut left) = (Assembly::new(4), 1 << 20);
            let mut whole = None;
            for (offset, fragment) in fragments {
                let meta = (offset == 0).then(meta);
                let end = (offset + fragment.len() == body.len()).then_some((9, 0));
                prop_assert!(whole.is_none());
                whole = assembly.insert(&mut left, 7, body.len(), offset, fragment, meta, end).unwrap();
            }
            let whole = whole.unwrap();
            prop_assert_eq!(whole.body, body);
            prop_assert_eq!(whole.end, (9, 0));
            prop_assert_eq!((assembly.bytes(), left), (0, 1 << 20));
        }
    }

    #[test]
    fn limits_and_contradictions() {
        let (mut assembly, mut left) = (Assembly::new(2), 100 + 2 * PARTIAL_BYTES);
        let left = &mut left;
        assert_eq!(
            assembly.insert(left, 1, 101 + PARTIAL_BYTES, 0, b"a", Some(meta()), None).unwrap_err(),
            FragmentError::Limit
        );
        assert!(assembly.insert(left, 1, 50, 0, b"a", Some(meta()), None).unwrap().is_none());
        assert_eq!(
            assembly.insert(left, 1, 51, 1, b"b", None, None).unwrap_err(),
            FragmentError::Contradiction
        );
        assert_eq!(
            assembly.insert(left, 1, 50, 49, b"bc", None, None).unwrap_err(),
            FragmentError::Contradiction
        );
        assert!(assembly.insert(left, 2, 50, 10, b"a", None, None).unwrap().is_none());
        assert_eq!(
            assembly.insert(left, 3, 0, 0, b"", None, None).unwrap_err(),
            FragmentError::Limit
        );
        assert!(assembly.evict_oldest(left));
        assert_eq!(assembly.bytes(), 50);
    }
}
