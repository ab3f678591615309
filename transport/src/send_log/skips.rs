//! Owns the SKIP frames of a send log: what was given up after it had been sent, until the receiver has been told.
//!
//! What always holds: a SKIP is told until a datagram that carried it is acknowledged; told twice it does no harm.

use std::collections::VecDeque;

use crate::frame::Run;
use crate::ranges::Ack;

/// What one SKIP frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skip {
    id: u64,
    pub(super) group: u32,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) back: u64,
    pub(super) runs: Vec<Run>,
}

/// Bytes of one group's frames that a datagram has room for now and then, whatever else is told: what an acknowledgement leaves of
/// 1,200.
const GROUP_BYTES_MAX: usize = 512;

impl Skip {
    fn write(&self, out: &mut Vec<u8>) {
        crate::frame::write_skip(self.first, self.count, self.back, &self.runs, out);
    }
}

/// SKIP frames that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Skips {
    due: VecDeque<Skip>,
    told: VecDeque<Skip>,
    /// Packets, and which SKIP each told.
    packets: Vec<(u64, u64)>,
    next: u64,
}

impl Skips {
    pub(super) fn push(&mut self, group: u32, first: u64, count: u64, back: u64, runs: Vec<Run>) {
        // Sequences that were never sent need no block: they join the frame that waits already.
        if count == 0
            && let Some(last) = self.due.back_mut().filter(|last| last.count == 0)
            && merge(&mut last.runs, &runs)
        {
            return;
        }
        let id = self.next;
        self.next += 1;
        self.due.push_back(Skip { id, group, first, count, back, runs });
    }

    /// What the next SKIP is known by here.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// Those to come are known by what was not used before.
    pub(super) fn go_on_from(&mut self, next: u64) {
        self.next = next;
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.due.len() + self.told.len()
    }

    /// Writes the frames that fit `room`; returns whether there were any. Those of one group go together: were blocks of the
    /// message to arrive between them, the receiver could find none missing, though it had forgotten what came before.
    pub(super) fn write(&mut self, packet: u64, room: usize, out: &mut Vec<u8>) -> bool {
        let limit = out.len() + room;
        let mut any = false;
        while !self.due.is_empty() {
            let start = out.len();
            let frames = self.write_group(out);
            let bytes = out.len() - start;
            if out.len() <= limit && bytes <= GROUP_BYTES_MAX {
                (0..frames).for_each(|_| self.on_written(packet));
            } else {
                out.truncate(start);
                if bytes <= GROUP_BYTES_MAX || !self.write_one(packet, limit, out) {
                    break;
                }
            }
            any = true;
        }
        any
    }

    /// Appends the frames of the group that is due first until they are more than any datagram is sure to hold; returns how many.
    fn write_group(&self, out: &mut Vec<u8>) -> usize {
        let limit = out.len() + GROUP_BYTES_MAX;
        let group = self.due.front().map_or(0, |skip| skip.group);
        let is_of_group = |other: &&Skip| group != 0 && other.group == group;
        let more = self.due.iter().skip(1).take_while(is_of_group);
        let frames = self.due.iter().take(1).chain(more);
        let mut written = 0;
        for skip in frames {
            skip.write(out);
            written += 1;
            if out.len() > limit {
                break;
            }
        }
        written
    }

    /// Appends one frame, of a group that no datagram is sure to hold.
    fn write_one(&mut self, packet: u64, limit: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.due.front().into_iter().for_each(|skip| skip.write(out));
        if out.len() > limit {
            out.truncate(start);
            return false;
        }
        self.on_written(packet);
        true
    }

    fn on_written(&mut self, packet: u64) {
        if let Some(skip) = self.due.pop_front() {
            self.packets.push((packet, skip.id));
            self.told.push_back(skip);
        }
    }

    /// Packets that told some were acknowledged; `on_known` hears the group of each SKIP that is known now.
    pub(super) fn on_acked(&mut self, ack: &Ack<'_>, mut on_known: impl FnMut(u32)) {
        let known = self.packets.iter().filter(|told| ack.contains(told.0));
        let known: Vec<u64> = known.map(|told| told.1).collect();
        self.packets.retain(|told| !known.contains(&told.1));
        self.told.retain(|skip| {
            let is_known = known.contains(&skip.id);
            if is_known {
                on_known(skip.group);
            }
            !is_known
        });
    }

    /// Some packet that told one was lost, or its keys are gone: all are told again.
    pub(super) fn tell_again(&mut self) {
        self.packets.clear();
        self.told.append(&mut self.due);
        std::mem::swap(&mut self.due, &mut self.told);
    }
}

/// Adds runs to runs as long as they fit one frame.
fn merge(runs: &mut Vec<Run>, more: &[Run]) -> bool {
    for run in more {
        let is_before = |r: &Run| r.alias == run.alias && r.first + r.count == run.first;
        match runs.iter().position(is_before) {
            Some(before) => runs[before].count += run.count,
            None if runs.len() < super::group::RUNS_MAX && more.len() == 1 => runs.push(*run),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    //! Goal: told until acknowledged, by whichever datagram; sequences without blocks share a frame.
    use super::*;
    use crate::ranges::{RangeSet, decode_ack, encode_ack};
    use crate::varint::Reader;

    fn acked(skips: &mut Skips, packet: u64) -> Vec<u32> {
        let mut ranges = RangeSet::new(4);
        ranges.insert(packet);
        let mut bytes = Vec::new();
        encode_ack(&ranges, 0, 4, &mut bytes);
        let ack = decode_ack(&mut Reader::new(&bytes)).unwrap();
        let mut groups = Vec::new();
        skips.on_acked(&ack, |group| groups.push(group));
        groups
    }

    #[test]
    fn told_until_acknowledged() {
        let mut skips = Skips::default();
        skips.push(7, 10, 2, 0, Vec::new());
        skips.push(8, 20, 1, 0, Vec::new());
        let mut out = Vec::new();
        assert!(skips.write(1, 5, &mut out));
        assert!(skips.is_due() && skips.write(2, 100, &mut out));
        assert!(!skips.write(3, 100, &mut out));
        skips.tell_again();
        assert!(skips.write(4, 100, &mut out));
        assert_eq!(acked(&mut skips, 1), [0u32; 0], "what was told before is told again");
        assert_eq!(acked(&mut skips, 4), [7, 8]);
        assert_eq!(skips.len(), 0);
    }

    #[test]
    fn frames_of_one_message_go_together() {
        for room in 0..80 {
            let mut skips = Skips::default();
            for group in [7, 8, 8, 8, 9, 9] {
                let runs = vec![Run { alias: 3, first: 70, count: 1 }];
                skips.push(group, 10_000 + skips.next, 1, 100, runs);
            }
            let groups = |skips: &VecDeque<Skip>| skips.iter().map(|s| s.group).collect::<Vec<_>>();
            let mut out = Vec::new();
            let written = skips.write(1, room, &mut out);
            assert!(out.len() <= room && written != out.is_empty());
            let expected: &[u32] = match out.len() {
                0 => &[],
                11 => &[7],
                44 => &[7, 8, 8, 8],
                66 => &[7, 8, 8, 8, 9, 9],
                bytes => panic!("{bytes} B, so some of a group are missing"),
            };
            assert_eq!(groups(&skips.told), expected, "{room}");
            assert_eq!(groups(&skips.due), [7, 8, 8, 8, 9, 9][expected.len()..]);
            skips.tell_again();
            assert_eq!(groups(&skips.due), [7, 8, 8, 8, 9, 9]);
        }
    }

    #[test]
    fn what_no_datagram_is_sure_to_hold_is_told_bit_by_bit() {
        let mut skips = Skips::default();
        for first in 0..200 {
            skips.push(7, 2 * first, 1, 0, Vec::new());
        }
        let (mut out, mut datagrams) = (Vec::new(), 0);
        while skips.is_due() {
            out.clear();
            assert!(skips.write(datagrams, GROUP_BYTES_MAX, &mut out), "each tells some");
            datagrams += 1;
        }
        assert_eq!((skips.told.len(), datagrams), (200, 3));
    }

    #[test]
    fn sequences_without_blocks_share_a_frame() {
        let mut skips = Skips::default();
        for first in 0..100 {
            skips.push(0, 0, 0, 0, vec![Run { alias: 3, first, count: 1 }]);
        }
        assert_eq!(skips.due.len(), 1);
        assert_eq!(skips.due[0].runs, [Run { alias: 3, first: 0, count: 100 }]);
        for first in 0..40 {
            skips.push(0, 0, 0, 0, vec![Run { alias: 3, first: 200 + 2 * first, count: 1 }]);
        }
        assert_eq!(skips.due.len(), 3);
        assert!(skips.due.iter().all(|skip| skip.runs.len() <= super::super::group::RUNS_MAX));
    }
}
