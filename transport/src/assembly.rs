//! Owns messages that arrive in parts until they are whole.
//!
//! What always holds: the bodies being assembled add up to at most `bytes_max`, and there are at most `parts_max` of them;
//! a body is never longer than the total that its first seen part announced.

use std::collections::HashMap;

use crate::endpoint::{ReplyTo, Service};
use crate::indices::IndexHasher;
use crate::message::Target;

/// Short bodies kept for reuse, so that a message split over two blocks costs no allocation.
const SPARE_BODIES_MAX: usize = 16;
/// Longest body kept for reuse.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// What the first part of a message tells about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartMeta {
    pub(crate) target: Target,
    pub(crate) request: Option<ReplyTo>,
    pub(crate) service: Service,
}

/// A message whose parts are all here.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) meta: PartMeta,
    pub(crate) body: Vec<u8>,
    /// Block that its last part came in, and the message's place among those ending there.
    pub(crate) end: (u64, u16),
}

/// Why a part was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartError {
    /// No room now: drop the datagram without acknowledging it.
    Limit,
    /// Parts of one message contradict each other: the peer's fault.
    Contradiction,
}

#[derive(Debug)]
struct Partial {
    meta: Option<PartMeta>,
    end: Option<(u64, u16)>,
    body: Vec<u8>,
    total: usize,
    received: usize,
}

/// Messages in parts, by the number of the block (or best-effort message) that they began with.
#[derive(Debug)]
pub(crate) struct Assembly {
    partial: HashMap<u64, Partial, IndexHasher>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    parts_max: usize,
}

impl Assembly {
    pub(crate) fn new(bytes_max: usize, parts_max: usize) -> Self {
        let partial = HashMap::default();
        Self { partial, spare: Vec::new(), bytes: 0, bytes_max, parts_max }
    }

    /// Takes the part at `offset` of the message that began in `origin`. The caller has made sure that no part comes twice.
    /// `meta` comes with the first part, `end` with the last.
    pub(crate) fn insert(
        &mut self,
        origin: u64,
        total: usize,
        offset: usize,
        part: &[u8],
        meta: Option<PartMeta>,
        end: Option<(u64, u16)>,
    ) -> Result<Option<Assembled>, PartError> {
        self.begin(origin, total)?;
        let Some(partial) = self.partial.get_mut(&origin) else {
            return Err(PartError::Limit);
        };
        if partial.total != total
            || offset + part.len() > total
            || partial.received + part.len() > total
        {
            return Err(PartError::Contradiction);
        }
        place(&mut partial.body, offset, part);
        partial.received += part.len();
        partial.meta = partial.meta.or(meta);
        partial.end = partial.end.or(end);
        if partial.received < total {
            return Ok(None);
        }
        let (Some(meta), Some(end)) = (partial.meta, partial.end) else {
            return Err(PartError::Contradiction);
        };
        self.bytes -= total;
        let body = self.partial.remove(&origin).map(|partial| partial.body).unwrap_or_default();
        Ok(Some(Assembled { meta, body, end }))
    }

    fn begin(&mut self, origin: u64, total: usize) -> Result<(), PartError> {
        if self.partial.contains_key(&origin) {
            return Ok(());
        }
        if self.bytes + total > self.bytes_max || self.partial.len() >= self.parts_max {
            return Err(PartError::Limit);
        }
        self.bytes += total;
        let mut body = match self.spare.pop() {
            Some(body) if total <= SPARE_BYTES_MAX => body,
            _ => Vec::new(),
        };
        body.clear();
        body.reserve_exact(total);
        self.partial.insert(origin, Partial { meta: None, end: None, body, total, received: 0 });
        Ok(())
    }

    /// Whether room is so short that a block's parts must be looked at before the block is taken.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes * 2 > self.bytes_max || self.partial.len() * 2 > self.parts_max
    }

    /// Whether a part of the message that began in `origin` would find room.
    pub(crate) fn fits(&self, origin: u64, total: u64) -> bool {
        self.partial.contains_key(&origin)
            || (self.bytes as u64 + total <= self.bytes_max as u64
                && self.partial.len() < self.parts_max)
    }

    /// Gives a delivered body's memory back for the next message.
    pub(crate) fn recycle(&mut self, body: Vec<u8>) {
        if body.capacity() > 0
            && body.capacity() <= SPARE_BYTES_MAX
            && self.spare.len() < SPARE_BODIES_MAX
        {
            self.spare.push(body);
        }
    }

    /// Forgets the message with the smallest origin, to make room for newer ones; `false` when there is none.
    pub(crate) fn evict_oldest(&mut self) -> bool {
        let Some(&oldest) = self.partial.keys().min() else {
            return false;
        };
        if let Some(partial) = self.partial.remove(&oldest) {
            self.bytes -= partial.total;
        }
        true
    }

    /// Bytes of all bodies being assembled.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Copies `part` to `offset`, appending where parts come in order.
#[inline]
fn place(body: &mut Vec<u8>, offset: usize, part: &[u8]) {
    if body.len() == offset {
        body.extend_from_slice(part);
        return;
    }
    let end = offset + part.len();
    if body.len() < end {
        body.resize(end, 0);
    }
    body[offset..end].copy_from_slice(part);
}

#[cfg(test)]
mod tests {
    //! Goal: any order of parts gives the body; limits hold; contradictions are caught.
    use super::*;
    use proptest::prelude::*;

    fn meta() -> PartMeta {
        PartMeta { target: Target::Flow(1), request: None, service: Service::Acknowledged }
    }

    proptest! {
        #[test]
        fn any_order_gives_the_body(body in proptest::collection::vec(any::<u8>(), 2..600), cut in 1usize..200, seed in any::<u64>()) {
            let mut parts: Vec<_> = body.chunks(cut).enumerate().map(|(i, part)| (i * cut, part)).collect();
            let rotate = seed as usize % parts.len();
            parts.rotate_left(rotate);
            if seed & 1 == 1 { parts.reverse(); }
            let mut assembly = Assembly::new(1 << 20, 4);
            let mut whole = None;
            for (offset, part) in parts {
                let meta = (offset == 0).then(meta);
                let end = (offset + part.len() == body.len()).then_some((9, 0));
                prop_assert!(whole.is_none());
                whole = assembly.insert(7, body.len(), offset, part, meta, end).unwrap();
            }
            let whole = whole.unwrap();
            prop_assert_eq!(whole.body, body);
            prop_assert_eq!(whole.end, (9, 0));
            prop_assert_eq!(assembly.bytes(), 0);
        }
    }

    #[test]
    fn limits_and_contradictions() {
        let mut assembly = Assembly::new(100, 2);
        assert_eq!(
            assembly.insert(1, 101, 0, b"a", Some(meta()), None).unwrap_err(),
            PartError::Limit
        );
        assert!(assembly.insert(1, 50, 0, b"a", Some(meta()), None).unwrap().is_none());
        assert_eq!(
            assembly.insert(1, 51, 1, b"b", None, None).unwrap_err(),
            PartError::Contradiction
        );
        assert_eq!(
            assembly.insert(1, 50, 49, b"bc", None, None).unwrap_err(),
            PartError::Contradiction
        );
        assert!(assembly.insert(2, 50, 10, b"a", None, None).unwrap().is_none());
        assert_eq!(assembly.insert(3, 0, 0, b"", None, None).unwrap_err(), PartError::Limit);
        assert!(assembly.evict_oldest());
        assert_eq!(assembly.bytes(), 50);
    }
}
