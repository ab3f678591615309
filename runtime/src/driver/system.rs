//! The driver of a shard, whichever of the real ones it is: chosen once, then a branch per call and nothing per datagram.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::epoll::EpollDriver;
use super::uring::{UringDriver, UringOptions};
use super::waker::DriverWaker;
use super::{Driver, DriverStats, Port, Received};
use crate::ring_error::RingError;
use crate::socket::{GroupHold, GroupMember, SendStatus, SocketBuffers, UdpSocket};

/// The drivers for real sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// [`UringDriver`].
    Uring,
    /// [`EpollDriver`].
    Epoll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

/// A driver could not be set up.
#[derive(Debug)]
pub enum DriverError {
    /// The kernel refused an `io_uring`.
    Ring(RingError),
    /// The kernel refused an epoll instance or its eventfd.
    Epoll(io::Error),
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => error.fmt(f),
            Self::Epoll(error) => write!(
                f,
                "epoll cannot be used ({error}): check the limits on open files (`ulimit -n`) and \
                 on memory"
            ),
        }
    }
}

impl std::error::Error for DriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ring(error) => Some(error),
            Self::Epoll(error) => Some(error),
        }
    }
}

/// One of the drivers for real sockets.
pub enum SystemDriver {
    /// Sleeps in an `io_uring`.
    Uring(Box<UringDriver>),
    /// Sleeps in an epoll instance.
    Epoll(Box<EpollDriver>),
}

impl SystemDriver {
    /// Sets up a driver of this kind on the calling thread, which alone may use it from then on. `side` is read by
    /// [`Driver::recv_side`] and wakes as well.
    ///
    /// # Errors
    /// [`DriverError`], whose text says what to do.
    pub fn open(
        kind: DriverKind,
        socket: UdpSocket,
        side: Option<UdpSocket>,
    ) -> Result<Self, DriverError> {
        match kind {
            DriverKind::Uring => UringDriver::with_side(socket, side, UringOptions::default())
                .map(|driver| Self::Uring(Box::new(driver)))
                .map_err(DriverError::Ring),
            DriverKind::Epoll => EpollDriver::with_side(socket, side)
                .map(|driver| Self::Epoll(Box::new(driver)))
                .map_err(DriverError::Epoll),
        }
    }
}

impl SystemDriver {
    /// As [`SystemDriver::open`], for the sockets of a member of a group, which `hold` keeps in their places.
    ///
    /// # Errors
    /// As there.
    pub fn of_member(
        kind: DriverKind,
        member: GroupMember,
        hold: &GroupHold,
    ) -> Result<Self, DriverError> {
        match kind {
            DriverKind::Uring => UringDriver::of_member(member, hold, UringOptions::default())
                .map(|driver| Self::Uring(Box::new(driver)))
                .map_err(DriverError::Ring),
            DriverKind::Epoll => EpollDriver::of_member(member, hold)
                .map(|driver| Self::Epoll(Box::new(driver)))
                .map_err(DriverError::Epoll),
        }
    }
}

/// Does the same with whichever driver it is.
macro_rules! either {
    ($driver:expr, $it:ident => $call:expr) => {
        match $driver {
            SystemDriver::Uring($it) => $call,
            SystemDriver::Epoll($it) => $call,
        }
    };
}

impl Driver for SystemDriver {
    fn local_addr(&self) -> SocketAddr {
        either!(self, driver => driver.local_addr())
    }

    #[inline]
    fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        either!(self, driver => driver.recv(batches_max, sink))
    }

    fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        either!(self, driver => driver.recv_side(datagrams_max, sink))
    }

    fn has_side(&self) -> bool {
        either!(self, driver => driver.has_side())
    }

    #[inline]
    fn is_side_pending(&self) -> bool {
        either!(self, driver => driver.is_side_pending())
    }

    #[inline]
    fn send(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        either!(self, driver => driver.send(to, bytes, segment_bytes))
    }

    #[inline]
    fn send_from(
        &mut self,
        port: Port,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        either!(self, driver => driver.send_from(port, to, bytes, segment_bytes))
    }

    fn wait(
        &mut self,
        deadline_nanos: Option<u64>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        either!(self, driver => driver.wait(deadline_nanos, sink))
    }

    fn waker(&self) -> DriverWaker {
        either!(self, driver => driver.waker())
    }

    fn stats(&self) -> DriverStats {
        either!(self, driver => driver.stats())
    }

    fn buffers(&self) -> SocketBuffers {
        either!(self, driver => driver.buffers())
    }
}
