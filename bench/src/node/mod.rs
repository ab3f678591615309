//! Cubed as a subject: two nodes, driven through the public API, with all counting at the receiver.
//!
//! The serving node has three flows: [`SINK_FLOW`] counts what it gets, [`ECHO_FLOW`] answers each
//! request with its body, [`CONTROL_FLOW`] begins and ends the counting of a slice. So a peer process
//! of our own and `cubed-bench serve` are the same thing, and slices need nothing but the session.

pub mod bodies;

pub mod sink;

pub mod server;

pub mod client;

pub mod throughput;

pub mod latency;

/// Flow whose messages are counted.
pub const SINK_FLOW: &str = "bench.sink";

/// Flow that answers each request with its body.
pub const ECHO_FLOW: &str = "bench.echo";

/// Flow whose requests begin and end slices: JSON texts of [`crate::control`].
pub const CONTROL_FLOW: &str = "bench.control";

/// What a client must be allowed to use.
pub const FLOWS: &str = "bench.*";
