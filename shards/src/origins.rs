//! Whose messages this shard forwarded: what they owe in credit, and where their replies go.
//!
//! Always holds: an origin lives while a message of it is charged, so its number names one peer's alias for as long as
//! anything comes back under it. The requests kept are bounded: the oldest gives way, and its reply is dropped, as that of an asker that
//! is gone.

use std::collections::{HashMap, VecDeque};

use cubed_transport::{PeerId, ReplyTo};

use crate::limits::FORWARDED_REQUESTS_MAX;

/// Marks an origin as a peer's, not this shard's own.
pub(crate) const FORWARDED: u32 = 1 << 31;
/// Marks the number of a request that was forwarded.
pub(crate) const FORWARDED_REQUEST: u64 = 1 << 63;
/// A peer's best-effort message, which has no credit.
pub(crate) const UNCHARGED: u32 = u32::MAX;

/// A peer, its session, and its alias of a flow.
pub(crate) type Name = (PeerId, u32, u32);

/// All origins of one shard.
#[derive(Default)]
pub(crate) struct Origins {
    /// Name, our number of the flow, charge.
    slots: Vec<(Name, u32, u64)>,
    free: Vec<u32>,
    by_name: HashMap<Name, u32>,
}

impl Origins {
    /// The number of this name, which owes `charge` more for the flow `way`.
    pub(crate) fn charge(&mut self, name: Name, way: u32, charge: u64) -> u32 {
        let index = *self.by_name.entry(name).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push((name, way, 0));
                (self.slots.len() - 1) as u32
            })
        });
        let slot = &mut self.slots[index as usize];
        *slot = (name, way, slot.2 + charge);
        index | FORWARDED
    }

    /// Credit came back: to whom it goes, and for which flow.
    pub(crate) fn give_back(&mut self, origin: u32, charge: u64) -> Option<(Name, u32)> {
        let index = origin & !FORWARDED;
        let (name, way, owed) = self.slots.get_mut(index as usize)?;
        *owed = owed.checked_sub(charge)?;
        if *owed == 0 {
            self.by_name.remove(name);
            self.free.push(index);
        }
        Some((*name, *way))
    }
}

/// Requests that were forwarded and not answered.
#[derive(Default)]
pub(crate) struct Asked {
    first: u64,
    ring: VecDeque<Option<ReplyTo>>,
}

impl Asked {
    /// Keeps where the reply goes; the number to ask by.
    pub(crate) fn add(&mut self, to: ReplyTo) -> u64 {
        if self.ring.len() == FORWARDED_REQUESTS_MAX {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(Some(to));
        self.first + self.ring.len() as u64 - 1
    }

    /// Where the reply of this number goes, once.
    pub(crate) fn take(&mut self, id: u64) -> Option<ReplyTo> {
        let index = id.checked_sub(self.first)?;
        let to = self.ring.get_mut(usize::try_from(index).ok()?)?.take();
        while self.ring.front().is_some_and(Option::is_none) {
            self.ring.pop_front();
            self.first += 1;
        }
        to
    }
}

#[cfg(test)]
mod tests {
    //! Goal: credit goes to whom it was taken from; a request is answered once, and old ones give way.
    use super::*;

    #[test]
    fn an_origin_lives_while_it_owes() {
        let mut origins = Origins::default();
        let one = origins.charge((PeerId(1), 2, 3), 7, 100);
        assert_eq!(origins.charge((PeerId(1), 2, 3), 7, 50), one);
        let other = origins.charge((PeerId(9), 2, 3), 7, 70);
        assert_ne!(one, other);
        assert_eq!(origins.give_back(one, 100), Some(((PeerId(1), 2, 3), 7)));
        assert!(origins.give_back(one, 51).is_none(), "never more than was taken");
        origins.give_back(one, 50).expect("known");
        assert_eq!(origins.by_name.len(), 1);
        assert_eq!(origins.charge((PeerId(4), 5, 6), 8, 1), one, "the number is free again");
        assert_eq!(origins.give_back(one, 1), Some(((PeerId(4), 5, 6), 8)));
    }

    #[test]
    fn a_request_is_answered_once_and_the_oldest_gives_way() {
        let mut asked = Asked::default();
        let to = |request| ReplyTo { peer: PeerId(1), session: 1, request };
        let ids: Vec<_> = (0..3).map(|request| asked.add(to(request))).collect();
        assert_eq!(asked.take(ids[1]), Some(to(1)));
        assert_eq!(asked.take(ids[1]), None);
        for request in 3..=FORWARDED_REQUESTS_MAX as u64 {
            asked.add(to(request));
        }
        assert_eq!(asked.take(ids[0]), None, "gave way");
        assert_eq!(asked.take(ids[2]), Some(to(2)));
    }
}
