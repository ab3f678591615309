//! How many lanes of a node send to each peer, over all its shards: each lane then claims its part of the path.
//!
//! Always holds: a shard looks once in [`LOOK_INTERVAL`] while it works, never per message; what a shard said counts for
//! two intervals, so a shard that sleeps is not waited for; a peer that nobody sends to is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, Endpoint};

use crate::limits::LOOK_INTERVAL;

type Key = (ChannelId, PublicKey);

/// What the shards of a node said.
#[derive(Default)]
pub(crate) struct LaneCounts {
    peers: Mutex<HashMap<Key, Vec<Said>>>,
}

/// How many lanes of one shard sent to a peer.
#[derive(Clone, Copy)]
struct Said {
    shard: u8,
    lanes: u16,
    at: Instant,
}

impl Said {
    fn counts(&self, now: Instant) -> bool {
        self.at + 2 * LOOK_INTERVAL > now
    }
}

impl LaneCounts {
    /// Says which peers `shard` sent to of late; returns how many lanes of the node send to each of them.
    pub(crate) fn exchange(
        &self,
        now: Instant,
        shard: u8,
        sent: HashMap<Key, u16>,
    ) -> Vec<(Key, u16)> {
        let mut peers = self.lock();
        if peers.len() > 2 * sent.len() {
            peers.retain(|_, said| said.iter().any(|said| said.counts(now)));
        }
        let totals = sent.into_iter().map(|(key, lanes)| {
            let said = peers.entry(key).or_default();
            said.retain(|said| said.shard != shard && said.counts(now));
            said.push(Said { shard, lanes, at: now });
            (key, said.iter().map(|said| said.lanes).fold(0, u16::saturating_add))
        });
        totals.collect()
    }

    /// A panic while the lock was held leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Said>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the node which peers this shard sends to, and the endpoint how many lanes do.
#[cold]
pub(crate) fn count_lanes(counts: &LaneCounts, shard: u8, endpoint: &mut Endpoint, now: Instant) {
    let sent = endpoint.take_sending();
    if sent.is_empty() {
        return;
    }
    for ((channel, key), lanes) in counts.exchange(now, shard, sent) {
        if let Some(peer) = endpoint.find_peer_on(channel, &key) {
            endpoint.set_lanes_sending(peer, lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every lane that sends counts, wherever it is, and none longer than it does.
    use super::*;

    const ALICE: Key = (ChannelId::DEFAULT, PublicKey::from_bytes([1; 32]));
    const BOB: Key = (ChannelId::DEFAULT, PublicKey::from_bytes([2; 32]));

    fn seconds(count: u64) -> Instant {
        Instant::from_nanos(count * 1_000_000_000)
    }

    #[test]
    fn lanes_of_all_shards_add_up_by_peer() {
        let counts = LaneCounts::default();
        let one = HashMap::from([(ALICE, 2), (BOB, 1)]);
        let mut totals = counts.exchange(seconds(5), 0, one.clone());
        totals.sort_unstable();
        assert_eq!(totals, [(ALICE, 2), (BOB, 1)]);
        assert_eq!(counts.exchange(seconds(5), 1, HashMap::from([(ALICE, 4)])), [(ALICE, 6)]);
        // What a shard says takes the place of what it said before.
        assert_eq!(counts.exchange(seconds(6), 1, HashMap::from([(ALICE, 1)])), [(ALICE, 3)]);
    }

    #[test]
    fn a_shard_that_says_nothing_more_does_not_count() {
        let counts = LaneCounts::default();
        counts.exchange(seconds(5), 0, HashMap::from([(ALICE, 3), (BOB, 1)]));
        assert_eq!(counts.exchange(seconds(7), 1, HashMap::from([(ALICE, 1)])), [(ALICE, 1)]);
        counts.exchange(seconds(20), 1, HashMap::new());
        assert!(counts.lock().is_empty());
    }
}
