//! The machine under Cubed: clock, cores, UDP socket, datagram driver, timers and one executor per core.
//!
//! This crate knows no protocol: it moves datagrams, parks and wakes threads and tells the time. It
//! is the one crate of the workspace with `unsafe`, and every such block names its invariant. It
//! needs Linux. Modules are listed leaf first; each imports only from those above it.

pub mod clock;

pub mod affinity;

pub mod buffers;

mod ring_error;

pub mod socket;

pub mod driver;

pub use affinity::{AffinityError, cores, pin_current_thread};
pub use clock::Clock;
pub use driver::memory::{MemoryDriver, MemoryNetwork};
pub use driver::uring::{UringDriver, UringOptions};
pub use driver::{Driver, DriverStats, DriverWaker, Received};
pub use ring_error::RingError;
pub use socket::{
    BindError, RecvMeta, SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, SocketBuffers,
    SocketOptions, SocketStats, UdpSocket,
};
