//! The body of a shard's thread: its own ring, endpoint and pump from what the node's start hands over.
//!
//! Always holds: exactly one report is made to whoever starts the node; however the thread ends, the other shards stop too;
//! the port's sockets close when the last of them has ended, so none takes another's place meanwhile.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, ThreadId};

use cubed_runtime::{
    Clock, DriverWaker, GroupHold, GroupMember, HandOff, Machine, Port, SpinPolicy, Spinner,
    SystemDriver, TaskError, spawn_local, yield_now,
};
use cubed_transport::identity::Identity;
use cubed_transport::time::Instant;
use cubed_transport::{Config, Endpoint};

use crate::application::Receiver;
use crate::bodies::ReplyBodies;
use crate::builder::StartOutput;
use crate::channel::Directory;
use crate::entropy::SystemEntropy;
use crate::error::{NodeError, StartError};
use crate::handed::Handed;
use crate::limits::FAREWELL_YIELDS;
use crate::local::{Local, LocalFacts};
use crate::node_shared::NodeShared;
use crate::outbox::Outbox;
use crate::outside::{Calls, Inlet};
use crate::presence::Watchers;
use crate::pump::{Pump, end_waits};
use crate::shard::Shard;
use crate::shared::{Facts, Shared, State};
use crate::strays::Stray;
use crate::trust::ShardTrust;
use crate::waits::Waits;

/// Everything a shard is made of, on its way to its thread.
pub(crate) struct Seed {
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Config,
    pub(crate) directory: Directory,
    pub(crate) spin: SpinPolicy,
    pub(crate) machine: Machine,
    pub(crate) sockets: GroupMember,
    pub(crate) hold: GroupHold,
    pub(crate) entropy: SystemEntropy,
    pub(crate) inlet: Inlet,
    pub(crate) strays: HandOff<Stray>,
    pub(crate) handoff: HandOff<Handed>,
    pub(crate) node: Arc<NodeShared>,
}

/// What a shard says once it listens.
pub(crate) struct Started {
    pub(crate) index: u8,
    pub(crate) waker: DriverWaker,
    pub(crate) thread: ThreadId,
}

/// The starter waits for one report of each shard; if it is gone, so is everybody who could use the node.
pub(crate) type Report = Sender<Result<Started, StartError>>;

/// Dropped when a shard has ended, be it by a panic.
struct End {
    node: Arc<NodeShared>,
    _hold: GroupHold,
}

impl Drop for End {
    fn drop(&mut self) {
        self.node.on_shard_end();
    }
}

/// The body of a shard's thread.
pub(crate) async fn run<F, Fut>(seed: Seed, report: Report, function: F)
where
    F: FnOnce(Shard) -> Fut + 'static,
    Fut: Future + 'static,
    Fut::Output: StartOutput,
{
    let _end = End { node: Arc::clone(&seed.node), _hold: seed.hold.clone() };
    let node = Arc::clone(&seed.node);
    let (shared, pump) = match set_up(seed) {
        Ok(parts) => parts,
        Err(error) => return tell_starter(&report, Err(error)),
    };
    let (index, waker) = (shared.facts.index, pump.waker());
    node.set_waker(index, waker.clone());
    spawn_start_function(&shared, function);
    // The function begins with the first round; whoever watches it hears of its end in the next ones.
    for _ in 0..4 {
        yield_now().await;
    }
    if let Some(error) = node.fault() {
        end_tasks(&shared).await;
        return tell_starter(&report, Err(start_error(error)));
    }
    let thread = thread::current().id();
    tell_starter(&report, Ok(Started { index, waker, thread }));
    // Nothing of the starter's is kept by a node that runs.
    drop(report);
    match spawn_local(pump.run()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => node.fail(NodeError::Machine(error.to_string())),
        Err(TaskError::Panicked { message }) => shared.fail_by_panic(message),
        Err(TaskError::Cancelled) => node.fail(NodeError::Machine("the pump was lost".to_owned())),
    }
    end_tasks(&shared).await;
}

/// Ends every wait, then every task that goes on all the same.
async fn end_tasks(shared: &Shared) {
    end_waits(shared);
    shared.tasks.cancel_all();
    for _ in 0..FAREWELL_YIELDS {
        yield_now().await;
    }
    // Handlers may own what owns this shard, which owns them. What they drop may look at the state.
    let flows = std::mem::take(&mut shared.state.borrow_mut().receiver.flows);
    drop(flows);
}

/// Makes driver, endpoint and pump on the shard's thread.
fn set_up(seed: Seed) -> Result<(Rc<Shared>, Pump<SystemDriver>), StartError> {
    let Seed { config, sockets, node, .. } = seed;
    let socket_buffers = sockets.main.buffers();
    let local_addr: SocketAddr = sockets.main.local_addr();
    let own = sockets.own.as_ref();
    let source = own.map_or(Port::Shared, |own| Port::Member(own.member));
    let source_addr = own.map(|own| own.socket.local_addr());
    let driver = SystemDriver::of_member(seed.machine.driver, sockets, &seed.hold);
    let driver = driver.map_err(StartError::Driver)?;
    let local = LocalFacts {
        index: config.shard,
        placement_salt: config.placement_salt,
        registry: Arc::clone(&node.registry),
        message_bytes_max: config.limits.message_bytes_max,
        requests_max: config.limits.requests_max,
        keys: seed.directory.0.iter().map(|channel| channel.own).collect(),
    };
    let facts = Facts {
        local_addr,
        source,
        source_addr,
        public_key: seed.identity.public_key(),
        index: config.shard,
        shards: config.shards,
        placement_salt: config.placement_salt,
        message_bytes_max: config.limits.message_bytes_max,
        machine: seed.machine,
        socket_buffers,
        directory: seed.directory,
    };
    let endpoint = Endpoint::new(config, &seed.identity, Box::new(seed.entropy));
    let endpoint = endpoint.map_err(StartError::Endpoint)?;
    let now = Instant::from_nanos(Clock::new().now_nanos());
    let receiver = Receiver {
        flows: crate::flows::Flows::default(),
        local: Local::new(local, seed.handoff.outbound),
        named_flows: Vec::new(),
        replies_lost: 0,
        replies: ReplyBodies::default(),
        waits: Waits::default(),
        channels: node.channels.iter().map(|trust| ShardTrust::new(trust, source)).collect(),
        trust_changes: 0,
        node,
        outbox: Rc::new(Outbox::default().into()),
        now,
        bindings_refused: 0,
    };
    let state =
        State { endpoint, receiver, watchers: Watchers::default(), followed: 0, stalled: false };
    let shared = Shared::new(facts, state, now);
    let calls = Calls::new(seed.inlet);
    let (strays, inbound) = (seed.strays, seed.handoff.inbound);
    let pump =
        Pump::new(Rc::clone(&shared), driver, calls, strays, inbound, Spinner::new(seed.spin));
    Ok((shared, pump))
}

/// Runs the start function as a task, and stops the node if it fails.
fn spawn_start_function<F, Fut>(shared: &Rc<Shared>, function: F)
where
    F: FnOnce(Shard) -> Fut + 'static,
    Fut: Future + 'static,
    Fut::Output: StartOutput,
{
    let handle = Shard::new(Rc::clone(shared));
    let (_, task) = shared.tasks.spawn(async move { function(handle).await.error() });
    let shared = Rc::clone(shared);
    spawn_local(async move {
        match task.await {
            Ok(None) | Err(TaskError::Cancelled) => {}
            Ok(Some(error)) => shared.node().fail(NodeError::Application(error)),
            Err(TaskError::Panicked { message }) => shared.fail_by_panic(message),
        }
    });
}

fn tell_starter(report: &Report, message: Result<Started, StartError>) {
    let _ = report.send(message);
}

fn start_error(error: NodeError) -> StartError {
    match error {
        NodeError::Application(error) => StartError::Application(error),
        NodeError::Panicked { message, .. } => StartError::Panicked(message),
        other => StartError::Application(other.to_string()),
    }
}
