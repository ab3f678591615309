//! The node as other threads see it: calls into its shards, statistics, drain and end.

use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use cubed_router::address::{Address, FlowName};
use cubed_router::policy::Policy;
use cubed_runtime::{ExecutorError, ExecutorThread};
use cubed_transport::ChannelId;
use cubed_transport::identity::PublicKey;

use crate::builder::NodeBuilder;
use crate::channel::Directory;
use crate::error::{FlowError, NodeError, ResolveError, Stopped, WaitError};
use crate::node_keep::NodeKeep;
use crate::node_shared::NodeShared;
use crate::outside::{Gate, all};
use crate::presence::{PresenceEvents, PresenceSet};
use crate::queue::Capacity;
use crate::remote::Remote;
use crate::remote_queue::RemoteQueue;
use crate::shard::Shard;
use crate::shared::spread;
use crate::stats::{DrainReport, NodeStats};

/// A running node. Cheap to clone, usable from any thread; its futures run on any executor.
///
/// When the last clone is dropped, the node is asked to stop, and nobody waits for it. To end in order,
/// [`Node::drain`], [`Node::shutdown`] and [`Node::join`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// What a node is made of.
pub(crate) struct NodeParts {
    pub(crate) public_key: PublicKey,
    pub(crate) local_addr: SocketAddr,
    pub(crate) directory: Directory,
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) threads: Vec<(ThreadId, ExecutorThread)>,
    pub(crate) shared: Arc<NodeShared>,
}

struct Inner {
    public_key: PublicKey,
    local_addr: SocketAddr,
    directory: Directory,
    gates: Vec<Arc<Gate>>,
    thread_ids: Vec<ThreadId>,
    /// Locked while somebody waits for the threads, so that all others wait for the same end.
    threads: Mutex<Threads>,
    shared: Arc<NodeShared>,
}

enum Threads {
    Running(Vec<ExecutorThread>),
    Ended(Result<(), NodeError>),
}

impl Node {
    /// Settings of a node to start.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub(crate) fn new(parts: NodeParts) -> Self {
        let (thread_ids, threads) = parts.threads.into_iter().unzip();
        Self {
            inner: Arc::new(Inner {
                public_key: parts.public_key,
                local_addr: parts.local_addr,
                directory: parts.directory,
                gates: parts.gates,
                thread_ids,
                threads: Mutex::new(Threads::Running(threads)),
                shared: parts.shared,
            }),
        }
    }

    /// The key that peers reach this node by.
    pub fn public_key(&self) -> PublicKey {
        self.inner.public_key
    }

    /// Where the node listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// How many shards the node has.
    pub fn shards(&self) -> usize {
        self.inner.gates.len()
    }

    /// Runs a future on a shard, with all that a [`Shard`] can do. Dropped, it is ended there.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the node has stopped before the end, or `future` panicked.
    ///
    /// # Panics
    ///
    /// If there is no shard of this number.
    pub async fn on_shard<T, F, Fut>(&self, shard: usize, future: F) -> Result<T, Stopped>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.inner.gates[shard].call(future).await
    }

    /// The flow `name` of the peer with this key, to send to from any thread. All that is sent to it goes by one shard,
    /// always the same; other flows go by others.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Name`]. Whether the peer is known shows when something is sent.
    pub fn resolve(&self, key: PublicKey, name: &str) -> Result<Remote, ResolveError> {
        self.remote(ChannelId::DEFAULT, key, name)
    }

    /// As [`Node::resolve`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`ResolveError::UnknownChannel`].
    pub fn resolve_on(
        &self,
        channel: &str,
        key: PublicKey,
        name: &str,
    ) -> Result<Remote, ResolveError> {
        self.remote(self.inner.directory.channel(channel)?, key, name)
    }

    fn remote(
        &self,
        channel: ChannelId,
        key: PublicKey,
        name: &str,
    ) -> Result<Remote, ResolveError> {
        let gate = Arc::clone(self.inner.gate_of((channel, key, name)));
        Ok(Remote { gate, channel, key, flow: FlowName::new(name)? })
    }

    /// As [`Node::resolve`], by address text: see [`Shard::resolve_address`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resolve_address(&self, address: &str) -> Result<Remote, ResolveError> {
        let address: Address = address.parse()?;
        let (channel, key) = self.inner.directory.node(&address)?;
        self.remote(channel, key, address.flow().as_str())
    }

    /// Registers the flow `name` on the shard that owns it, with a queue that may be read on any thread and any executor.
    /// For code that does not live on a shard, a server of another kind say.
    ///
    /// # Errors
    ///
    /// [`FlowError`] says which rule the name or the capacity breaks, that the name is taken, or that the node has stopped.
    pub async fn subscribe(
        &self,
        name: &str,
        capacity: Capacity,
    ) -> Result<RemoteQueue, FlowError> {
        let named = name.to_owned();
        let ask = self.inner.gates[0].call(async move |shard: Shard| shard.owner(&named));
        let owner = ask.await.map_err(|Stopped| FlowError::Stopped)?;
        RemoteQueue::open(&self.inner.gates[usize::from(owner)], name.to_owned(), capacity).await
    }

    /// Watches the peer with this key, as [`Shard::watch`] does, on a shard that has a session with it if one has; the events
    /// may be awaited on any thread.
    ///
    /// # Errors
    ///
    /// [`WaitError`] says why it is not watched.
    pub async fn watch(&self, key: PublicKey) -> Result<PresenceEvents, WaitError> {
        // Whoever dialled us has no address but at the shard that it came to.
        let has = move |shard: Shard| async move { shard.has_session_with(&key) };
        let met = self.on_all(has).await;
        let met = met.map_err(|Stopped| WaitError::Stopped)?.into_iter().position(|has| has);
        let gate = met.map_or_else(|| self.inner.gate_of(key), |shard| &self.inner.gates[shard]);
        let call = gate.call(async move |shard: Shard| shard.watch(key));
        call.await.map_err(|Stopped| WaitError::Stopped)?.map_err(WaitError::Resolve)
    }

    /// As [`Node::watch`], by the text of a key or the name that the configuration gives to a peer.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn watch_named(&self, node: &str) -> Result<PresenceEvents, WaitError> {
        let named = || self.inner.directory.0[0].peers.get(node).copied();
        let key = node.parse::<PublicKey>().ok().or_else(named);
        let unknown = || WaitError::Resolve(ResolveError::UnknownNode(node.to_owned()));
        self.watch(key.ok_or_else(unknown)?).await
    }

    /// How all watched peers are. What came and went since an earlier look: [`PresenceSet::arrivals_since`] and
    /// [`PresenceSet::departures_since`].
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn presence(&self) -> Result<PresenceSet, Stopped> {
        let sets = self.on_all(async move |shard: Shard| shard.presence()).await?;
        // Refused in handlers only, and a call is no handler.
        Ok(sets.into_iter().flatten().fold(PresenceSet::default(), PresenceSet::plus))
    }

    /// Makes a peer known, or has it dialled there from now on: best address first, at most eight are kept. It may have a
    /// session from now on, whatever the policy; what it may do in it, the policy says. All shards see it within a turn.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Peer`] when the node knows as many peers as it may.
    pub fn add_peer(&self, key: PublicKey, addresses: &[SocketAddr]) -> Result<(), ResolveError> {
        self.inner.shared.add_peer(ChannelId::DEFAULT, key, addresses)
    }

    /// As [`Node::add_peer`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`ResolveError::UnknownChannel`].
    pub fn add_peer_on(
        &self,
        channel: &str,
        key: PublicKey,
        addresses: &[SocketAddr],
    ) -> Result<(), ResolveError> {
        self.inner.shared.add_peer(self.inner.directory.channel(channel)?, key, addresses)
    }

    /// Forgets a peer; whether it was known. Within a turn of each shard its sessions end, and with them what was under way as
    /// [`Outcome::Unknown`](crate::Outcome::Unknown). What waited for a session ends as
    /// [`Outcome::PeerLost`](crate::Outcome::PeerLost), requests likewise. Who waits for room or for a dial is told
    /// [`SendError::UnknownPeer`](crate::SendError::UnknownPeer), as is whoever sends to a [`Destination`](crate::Destination) of before:
    /// resolve it anew, which makes the peer known again. [`PresenceEvents`] of it end.
    ///
    /// If the policy or the keep knows it too, all that stays, and the peer is one that nobody here named.
    pub fn forget_peer(&self, key: PublicKey) -> bool {
        self.inner.shared.forget_peer(ChannelId::DEFAULT, key)
    }

    /// As [`Node::forget_peer`], on this channel.
    ///
    /// # Errors
    ///
    /// [`ResolveError::UnknownChannel`].
    pub fn forget_peer_on(&self, channel: &str, key: PublicKey) -> Result<bool, ResolveError> {
        Ok(self.inner.shared.forget_peer(self.inner.directory.channel(channel)?, key))
    }

    /// Replaces the policy on every shard; all obey it when this ends.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn set_policy(&self, policy: Policy) -> Result<(), Stopped> {
        self.replace_policy(ChannelId::DEFAULT, policy).await
    }

    /// As [`Node::set_policy`], on this channel.
    ///
    /// # Errors
    ///
    /// [`ResolveError::UnknownChannel`], [`ResolveError::Stopped`].
    pub async fn set_policy_on(&self, channel: &str, policy: Policy) -> Result<(), ResolveError> {
        let channel = self.inner.directory.channel(channel)?;
        let replaced = self.replace_policy(channel, policy).await;
        replaced.map_err(|Stopped| ResolveError::Stopped)
    }

    async fn replace_policy(&self, channel: ChannelId, policy: Policy) -> Result<(), Stopped> {
        self.inner.shared.set_policy(channel, policy);
        self.on_all(async move |shard: Shard| shard.follow()).await.map(drop)
    }

    /// Runs a call on every shard at once; the results by number.
    async fn on_all<T, F, Fut>(&self, call: F) -> Result<Vec<T>, Stopped>
    where
        T: Send + 'static,
        F: Fn(Shard) -> Fut + Send + Clone + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let calls = self.inner.gates.iter().map(|gate| gate.call(call.clone()));
        all(calls.collect()).await
    }

    /// The keep of the default channel: whom it knows, who waits, what becomes of them.
    pub fn keep(&self) -> NodeKeep {
        NodeKeep::new(Arc::clone(&self.inner.shared), ChannelId::DEFAULT)
    }

    /// As [`Node::keep`], of this channel.
    ///
    /// # Errors
    ///
    /// [`ResolveError::UnknownChannel`].
    pub fn keep_on(&self, channel: &str) -> Result<NodeKeep, ResolveError> {
        let channel = self.inner.directory.channel(channel)?;
        Ok(NodeKeep::new(Arc::clone(&self.inner.shared), channel))
    }

    /// What the node has counted.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn stats(&self) -> Result<NodeStats, Stopped> {
        let shards = self.on_all(async move |shard: Shard| shard.stats()).await?;
        Ok(NodeStats { shards: shards.into_iter().flatten().collect() })
    }

    /// Takes no more messages, waits until each acknowledged one has an outcome or `timeout` has
    /// passed, then ends all sessions; what had no outcome by then is *unknown*. Messages of peers that one shard had passed on to
    /// another are waited for as well.
    ///
    /// The report is exact: every acknowledged message the node was ever given is in it once. The node
    /// runs on, without sessions, until [`Node::shutdown`].
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn drain(&self, timeout: Duration) -> Result<DrainReport, Stopped> {
        let drain = move |shard: Shard| async move { shard.drain(timeout).await };
        let reports = self.on_all(drain).await?;
        Ok(reports.into_iter().fold(DrainReport::default(), DrainReport::plus))
    }

    /// Asks the node to stop: peers are told, tasks that wait are told, then the threads end. Returns at
    /// once.
    pub fn shutdown(&self) {
        self.inner.stop();
    }

    /// Blocks until the node has stopped, by [`Node::shutdown`] or by a failure.
    ///
    /// # Errors
    ///
    /// [`NodeError`] says why it stopped, if not because it was asked to.
    pub fn join(&self) -> Result<(), NodeError> {
        if self.inner.thread_ids.contains(&thread::current().id()) {
            return Err(NodeError::JoinedFromShard);
        }
        let mut running = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = match &mut *running {
            Threads::Ended(result) => return result.clone(),
            Threads::Running(threads) => std::mem::take(threads),
        };
        let mut result = Ok(());
        for (thread, shard) in threads.into_iter().zip(0..) {
            result = result.and(thread.join().map_err(|error| node_error(shard, error)));
        }
        let result = self.inner.shared.fault().map_or(result, Err);
        *running = Threads::Ended(result.clone());
        result
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, at) = (self.inner.public_key.fingerprint(), self.inner.local_addr);
        write!(f, "Node({key} at {at})")
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.stop();
    }

    /// The shard that serves this value, always the same.
    fn gate_of(&self, value: impl Hash) -> &Arc<Gate> {
        &self.gates[usize::from(spread(value, self.gates.len() as u8))]
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn node_error(shard: u8, error: ExecutorError) -> NodeError {
    match error {
        ExecutorError::Panicked { message } => NodeError::Panicked { shard, message },
        other => NodeError::Machine(other.to_string()),
    }
}
