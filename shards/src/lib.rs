//! The joint of Cubed: protocol engine, policy and machine become nodes, shards, flows and
//! destinations. Its items are re-exported by the `cubed` crate, whose front page shows them in use.
//!
//! Owns: the pump (one task per shard that moves datagrams between socket and endpoint), the receiving
//! flows with their handlers and queues, futures for whatever can be awaited, calls from other threads,
//! and the life of a node. It has no protocol of its own and no `unsafe`.
//!
//! Always holds:
//! - everything of a shard happens on its thread; other threads reach it by a bounded channel only;
//! - no message costs an allocation, a hash or a wake-up on its way through an inline handler or a
//!   [`Destination`];
//! - a future may be dropped at any await and leaves nothing behind;
//! - what a peer can make a node hold is bounded by credit, outbox and queue limits.
//!
//! Modules are listed leaf first.

mod limits;

mod ports;

mod bodies;

mod keep_file;

mod error;

mod block_on;
mod cores;
mod entropy;

mod keep_writer;

mod changes;
mod channel;
mod lane_counts;
mod trust;

mod registry;

mod handed;

mod node_shared;

mod tasks;
mod waits;

mod stalled;

mod origins;
mod passed;
mod pending;

mod local;

mod outbox;

mod strays;

mod hellos;

mod presence;

mod queue;

mod lent;

mod message;

mod handler;

mod flows;

mod application;

mod arrivals;

mod shared;

mod attempt;

mod request;

mod outgoing;

mod destination;

mod stats;

mod flow_builder;

mod shard;

mod outside;

mod watch;

mod follow;

mod pump;

mod remote;

mod remote_queue;

mod node_keep;

mod node;

mod builder;

mod seed;

mod start;

pub use block_on::block_on;
pub use builder::{NodeBuilder, SourcePorts, StartOutput, Steering};
pub use channel::{Channel, KeepSettings};
pub use cores::Shards;
pub use destination::{Connect, Destination, Ready, Sending, SendingAcknowledged, Sent, Settled};
pub use error::{
    ConnectError, FlowError, NodeError, RequestError, ResolveError, StartError, Stopped, WaitError,
};
pub use flow_builder::FlowBuilder;
pub use flows::FlowStats;
pub use keep_file::{KeepFile, KeepFileError};
pub use local::LocalStats;
pub use message::{Context, Message, Responder};
pub use node::Node;
pub use node_keep::{NodeKeep, NodeKeepError};
pub use outgoing::{Ending, Outgoing, RemoteOutgoing};
pub use presence::{PresenceEvent, PresenceEvents, PresenceSet};
pub use queue::{Batch, BatchIter, BatchMessage, Capacity, Queue};
pub use remote::Remote;
pub use remote_queue::{RemoteBatch, RemoteMessage, RemoteQueue};
pub use request::Request;
pub use shard::Shard;
pub use stats::{DrainReport, NodeStats, ShardStats};
pub use tasks::Task;

pub use bytes::Bytes;
pub use cubed_router::address::{Address, FlowName};
pub use cubed_router::keep::{Cause, Entry, Keep, KeepError, KeyState, Portrait, Trust};
pub use cubed_router::policy::{FlowPattern, Policy, PolicyError, Verb};
pub use cubed_runtime::{
    Backend, DriverKind, DriverStats, Executor, Machine, Sleep, SocketBuffers, SpinPolicy,
    TaskError,
};
pub use cubed_transport::identity::{
    Fingerprint, Identity, IdentityError, IdentityFileError, PublicKey, PublicKeyTextError,
};
pub use cubed_transport::time::Instant;
pub use cubed_transport::{
    Counters, DialFailure, DownCause, Limits, NodeMode, Outcome, PathStats, PeerInfo, PeerPresence,
    PeerState, Priority, Refusal, SendError, SendOptions, Service, Tally,
};
