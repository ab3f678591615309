//! Measurements between many processes and hosts: agents that send and count, and a controller that tells them what and when.
//!
//! The controller reaches agents over Cubed itself, by requests on [`AGENT_FLOW`]. A plan is a number of streams, each from one agent to
//! another; every stream has its own flow, numbers and counts, so that what was sent and what came are compared stream by stream.
//! Modules are listed leaf first; each imports only from those above it.

pub mod plan;

mod streams;

mod ends;

mod live;

pub mod agent;

pub mod controller;

use std::net::SocketAddr;

use cubed::PublicKey;
use serde::{Deserialize, Serialize};

use self::live::Pulse;
use crate::{error::BenchError, node::sink::SinkCounts};

/// Flow by which an agent takes orders.
pub const AGENT_FLOW: &str = "bench.agent";

/// The flow of stream `number`.
fn stream_flow(number: u32) -> String {
    format!("bench.stream.{number}")
}

/// An agent as the command line names it: `KEY@ADDR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentAddress {
    /// Its public key.
    pub key: PublicKey,
    /// Where it listens; the other agents reach it there as well.
    pub address: SocketAddr,
}

impl std::str::FromStr for AgentAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, address) =
            text.split_once('@').ok_or_else(|| format!("{text:?}: give KEY@ADDR:PORT"))?;
        let key = key.parse().map_err(|error| format!("{key:?}: {error}"))?;
        let address = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
        Ok(Self { key, address })
    }
}

/// One stream, as both of its ends are told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stream {
    number: u32,
    from: usize,
    to: usize,
    /// Distribution of body lengths, as text.
    sizes: String,
    is_acknowledged: bool,
    /// Messages per second; as fast as there is room without it.
    rate: Option<f64>,
    stamp_every: Option<u64>,
    seed: u64,
    /// The receiver's clock less the sender's, in ns.
    offset_nanos: i64,
}

/// From the controller to an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AgentOrder {
    /// What time is it?
    Clock,
    /// Be agent `index` of these (key and address, as text), with these streams.
    Prepare { index: usize, agents: Vec<(String, SocketAddr)>, streams: Vec<Stream> },
    /// Count from nothing.
    Reset,
    /// Send your streams from this time of your clock on, for so long.
    Run { start_nanos: u64, seconds: f64 },
    /// How does it go, and have you sent all? Asked once a second: who is not asked ends the run.
    Status,
    /// End the run.
    Stop,
    /// What did you count?
    Collect,
}

/// From an agent to the controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AgentAnswer {
    Clock { nanos: u64 },
    Done,
    Status(Box<Pulse>),
    Counts(Box<AgentCounts>),
    Failed(String),
}

/// What an agent counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct AgentCounts {
    /// Streams that it sent: number, messages, bytes.
    sent: Vec<(u32, u64, u64)>,
    /// Streams that it received.
    received: Vec<(u32, SinkCounts)>,
    /// What its node has counted since it started, zeros left out.
    counters: Vec<(String, u64)>,
    /// What moves its datagrams.
    backend: String,
    /// What runs its tasks.
    executor: String,
    /// Its machine and build as it was started, as a report has it.
    surroundings: serde_json::Value,
    /// Reasons to doubt its figures.
    doubts: Vec<String>,
}

fn peer_error(error: impl std::fmt::Display) -> BenchError {
    BenchError::Peer(error.to_string())
}
