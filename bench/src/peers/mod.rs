//! One node that sends to many peers, each with an identity and a socket of its own, and the sealed loop it stands beside.
//!
//! The peers are light ones ([`crate::scale::guest`]): the same protocol engine without a node around it, so that a thousand fit into one
//! thread, which reads their sockets in turn. Modules are listed leaf first; each imports only from those above it.

pub mod audience;

pub mod speaker;

pub mod listeners;

pub mod sealed;

use std::net::{Ipv4Addr, SocketAddr};

use cubed::runtime::socket::{SocketOptions, UdpSocket};

use crate::error::{BenchError, Result};

/// Peers, at most: each has a descriptor in one process.
pub const PEERS_MAX: usize = 10_000;

/// Messages of one visit, at most.
pub const VISIT_MAX: usize = 100_000;

/// Body bytes, at most: bodies are copied.
pub const SIZE_BYTES_MAX: usize = 16 << 10;

/// What is asked of many peers.
#[derive(Debug, Clone, Copy)]
pub struct Visits {
    /// Peers.
    pub peers: usize,
    /// Messages to one peer before it is the turn of the next.
    pub messages: usize,
    /// Body bytes of each.
    pub size_bytes: usize,
}

impl Visits {
    /// An error outside of the limits; `size_bytes_max` is that of whoever sends.
    pub(crate) fn check(&self, size_bytes_max: usize) -> Result<()> {
        let within = |flag: &str, value: usize, max: usize| {
            if (1..=max).contains(&value) {
                return Ok(());
            }
            Err(BenchError::Argument(format!("--{flag} {value}: between 1 and {max} for --peers")))
        };
        within("peers", self.peers, PEERS_MAX)?;
        within("visit", self.messages, VISIT_MAX)?;
        within("size", self.size_bytes, size_bytes_max)
    }
}

/// So many sockets on loopback.
fn bind_all(count: usize) -> Result<Vec<UdpSocket>> {
    let bind =
        |_| UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &SocketOptions::default());
    let bound = (0..count).map(bind).collect::<std::result::Result<_, _>>();
    bound.map_err(|error| BenchError::Machine(format!("{error} (enough descriptors? ulimit -n)")))
}
