//! Whole nodes over simulated links, at virtual time, from one seed.
//!
//! A [`world::World`] holds endpoints with a recording application each, links that lose, delay,
//! reorder, duplicate, damage and cut, and one agenda of events. A [`scenario`] draws links and
//! messages from a seed, runs them, and returns a report or the first breach of what must always
//! hold. Nothing here reads a clock or the system's randomness; what the protocol itself draws from
//! the system (the keys of a handshake) changes no length and no time.
//!
//! A [`race::Race`] is the other kind of world: bulk senders that share one bottleneck, and what each gets of it. The
//! [`contest`] module holds the races that must end well, and their bars.
//!
//! Modules are listed leaf first.
//!
//! ```sh
//! cargo test -p cubed-sim
//! cargo run --release -p cubed-sim --bin soak -- --seeds 10000
//! ```

pub mod addresses;
pub mod agenda;
pub mod ledger;
pub mod link;
pub mod recorder;

pub mod node;
pub mod script;
pub mod trace;
pub mod world;

pub mod race;

pub mod contest;
pub mod scenario;
pub mod seeds;
