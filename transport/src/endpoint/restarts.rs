//! Owns what an endpoint does about restarts: it answers lane datagrams of an earlier start of its node, and dials a peer
//! that answers so.
//!
//! What always holds: a notice ends nothing; it makes us dial at once, at most once a second, and only the handshake shows
//! whether there is a new incarnation. A closing node answers nothing.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Endpoint, Limits, Owner};
use crate::allowance::Allowance;
use crate::header::LaneHeader;
use crate::restarted::Notice;
use crate::time::Instant;

/// Remote indexes kept beyond twice as many as there are local ones, before stale ones are looked for.
const ADOPTED_SLACK: usize = 64;

/// How many notices are given: a quarter of a second's worth at once.
pub(super) fn allowance(limits: &Limits) -> Allowance {
    Allowance::new(limits.restarts_told_per_second, Duration::from_secs(1) / 4)
}

impl Endpoint {
    /// A lane datagram came for an association that this node does not know.
    #[cold]
    pub(super) fn on_unknown_association(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &LaneHeader,
        datagram: &[u8],
    ) {
        self.common.counters.dropped_unknown_association += 1;
        if self.is_closing {
            return;
        }
        if let Some(notice) = Notice::answering(header, datagram)
            && self.restarts_told.take(now)
        {
            self.common.counters.restarts_told += 1;
            self.handshakes.out.push_back((from, notice.encode().to_vec()));
        }
    }

    /// A lane datagram names another shard. One that this start of the node has not got was a shard of an earlier start.
    #[cold]
    pub(super) fn on_misdelivered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &LaneHeader,
        datagram: &[u8],
    ) {
        let is_shard = header.steering < self.common.greeting.shards;
        if is_shard || self.owners.contains_key(&header.association) {
            self.common.counters.dropped_misdelivered += 1;
        } else {
            self.on_unknown_association(now, from, header, datagram);
        }
    }

    /// Somebody says that the peer at the other end of an association knows nothing of it.
    #[cold]
    pub(super) fn handle_notice(&mut self, now: Instant, notice: &Notice) {
        let taken = self.heed_notice(now, notice);
        let counters = &mut self.common.counters;
        match taken {
            Some(peer) => {
                counters.restarts_heard += 1;
                counters.datagrams_taken += 1;
                self.make_ready(peer);
            }
            None => counters.dropped_restarted += 1,
        }
        self.forget_retired();
    }

    fn heed_notice(&mut self, now: Instant, notice: &Notice) -> Option<u32> {
        let local = self.by_remote.get(&notice.index)?;
        let &Owner::Peer(index) = self.owners.get(local)? else { return None };
        let peer = &mut self.peers[index as usize];
        (notice.steering == self.common.shard && peer.heed_notice(&mut self.common, now, notice))
            .then_some(index)
    }

    /// Enters associations that are sent on from here on under the index that a notice would name.
    #[cold]
    pub(super) fn enter_adopted(&mut self) {
        let Self { common, by_remote, owners, .. } = self;
        for (remote, local) in common.adopted.drain(..) {
            // A peer draws its own indexes: it must not push out another's.
            let known = by_remote.entry(remote).or_insert(local);
            if !owners.contains_key(known) {
                *known = local;
            }
        }
        if by_remote.len() > 2 * owners.len() + ADOPTED_SLACK {
            by_remote.retain(|_, local| owners.contains_key(local));
        }
    }
}
