//! The Cubed protocol as pure state machines: no socket, no clock, no thread, no executor.
//!
//! An [`Endpoint`] is one shard's side of the protocol. Time comes in as [`time::Instant`], randomness as a
//! [`random::Entropy`]; datagrams come in by [`Endpoint::handle_datagram`] and go out by [`Endpoint::poll_transmit`]. The
//! contract of whoever drives it:
//!
//! 1. call any one input or command (`handle_*`, `send`, `connect`, ...);
//! 2. call [`Endpoint::poll_transmit`] until it returns `None`, and send what it gives (one GSO run each);
//! 3. call [`Endpoint::poll_event`] until it returns `None`;
//! 4. call [`Endpoint::handle_timeout`] no later than [`Endpoint::poll_timeout`] says, then go on with 2.
//!
//! Several inputs may come before step 2; acknowledgements then cover them all, which is how one turn of a shard works.
//! Bytes from peers never panic and never grow anything without a limit; what is dropped is counted in [`Counters`].
//!
//! ```
//! use cubed_transport::identity::Identity;
//! use cubed_transport::random::SeededEntropy;
//! use cubed_transport::{Config, Endpoint};
//!
//! // Both random in earnest.
//! let config = Config { name: "alice".into(), ..Config::new([1; 16], [2; 32]) };
//! let identity = Identity::from_seed(&[7; 32]);
//! let endpoint = Endpoint::new(config, &identity, Box::new(SeededEntropy::new(1)))?;
//! assert_eq!(endpoint.public_key(), identity.public_key());
//! # Ok::<(), cubed_transport::ConfigError>(())
//! ```

pub mod time;

pub mod random;
pub mod varint;

pub mod ranges;
pub mod replay;
pub mod rtt;

pub mod congestion;
pub mod pacing;

pub mod cookie;
pub mod identity;
pub mod keys;

pub mod handshake;

pub mod limits;

mod absence;
mod allowance;
mod counters;
mod header;
mod indices;
mod message;
mod restarted;
mod slots;
mod work;

mod best_effort;
mod block_window;
mod flows;
mod frame;
mod order;
mod requests;
mod room;
mod send_log;
mod sent;
mod values;

mod assembly;
mod association;
mod common;
mod lane;
mod path;
mod presence;
mod space;

mod session;

mod peer;

mod endpoint;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod vectors;

pub use congestion::CongestionProfile;
pub use endpoint::{
    Application, Binding, Body, ChannelConfig, ChannelId, Config, ConfigError, Counters, Deferred,
    DialFailure, Disposition, DownCause, EndCause, Endpoint, Event, FlowId, Incoming, LimitError,
    Limits, Newcomer, NodeMode, Outcome, PeerId, PeerInfo, PeerMemory, PeerPresence, PeerState,
    Priority, Refusal, ReplyTo, SendError, SendOptions, Service, Tally, Token, Transmit, Verdict,
};
pub use lane::Row;
pub use path::PathStats;
pub use requests::RequestId;
