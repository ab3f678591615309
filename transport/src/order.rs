//! Owns what a lane knows of the order of each incoming flow: the next sequence, messages that came before their turn,
//! sequences that will not come, and the newest stamp of a value.
//!
//! What always holds: messages leave in the order of their sequences, each once; a message held has been charged to its
//! flow's credit, which bounds how many there are; sequences known to be gone are bounded by the
//! peer's room.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::endpoint::ReplyTo;
use crate::frame::Run;

/// Memory of one flow's order: its entry in a tree that may be half empty.
pub(crate) const ORDER_BYTES: usize = 2 * size_of::<(u32, Order)>();
/// Memory of one place ahead of what is awaited.
const SLOT_BYTES: usize = 2 * size_of::<(u64, Slot)>();

/// A message that waits for its turn.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) body: Vec<u8>,
    pub(crate) request: Option<ReplyTo>,
    /// Block that it ended in, and its place there.
    pub(crate) end: (u64, u16),
}

#[derive(Debug)]
enum Slot {
    Held(Held),
    /// So many sequences will not come.
    Gone(u64),
}

/// What to do with a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Hand it over.
    Now,
    /// Hold it.
    Later,
    /// It came already, or was given up: the peer contradicts itself.
    Past,
}

/// Order of one flow.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: u64,
    ahead: BTreeMap<u64, Slot>,
    /// Stamp below which values are old.
    stamp: u64,
}

/// Orders of all flows of one lane.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    flows: BTreeMap<u32, Order>,
    gone: usize,
    /// Blocks in which messages end that are held here, or whose answer the application put off, with how many.
    blocks: BTreeMap<u64, u32>,
    /// Messages whose answer the application put off: they wait for us, those held wait for their sender.
    unanswered: usize,
}

impl Orders {
    /// Whether the message with this sequence is the one awaited, which it then no longer is.
    pub(crate) fn take_turn(&mut self, alias: u32, sequence: u64) -> Turn {
        let order = self.flows.entry(alias).or_default();
        if sequence < order.next || order.ahead.contains_key(&sequence) {
            return Turn::Past;
        }
        if sequence > order.next {
            return Turn::Later;
        }
        order.next += 1;
        Turn::Now
    }

    /// Holds a message until its turn.
    pub(crate) fn hold(&mut self, alias: u32, sequence: u64, held: Held) {
        self.keep(held.end.0);
        self.flows.entry(alias).or_default().ahead.insert(sequence, Slot::Held(held));
    }

    /// The answer to a message that ended in this block was put off.
    pub(crate) fn put_off(&mut self, block: u64) {
        self.unanswered += 1;
        self.keep(block);
    }

    /// The answer has come; `false` if none was missing.
    pub(crate) fn make_up(&mut self, block: u64) -> bool {
        if self.unanswered == 0 || !self.blocks.contains_key(&block) {
            return false;
        }
        self.unanswered -= 1;
        self.free(block);
        true
    }

    /// Messages whose answer was put off.
    #[inline]
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// A message that ended in this block waits for its turn or for its answer.
    fn keep(&mut self, block: u64) {
        *self.blocks.entry(block).or_default() += 1;
    }

    /// It waits no longer.
    fn free(&mut self, block: u64) {
        let Entry::Occupied(mut entry) = self.blocks.entry(block) else {
            debug_assert!(false, "what waited was kept");
            return;
        };
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    /// The next message of a flow whose turn has come.
    pub(crate) fn take_next(&mut self, alias: u32) -> Option<Held> {
        let order = self.flows.get_mut(&alias)?;
        loop {
            let entry = order.ahead.first_entry()?;
            let first = *entry.key();
            if first > order.next {
                return None;
            }
            match entry.remove() {
                Slot::Gone(count) => {
                    order.next = order.next.max(first + count);
                    self.gone -= 1;
                }
                Slot::Held(held) => {
                    order.next = order.next.max(first + 1);
                    self.free(held.end.0);
                    return Some(held);
                }
            }
        }
    }

    /// Runs of sequences remembered that will not come.
    pub(crate) fn gone(&self) -> usize {
        self.gone
    }

    /// Memory held, but for messages that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        self.flows.len() * ORDER_BYTES + self.gone * SLOT_BYTES
    }

    /// Whether sequences that will not come lie ahead of the one awaited, so that they must be remembered.
    pub(crate) fn is_ahead(&self, run: &Run) -> bool {
        run.first > self.flows.get(&run.alias).map_or(0, |order| order.next)
    }

    /// Sequences that will not come. The caller then asks [`Orders::take_next`].
    pub(crate) fn skip(&mut self, run: Run) {
        let order = self.flows.entry(run.alias).or_default();
        if run.first <= order.next {
            order.next = order.next.max(run.first + run.count);
            return;
        }
        match order.ahead.get_mut(&run.first) {
            Some(Slot::Gone(count)) => *count = (*count).max(run.count),
            Some(Slot::Held(_)) => {}
            None => {
                order.ahead.insert(run.first, Slot::Gone(run.count));
                self.gone += 1;
            }
        }
    }

    /// Whether a value is newer than all taken before.
    pub(crate) fn is_newer(&self, alias: u32, stamp: u64) -> bool {
        self.flows.get(&alias).is_none_or(|order| stamp >= order.stamp)
    }

    /// A value was taken: older ones are refused from here on.
    pub(crate) fn note_stamp(&mut self, alias: u32, stamp: u64) {
        let order = self.flows.entry(alias).or_default();
        order.stamp = order.stamp.max(stamp + 1);
    }

    /// First block in which a message ends that waits for its turn or its answer: it is not settled before.
    #[inline]
    pub(crate) fn first_block(&self) -> Option<u64> {
        if self.blocks.is_empty() { None } else { self.blocks.keys().next().copied() }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: any order of arrival, with any part given up, comes out in order and whole.
    use super::*;
    use proptest::prelude::*;

    fn held(sequence: u64) -> Held {
        Held { body: sequence.to_le_bytes().to_vec(), request: None, end: (sequence / 3, 0) }
    }

    proptest! {
        #[test]
        fn what_is_not_given_up_comes_in_order(keys in proptest::collection::vec(any::<u16>(), 1..80), gone in any::<u64>()) {
            let mut arrivals: Vec<u64> = (0..keys.len() as u64).collect();
            arrivals.sort_by_key(|&n| keys[n as usize]);
            let is_gone = |n: u64| gone >> (n % 64) & 1 == 1;
            let (mut orders, mut out) = (Orders::default(), Vec::new());
            for n in arrivals {
                if is_gone(n) {
                    let run = Run { alias: 5, first: n, count: 1 };
                    orders.skip(run);
                    orders.skip(run);
                } else {
                    match orders.take_turn(5, n) {
                        Turn::Now => out.push(n),
                        Turn::Later => orders.hold(5, n, held(n)),
                        Turn::Past => prop_assert!(false),
                    }
                }
                while let Some(next) = orders.take_next(5) {
                    out.push(u64::from_le_bytes(next.body.try_into().unwrap()));
                }
            }
            let expected: Vec<u64> = (0..keys.len() as u64).filter(|&n| !is_gone(n)).collect();
            prop_assert_eq!(out, expected);
            prop_assert_eq!((orders.gone, orders.first_block()), (0, None));
        }
    }

    #[test]
    fn runs_told_again_and_longer_do_no_harm() {
        let mut orders = Orders::default();
        orders.hold(1, 8, held(8));
        orders.skip(Run { alias: 1, first: 6, count: 1 });
        orders.skip(Run { alias: 1, first: 0, count: 4 });
        orders.skip(Run { alias: 1, first: 4, count: 4 });
        assert_eq!(orders.first_block(), Some(2));
        assert!(orders.take_next(1).is_some());
        assert_eq!(orders.take_turn(1, 8), Turn::Past);
        assert_eq!(orders.take_turn(1, 9), Turn::Now);
        assert_eq!(orders.gone, 0);
    }

    #[test]
    fn older_values_are_told_from_newer() {
        let mut orders = Orders::default();
        assert!(orders.is_newer(1, 0));
        orders.note_stamp(1, 4);
        assert!(!orders.is_newer(1, 4) && orders.is_newer(1, 5) && orders.is_newer(2, 0));
    }
}
