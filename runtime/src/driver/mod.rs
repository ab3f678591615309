//! The datagram driver: what a shard needs of the machine to move datagrams and to sleep.
//!
//! A driver is used by one thread. Given: a socket, and a sink for what arrives. Always holds:
//! bytes handed to a sink are lent for that call only; a wake sent at any time ends the current or
//! the next [`Driver::wait`]; a datagram that arrived is handed over by the next `recv` or `wait`.

mod waker;

pub mod memory;

mod side;

mod own;

mod sockets;

mod pool;

pub(crate) mod ring;

pub mod uring;

mod poller;

pub mod epoll;

pub mod system;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use crate::socket::{SendStatus, SocketBuffers, SocketStats};

pub use waker::DriverWaker;

/// A port that a driver receives by and sends from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Port {
    /// The one that the members of a group share, or a socket's only one.
    #[default]
    Shared,
    /// Of this member of the group alone.
    Member(u8),
}

/// One batch of datagrams from one sender, lent to a sink.
#[derive(Debug)]
pub struct Received<'a> {
    /// The datagrams, back to back; may be decrypted in place.
    pub bytes: &'a mut [u8],
    /// Length of each datagram but the last, which may be shorter. At least 1, also for an empty
    /// datagram, so that `bytes.chunks_mut(segment_bytes)` is always allowed.
    pub segment_bytes: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// Where they arrived.
    pub port: Port,
}

/// What one driver has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Receive calls into the kernel, empty ones included; what a ring delivers costs none.
    pub recv_calls: u64,
    /// Batches received.
    pub recv_batches: u64,
    /// Datagrams received, each segment of a batch counted.
    pub recv_datagrams: u64,
    /// Payload bytes received.
    pub recv_bytes: u64,
    /// Batches dropped because they did not fit their buffer, or came from the ring incomplete.
    pub recv_truncated: u64,
    /// Receives, by call or by ring, and sleeps that the kernel refused for want of memory; they were tried again.
    pub memory_refusals: u64,
    /// Datagrams that the kernel dropped for want of socket buffer, as last told.
    pub kernel_drops: u64,
    /// Of the datagrams received, those that came to the member's own port.
    pub own_datagrams: u64,
    /// Datagrams received from the side socket, not counted above.
    pub side_datagrams: u64,
    /// Batches and datagrams of it that did not fit their buffer and were cut; their whole datagrams are counted above.
    pub side_truncated: u64,
    /// Datagrams that the kernel dropped for want of its buffer, as last told.
    pub side_drops: u64,
    /// Send calls into the kernel.
    pub send_calls: u64,
    /// Datagrams handed to the kernel, each segment of a run counted.
    pub send_datagrams: u64,
    /// Payload bytes handed to the kernel.
    pub send_bytes: u64,
    /// Sends turned away because there was no room.
    pub send_would_block: u64,
    /// Segmented runs that the kernel refused and that were sent singly instead.
    pub gso_fallbacks: u64,
    /// ICMP errors of earlier datagrams, stepped over.
    pub icmp_errors: u64,
    /// Calls of [`Driver::wait`].
    pub waits: u64,
    /// Those of them that found or were ended by a wake.
    pub wakes: u64,
    /// How often the ring's receive had run out of buffers, or failed, and was armed again.
    pub multishot_rearms: u64,
    /// Rings made anew because the kernel had lost completions of the old one.
    pub ring_renewals: u64,
    /// Ring buffers that came back from the kernel with a datagram.
    pub buffers_lent: u64,
    /// Ring buffers given to the kernel again; equal to `buffers_lent` between two calls.
    pub buffers_returned: u64,
}

impl DriverStats {
    /// Adds what a socket for anything but hellos has counted.
    fn add(&mut self, socket: SocketStats) {
        self.recv_calls += socket.recv_calls;
        self.recv_batches += socket.recv_batches;
        self.recv_datagrams += socket.recv_datagrams;
        self.recv_bytes += socket.recv_bytes;
        self.recv_truncated += socket.recv_truncated;
        self.memory_refusals += socket.recv_refused;
        self.kernel_drops += socket.kernel_drops;
        self.send_calls += socket.send_calls;
        self.send_datagrams += socket.send_datagrams;
        self.send_bytes += socket.send_bytes;
        self.send_would_block += socket.send_would_block;
        self.gso_fallbacks += socket.gso_fallbacks;
        self.icmp_errors += socket.icmp_errors;
    }
}

/// Moves datagrams and parks the thread. See [`uring`] and [`epoll`] for real ones, [`memory`] for simulation.
pub trait Driver {
    /// The address that peers reach this driver by (its port, at least).
    fn local_addr(&self) -> SocketAddr;

    /// Reads without blocking, at most `batches_max` batches, and hands each to `sink`; returns how
    /// many. The hot path: it allocates nothing, and an empty one costs one kernel call.
    ///
    /// # Errors
    /// The system's, when the socket is broken.
    fn recv(&mut self, batches_max: usize, sink: &mut dyn FnMut(Received<'_>))
    -> io::Result<usize>;

    /// Reads without blocking, at most `datagrams_max` datagrams, from the side socket if there is one; returns how many.
    ///
    /// # Errors
    /// The system's, when that socket is broken.
    fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let _ = (datagrams_max, sink);
        Ok(0)
    }

    /// Whether there is a side socket.
    fn has_side(&self) -> bool {
        false
    }

    /// Whether the side socket is known to hold something, or may. While it may, [`Driver::wait`] does not sleep. An
    /// arrival while nobody waits may stay unknown until the next look.
    fn is_side_pending(&self) -> bool {
        false
    }

    /// Sends one datagram, or a run of them when `bytes` is longer than `segment_bytes`; see
    /// [`crate::socket::UdpSocket::send`].
    ///
    /// # Errors
    /// As there.
    fn send(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus>;

    /// As [`Driver::send`], from a given port. A driver with one port sends from that.
    ///
    /// # Errors
    /// As there, and `EBADF` when there is no such port or no descriptor left to use it with.
    fn send_from(
        &mut self,
        port: Port,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        let _ = port;
        self.send(to, bytes, segment_bytes)
    }

    /// Parks the thread until a datagram arrives, a wake, or `deadline_nanos` on
    /// [`crate::clock::Clock`] (`None`: no limit), and hands over what arrived; returns how many
    /// batches. May return early with none.
    ///
    /// # Errors
    /// The system's, when the socket or the ring is broken.
    fn wait(
        &mut self,
        deadline_nanos: Option<u64>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize>;

    /// A handle with which any thread ends this driver's wait.
    fn waker(&self) -> DriverWaker;

    /// What this driver has done so far.
    fn stats(&self) -> DriverStats;

    /// The socket's buffer sizes as asked and as granted.
    fn buffers(&self) -> SocketBuffers;
}
