//! Cubed: secure, reliable messaging between many hosts, cores and data flows.
//!
//! A *node* is known by a public key. It listens on one UDP port, runs one executor per core, and
//! exchanges messages with other nodes, each over an encrypted session that both sides have proven
//! their keys for. Messages go from flow to flow, by name; they are *best effort*, or *acknowledged*:
//! delivered exactly once within a session, each as soon as it is whole, with an outcome that can be awaited and
//! need not be.
//!
//! ```
//! use cubed::{Identity, Node, Outcome, Policy, Priority, Shard, block_on};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Bob: a flow that answers, for everybody who can prove any key (an open policy says so loudly).
//! let bob = Node::builder()
//!     .identity(Identity::generate()?)
//!     .listen("127.0.0.1:0")
//!     .policy(Policy::open())
//!     .start(async |shard: Shard| {
//!         shard.flow("greet").handler(|message, context| {
//!             // Runs on the shard, within the datagram; a plain message has nobody to reply to.
//!             let _ = context.reply(&[b"hello ", message.body()].concat());
//!         })
//!     })?;
//!
//! // Alice: knows Bob by key and address.
//! let alice = Node::builder()
//!     .identity(Identity::generate()?)
//!     .listen("127.0.0.1:0")
//!     .peer(bob.public_key(), bob.local_addr())
//!     .start(async |_shard: Shard| ())?;
//!
//! let greet = alice.resolve(bob.public_key(), "greet")?;
//! let answer = block_on(greet.request("alice", Duration::from_secs(5)))?;
//! assert_eq!(answer, "hello alice");
//! assert_eq!(block_on(greet.send("no answer needed"))?, Outcome::Delivered);
//!
//! // More may be asked of a message: order, only the latest value, an end in time, what goes first.
//! let soon = greet.message("before others").ordered().priority(Priority::High);
//! let soon = soon.deadline(Duration::from_secs(5));
//! assert_eq!(block_on(soon.into_future())?, Outcome::Delivered);
//!
//! let report = block_on(alice.drain(Duration::from_secs(5)))?;
//! assert_eq!((report.offered, report.delivered), (3, 3));
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//!
//! - **Trust.** Nobody is admitted and nothing is allowed unless the [`Policy`] says so; the key it is
//!   asked about is the one proven in the handshake. A dialled key is pinned: another key that answers is
//!   an error.
//! - **Delivery.** An acknowledged message reaches its flow at most once in a session; its [`Outcome`]
//!   says what is known. After a session ended, unanswered messages are *unknown* and are not sent
//!   again.
//! - **Services.** [`Destination::message`] asks for more, each thing by itself: *ordered* within a flow and session,
//!   *latest value*, deadline, limits of repetitions and of unacknowledged datagrams, priority. A message that ends as
//!   expired was not delivered.
//! - **Bounds.** Every queue is bounded. [`SendError::Full`] is back-pressure, to be waited for with
//!   [`Destination::ready`]; nothing is dropped in silence, and every drop has a counter in
//!   [`NodeStats`].
//! - **Threads.** A [`Shard`] and what it hands out stay on its thread; a [`Node`] is used from anywhere.
//!
//! Needs Linux; runs best with `io_uring`, and by epoll where that is refused ([`Backend`]).

/// The machine underneath, for load generators and tools that measure it by itself.
pub use cubed_runtime as runtime;
pub use cubed_shards::*;
