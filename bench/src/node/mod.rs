//! Cubed as a subject: two nodes, driven through the public API, with all counting at the receiver.
//!
//! The serving node has five kinds of flow: [`SINK_FLOW`] counts what it gets, [`ECHO_FLOW`] answers each
//! request with its body, [`CONTROL_FLOW`] begins and ends the counting of a slice, [`SHARDS_FLOW`] says which of these each
//! shard has for itself, [`STRAYS_FLOW`] what was delivered to the wrong one. So a peer process of our own and `cubed-bench serve` are the
//! same thing, and slices need nothing but the sessions.

pub mod owned;

pub mod schedule;

pub mod bodies;

pub mod watch;

pub mod sink;

pub mod strays;

pub mod sum;

pub mod server;

pub mod client;

pub mod load;

pub mod loader;

pub mod throughput;

pub mod latency;

pub mod requests;

/// Flow whose messages are counted; each shard of the serving node has some that it owns, see [`owned`].
pub const SINK_FLOW: &str = "bench.sink";

/// Flow that answers each request with its body. Each shard has one that it owns.
pub const ECHO_FLOW: &str = "bench.echo";

/// Flow whose requests begin and end slices of one shard: JSON texts of [`crate::control`]. Each shard has one that it owns.
pub const CONTROL_FLOW: &str = "bench.control";

/// Flow that answers each request with a JSON array of each shard's [`owned::OwnedFlows`].
pub const SHARDS_FLOW: &str = "bench.shards";

/// Flow that answers each request with what the shard counted of strays, as JSON; the number is the shard's.
pub const STRAYS_FLOW: &str = "bench.strays";

/// Most flows beside each other: what one lane may bind, less those that steer the measurement.
pub const FLOWS_MAX: usize = 4_000;

/// What a client must be allowed to use.
pub const FLOWS: &str = "bench.*";
