//! What the shards of one node share: the word to stop, why it ended, trust, peers, and the log of their changes.
//!
//! Always holds: nothing here is touched per message; whatever ends one shard stops all of them, and the last one to end
//! closes what the node has open.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cubed_router::policy::Policy;
use cubed_runtime::DriverWaker;
use cubed_transport::ChannelId;
use cubed_transport::identity::PublicKey;

use crate::changes::{Change, Changes};
use crate::error::{NodeError, ResolveError};
use crate::lane_counts::LaneCounts;
use crate::registry::Registry;
use crate::trust::ChannelTrust;

/// What all shards of a node, and its handles, know of it.
pub(crate) struct NodeShared {
    /// By channel, the default one first.
    pub(crate) channels: Vec<Arc<ChannelTrust>>,
    pub(crate) changes: Changes,
    pub(crate) lane_counts: LaneCounts,
    /// Which flows are registered on which shard.
    pub(crate) registry: Arc<Registry>,
    wakers: Vec<OnceLock<DriverWaker>>,
    stop: AtomicBool,
    fault: Mutex<Option<NodeError>>,
    /// Shards that have not ended.
    running: AtomicUsize,
}

impl NodeShared {
    pub(crate) fn new(shards: usize, channels: Vec<Arc<ChannelTrust>>) -> Self {
        Self {
            channels,
            changes: Changes::default(),
            lane_counts: LaneCounts::default(),
            registry: Arc::default(),
            wakers: (0..shards).map(|_| OnceLock::new()).collect(),
            stop: AtomicBool::new(false),
            fault: Mutex::new(None),
            running: AtomicUsize::new(shards),
        }
    }

    /// Tells how shard `index` is woken. A word to stop that came before is found by its first look.
    pub(crate) fn set_waker(&self, index: u8, waker: DriverWaker) {
        // Each shard is set up once.
        let _ = self.wakers[usize::from(index)].set(waker);
    }

    /// Adds changes to the log and has every shard look.
    #[cold]
    pub(crate) fn tell(&self, changes: impl IntoIterator<Item = Change>) {
        self.changes.add(changes);
        self.wake_all();
    }

    /// Makes a peer known, with these addresses before those known, best first.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Peer`] when as many are known as may be.
    pub(crate) fn add_peer(
        &self,
        channel: ChannelId,
        key: PublicKey,
        addresses: &[SocketAddr],
    ) -> Result<(), ResolveError> {
        let trust = &self.channels[usize::from(channel.0)];
        let added = trust.change_peers(|peers| {
            peers.add(key)?;
            let from_worst = addresses.iter().rev();
            from_worst.into_iter().try_for_each(|address| peers.prefer_address(&key, *address))
        });
        added.map_err(ResolveError::Peer)?;
        self.tell([Change::Peer(channel, key)]);
        Ok(())
    }

    /// Forgets a peer; whether it was known. All that there is with it ends, unless the policy or the keep knows it.
    pub(crate) fn forget_peer(&self, channel: ChannelId, key: PublicKey) -> bool {
        let trust = &self.channels[usize::from(channel.0)];
        let was_known = trust.change_peers(|peers| peers.remove(&key)).is_some();
        if was_known {
            self.tell([Change::Forgotten(channel, key)]);
        }
        was_known
    }

    /// Replaces the policy of a channel.
    pub(crate) fn set_policy(&self, channel: ChannelId, policy: Policy) {
        self.channels[usize::from(channel.0)].set_policy(policy);
        self.tell([Change::Policy(channel)]);
    }

    /// Asks all shards to stop.
    pub(crate) fn stop(&self) {
        if !self.stop.swap(true, Ordering::AcqRel) {
            self.wake_all();
        }
    }

    /// Asks all shards to stop, with the reason for whoever joins. The first reason is kept.
    pub(crate) fn fail(&self, error: NodeError) {
        let mut fault = self.lock_fault();
        if fault.is_none() {
            tracing::error!(%error, "node stops");
            *fault = Some(error);
        }
        drop(fault);
        self.stop();
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn fault(&self) -> Option<NodeError> {
        self.lock_fault().clone()
    }

    fn wake_all(&self) {
        for waker in self.wakers.iter().filter_map(OnceLock::get) {
            waker.wake();
        }
    }

    /// A panic while the lock was held leaves nothing half done here.
    fn lock_fault(&self) -> MutexGuard<'_, Option<NodeError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One shard has ended, however.
    pub(crate) fn on_shard_end(&self) {
        self.stop();
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            for channel in &self.channels {
                channel.close();
            }
        }
    }
}
