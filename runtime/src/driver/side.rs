//! The second socket of a driver: for datagrams that must not crowd out the others (see [`crate::SocketGroup`]).
//!
//! Always holds: `is_pending` is false only if the socket was found empty and nothing has been announced since; so a
//! driver that sleeps while it is false, and is told of arrivals, overlooks nothing.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::Received;
use crate::socket::{RECV_MANY_MAX, RecvMeta, SocketStats, UdpSocket};

/// A second socket, read a little at a time.
pub(super) struct Side {
    socket: UdpSocket,
    /// There may be something to read.
    pub(super) is_pending: bool,
    buffer: Box<[u8]>,
}

/// Longest datagram that is taken whole, bytes; what is longer is no handshake of anybody's.
const SLOT_BYTES: usize = 9_216;

impl Side {
    pub(super) fn new(socket: UdpSocket) -> Self {
        let buffer = vec![0; RECV_MANY_MAX * SLOT_BYTES].into_boxed_slice();
        Self { socket, is_pending: true, buffer }
    }

    /// Reads at most `datagrams_max`; how many there were.
    pub(super) fn recv(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.is_pending = true;
        let mut count = 0;
        while count < datagrams_max {
            let left = datagrams_max - count;
            let mut hand_over = |meta: RecvMeta, bytes: &mut [u8]| {
                if !meta.truncated {
                    sink(Received { bytes, segment_bytes: meta.segment_bytes, from: meta.from });
                }
            };
            let got = self.socket.recv_many(&mut self.buffer, SLOT_BYTES, left, &mut hand_over)?;
            if got == 0 {
                // Fewer than asked for may also mean an error of the next one, so only nothing means empty.
                self.is_pending = false;
                break;
            }
            count += got;
        }
        Ok(count)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn stats(&self) -> SocketStats {
        self.socket.stats()
    }
}
