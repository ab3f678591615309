//! Owns what a lane comes to in which nothing is under way: flows, their order, and counts.
//!
//! What always holds: what the peer may still make us hold is the same before and after.

use super::{Lane, Turn};
use crate::assembly::Assembly;
use crate::best_effort::BestEffortQueue;
use crate::block_window::BlockWindow;
use crate::common::Common;
use crate::endpoint::PeerMemory;
use crate::flows::InFlow;
use crate::limits::{BEST_EFFORT_FRAGMENTED_MAX, BLOCK_WINDOW};
use crate::order::Orders;
use crate::room::Room;
use crate::send_log::{DormantLog, SendLog};

/// A lane in which nothing is under way.
#[derive(Debug)]
pub(crate) struct DormantLane {
    log: DormantLog,
    best_effort_next: u64,
    block_bytes: usize,
    floor: u64,
    in_flows: Vec<Option<InFlow>>,
    orders: Orders,
}

impl Lane {
    /// Whether nothing is to be sent, and nothing that will come again is incomplete.
    pub(crate) fn is_quiet(&self) -> bool {
        self.log.is_quiet()
            && self.best_effort.is_empty()
            && self.probes == 0
            && !self.ping_due
            && self.window.is_even()
            && self.block_parts.is_none()
            && self.assembly.is_empty()
            && self.grants_due.is_empty()
            && self.refusals.is_empty()
            && self.refusals_fresh.is_empty()
            && self.refusals_told.is_empty()
            && !self.refusals_due
            && !self.settled_due
    }

    /// Keeps what [`Lane::wake`] needs. What of best effort is incomplete is dropped and counted.
    pub(crate) fn rest(mut self, common: &mut Common, room: &mut Room) -> DormantLane {
        debug_assert!(self.is_quiet(), "nothing is lost");
        while self.best_effort_assembly.evict_oldest(&mut room.best_effort_fragments) {
            common.counters.best_effort_fragments_dropped += 1;
        }
        self.assembly.drop_spare(&mut room.fragments);
        self.best_effort_assembly.drop_spare(&mut room.best_effort_fragments);
        let Self { log, best_effort, window, mut in_flows, orders, .. } = self;
        in_flows.shrink_to_fit();
        DormantLane {
            log: log.rest(),
            best_effort_next: best_effort.next_number(),
            block_bytes: best_effort.block_bytes(),
            floor: window.floor(),
            in_flows,
            orders,
        }
    }

    /// The lane as it was.
    pub(crate) fn wake(dormant: DormantLane) -> Self {
        let DormantLane { log, best_effort_next, block_bytes, floor, in_flows, orders } = dormant;
        Self {
            log: SendLog::wake(log),
            best_effort: BestEffortQueue::resume(best_effort_next, block_bytes),
            turn: Turn::BestEffort,
            probes: 0,
            ping_due: false,
            window: BlockWindow::from_floor(floor),
            block_parts: None,
            assembly: Assembly::new(BLOCK_WINDOW as usize),
            best_effort_assembly: Assembly::new(BEST_EFFORT_FRAGMENTED_MAX),
            in_flows,
            orders,
            grants_due: Vec::new(),
            refusals: Vec::new(),
            refusals_fresh: Vec::new(),
            refusals_told: Vec::new(),
            refusals_due: false,
            settled_due: false,
        }
    }
}

impl DormantLane {
    /// Adds what this lane holds for its sender.
    pub(crate) fn add_memory(&self, memory: &mut PeerMemory) {
        super::add_flows(&self.in_flows, &self.orders, memory);
    }
}
