//! Building a node: settings with checked limits, then one thread per shard.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use cubed_router::address::check_label;
use cubed_router::policy::Policy;
use cubed_runtime::{Backend, Executor, SocketOptions, SpinPolicy};
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::{ConfigError, CongestionProfile, Limits, NodeMode};

use crate::channel::{Channel, ChannelNames, Directory, KeepSettings};
use crate::cores::Shards;
use crate::error::StartError;
use crate::node::Node;
use crate::shard::Shard;
use crate::start;

/// An address as text or as value, understood when the node starts.
pub(crate) type Lookup = Result<SocketAddr, (String, io::Error)>;

/// A peer that the configuration knows.
pub(crate) struct Peer {
    /// The channel's name; empty for the default one.
    pub(crate) channel: String,
    pub(crate) key: PublicKey,
    pub(crate) address: Lookup,
    pub(crate) name: Option<String>,
}

/// Settings of a node that is about to start.
///
/// Only the identity is required. Defaults: listen on any free port of all interfaces, one shard that
/// is not pinned, nobody admitted but the peers named here, and nothing allowed to anyone.
#[must_use = "a node runs once `start` is called"]
pub struct NodeBuilder {
    pub(crate) identity: Option<Identity>,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) mode: NodeMode,
    pub(crate) kind: u8,
    pub(crate) channels: Vec<Channel>,
    pub(crate) keep: Option<KeepSettings>,
    pub(crate) listen: Lookup,
    pub(crate) peers: Vec<Peer>,
    pub(crate) policy: Policy,
    pub(crate) shards: Shards,
    pub(crate) steering: Steering,
    pub(crate) source_ports: SourcePorts,
    pub(crate) spin: SpinPolicy,
    pub(crate) backend: Backend,
    pub(crate) executor: Option<Executor>,
    pub(crate) socket: SocketOptions,
    pub(crate) limits: Limits,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            identity: None,
            name: String::new(),
            role: String::new(),
            mode: NodeMode::PLAIN,
            kind: 0,
            channels: Vec::new(),
            keep: None,
            listen: Ok(SocketAddr::from(([0, 0, 0, 0], 0))),
            peers: Vec::new(),
            policy: Policy::deny(),
            shards: Shards::Unpinned(1),
            steering: Steering::On,
            source_ports: SourcePorts::Node,
            spin: SpinPolicy::default(),
            backend: Backend::default(),
            executor: None,
            socket: SocketOptions::default(),
            limits: Limits::default(),
        }
    }
}

impl NodeBuilder {
    /// Who the node is. Required.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// A name for people, told to peers; a longer one than 64 bytes is refused at the start. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the node is among those of its channels, told to peers; a longer one than 64 bytes is refused at the start. Default: its
    /// name.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }

    /// Flags of the node, told to peers. Default: [`NodeMode::PLAIN`].
    pub fn mode(mut self, mode: NodeMode) -> Self {
        self.mode = mode;
        self
    }

    /// A number of the application's own, told to peers. Default: 0.
    pub fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    /// A channel beside the default one, with a trust of its own; more than 63 are refused at the start.
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channels.push(channel);
        self
    }

    /// What becomes of keys that the policy does not name, on the default channel. Default: they are not admitted.
    pub fn keep(mut self, keep: KeepSettings) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Where to listen: `"192.0.2.7:7530"`, `"[::]:7530"` for both address families, port 0 for any. A text that names no address is
    /// refused at the start. Default: `"0.0.0.0:0"`.
    pub fn listen(mut self, address: impl ToSocketAddrs + ToString) -> Self {
        self.listen = lookup(address);
        self
    }

    /// A peer and where to dial it. It may have a session; what it may do in it, the policy says.
    pub fn peer(self, key: PublicKey, address: impl ToSocketAddrs + ToString) -> Self {
        self.add_peer(String::new(), key, lookup(address), None)
    }

    /// As [`NodeBuilder::peer`], with a name to use in addresses on this node.
    pub fn peer_named(
        self,
        name: impl Into<String>,
        key: PublicKey,
        address: impl ToSocketAddrs + ToString,
    ) -> Self {
        self.add_peer(String::new(), key, lookup(address), Some(name.into()))
    }

    /// As [`NodeBuilder::peer_named`], on a channel given by [`NodeBuilder::channel`].
    pub fn peer_on(
        self,
        channel: impl Into<String>,
        name: impl Into<String>,
        key: PublicKey,
        address: impl ToSocketAddrs + ToString,
    ) -> Self {
        self.add_peer(channel.into(), key, lookup(address), Some(name.into()))
    }

    /// Who may have a session, and what they may do. Default: [`Policy::deny`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many shards, and on which cores: `.shards(4)`, `.shards([2, 3])`, `.shards(Shards::All)`. Default: one, which the
    /// system moves as it likes.
    ///
    /// The start function runs on each of them. A flow is found on every shard that registers it; others send to the shard
    /// that owns its name ([`Shard::owns`]).
    pub fn shards(mut self, shards: impl Into<Shards>) -> Self {
        self.shards = shards.into();
        self
    }

    /// Whether the kernel brings each datagram to the shard that it names. Default: [`Steering::On`].
    pub fn steering(mut self, steering: Steering) -> Self {
        self.steering = steering;
        self
    }

    /// Which ports the shards send from. Default: [`SourcePorts::Node`].
    pub fn source_ports(mut self, ports: SourcePorts) -> Self {
        self.source_ports = ports;
        self
    }

    /// How an idle shard waits. Default: [`SpinPolicy::Adaptive`].
    pub fn spin(mut self, policy: SpinPolicy) -> Self {
        self.spin = policy;
        self
    }

    /// How datagrams are moved. Default: [`Backend::Auto`], by `io_uring`, and by epoll where that is refused, with one
    /// warning in the log that says why and how to allow it. [`crate::ShardStats::machine`] says what came of it.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// What runs the shards' tasks. Default: [`Executor::Glommio`] with `io_uring`, [`Executor::Portable`] with epoll.
    /// Every combination works, as far as the machine lets glommio have its own rings.
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Longest datagram ever tried, bytes of UDP payload: 1,200 to 9,000. What a path carries is found out by probes, from
    /// 1,200 up. Default: 1,452.
    pub fn datagram_bytes(mut self, bytes: u16) -> Self {
        self.limits.datagram_bytes = bytes;
        self
    }

    /// How long a dial may take before it fails; messages that wait make it begin again. Default: 5 s.
    pub fn dial_timeout(mut self, duration: Duration) -> Self {
        self.limits.dial_timeout = duration;
        self
    }

    /// After how long without a word a peer is called down, which fails nothing. Default: 3 s.
    pub fn down_after(mut self, duration: Duration) -> Self {
        self.limits.down_after = duration;
        self
    }

    /// After how long without a word a peer is lost and its messages end so. Default: 120 s.
    pub fn give_up(mut self, duration: Duration) -> Self {
        self.limits.give_up = duration;
        self
    }

    /// What the network is taken for. Default: [`CongestionProfile::Internet`], which shares with everybody.
    ///
    /// **[`CongestionProfile::Lan`] is for a network that is yours from end to end and provisioned for the load.** Elsewhere it takes
    /// what others give up; the node warns of it when it starts.
    pub fn congestion(mut self, profile: CongestionProfile) -> Self {
        self.limits.congestion = profile;
        self
    }

    /// All limits of the protocol at once; replaces what was set before.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Buffers to ask of the kernel for the socket, bytes. Default: 4 MiB each; it may grant less,
    /// which [`crate::ShardStats`] shows.
    pub fn socket_buffers(mut self, recv_bytes: usize, send_bytes: usize) -> Self {
        self.socket.recv_buffer_bytes = recv_bytes;
        self.socket.send_buffer_bytes = send_bytes;
        self
    }

    /// Starts the node: checks the settings, binds, and runs `start` on each shard.
    ///
    /// Returns once the node listens and `start` has run up to its first await that waits, so that
    /// flows registered before it are there. `start` may end or run on; if it ends with an error, or
    /// panics, the node stops.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what is wrong and what to do. Nothing is left running.
    pub fn start<F, Fut>(self, start: F) -> Result<Node, StartError>
    where
        F: Fn(Shard) -> Fut + Send + Clone + 'static,
        Fut: Future + 'static,
        Fut::Output: StartOutput,
    {
        self.check()?;
        start::start(self, start)
    }

    /// The channels and the names of peers, which must differ on each.
    pub(crate) fn directory(&self, own: PublicKey) -> Result<Directory, StartError> {
        let names =
            |name: &str, own| ChannelNames { name: name.to_owned(), own, peers: HashMap::new() };
        let mut channels = vec![names("", own)];
        for Channel { name, identity, .. } in &self.channels {
            let own = identity.as_ref().map_or(own, |identity| identity.public_key());
            channels.push(names(name, own));
        }
        let mut directory = Directory(channels);
        for peer in &self.peers {
            let wrong = |reason| StartError::Peer { reason };
            let channel = directory.channel(&peer.channel);
            let channel = channel.map_err(|error| wrong(error.to_string()))?;
            let Some(name) = &peer.name else { continue };
            check_label(name).map_err(|error| wrong(format!("the peer name {name:?} {error}")))?;
            let names = &mut directory.0[usize::from(channel.0)].peers;
            if names.insert(name.clone(), peer.key).is_some() {
                return Err(wrong(format!("two peers are called {name:?}: rename one")));
            }
        }
        Ok(directory)
    }

    /// Channel names and role; what else is wrong with them, the protocol engine says.
    fn check_labels(&self) -> Result<(), StartError> {
        if !self.name.is_empty() {
            check_label(&self.name).map_err(StartError::Name)?;
        }
        let wrong = |reason| StartError::Channel { reason };
        if !self.role.is_empty() {
            check_label(&self.role).map_err(|error| wrong(format!("the node's role {error}")))?;
        }
        for Channel { name, .. } in &self.channels {
            check_label(name)
                .map_err(|error| wrong(format!("the channel's name {name:?} {error}")))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StartError> {
        self.check_labels()?;
        let checked = self.limits.check();
        checked.map_err(|error| StartError::Endpoint(ConfigError::Limit(error)))?;
        let buffers = [
            ("socket receive buffer", self.socket.recv_buffer_bytes),
            ("socket send buffer", self.socket.send_buffer_bytes),
        ];
        for (name, bytes) in buffers {
            within(name, bytes as u64, SOCKET_BYTES_MIN, SOCKET_BYTES_MAX)?;
        }
        Ok(())
    }

    fn add_peer(
        mut self,
        channel: String,
        key: PublicKey,
        address: Lookup,
        name: Option<String>,
    ) -> Self {
        self.peers.push(Peer { channel, key, address, name });
        self
    }
}

/// Whether the kernel brings each datagram to the socket of the shard that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By a filter on the port. Where the kernel takes none, as if it were off, and a warning.
    #[default]
    On,
    /// By a hash of both addresses, and the shards hand datagrams over. For tests, and to measure what steering saves.
    Off,
}

/// Which ports a node's shards send from.
///
/// Network cards spread what they receive over their queues, and so over cores, by a hash of both addresses and ports. All lanes
/// between two nodes that send from their own ports have one hash. A node always listens on its own port: there it is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourcePorts {
    /// All from the node's port: one hole in a firewall, and a peer behind a NAT is reached as it came.
    #[default]
    Node,
    /// What a shard dials it dials, and talks to, from a port of its own that the system chooses; what dials the node is
    /// answered from the node's. For nodes that list each other's addresses, with nothing between them that forbids ports.
    PerShard,
    /// As `PerShard`, but shard *i* has this port + *i*: for firewalls, and so that a restarted node has the ports it had. If
    /// one is taken the node does not start.
    PerShardFrom(u16),
}

impl SourcePorts {
    /// The first port of the shards' own, 0 for any.
    pub(crate) fn first(self) -> Option<u16> {
        match self {
            Self::Node => None,
            Self::PerShard => Some(0),
            Self::PerShardFrom(first) => Some(first),
        }
    }
}

/// What a start function may end with: nothing, or a result whose error stops the node.
pub trait StartOutput {
    /// The error's text, if it is one.
    fn error(self) -> Option<String>;
}

impl StartOutput for () {
    fn error(self) -> Option<String> {
        None
    }
}

/// For start functions that loop for ever.
impl StartOutput for never::Never {
    fn error(self) -> Option<String> {
        match self {}
    }
}

impl<E: std::fmt::Display> StartOutput for Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// The type `!`, which stable Rust lets a function return but nobody write.
#[expect(unreachable_pub, reason = "the name is needed here, not outside")]
mod never {
    pub type Never = <fn() -> ! as Returns>::Type;

    pub trait Returns {
        type Type;
    }

    impl<T> Returns for fn() -> T {
        type Type = T;
    }
}

/// One full receive batch must fit.
const SOCKET_BYTES_MIN: u64 = 128 << 10;
const SOCKET_BYTES_MAX: u64 = 1 << 30;

fn within(name: &'static str, value: u64, min: u64, max: u64) -> Result<(), StartError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(StartError::Setting { name, value, min, max })
}

/// The first address that the text or value stands for.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers write text or a socket address, both small"
)]
fn lookup(address: impl ToSocketAddrs + ToString) -> Lookup {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no address of that name");
    let found = address.to_socket_addrs();
    let found = found.and_then(|mut found| found.next().ok_or_else(none));
    found.map_err(|source| (address.to_string(), source))
}
