//! A relay between clients and one node: forwards UDP both ways and impairs it as a plan says.
//!
//! Given: where to listen, whom to forward to, a plan, a seed. Always holds: it knows nothing of what it forwards; each
//! client has one upstream socket at a time, so that the node sees one address per client; every datagram taken is
//! counted as what became of it.

pub mod impairment;
pub mod schedule;

mod forward;

pub use forward::Relay;
