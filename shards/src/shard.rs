//! The shard as its own code sees it: flows to receive on, destinations to send to, tasks and time.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cubed_router::address::{Address, FlowName};
use cubed_router::policy::Policy;
use cubed_runtime::{Sleep, Timers};
use cubed_transport::SendError;
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;

use crate::destination::Destination;
use crate::error::{FlowError, ResolveError};
use crate::flow_builder::FlowBuilder;
use crate::limits::DRAIN_CHECK_INTERVAL;
use crate::node::node_key;
use crate::presence::{PresenceEvents, PresenceSet};
use crate::shared::{Shared, State};
use crate::stats::{DrainReport, ShardStats};
use crate::tasks::Task;

/// A handle to the shard it was made on. Cheap to clone; stays on its thread.
///
/// Tasks of a shard must be woken on that shard: await Cubed's futures and those of other local tasks
/// here, and use [`crate::Node`] to reach in from other threads.
#[derive(Clone)]
pub struct Shard {
    pub(crate) shared: Rc<Shared>,
}

impl Shard {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared }
    }

    /// The shard's number, from 0.
    pub fn index(&self) -> u8 {
        self.shared.facts.index
    }

    /// How many shards the node has.
    pub fn shards(&self) -> u8 {
        self.shared.facts.shards
    }

    /// The node's public key.
    pub fn public_key(&self) -> PublicKey {
        self.shared.facts.public_key
    }

    /// The shard of this node that owns the flow `name`: others send there unless told otherwise.
    pub fn owner(&self, name: &str) -> u8 {
        self.shared.owner(name)
    }

    /// Begins to register a flow that others may send to, as far as the policy lets them.
    pub fn flow(&self, name: &str) -> FlowBuilder {
        FlowBuilder::new(Rc::clone(&self.shared), name)
    }

    /// Removes a flow; whether there was one. Later messages are refused with
    /// [`crate::Refusal::NoSuchFlow`].
    ///
    /// # Errors
    ///
    /// [`FlowError::InHandler`] from within an inline handler.
    pub fn remove_flow(&self, name: &str) -> Result<bool, FlowError> {
        let mut state = self.shared.try_state().ok_or(FlowError::InHandler)?;
        Ok(state.receiver.flows.remove(name))
    }

    /// Makes a peer known, or gives it another address. It may have a session from now on, whatever the
    /// policy; what it may do in it, the policy says.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Send`] when the node has as many peers as its limits allow,
    /// [`ResolveError::InHandler`] from within an inline handler.
    pub fn add_peer(&self, key: PublicKey, address: SocketAddr) -> Result<(), ResolveError> {
        let mut state = self.shared.try_state().ok_or(ResolveError::InHandler)?;
        let added = state.endpoint.add_peer(key, Some(address));
        added.map_err(ResolveError::Send)?;
        state.receiver.known.insert(key);
        Ok(())
    }

    /// The flow `name` of the peer with this key. Dials nobody; sending does.
    ///
    /// The peer may have a session from now on, whatever the policy; what it may do in it, the policy
    /// says.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] says which rule the name breaks or which limit is reached.
    pub fn resolve(&self, key: PublicKey, name: &str) -> Result<Destination, ResolveError> {
        FlowName::check(name)?;
        let mut state = self.shared.try_state().ok_or(ResolveError::InHandler)?;
        let peer = match state.endpoint.find_peer(&key) {
            Some(peer) => peer,
            None => state.endpoint.add_peer(key, None).map_err(ResolveError::Send)?,
        };
        state.receiver.known.insert(key);
        let flow = state.endpoint.open_flow(peer, name).map_err(ResolveError::Send)?;
        drop(state);
        Ok(Destination::new(Rc::clone(&self.shared), flow))
    }

    /// As [`Shard::resolve`], by address text: `node//flow.name`, where `node` is a public key or a name
    /// given by [`crate::NodeBuilder::peer_named`].
    ///
    /// # Errors
    ///
    /// As there, and when the text is no address, names nobody known here, or uses the channel or unit
    /// level, by which this version does not route.
    pub fn resolve_address(&self, address: &str) -> Result<Destination, ResolveError> {
        let address: Address = address.parse()?;
        let key = node_key(&address, self.public_key(), &self.shared.facts.names)?;
        self.resolve(key, address.flow().as_str())
    }

    /// Watches the peer with this key: it is kept connected, and each change from up to down and back is told, *down*
    /// `down_after` after its last word and *up* about a second after its return. See [`PresenceEvents`].
    ///
    /// # Errors
    ///
    /// [`ResolveError::Send`] when there is no room for another peer or the node is closing; [`ResolveError::InHandler`].
    pub fn watch(&self, key: PublicKey) -> Result<PresenceEvents, ResolveError> {
        let now = self.now();
        let mut state = self.shared.try_state().ok_or(ResolveError::InHandler)?;
        let State { endpoint, receiver, watchers, .. } = &mut *state;
        let peer = match endpoint.find_peer(&key) {
            Some(peer) => peer,
            None => endpoint.add_peer(key, None).map_err(ResolveError::Send)?,
        };
        receiver.known.insert(key);
        endpoint.watch(now, peer).map_err(ResolveError::Send)?;
        let presence = endpoint.presence(peer).ok_or(ResolveError::Send(SendError::UnknownPeer))?;
        Ok(watchers.add(presence))
    }

    /// How the peers that this shard watches are; `None` from within an inline handler.
    pub fn presence(&self) -> Option<PresenceSet> {
        let state = self.shared.try_state()?;
        Some(PresenceSet::new(state.endpoint.watched().collect()))
    }

    /// Replaces the policy. Bindings of flows are asked for again; sessions stay.
    ///
    /// # Errors
    ///
    /// [`FlowError::InHandler`] from within an inline handler.
    pub fn set_policy(&self, policy: Policy) -> Result<(), FlowError> {
        let mut state = self.shared.try_state().ok_or(FlowError::InHandler)?;
        state.receiver.policy = Arc::new(policy);
        state.receiver.policy_swaps = state.receiver.policy_swaps.wrapping_add(1);
        Ok(())
    }

    /// Runs a future as a task of this shard. A panic in it ends the task only and reaches whoever
    /// awaits the handle. When the node stops, tasks that have not ended by themselves are dropped.
    pub fn spawn_local<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        self.shared.tasks.spawn(future).1
    }

    /// Lets the socket and every other ready task have their turn. For loops that send or compute long
    /// without awaiting anything else.
    pub async fn yield_now(&self) {
        cubed_runtime::yield_now().await;
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let deadline = self.shared.deadline(duration);
        Timers::sleep_until(&self.shared.timers, deadline.as_nanos())
    }

    /// Waits until this instant.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Timers::sleep_until(&self.shared.timers, deadline.as_nanos())
    }

    /// The time, read from the clock.
    pub fn now(&self) -> Instant {
        self.shared.read_clock()
    }

    /// What this shard has counted; `None` from within an inline handler.
    pub fn stats(&self) -> Option<ShardStats> {
        ShardStats::read(&self.shared)
    }

    /// Asks the whole node to stop, like [`crate::Node::shutdown`].
    pub fn shutdown(&self) {
        self.shared.stop();
    }

    /// See [`crate::Node::drain`].
    pub(crate) async fn drain(&self, timeout: Duration) -> DrainReport {
        let deadline = self.shared.deadline(timeout);
        if let Some(mut state) = self.shared.try_state() {
            state.endpoint.close_to_new();
        }
        while !self.is_settled() && self.now() < deadline && !self.shared.is_stopping() {
            self.sleep(DRAIN_CHECK_INTERVAL).await;
        }
        // No inline handler runs while a task does, so the state is free.
        let mut state = self.shared.state.borrow_mut();
        state.endpoint.close();
        let outbox = self.shared.outbox.borrow();
        let unsent = outbox.acknowledged_waiting() + outbox.counters().acknowledged_dropped;
        DrainReport::new(state.endpoint.tally(), unsent)
    }

    /// Whether every acknowledged message has an outcome.
    fn is_settled(&self) -> bool {
        let Some(state) = self.shared.try_state() else {
            return false;
        };
        state.endpoint.tally().pending == 0 && self.shared.outbox.borrow().is_empty()
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({} at {})", self.index(), self.shared.facts.local_addr)
    }
}
