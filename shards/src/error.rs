//! Why the public calls of this crate fail: one enum per call, grouped by whose fault it is.

use std::error::Error;
use std::fmt;
use std::io;

use cubed_router::address::{AddressError, NameError};
use cubed_router::table::TableError;
use cubed_runtime::{BindError, DriverError, ExecutorError};
use cubed_transport::{ConfigError, DialFailure, Refusal, SendError};

use crate::keep_file::KeepFileError;

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// Caller: no identity was given.
    NoIdentity,
    /// Caller: the node's name breaks a rule.
    Name(NameError),
    /// Caller: this text is no address of the form `host:port`, or its host is unknown.
    Address {
        /// What was given.
        text: String,
        /// Why it was not understood.
        source: io::Error,
    },
    /// Caller: a setting lies outside its range.
    Setting {
        /// Which one.
        name: &'static str,
        /// What was asked.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// Caller: a channel cannot be made (its name breaks a rule or is another's), or the role breaks one.
    Channel {
        /// Which one, and what is wrong.
        reason: String,
    },
    /// Caller or system: the file of a keep cannot be used.
    Keep(KeepFileError),
    /// Caller: a peer cannot be added (twice the same name, the node's own key, too many).
    Peer {
        /// Which one, and what is wrong.
        reason: String,
    },
    /// Caller: the start function ended with this error before the node was up.
    Application(String),
    /// Caller: the start function panicked before the node was up.
    Panicked(String),
    /// Resource: the address cannot be listened on.
    Bind(BindError),
    /// System: no driver for datagrams: neither `io_uring` nor epoll, or not the one that was asked for.
    Driver(DriverError),
    /// System: no thread for a shard, or no executor on it.
    Executor(ExecutorError),
    /// System: no thread to write a keep's file on.
    Thread(io::Error),
    /// System: no random numbers.
    Randomness,
    /// The protocol engine refused its configuration.
    Endpoint(ConfigError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIdentity => f.write_str(
                "the node has no identity: give one with `.identity(Identity::load(file)?)`",
            ),
            Self::Name(error) => write!(f, "the node's name {error}"),
            Self::Address { text, source } => {
                write!(f, "{text:?} is not an address like 192.0.2.7:7530 ({source})")
            }
            Self::Setting { name, value, min, max } => {
                write!(f, "{name} is {value}; choose a value from {min} to {max}")
            }
            Self::Keep(error) => error.fmt(f),
            Self::Channel { reason } | Self::Peer { reason } => f.write_str(reason),
            Self::Application(error) => write!(f, "the start function failed: {error}"),
            Self::Panicked(message) => write!(f, "the start function panicked: {message}"),
            Self::Bind(error) => error.fmt(f),
            Self::Driver(error) => error.fmt(f),
            Self::Executor(error) => error.fmt(f),
            Self::Thread(error) => write!(
                f,
                "no thread to write the keep's file on ({error}): check the limits on processes (`ulimit -u`) and memory"
            ),
            Self::Randomness => f.write_str(
                "the system gave no random numbers: check that getrandom(2) is allowed here",
            ),
            Self::Endpoint(error) => error.fmt(f),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Address { source, .. } => Some(source),
            Self::Bind(error) => Some(error),
            Self::Driver(error) => Some(error),
            Self::Executor(error) => Some(error),
            Self::Thread(error) => Some(error),
            Self::Keep(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

/// Why a running node ended otherwise than by being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeError {
    /// The start function, or an inline handler, panicked.
    Panicked {
        /// On which shard.
        shard: u8,
        /// What it said.
        message: String,
    },
    /// The start function ended with this error.
    Application(String),
    /// The socket or the ring failed.
    Machine(String),
    /// [`crate::Node::join`] was called on a shard of this very node, which cannot wait for itself.
    JoinedFromShard,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { shard, message } => {
                write!(f, "the node's shard {shard} panicked: {message}")
            }
            Self::Application(error) => write!(f, "the start function failed: {error}"),
            Self::Machine(error) => write!(f, "the node's socket failed: {error}"),
            Self::JoinedFromShard => {
                f.write_str("a shard cannot wait for its own node: call join on another thread")
            }
        }
    }
}

impl Error for NodeError {}

/// The node has stopped, or stops: it takes no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has stopped")
    }
}

impl Error for Stopped {}

/// Why a flow was not registered (the caller's fault).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowError {
    /// The name breaks a rule.
    Name(NameError),
    /// The shard has a flow of this name.
    Exists(String),
    /// Another shard has a flow of this name, and it or the new one is pinned.
    Pinned {
        /// The flow's name.
        name: String,
        /// The shard that has it.
        shard: u8,
    },
    /// The node has no channel of this name.
    UnknownChannel(String),
    /// A queue or message limit lies outside its range.
    Capacity {
        /// What was asked, bytes.
        bytes: u64,
        /// The least allowed, bytes.
        min: u64,
        /// The most allowed, bytes.
        max: u64,
    },
    /// Called from an inline handler, where flows cannot change: spawn a task for it.
    InHandler,
    /// The node has stopped.
    Stopped,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the flow's name {error}"),
            Self::Exists(name) => {
                write!(f, "flow {name:?} has a receiver on this shard already: drop that one first")
            }
            Self::Pinned { name, shard } => write!(
                f,
                "shard {shard} has flow {name:?}, and a pinned flow is one shard's alone: register it there only"
            ),
            Self::UnknownChannel(name) => write_unknown_channel(f, name),
            Self::Capacity { bytes, min, max } => {
                write!(f, "a limit of {bytes} bytes is not possible; choose {min} to {max}")
            }
            Self::InHandler => f.write_str(
                "flows cannot change while an inline handler runs: do it in a spawned task",
            ),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl Error for FlowError {}

impl From<NameError> for FlowError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// Why a destination was not resolved (the caller's fault, but for `Send`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The flow's name breaks a rule.
    Name(NameError),
    /// The address text breaks a rule.
    Address(AddressError),
    /// No peer of this name is configured.
    UnknownNode(String),
    /// The node has no channel of this name.
    UnknownChannel(String),
    /// The address names a level that this version does not route by.
    Level(&'static str),
    /// The node's table did not take the peer.
    Peer(TableError),
    /// The protocol engine did not take the peer or the flow.
    Send(SendError),
    /// Called from an inline handler: resolve before, or in a spawned task.
    InHandler,
    /// The node has stopped.
    Stopped,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the flow's name {error}"),
            Self::Address(error) => error.fmt(f),
            Self::UnknownNode(name) => write!(
                f,
                "no peer is called {name:?} here: name it with `.peer_named`, or write its public \
                 key"
            ),
            Self::UnknownChannel(name) => write_unknown_channel(f, name),
            Self::Level(level) => {
                write!(
                    f,
                    "this version does not route by {level}: leave that part of the address empty"
                )
            }
            Self::Peer(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::InHandler => f.write_str(
                "nothing can be resolved while an inline handler runs: resolve before, or in a \
                 spawned task",
            ),
            Self::Stopped => Stopped.fmt(f),
        }
    }
}

impl Error for ResolveError {}

impl From<NameError> for ResolveError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<AddressError> for ResolveError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

fn write_unknown_channel(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(f, "this node has no channel {name:?}: add it with `.channel(Channel::new({name:?}))`")
}

/// Why an awaited send ended without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The message was not taken.
    Send(SendError),
    /// The destination could not be resolved (calls from other threads only).
    Resolve(ResolveError),
    /// The caller's deadline passed.
    Deadline {
        /// The message had been handed over: it may still be delivered, and the node's tally will
        /// count how it ended. Otherwise it was never sent.
        offered: bool,
    },
    /// The node stops.
    Stopped,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Resolve(error) => error.fmt(f),
            Self::Deadline { offered: true } => f.write_str(
                "the deadline passed before the receiver said what became of the message",
            ),
            Self::Deadline { offered: false } => {
                f.write_str("the deadline passed before there was room: the message was not sent")
            }
            Self::Stopped => Stopped.fmt(f),
        }
    }
}

impl Error for WaitError {}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The request was not taken.
    Send(SendError),
    /// The destination could not be resolved (calls from other threads only).
    Resolve(ResolveError),
    /// No reply came in time. The request may have been carried out.
    Expired,
    /// The receiver refused it, and says why. It was not carried out.
    Refused(Refusal),
    /// The peer did not answer for `give_up`. The request may have been carried out.
    PeerLost,
    /// The session ended first. The request may have been carried out.
    Unknown,
    /// The node stops.
    Stopped,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Resolve(error) => error.fmt(f),
            Self::Expired => f.write_str(
                "no reply came before the deadline: the request may have been carried out; allow more time, or look what the handler does",
            ),
            Self::Refused(refusal) => write!(f, "the receiver refused the request: {refusal}"),
            Self::PeerLost => f.write_str(
                "the peer has not answered for too long: the request may have been carried out; see whether it runs and can be reached, then ask again if twice does no harm",
            ),
            Self::Unknown => f.write_str(
                "the session ended before a reply came: the request may have been carried out; ask again if twice does no harm",
            ),
            Self::Stopped => Stopped.fmt(f),
        }
    }
}

impl Error for RequestError {}

/// Why there is no session with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The dial could not begin.
    Send(SendError),
    /// The destination could not be resolved (calls from other threads only).
    Resolve(ResolveError),
    /// The dial failed; the text names address, keys and cause.
    Dial(DialFailure),
    /// The node stops.
    Stopped,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Resolve(error) => error.fmt(f),
            Self::Dial(failure) => failure.fmt(f),
            Self::Stopped => Stopped.fmt(f),
        }
    }
}

impl Error for ConnectError {}
