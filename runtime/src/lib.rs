//! The machine under Cubed: clock, cores, UDP socket, datagram driver, timers and one executor per core.
//!
//! This crate knows no protocol: it moves datagrams, parks and wakes threads and tells the time. It
//! is the one crate of the workspace with `unsafe`, and every such block names its invariant. It
//! needs Linux. Modules are listed leaf first; each imports only from those above it.
//!
//! Two drivers on one executor; real shards spread over threads and keep polling while busy:
//!
//! ```
//! use cubed_runtime::{
//!     Clock, Driver, DriverKind, Executor, ExecutorOptions, SendStatus, SocketOptions,
//!     SystemDriver, UdpSocket,
//! };
//!
//! let options = ExecutorOptions { name: "shard-0".to_owned(), core: None };
//! let shard = Executor::Portable.launch(options, || async {
//!     let open = || {
//!         let address = "127.0.0.1:0".parse().expect("an address");
//!         let socket = UdpSocket::bind(address, &SocketOptions::default()).expect("a free port");
//!         SystemDriver::open(DriverKind::Epoll, socket, None).expect("epoll")
//!     };
//!     let (mut alice, mut bob) = (open(), open());
//!
//!     // Ten datagrams of 1,200 bytes leave in one call ...
//!     let sent = alice.send(bob.local_addr(), &[7; 12_000], 1_200).expect("sent");
//!     assert_eq!(sent, SendStatus::Sent);
//!
//!     // ... and end the sleep of the other side, at most a second from now.
//!     let deadline = Clock::new().now_nanos() + 1_000_000_000;
//!     let mut datagrams = 0;
//!     bob.wait(Some(deadline), &mut |received| {
//!         datagrams += received.bytes.chunks(received.segment_bytes).count();
//!     })
//!     .expect("a working driver");
//!     assert!(datagrams > 0);
//! })?;
//! shard.join()?;
//! # Ok::<(), cubed_runtime::ExecutorError>(())
//! ```

pub mod clock;

pub mod affinity;

pub mod buffers;

mod sync;

mod parking;

mod ring_error;

#[cfg(any(test, feature = "faults"))]
pub mod faults;
#[cfg(not(any(test, feature = "faults")))]
#[path = "no_faults.rs"]
mod faults;

pub mod socket;

pub mod driver;

pub mod handoff;

pub mod spin;

pub mod timers;

pub mod executor;

pub mod backend;

pub use affinity::{AffinityError, cores, pin_current_thread};
pub use backend::{Backend, Machine};
pub use clock::Clock;
pub use driver::epoll::EpollDriver;
pub use driver::memory::{MemoryDriver, MemoryNetwork};
pub use driver::system::{DriverError, DriverKind, SystemDriver};
pub use driver::uring::{UringDriver, UringOptions};
pub use driver::{Driver, DriverStats, DriverWaker, Port, Received};
pub use executor::{
    Executor, ExecutorError, ExecutorOptions, ExecutorThread, JoinHandle, TaskError, panic_message,
    polls, spawn_local, yield_now,
};
pub use handoff::{
    Drained, HandOff, HandOffOptions, Inbound, InboundStats, Outbound, OutboundStats, PushError,
};
pub use ring_error::RingError;
pub use socket::{
    BindError, GROUP_MEMBERS_MAX, GroupHold, GroupMember, GroupOptions, OwnSocket, RecvMeta,
    SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, SideOptions, SocketBuffers, SocketGroup,
    SocketOptions, SocketStats, UdpSocket, is_too_long,
};
pub use spin::{SpinDecision, SpinPolicy, Spinner};
pub use timers::{Sleep, Timers};
