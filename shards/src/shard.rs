//! The shard as its own code sees it: flows to receive on, destinations to send to, tasks and time.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use cubed_router::address::{Address, FlowName};
use cubed_router::policy::Policy;
use cubed_runtime::{Sleep, Timers};
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, FlowId, SendError};

use crate::application::Receiver;
use crate::destination::Destination;
use crate::error::{FlowError, ResolveError};
use crate::flow_builder::FlowBuilder;
use crate::follow::follow;
use crate::handed::HERE;
use crate::limits::DRAIN_CHECK_INTERVAL;
use crate::presence::{PresenceEvents, PresenceSet};
use crate::shared::{Shared, State};
use crate::stats::{DrainReport, ShardStats, plus};
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
    pub fn count(&self) -> u8 {
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

    /// Whether this shard owns the flow `name`.
    pub fn owns(&self, name: &str) -> bool {
        self.owner(name) == self.index()
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
        self.remove_flow_on("", name)
    }

    /// As [`Shard::remove_flow`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`FlowError::UnknownChannel`].
    pub fn remove_flow_on(&self, channel: &str, name: &str) -> Result<bool, FlowError> {
        let unknown = |_| FlowError::UnknownChannel(channel.to_owned());
        let channel = self.shared.facts.directory.channel(channel).map_err(unknown)?;
        let mut state = self.shared.try_state().ok_or(FlowError::InHandler)?;
        Ok(state.receiver.flows.remove(channel, name))
    }

    /// Makes a peer known to the whole node, or has it dialled there from now on. It may have a session, whatever the
    /// policy; what it may do in it, the policy says.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Peer`] when the node knows as many peers as it may.
    pub fn add_peer(&self, key: PublicKey, address: SocketAddr) -> Result<(), ResolveError> {
        self.add_peer_on("", key, address)
    }

    /// As [`Shard::add_peer`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`ResolveError::UnknownChannel`].
    pub fn add_peer_on(
        &self,
        channel: &str,
        key: PublicKey,
        address: SocketAddr,
    ) -> Result<(), ResolveError> {
        let channel = self.shared.facts.directory.channel(channel)?;
        self.shared.node().add_peer(channel, key, &[address])
    }

    /// The flow `name` of the peer with this key. Dials nobody; sending does.
    ///
    /// With the node's own key it is a flow of this node, on whichever shard has it: messages go there without the network and
    /// without asking the policy, with the same services and outcomes. A shard keeps each such name until the node ends, 65,536 at
    /// most, those that its peers reach by it on other shards included: use one flow for many clients rather than a name for each.
    ///
    /// The peer may have a session from now on, whatever the policy; what it may do in it, the policy
    /// says.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] says which rule the name breaks or which limit is reached.
    pub fn resolve(&self, key: PublicKey, name: &str) -> Result<Destination, ResolveError> {
        self.resolve_in(ChannelId::DEFAULT, key, name)
    }

    /// As [`Shard::resolve`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`ResolveError::UnknownChannel`].
    pub fn resolve_on(
        &self,
        channel: &str,
        key: PublicKey,
        name: &str,
    ) -> Result<Destination, ResolveError> {
        self.resolve_in(self.shared.facts.directory.channel(channel)?, key, name)
    }

    pub(crate) fn resolve_in(
        &self,
        channel: ChannelId,
        key: PublicKey,
        name: &str,
    ) -> Result<Destination, ResolveError> {
        FlowName::check(name)?;
        let mut state = self.shared.try_state().ok_or(ResolveError::InHandler)?;
        if key == self.shared.facts.directory.0[usize::from(channel.0)].own {
            let way = state.receiver.local.open(channel, &FlowName::new(name)?);
            let flow = FlowId { peer: HERE, alias: way.map_err(ResolveError::Send)? };
            drop(state);
            return Ok(Destination::new(Rc::clone(&self.shared), flow));
        }
        self.catch_up(&mut state);
        let peer = state.find_or_add_peer(channel, key)?;
        let flow = state.endpoint.open_flow(peer, name).map_err(ResolveError::Send)?;
        drop(state);
        Ok(Destination::new(Rc::clone(&self.shared), flow))
    }

    /// As [`Shard::resolve`], by address text: `channel/node//flow.name`, where `node` is a public key or a name given by
    /// [`crate::NodeBuilder::peer_named`] or [`crate::NodeBuilder::peer_on`]; without a channel, `node//flow.name`.
    ///
    /// # Errors
    ///
    /// As there, and when the text is no address, names nobody known here, or uses the unit level, by which this version
    /// does not route.
    pub fn resolve_address(&self, address: &str) -> Result<Destination, ResolveError> {
        let address: Address = address.parse()?;
        let (channel, key) = self.shared.facts.directory.node(&address)?;
        self.resolve_in(channel, key, address.flow().as_str())
    }

    /// Watches the peer with this key: it is kept connected, and each change from up to down and back is told, *down*
    /// `down_after` after its last word and *up* about a second after its return. See [`PresenceEvents`]. One of which this shard
    /// knows no address and has never had a session is only noticed when it dials this shard.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Send`] when there is no room for another peer or the node is closing; [`ResolveError::InHandler`].
    pub fn watch(&self, key: PublicKey) -> Result<PresenceEvents, ResolveError> {
        let now = self.now();
        let mut state = self.shared.try_state().ok_or(ResolveError::InHandler)?;
        self.catch_up(&mut state);
        let peer = state.find_or_add_peer(ChannelId::DEFAULT, key)?;
        let State { endpoint, watchers, .. } = &mut *state;
        endpoint.watch(now, peer).map_err(ResolveError::Send)?;
        let presence = endpoint.presence(peer).ok_or(ResolveError::Send(SendError::UnknownPeer))?;
        Ok(watchers.add(presence))
    }

    /// Whether this shard has a session with the peer; not from within an inline handler.
    pub(crate) fn has_session_with(&self, key: &PublicKey) -> bool {
        self.shared.try_state().is_some_and(|state| {
            let peer = state.endpoint.find_peer_on(ChannelId::DEFAULT, key);
            peer.is_some_and(|peer| state.endpoint.peer_name(peer).is_some())
        })
    }

    /// How the peers that this shard watches are; `None` from within an inline handler.
    pub fn presence(&self) -> Option<PresenceSet> {
        let state = self.shared.try_state()?;
        Some(PresenceSet::new(state.endpoint.watched().collect()))
    }

    /// Replaces the policy of the whole node. Bindings of flows are asked for again; sessions with keys that nothing here
    /// knows any more (neither policy, nor configuration, nor keep) end. The other shards hear of it within their turn.
    ///
    /// # Errors
    ///
    /// [`FlowError::InHandler`] from within an inline handler.
    pub fn set_policy(&self, policy: Policy) -> Result<(), FlowError> {
        self.set_policy_on("", policy)
    }

    /// As [`Shard::set_policy`], on this channel.
    ///
    /// # Errors
    ///
    /// As there, and [`FlowError::UnknownChannel`].
    pub fn set_policy_on(&self, channel: &str, policy: Policy) -> Result<(), FlowError> {
        let unknown = |_| FlowError::UnknownChannel(channel.to_owned());
        let channel = self.shared.facts.directory.channel(channel).map_err(unknown)?;
        let mut state = self.shared.try_state().ok_or(FlowError::InHandler)?;
        self.shared.node().set_policy(channel, policy);
        follow(&self.shared, &mut state);
        Ok(())
    }

    /// Obeys what has changed for all shards of the node.
    pub(crate) fn follow(&self) {
        // No inline handler runs while a call does, so the state is free.
        self.catch_up(&mut self.shared.state.borrow_mut());
    }

    /// Obeys all that has changed. Whoever names a peer does so first: what was forgotten before must not be forgotten afterwards.
    fn catch_up(&self, state: &mut State) {
        while follow(&self.shared, state) {}
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

    /// Waits so long, counted from this call. It ends in the shard's first turn after that, never before: who stands still in a handler
    /// makes it late. Dropped, it waits for nothing.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let deadline = self.shared.deadline(duration);
        Timers::sleep_until(&self.shared.timers, deadline.as_nanos())
    }

    /// As [`Shard::sleep`], until an instant of [`Shard::now`]'s clock. One that has passed is not waited for.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Timers::sleep_until(&self.shared.timers, deadline.as_nanos())
    }

    /// The time, read from the monotonic clock of this machine, which all shards and nodes on it share. Nanoseconds; of use only as a
    /// distance to other readings.
    pub fn now(&self) -> Instant {
        self.shared.read_clock()
    }

    /// What this shard has counted; `None` from within an inline handler.
    pub fn stats(&self) -> Option<ShardStats> {
        ShardStats::read(&self.shared)
    }

    /// Asks the whole node to stop, like [`crate::Node::shutdown`].
    pub fn shutdown(&self) {
        self.shared.node().stop();
    }

    /// See [`crate::Node::drain`].
    pub(crate) async fn drain(&self, timeout: Duration) -> DrainReport {
        let deadline = self.shared.deadline(timeout);
        let mut passed_on = Vec::new();
        if let Some(mut state) = self.shared.try_state() {
            state.endpoint.close_to_new();
            state.receiver.local.close_to_new();
            // Peers go on sending meanwhile: what comes from here on is like what is on the wire at the end.
            passed_on = state.receiver.local.passed.noted();
        }
        while !self.is_settled(&passed_on) && self.now() < deadline && !self.shared.is_stopping() {
            self.sleep(DRAIN_CHECK_INTERVAL).await;
        }
        // No inline handler runs while a task does, so the state is free.
        let mut state = self.shared.state.borrow_mut();
        state.endpoint.close();
        let Receiver { local, waits, .. } = &mut state.receiver;
        local.close(waits);
        let tally = plus(state.endpoint.tally(), state.receiver.local.tally());
        let outbox = self.shared.outbox.borrow();
        let unsent = outbox.acknowledged_waiting() + outbox.counters().acknowledged_dropped;
        DrainReport::new(tally, unsent)
    }

    /// Whether every acknowledged message has an outcome, and of those of peers the ones that had been `passed_on`.
    fn is_settled(&self, passed_on: &[u64]) -> bool {
        let Some(state) = self.shared.try_state() else {
            return false;
        };
        let local = &state.receiver.local;
        let pending = state.endpoint.tally().pending + local.tally().pending;
        pending == 0
            && local.passed.is_answered(passed_on)
            && self.shared.outbox.borrow().is_empty()
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({} at {})", self.index(), self.shared.facts.local_addr)
    }
}
