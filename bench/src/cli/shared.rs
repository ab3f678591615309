//! Flags that several commands have: what nodes run on, whom to measure against, where results go.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use clap::{Args, ValueEnum};
use cubed::{Backend, Executor, NodeBuilder, PublicKey, Steering};

use super::OutputArgs;
use crate::units::{parse_address, parse_shards};

/// Lengths of datagrams that a node may be told to send.
pub(super) const DATAGRAM_BYTES: RangeInclusive<i64> = 1_200..=9_000;

/// What nodes run on: the measuring one, and the one started beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct MachineArgs {
    /// How datagrams are moved: auto, uring or epoll
    #[arg(long, value_name = "NAME", default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// What runs tasks: glommio or portable; without it what goes with the backend
    #[arg(long, value_name = "NAME")]
    pub executor: Option<Executor>,
    /// Shards of each node, one core each as far as there are cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_shards)]
    pub shards: usize,
    /// What brings a datagram to the shard that it names: the kernel, by a filter, or with off the shards themselves
    #[arg(long, value_enum, default_value_t)]
    pub steering: SteeringArg,
}

/// What brings a datagram to its shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SteeringArg {
    /// The kernel, by a filter on the port.
    #[default]
    Filter,
    /// The shards hand it over.
    Off,
}

impl MachineArgs {
    /// Asks a node for it.
    pub fn apply(&self, node: NodeBuilder) -> NodeBuilder {
        let steering = match self.steering {
            SteeringArg::Filter => Steering::On,
            SteeringArg::Off => Steering::Off,
        };
        let node = node.backend(self.backend).steering(steering);
        match self.executor {
            Some(executor) => node.executor(executor),
            None => node,
        }
    }

    /// As flags for a process.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--backend".to_owned(), self.backend.to_string()];
        flags.extend(["--shards".to_owned(), self.shards.to_string()]);
        if self.steering == SteeringArg::Off {
            flags.extend(["--steering".to_owned(), "off".to_owned()]);
        }
        if let Some(executor) = self.executor {
            flags.extend(["--executor".to_owned(), executor.to_string()]);
        }
        flags
    }
}

/// What every command has that measures two nodes.
#[derive(Debug, Clone, Args)]
pub struct NodesArgs {
    /// Bytes of each UDP datagram
    #[arg(long, value_name = "BYTES", default_value_t = 1452, value_parser = clap::value_parser!(u16).range(DATAGRAM_BYTES))]
    pub datagram: u16,
    /// Print what the measuring node counted: losses, retransmissions, drops
    #[arg(long)]
    pub counters: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whom to measure against, when it is not a peer process of our own.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Measure against `cubed-bench serve` at ADDR instead of a process started here
    #[arg(long, value_name = "ADDR", requires = "peer", value_parser = parse_address)]
    pub connect: Option<SocketAddr>,
    /// Public key of the node at ADDR
    #[arg(long, value_name = "KEY", requires = "connect")]
    pub peer: Option<PublicKey>,
    /// File with our own key, which the peer must allow; a new key without it
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub key: Option<PathBuf>,
}
