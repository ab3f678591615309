//! Starting a node: its port, what its shards share, then one thread per shard.
//!
//! Always holds: whatever fails before every shard listens is told to the caller of `start`, and all threads have ended by
//! then; whatever fails later is kept for `join`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use cubed_router::placement::owner_shard;
use cubed_router::policy::Policy;
use cubed_runtime::{
    DriverWaker, ExecutorError, ExecutorOptions, ExecutorThread, GroupOptions, HandOffOptions,
    SideOptions, SocketGroup, SocketOptions, UdpSocket, handoff,
};
use cubed_transport::handshake::Kind;
use cubed_transport::identity::PublicKey;
use cubed_transport::{ChannelConfig, ChannelId, Config, CongestionProfile, Limits};

use crate::builder::{Lookup, NodeBuilder, SourcePorts, StartOutput, Steering};
use crate::channel::{Channel, Directory, KeepSettings};
use crate::entropy::SystemEntropy;
use crate::error::StartError;
use crate::keep_file::KeepFile;
use crate::keep_writer::KeepWriter;
use crate::limits::{BIND_PATIENCE, HELLOS_BUFFER_BYTES};
use crate::node::{Node, NodeParts};
use crate::node_shared::NodeShared;
use crate::outside::{self, Gate};
use crate::seed::{self, Seed, Started};
use crate::shard::Shard;
use crate::strays;
use crate::trust::{ChannelTrust, Kept};

/// Starts a node whose settings have been checked.
pub(crate) fn start<F, Fut>(builder: NodeBuilder, function: F) -> Result<Node, StartError>
where
    F: Fn(Shard) -> Fut + Send + Clone + 'static,
    Fut: Future + 'static,
    Fut::Output: StartOutput,
{
    let cores = builder.shards.plan()?;
    let (directory, seeds) = prepare(builder, cores.len())?;
    let Some(first) = seeds.first() else { return Err(StartError::NoIdentity) };
    let (public_key, shared) = (first.seed.identity.public_key(), Arc::clone(&first.seed.node));
    let local_addr = first.seed.sockets.main.local_addr();
    let machine = first.seed.machine;
    let mut launched = Launched { shared, threads: Vec::new(), gates: Vec::new() };
    let (report, reports) = channel();
    for (index, (prepared, core)) in seeds.into_iter().zip(cores).enumerate() {
        let options = ExecutorOptions { name: format!("cubed-{index}"), core };
        let (seed, report, function) = (prepared.seed, report.clone(), function.clone());
        match machine.executor.launch(options, move || seed::run(seed, report, function)) {
            Ok(thread) => launched.threads.push(thread),
            Err(error) => return Err(launched.give_up(StartError::Executor(error))),
        }
        launched.gates.push(prepared.gate);
    }
    drop(report);
    let started = match launched.await_reports(&reports) {
        Ok(started) => started,
        Err(error) => return Err(launched.give_up(error)),
    };
    let gates = launched.gates.into_iter().zip(&started);
    let gates = gates.map(|(gate, started)| Arc::new(gate(started.waker.clone()))).collect();
    let threads = started.iter().map(|started| started.thread).zip(launched.threads).collect();
    let shared = launched.shared;
    Ok(Node::new(NodeParts { public_key, local_addr, directory, gates, threads, shared }))
}

/// Makes the calling end of a shard's channel once its waker is known.
type MakeGate = Box<dyn FnOnce(DriverWaker) -> Gate>;

/// A shard that has not been launched.
struct Prepared {
    seed: Seed,
    gate: MakeGate,
}

/// The shards that have been launched, while others may still fail to.
struct Launched {
    shared: Arc<NodeShared>,
    threads: Vec<ExecutorThread>,
    gates: Vec<MakeGate>,
}

impl Launched {
    /// Waits until each shard has said how its start went.
    fn await_reports(
        &mut self,
        reports: &Receiver<Result<Started, StartError>>,
    ) -> Result<Vec<Started>, StartError> {
        let mut all = Vec::new();
        let mut failure = None;
        // Ends when every shard has reported or ended.
        while let Ok(report) = reports.recv() {
            match report {
                Ok(started) => all.push(started),
                Err(error) => {
                    self.shared.stop();
                    failure.get_or_insert(error);
                }
            }
        }
        all.sort_by_key(|started| started.index);
        match failure {
            Some(error) => Err(error),
            None if all.len() == self.threads.len() => Ok(all),
            None => Err(self.ended_early()),
        }
    }

    /// Stops and joins what runs already.
    fn give_up(self, error: StartError) -> StartError {
        self.shared.stop();
        for thread in self.threads {
            // The error that matters is the one we have.
            let _ = thread.join();
        }
        error
    }

    /// A thread ended without a report: it panicked.
    fn ended_early(&mut self) -> StartError {
        self.shared.stop();
        let mut ends = self.threads.drain(..).map(ExecutorThread::join);
        let ended = || StartError::Panicked("a shard ended before it listened".to_owned());
        ends.find_map(Result::err).map_or_else(ended, |error| match error {
            ExecutorError::Panicked { message } => StartError::Panicked(message),
            error => StartError::Executor(error),
        })
    }
}

/// Binds the port and makes all that the shards are made of.
fn prepare(builder: NodeBuilder, shards: usize) -> Result<(Directory, Vec<Prepared>), StartError> {
    let own = builder.identity.as_ref().ok_or(StartError::NoIdentity)?.public_key();
    let directory = builder.directory(own)?;
    let address = found(builder.listen)?;
    let peers = builder.peers.into_iter().map(|peer| {
        let channel = directory.channel(&peer.channel);
        let channel = channel.map_err(|error| StartError::Peer { reason: error.to_string() })?;
        Ok((channel, peer.key, found(peer.address)?))
    });
    let peers = peers.collect::<Result<Vec<_>, StartError>>()?;
    let identity = Arc::new(builder.identity.ok_or(StartError::NoIdentity)?);
    let default = (String::new(), builder.policy, builder.keep);
    let (channels, rules) = split(builder.channels, default);
    let mut entropy = SystemEntropy::new().map_err(|_| StartError::Randomness)?;
    let ports = (builder.steering, builder.source_ports);
    let group = bind(address, builder.socket, shards, ports)?;
    tell(&rules[0].1, &builder.limits, &group.members[0].main);
    let trust = rules.into_iter().map(|(name, policy, keep)| channel_trust(&name, policy, keep));
    let trust = trust.collect::<Result<Vec<_>, _>>()?;
    add_peers(&trust, peers)?;
    let node = Arc::new(NodeShared::new(shards, trust));
    let config = Config {
        incarnation: entropy.draw(),
        name: builder.name,
        role: builder.role,
        mode: builder.mode,
        kind: builder.kind,
        channels,
        shard: 0,
        shards: shards as u8,
        placement_salt: entropy.draw(),
        placement: owner_shard,
        limits: builder.limits,
    };
    let machine = builder.backend.choose(builder.executor);
    let mut seeds = Vec::with_capacity(shards);
    let handoffs = handoff::mesh(shards, HandOffOptions::default());
    let ends = strays::mesh(shards).into_iter().zip(handoffs);
    for ((sockets, (strays, handoff)), shard) in group.members.into_iter().zip(ends).zip(0..) {
        let (gate, inlet) = outside::channel();
        let seed = Seed {
            identity: Arc::clone(&identity),
            config: Config { shard, ..config.clone() },
            directory: directory.clone(),
            spin: builder.spin,
            machine,
            sockets,
            hold: group.hold.clone(),
            entropy: SystemEntropy::new().map_err(|_| StartError::Randomness)?,
            inlet,
            strays,
            handoff,
            node: Arc::clone(&node),
        };
        seeds.push(Prepared { seed, gate: Box::new(gate) });
    }
    Ok((directory, seeds))
}

/// One socket per shard on the node's port, and one more for each where hellos arrive, so that a flood of them takes no
/// buffer from the rest.
fn bind(
    address: SocketAddr,
    socket: SocketOptions,
    shards: usize,
    (steering, source_ports): (Steering, SourcePorts),
) -> Result<SocketGroup, StartError> {
    let side =
        SideOptions { first_byte: Kind::Hello as u8, recv_buffer_bytes: HELLOS_BUFFER_BYTES };
    let group = SocketGroup::bind(
        address,
        &GroupOptions {
            members: shards,
            socket,
            side: Some(side),
            own_ports: source_ports.first(),
            is_steered: steering == Steering::On,
            bind_patience: BIND_PATIENCE,
        },
    )?;
    if let Some(error) = &group.unsteered {
        tracing::warn!(
            %error,
            shards,
            "datagrams reach any shard and are handed over; hellos share the sockets with all else, so a flood of them \
             costs traffic"
        );
    }
    Ok(group)
}

/// Enters the peers of the configuration.
fn add_peers(
    trust: &[Arc<ChannelTrust>],
    peers: Vec<(ChannelId, PublicKey, SocketAddr)>,
) -> Result<(), StartError> {
    for (channel, key, address) in peers {
        let added = trust[usize::from(channel.0)].change_peers(|peers| {
            peers.add(key)?;
            peers.prefer_address(&key, address)
        });
        added.map_err(|error| StartError::Peer {
            reason: format!("peer {} at {address}: {error}", key.fingerprint()),
        })?;
    }
    Ok(())
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
) -> Result<Arc<ChannelTrust>, StartError> {
    let kept = match settings {
        None => None,
        Some(KeepSettings { file, trust, is_mutable }) => {
            let file = KeepFile::open(file, name).map_err(StartError::Keep)?;
            let keep = file.keep().clone().with_rules(trust, is_mutable);
            let writer = KeepWriter::start(file);
            Some(Kept { keep, writer: writer.map_err(StartError::Thread)? })
        }
    };
    Ok(Arc::new(ChannelTrust::new(policy, kept)))
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
