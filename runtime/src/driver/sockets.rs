//! The sockets of a driver and the calls that do not wait: what every driver for real sockets does while hot.
//!
//! Given: a socket, and a second one for what must not crowd out the rest. Always holds: bytes are lent to the sink
//! for its call only, from one buffer that is used again at once; what did not fit is counted and not handed over.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::own::{Own, read};
use super::side::Side;
use super::{DriverStats, Port, Received};
use crate::buffers::RECV_BUFFER_BYTES;
use crate::socket::{GroupHold, GroupMember, SendStatus, UdpSocket};

/// Batches that a wait which does not sleep reads at most, and events that one turn takes.
pub(super) const TURN_BATCHES_MAX: usize = 64;

/// How long a driver that the kernel refused memory waits before it tries again.
pub(super) const MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// A socket, its side socket and its own port if there are such, and the buffer to read into.
pub(super) struct Sockets {
    pub(super) main: UdpSocket,
    pub(super) side: Option<Side>,
    pub(super) own: Option<Own>,
    buffer: Box<[u8]>,
}

impl Sockets {
    /// Of one socket, and perhaps a side socket.
    pub(super) fn new(main: UdpSocket, side: Option<UdpSocket>) -> Self {
        let buffer = vec![0; RECV_BUFFER_BYTES].into_boxed_slice();
        Self { main, side: side.map(Side::new), own: None, buffer }
    }

    /// Of a member of a group.
    pub(super) fn of_member(member: GroupMember, hold: &GroupHold) -> Self {
        let GroupMember { main, side, own } = member;
        let own = own.map(|own| Own::new(own, hold.clone()));
        Self { own, ..Self::new(main, side) }
    }

    /// Reads at most `batches_max` batches, but none of the side socket; how many there were.
    #[inline]
    pub(super) fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let Self { main, own, buffer, .. } = self;
        let Some(own) = own else {
            return read(main, Port::Shared, buffer, batches_max, sink);
        };
        if own.take_turn() {
            let batches = own.recv(buffer, batches_max, sink)?;
            Ok(batches + read(main, Port::Shared, buffer, batches_max - batches, sink)?)
        } else {
            let batches = read(main, Port::Shared, buffer, batches_max, sink)?;
            Ok(batches + own.recv(buffer, batches_max - batches, sink)?)
        }
    }

    /// Sends from a port.
    #[inline]
    pub(super) fn send(
        &mut self,
        port: Port,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        match (port, &mut self.own) {
            (Port::Member(member), Some(own)) => own.send(member, to, bytes, segment_bytes),
            (Port::Shared, _) | (_, None) => self.main.send(to, bytes, segment_bytes),
        }
    }

    /// Whether some socket but the main one may hold something: then nobody sleeps.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.is_side_pending() || self.is_own_pending()
    }

    /// Whether the own port may hold something.
    #[inline]
    pub(super) fn is_own_pending(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_pending)
    }

    /// The own port was announced to have something.
    pub(super) fn on_own(&mut self) {
        if let Some(own) = &mut self.own {
            own.is_pending = true;
        }
    }

    pub(super) fn own_fd(&self) -> Option<RawFd> {
        self.own.as_ref().map(Own::fd)
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
        let mut stats = DriverStats::default();
        stats.add(self.main.stats());
        if let Some(own) = &self.own {
            own.count_into(&mut stats);
        }
        if let Some(side) = &self.side {
            side.count_into(&mut stats);
        }
        stats
    }
}
