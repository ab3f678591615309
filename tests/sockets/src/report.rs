//! What the processes of these tests tell each other, one line of JSON each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::traffic::Verdict;

/// A peer's first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Its public key, as text.
    pub key: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A relay's first line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a peer stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its account of flow `checked`.
    pub verdict: Verdict,
    /// Messages accepted on all flows.
    pub accepted: u64,
    /// Datagrams that its kernel dropped for want of socket buffer.
    pub kernel_drops: u64,
    /// What its protocol counted, by name.
    pub counters: BTreeMap<String, u64>,
}
