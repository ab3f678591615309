//! Owns the shape of a session that has been silent: what cannot be had again, and nothing that can.
//!
//! What always holds: a dormant session has nothing to send, to tell or to wait for, and no timer; woken it is the session that
//! it was, but that what arrives from before its silence counts as seen.

use super::Session;
use super::blocked::BlockedFlows;
use crate::association::{Association, DormantAssociation};
use crate::common::Common;
use crate::endpoint::PeerMemory;
use crate::flows::OutCredit;
use crate::frame::Greeting;
use crate::lane::{DormantLane, Lane};
use crate::limits::DORMANT_AFTER;
use crate::path::{DormantPath, Path};
use crate::room::Room;
use crate::time::Instant;

/// A session in which nothing is under way: a sixth of one at work.
#[derive(Debug)]
pub(crate) struct DormantSession {
    number: u32,
    pub(crate) greeting: Greeting,
    pub(crate) association: DormantAssociation,
    ours_is_smaller: bool,
    changed_at: Instant,
    asked_at: Instant,
    lane: DormantLane,
    pub(crate) path: DormantPath,
    credit: OutCredit,
    message_bytes_max: u64,
    probe_count: u32,
    settle_probes: u32,
}

impl Session {
    /// From when on the session may be dormant; `None` while anything is under way.
    pub(crate) fn dormant_at(&self) -> Option<Instant> {
        let current = &self.current;
        let is_quiet = current.is_quiet()
            && self.previous.is_empty()
            && self.peer_sends_on == current.local_index()
            && self.fresh_keys_at.is_none()
            && self.fresh_keys_from.is_none()
            && self.lane.is_quiet()
            && self.path.is_quiet()
            && self.blocked.is_quiet();
        let last = current.last_received.max(current.space.sent.last_sent());
        is_quiet.then(|| (last + DORMANT_AFTER).max(self.path.settled_at()))
    }

    /// Keeps what [`Session::wake`] needs. What of best effort is still incomplete will not be whole any more.
    pub(crate) fn rest(self, common: &mut Common, room: &mut Room) -> DormantSession {
        let Self { number, greeting, current, ours_is_smaller, changed_at, asked_at, .. } = self;
        let Self { lane, path, credit, message_bytes_max, probe_count, settle_probes, .. } = self;
        DormantSession {
            number,
            greeting,
            association: current.rest(),
            ours_is_smaller,
            changed_at,
            asked_at,
            lane: lane.rest(common, room),
            path: path.rest(),
            credit,
            message_bytes_max,
            probe_count,
            settle_probes,
        }
    }

    /// The session as it was.
    pub(crate) fn wake(dormant: DormantSession) -> Self {
        let DormantSession { number, greeting, association, ours_is_smaller, .. } = dormant;
        let DormantSession { changed_at, asked_at, lane, path, credit, .. } = dormant;
        let DormantSession { message_bytes_max, probe_count, settle_probes, .. } = dormant;
        let path = Path::wake(path);
        let current = Association::wake(association, path.address);
        Self {
            number,
            greeting,
            peer_sends_on: current.local_index(),
            current,
            previous: Vec::new(),
            ours_is_smaller,
            changed_at,
            asked_at,
            fresh_keys_at: None,
            fresh_keys_from: None,
            lane: Lane::wake(lane),
            path,
            credit,
            message_bytes_max,
            probe_count,
            settle_probes,
            blocked: BlockedFlows::default(),
        }
    }
}

impl DormantSession {
    /// What this session holds now.
    pub(crate) fn memory(&self) -> PeerMemory {
        let mut memory = PeerMemory { keys: size_of::<Self>(), ..PeerMemory::default() };
        self.lane.add_memory(&mut memory);
        memory
    }
}
