//! Starting a node: socket and thread, then the shard's own set-up on that thread.
//!
//! Always holds: whatever fails before the shard listens is told to the caller of `start`, and the
//! thread has ended by then; whatever fails later is kept for `join`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use cubed_router::policy::Policy;
use cubed_runtime::{
    Clock, Driver, DriverWaker, ExecutorError, ExecutorOptions, Machine, SpinPolicy, Spinner,
    SystemDriver, TaskError, UdpSocket, spawn_local, yield_now,
};
use cubed_transport::handshake::Kind;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::time::Instant;
use cubed_transport::{
    ChannelConfig, ChannelId, Config, CongestionProfile, Endpoint, Limits, NodeMode,
};

use crate::application::Receiver;
use crate::builder::{Lookup, NodeBuilder, StartOutput};
use crate::channel::{Channel, Directory, KeepSettings};
use crate::entropy::SystemEntropy;
use crate::error::{NodeError, StartError};
use crate::keep_file::KeepFile;
use crate::keep_writer::KeepWriter;
use crate::limits::{FAREWELL_YIELDS, STRANGERS_BUFFER_BYTES};
use crate::node::{Node, NodeParts};
use crate::outbox::Outbox;
use crate::outside::{self, Calls, Inlet};
use crate::presence::Watchers;
use crate::pump::{Pump, end_waits};
use crate::shard::Shard;
use crate::shared::{Facts, Shared, State};
use crate::trust::{ChannelTrust, Kept};
use crate::waits::Waits;

/// Why a running node ended, where `join` finds it.
pub(crate) type Fault = Arc<Mutex<Option<NodeError>>>;

/// Everything a shard is made of, on its way to its thread.
struct Seed {
    identity: Identity,
    name: String,
    role: String,
    mode: NodeMode,
    kind: u8,
    channels: Vec<ChannelConfig>,
    trust: Vec<ChannelTrust>,
    limits: Limits,
    peers: Vec<(ChannelId, PublicKey, SocketAddr)>,
    directory: Directory,
    spin: SpinPolicy,
    machine: Machine,
    socket: UdpSocket,
    /// Where hellos arrive, so that a flood of them takes no buffer from the rest.
    strangers: Option<UdpSocket>,
    entropy: SystemEntropy,
    inlet: Inlet,
    fault: Fault,
}

/// What a shard says once it listens.
struct Started {
    waker: DriverWaker,
    thread: ThreadId,
}

type Report = SyncSender<Result<Started, StartError>>;

/// Starts a node whose settings have been checked.
pub(crate) fn start<F, Fut>(builder: NodeBuilder, function: F) -> Result<Node, StartError>
where
    F: Fn(Shard) -> Fut + Send + Clone + 'static,
    Fut: Future + 'static,
    Fut::Output: StartOutput,
{
    let own = builder.identity.as_ref().ok_or(StartError::NoIdentity)?.public_key();
    let directory = builder.directory(own)?;
    let address = found(builder.listen)?;
    let peers = builder.peers.into_iter().map(|peer| {
        let channel = directory.channel(&peer.channel);
        let channel = channel.map_err(|error| StartError::Peer { reason: error.to_string() })?;
        Ok((channel, peer.key, found(peer.address)?))
    });
    let peers = peers.collect::<Result<Vec<_>, StartError>>()?;
    let identity = builder.identity.ok_or(StartError::NoIdentity)?;
    let (channels, policies) =
        split(builder.channels, (String::new(), builder.policy, builder.keep));
    let entropy = SystemEntropy::new().map_err(|_| StartError::Randomness)?;
    let socket = UdpSocket::bind(address, &builder.socket)?;
    let strangers = socket_of_strangers(&socket);
    tell(&policies[0].1, &builder.limits, &socket);
    let trust = policies.into_iter().map(|(name, policy, keep)| channel_trust(&name, policy, keep));
    let trust = trust.collect::<Result<Vec<_>, _>>()?;
    let local_addr = socket.local_addr();
    let (gate, inlet) = outside::channel();
    let fault = Fault::default();
    let machine = builder.backend.choose(builder.executor);
    let seed = Seed {
        identity,
        name: builder.name,
        role: builder.role,
        mode: builder.mode,
        kind: builder.kind,
        channels,
        trust,
        limits: builder.limits,
        peers,
        directory: directory.clone(),
        spin: builder.spin,
        machine,
        socket,
        strangers,
        entropy,
        inlet,
        fault: Arc::clone(&fault),
    };
    let options =
        ExecutorOptions { name: "cubed-0".to_owned(), core: builder.cores.first().copied() };
    let (report, started) = sync_channel(1);
    let thread = machine.executor.launch(options, move || run_shard(seed, report, function));
    let thread = thread.map_err(StartError::Executor)?;
    let started = match started.recv() {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => {
            // The thread ends by itself after this report; its error is the one we have.
            let _ = thread.join();
            return Err(error);
        }
        Err(_) => return Err(ended_early(thread.join())),
    };
    Ok(Node::new(NodeParts {
        public_key: own,
        local_addr,
        directory,
        gates: vec![Arc::new(gate(started.waker))],
        threads: vec![(started.thread, thread)],
        fault,
    }))
}

/// The body of a shard's thread.
async fn run_shard<F, Fut>(seed: Seed, report: Report, function: F)
where
    F: FnOnce(Shard) -> Fut + 'static,
    Fut: Future + 'static,
    Fut::Output: StartOutput,
{
    let fault = Arc::clone(&seed.fault);
    let (shared, pump) = match set_up(seed) {
        Ok(parts) => parts,
        Err(error) => return tell_starter(&report, Err(error)),
    };
    let waker = pump.waker();
    spawn_start_function(&shared, function);
    // The function begins with the first round; whoever watches it hears of its end in the next ones.
    for _ in 0..4 {
        yield_now().await;
    }
    if let Some(error) = shared.fault() {
        end_tasks(&shared).await;
        return tell_starter(&report, Err(start_error(error)));
    }
    let thread = thread::current().id();
    tell_starter(&report, Ok(Started { waker, thread }));
    match spawn_local(pump.run()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.fail(NodeError::Machine(error.to_string())),
        Err(TaskError::Panicked { message }) => shared.fail(NodeError::Panicked(message)),
        Err(TaskError::Cancelled) => {
            shared.fail(NodeError::Machine("the pump was lost".to_owned()));
        }
    }
    end_tasks(&shared).await;
    // Nobody else holds the lock for longer than a read, and nobody panics in it.
    if let Ok(mut slot) = fault.lock() {
        *slot = shared.fault();
    }
}

/// Ends every wait, then every task that goes on all the same.
async fn end_tasks(shared: &Shared) {
    end_waits(shared);
    shared.tasks.cancel_all();
    for _ in 0..FAREWELL_YIELDS {
        yield_now().await;
    }
}

/// Makes driver, endpoint and pump on the shard's thread.
fn set_up(seed: Seed) -> Result<(Rc<Shared>, Pump<SystemDriver>), StartError> {
    let mut entropy = seed.entropy;
    let socket_buffers = seed.socket.buffers();
    let message_bytes_max = seed.limits.message_bytes_max;
    let driver = SystemDriver::open(seed.machine.driver, seed.socket, seed.strangers);
    let driver = driver.map_err(StartError::Driver)?;
    let config = Config {
        incarnation: entropy.draw(),
        name: seed.name,
        role: seed.role,
        mode: seed.mode,
        kind: seed.kind,
        channels: seed.channels,
        shard: 0,
        shards: 1,
        placement_salt: entropy.draw(),
        limits: seed.limits,
    };
    let placement_salt = config.placement_salt;
    let endpoint = Endpoint::new(config, &seed.identity, Box::new(entropy));
    let mut endpoint = endpoint.map_err(StartError::Endpoint)?;
    let mut trust = seed.trust;
    for (channel, key, address) in &seed.peers {
        let added = endpoint.add_peer_on(*channel, *key, Some(*address));
        added.map_err(|error| StartError::Peer {
            reason: format!("peer {} at {address}: {error}", key.fingerprint()),
        })?;
        trust[usize::from(channel.0)].known.insert(*key);
    }
    let facts = Facts {
        local_addr: driver.local_addr(),
        public_key: seed.identity.public_key(),
        index: 0,
        shards: 1,
        placement_salt,
        message_bytes_max,
        machine: seed.machine,
        socket_buffers,
        directory: seed.directory,
    };
    let now = Instant::from_nanos(Clock::new().now_nanos());
    let receiver = Receiver {
        flows: crate::flows::Flows::default(),
        waits: Waits::default(),
        channels: trust,
        trust_changes: 0,
        displaced: Vec::new(),
        outbox: Rc::new(Outbox::default().into()),
        now,
        bindings_refused: 0,
    };
    let state = State { endpoint, receiver, watchers: Watchers::default(), stalled: false };
    let shared = Shared::new(facts, state, now);
    let calls = Calls::new(seed.inlet);
    let pump = Pump::new(Rc::clone(&shared), driver, calls, Spinner::new(seed.spin));
    Ok((shared, pump))
}

/// Where hellos arrive, so that a flood of them takes no buffer from the rest.
fn socket_of_strangers(socket: &UdpSocket) -> Option<UdpSocket> {
    let strangers = socket.split(Kind::Hello as u8, STRANGERS_BUFFER_BYTES);
    let strangers = strangers.inspect_err(|error| {
        tracing::warn!(%error, "hellos share the socket with all else: a flood of them costs traffic");
    });
    strangers.ok()
}

/// What decides on a channel: its name, policy and keep.
type Rules = (String, Policy, Option<KeepSettings>);

/// What the protocol engine has to know of the channels, and what decides on each, the default one first.
fn split(channels: Vec<Channel>, default: Rules) -> (Vec<ChannelConfig>, Vec<Rules>) {
    let (mut configs, mut rules) = (Vec::new(), vec![default]);
    for Channel { name, identity, policy, keep } in channels {
        configs.push(ChannelConfig { name: name.clone(), identity });
        rules.push((name, policy, keep));
    }
    (configs, rules)
}

/// What a channel begins with: its policy, nobody known yet, its keep as the file has it.
fn channel_trust(
    name: &str,
    policy: Policy,
    settings: Option<KeepSettings>,
) -> Result<ChannelTrust, StartError> {
    let kept = match settings {
        None => None,
        Some(KeepSettings { file, trust, is_mutable }) => {
            let file = KeepFile::open(file, name).map_err(StartError::Keep)?;
            let keep = file.keep().clone().with_rules(trust, is_mutable);
            let writer = KeepWriter::start(file);
            let no_thread = |error| StartError::Channel { reason: format!("no thread: {error}") };
            Some(Kept { keep, writer: writer.map_err(no_thread)? })
        }
    };
    Ok(ChannelTrust { policy: Arc::new(policy), known: HashSet::new(), kept })
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
            Ok(Some(error)) => shared.fail(NodeError::Application(error)),
            Err(TaskError::Panicked { message }) => shared.fail(NodeError::Panicked(message)),
        }
    });
}

/// The starter waits for exactly one report; if it is gone, so is everybody who could use the node.
fn tell_starter(report: &Report, message: Result<Started, StartError>) {
    let _ = report.send(message);
}

fn start_error(error: NodeError) -> StartError {
    match error {
        NodeError::Application(error) => StartError::Application(error),
        NodeError::Panicked(message) => StartError::Panicked(message),
        other => StartError::Application(other.to_string()),
    }
}

/// The thread ended without a report: it panicked.
fn ended_early(result: Result<(), ExecutorError>) -> StartError {
    match result {
        Err(ExecutorError::Panicked { message }) => StartError::Panicked(message),
        Err(error) => StartError::Executor(error),
        Ok(()) => StartError::Panicked("the shard ended before it listened".to_owned()),
    }
}

fn found(address: Lookup) -> Result<SocketAddr, StartError> {
    address.map_err(|(text, source)| StartError::Address { text, source })
}

fn tell(policy: &Policy, limits: &Limits, socket: &UdpSocket) {
    if policy.is_open() {
        tracing::warn!("the policy is open: everybody may use every flow");
    }
    if limits.congestion != CongestionProfile::Internet {
        tracing::warn!(
            profile = ?limits.congestion,
            "congestion control is set for a network of one's own: on a shared one it takes what others give up"
        );
    }
    let buffers = socket.buffers();
    if !buffers.recv_granted() || !buffers.send_granted() {
        tracing::warn!(
            recv_bytes = buffers.recv_bytes,
            send_bytes = buffers.send_bytes,
            "socket buffers are smaller than asked for: raise net.core.rmem_max and wmem_max"
        );
    }
}
