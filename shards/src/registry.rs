//! Which flows are registered on which shard of this node. Shared by the shards, asked when a flow is resolved or bound.
//!
//! Always holds: a name's shard is the computed owner if it registered the name, else the lowest that did; a name that is
//! pinned is one shard's alone; the generation
//! moves with each change, so nothing that was found is used longer than it is true.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubed_router::address::FlowName;
use cubed_router::generation::Generation;
use cubed_transport::ChannelId;

/// What the others have to know of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) shard: u8,
    /// What one sender may have there that was not given back.
    pub(crate) window_bytes: u64,
    /// What all may have there together.
    pub(crate) total_bytes: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) takes_requests: bool,
    /// No other shard may have the name.
    pub(crate) is_pinned: bool,
}

/// All flows of a node.
#[derive(Default)]
pub(crate) struct Registry {
    generation: Generation,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    channels: HashMap<ChannelId, HashMap<FlowName, Vec<(u64, Registered)>>>,
    next: u64,
}

impl Registry {
    /// Adds a flow until what is returned is withdrawn or dropped.
    ///
    /// # Errors
    ///
    /// The shard that has the name, if it or the new one is pinned.
    pub(crate) fn add(
        self: &Arc<Self>,
        channel: ChannelId,
        name: &FlowName,
        registered: Registered,
    ) -> Result<Rc<Registration>, u8> {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        let names = entries.channels.entry(channel).or_default();
        let here = names.entry(name.clone()).or_default();
        let mut others = here.iter().map(|(_, other)| other);
        if let Some(other) = others.find(|other| other.is_pinned || registered.is_pinned) {
            return Err(other.shard);
        }
        here.push((number, registered));
        drop(entries);
        self.generation.advance();
        let registry = Arc::clone(self);
        let is_over = Cell::new(false);
        Ok(Rc::new(Registration { registry, channel, name: name.clone(), number, is_over }))
    }

    /// Where messages for this name go, given the shard that the name's hash chooses.
    pub(crate) fn find(&self, channel: ChannelId, name: &str, owner: u8) -> Option<Registered> {
        let entries = self.lock();
        let here = entries.channels.get(&channel)?.get(name)?;
        // The owner sorts first, the others by number.
        here.iter().map(|(_, one)| *one).min_by_key(|one| (one.shard != owner, one.shard))
    }

    /// Moves with each change.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.current()
    }

    /// A panic while the lock was held leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One flow's entry.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    channel: ChannelId,
    name: FlowName,
    number: u64,
    is_over: Cell<bool>,
}

impl Registration {
    /// Removes the entry, once.
    pub(crate) fn withdraw(&self) {
        if self.is_over.replace(true) {
            return;
        }
        let mut entries = self.registry.lock();
        if let Some(names) = entries.channels.get_mut(&self.channel)
            && let Some(here) = names.get_mut(&self.name)
        {
            here.retain(|(number, _)| *number != self.number);
            if here.is_empty() {
                names.remove(&self.name);
            }
        }
        drop(entries);
        self.registry.generation.advance();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the owner wins, the lowest shard is next, what is withdrawn is gone.
    use super::*;

    fn on(shard: u8) -> Registered {
        Registered {
            shard,
            window_bytes: 1,
            total_bytes: 1,
            message_bytes_max: 1,
            takes_requests: true,
            is_pinned: false,
        }
    }

    #[test]
    fn the_owner_wins_and_the_lowest_shard_follows() {
        let registry = Arc::new(Registry::default());
        let name = FlowName::new("a").expect("a name");
        let find = |owner| registry.find(ChannelId::DEFAULT, "a", owner).map(|one| one.shard);
        assert_eq!(find(2), None);
        let before = registry.generation();
        let third = registry.add(ChannelId::DEFAULT, &name, on(3)).expect("not pinned");
        let first = registry.add(ChannelId::DEFAULT, &name, on(1)).expect("not pinned");
        assert_ne!(registry.generation(), before);
        assert_eq!((find(3), find(2), find(1)), (Some(3), Some(1), Some(1)));
        assert!(registry.find(ChannelId(1), "a", 1).is_none(), "channels share nothing");
        first.withdraw();
        let again = registry.add(ChannelId::DEFAULT, &name, on(1)).expect("not pinned");
        drop(first);
        assert_eq!(find(2), Some(1), "an old entry's end does not touch the new one");
        drop(again);
        assert_eq!(find(2), Some(3));
        drop(third);
        assert_eq!(find(2), None);
    }

    #[test]
    fn a_pinned_name_is_one_shards_alone() {
        let registry = Arc::new(Registry::default());
        let name = FlowName::new("a").expect("a name");
        let pinned = |shard| Registered { is_pinned: true, ..on(shard) };
        let add = |registered| registry.add(ChannelId::DEFAULT, &name, registered);
        let first = add(pinned(2)).expect("the first");
        assert_eq!((add(on(0)).err(), add(pinned(1)).err()), (Some(2), Some(2)));
        assert_eq!(registry.find(ChannelId::DEFAULT, "a", 0).map(|one| one.shard), Some(2));
        drop(first);
        let _one = add(on(0)).expect("free again");
        let _other = add(on(1)).expect("not pinned");
        assert_eq!(add(pinned(2)).err(), Some(0));
    }
}
