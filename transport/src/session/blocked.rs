//! Owns which outgoing flows wait for credit, and which of them are still to tell the receiver so.
//!
//! What always holds: a flow whose wish is new is told of once, whoever waits beside it; all get their turn although few fit into
//! one datagram; a flow that waits is told of again each second, whatever became of the first telling.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::flows::OutFlow;
use crate::frame::{self, BLOCKED_BYTES_MAX, Bind, Record};
use crate::time::Instant;

/// While flows wait, they are told of this often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Flows that wait for credit.
#[derive(Debug, Default)]
pub(crate) struct BlockedFlows {
    /// Their aliases; some may have got their credit meanwhile.
    waiting: BTreeSet<u32>,
    /// Those of which the receiver is to be told.
    due: BTreeSet<u32>,
    /// Where telling goes on.
    next: u32,
    told_at: Instant,
}

impl BlockedFlows {
    /// A flow's wish is new.
    #[cold]
    pub(crate) fn add(&mut self, alias: u32) {
        self.waiting.insert(alias);
        self.due.insert(alias);
    }

    /// Some telling may have been lost.
    pub(crate) fn tell_all(&mut self) {
        self.due.clone_from(&self.waiting);
    }

    /// Whether none waits, as far as is known.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.due.is_empty()
    }

    /// Whether some flow is to be told of.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When to tell again of those that still wait.
    #[inline]
    pub(crate) fn again_at(&self) -> Option<Instant> {
        (self.due.is_empty() && !self.waiting.is_empty()).then(|| self.told_at + TOLD_EVERY)
    }

    /// Appends BLOCKED or BIND, one per flow that waits, up to `limit`; whether there was any.
    pub(crate) fn write(
        &mut self,
        flows: &[OutFlow],
        now: Instant,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        self.told_at = now;
        let mut any = false;
        while let Some(alias) = self.next_due() {
            match flows.get(alias as usize).filter(|flow| flow.wanted > 0) {
                None => _ = self.waiting.remove(&alias),
                Some(flow) => {
                    let needed = if flow.bound { BLOCKED_BYTES_MAX } else { 24 + flow.name.len() };
                    if out.len() + needed > limit {
                        break;
                    }
                    if flow.bound {
                        frame::write_blocked(alias, flow.wanted, out);
                    } else {
                        let name = flow.name.to_string();
                        Record::Bind(Bind { alias, name, wanted: flow.wanted }).write(out);
                    }
                    any = true;
                }
            }
            self.due.remove(&alias);
            self.next = alias + 1;
        }
        any
    }

    fn next_due(&self) -> Option<u32> {
        let next = self.due.range(self.next..).next();
        next.or_else(|| self.due.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every waiting flow is told of, also when a datagram holds few; those that do not wait cost nothing.
    use super::*;

    #[test]
    fn all_get_their_turn() {
        let mut flows: Vec<_> = (0..4_096).map(|n| OutFlow::new(&format!("flow.{n}"))).collect();
        let mut blocked = BlockedFlows::default();
        for alias in (0..4_096).step_by(3) {
            flows[alias].wanted = 7;
            blocked.add(alias as u32);
        }
        let mut told = Vec::new();
        let mut datagrams = 0;
        while blocked.is_due() {
            let mut out = Vec::new();
            assert!(blocked.write(&flows, Instant::default(), 400, &mut out));
            datagrams += 1;
            let mut reader = crate::varint::Reader::new(&out);
            while reader.u8().is_some() {
                let Ok(Record::Bind(bind)) = Record::read(&mut reader) else { panic!() };
                told.push(bind.alias);
            }
            if datagrams == 5 {
                // Something was lost: everybody is told of again from here on, round about.
                blocked.tell_all();
                told.clear();
            }
        }
        told.sort_unstable();
        assert_eq!(told, (0..4_096).step_by(3).collect::<Vec<_>>());
        for flow in &mut flows {
            flow.wanted = 0;
        }
        blocked.tell_all();
        assert!(!blocked.write(&flows, Instant::default(), 400, &mut Vec::new()));
        assert_eq!((blocked.is_due(), blocked.waiting.len()), (false, 0));
    }

    #[test]
    fn who_still_waits_is_told_of_again() {
        let mut flows = vec![OutFlow::new("a")];
        flows[0].wanted = 7;
        let mut blocked = BlockedFlows::default();
        blocked.add(0);
        let now = Instant::from_nanos(5_000_000_000);
        assert_eq!(blocked.again_at(), None, "it is due at once");
        assert!(blocked.write(&flows, now, 400, &mut Vec::new()));
        assert_eq!((blocked.is_due(), blocked.again_at()), (false, Some(now + TOLD_EVERY)));
        flows[0].wanted = 0;
        blocked.tell_all();
        assert!(!blocked.write(&flows, now, 400, &mut Vec::new()));
        assert_eq!(blocked.again_at(), None, "nobody waits");
    }

    #[test]
    fn each_is_told_of_once_however_many_wait() {
        let mut flows: Vec<_> = (0..1_000).map(|n| OutFlow::new(&format!("flow.{n}"))).collect();
        let (mut blocked, mut told) = (BlockedFlows::default(), 0);
        for alias in 0..1_000 {
            flows[alias].wanted = 7;
            blocked.add(alias as u32);
            let mut out = Vec::new();
            assert!(blocked.write(&flows, Instant::default(), 60_000, &mut out));
            let mut reader = crate::varint::Reader::new(&out);
            while reader.u8().is_some() {
                assert!(matches!(Record::read(&mut reader), Ok(Record::Bind(_))));
                told += 1;
            }
        }
        assert_eq!(told, 1_000);
    }
}
