//! The sockets of a driver and the calls that do not wait: what every driver for real sockets does while hot.
//!
//! Given: a socket, and a second one for what must not crowd out the rest. Always holds: bytes are lent to the sink
//! for its call only, from one buffer that is used again at once; what did not fit is counted and not handed over.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::side::Side;
use super::{DriverStats, Received};
use crate::buffers::RECV_BUFFER_BYTES;
use crate::socket::UdpSocket;

/// Batches that a wait which does not sleep reads at most, and events that one turn takes.
pub(super) const TURN_BATCHES_MAX: usize = 64;

/// How long a driver that the kernel refused memory waits before it tries again.
pub(super) const MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// A socket, its side socket if there is one, and the buffer to read into.
pub(super) struct Sockets {
    pub(super) main: UdpSocket,
    pub(super) side: Option<Side>,
    buffer: Box<[u8]>,
}

impl Sockets {
    pub(super) fn new(main: UdpSocket, side: Option<UdpSocket>) -> Self {
        let buffer = vec![0; RECV_BUFFER_BYTES].into_boxed_slice();
        Self { main, side: side.map(Side::new), buffer }
    }

    /// Reads at most `batches_max` batches of the main socket; how many there were.
    #[inline]
    pub(super) fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let mut batches = 0;
        while batches < batches_max {
            let Some(meta) = self.main.recv(&mut self.buffer)? else {
                break;
            };
            if meta.truncated {
                continue;
            }
            batches += 1;
            sink(Received {
                bytes: &mut self.buffer[..meta.len],
                segment_bytes: meta.segment_bytes,
                from: meta.from,
            });
        }
        Ok(batches)
    }

    /// Reads at most `datagrams_max` datagrams of the side socket; how many there were.
    pub(super) fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.side.as_mut().map_or(Ok(0), |side| side.recv(datagrams_max, sink))
    }

    #[inline]
    pub(super) fn is_side_pending(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.is_pending)
    }

    /// The side socket was announced to have something.
    pub(super) fn on_side(&mut self) {
        if let Some(side) = &mut self.side {
            side.is_pending = true;
        }
    }

    pub(super) fn side_fd(&self) -> Option<RawFd> {
        self.side.as_ref().map(Side::fd)
    }

    pub(super) fn main_fd(&self) -> RawFd {
        self.main.as_raw_fd()
    }

    /// What the sockets have counted; the rest is the driver's.
    pub(super) fn stats(&self) -> DriverStats {
        let mut stats = DriverStats::from(self.main.stats());
        if let Some(side) = &self.side {
            side.count_into(&mut stats);
        }
        stats
    }
}
