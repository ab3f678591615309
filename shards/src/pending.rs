//! Messages to flows of this node that have not ended, by the number that travels with them.
//!
//! Always holds: a number names one message, and never looks like that of a request that was passed on for a peer; a late
//! answer to one that is gone finds nothing, for slots carry a generation.

use cubed_transport::Token;

use crate::origins::FORWARDED_REQUEST;

/// One message.
pub(crate) struct Pending {
    pub(crate) way: u32,
    /// The shard that has it.
    pub(crate) to: u8,
    pub(crate) charge: u64,
    /// Who wants to hear of its end, if anybody still does.
    pub(crate) token: Option<Token>,
    pub(crate) is_request: bool,
    /// It was delivered, and only the reply is missing.
    pub(crate) is_settled: bool,
}

/// Generations go round within the bits below `FORWARDED_REQUEST`.
const GENERATION_MAX: u32 = (FORWARDED_REQUEST >> 32) as u32 - 1;
const _: () = assert!(FORWARDED_REQUEST.is_power_of_two());

/// All of them.
#[derive(Default)]
pub(crate) struct PendingTable {
    slots: Vec<(u32, Option<Pending>)>,
    free: Vec<u32>,
}

impl PendingTable {
    pub(crate) fn add(&mut self, pending: Pending) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(pending);
        u64::from(*generation) << 32 | u64::from(index)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Pending> {
        let (generation, slot) = self.slots.get_mut(id as u32 as usize)?;
        if *generation == (id >> 32) as u32 { slot.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Pending> {
        let (generation, slot) = self.slots.get_mut(id as u32 as usize)?;
        if *generation != (id >> 32) as u32 {
            return None;
        }
        let pending = slot.take()?;
        *generation = if *generation == GENERATION_MAX { 0 } else { *generation + 1 };
        self.free.push(id as u32);
        Some(pending)
    }

    /// The numbers of those on shard `to`, or of all.
    pub(crate) fn on(&self, to: Option<u8>) -> Vec<u64> {
        let slots = self.slots.iter().zip(0u64..);
        let ids = slots.filter_map(|((generation, slot), index)| {
            let pending = slot.as_ref()?;
            let is_there = to.is_none_or(|to| pending.to == to);
            is_there.then_some(u64::from(*generation) << 32 | index)
        });
        ids.collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a number names one message of this shard, for ever.
    use super::*;

    fn message() -> Pending {
        Pending { way: 0, to: 0, charge: 64, token: None, is_request: true, is_settled: false }
    }

    #[test]
    fn a_late_answer_finds_nothing() {
        let mut table = PendingTable::default();
        let first = table.add(message());
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        let second = table.add(message());
        assert_ne!(first, second);
        assert!(table.get_mut(first).is_none() && table.get_mut(second).is_some());
    }

    #[test]
    fn a_slot_used_for_years_never_looks_like_a_request_of_a_peer() {
        let mut table = PendingTable::default();
        let first = table.add(message());
        table.remove(first);
        table.slots[0].0 = u32::MAX >> 1;
        for _ in 0..3 {
            let id = table.add(message());
            assert_eq!(id & FORWARDED_REQUEST, 0, "{id:#x}");
            assert!(table.get_mut(id).is_some());
            assert_eq!(table.on(None), [id]);
            assert!(table.remove(id).is_some() && table.get_mut(id).is_none());
        }
    }
}
