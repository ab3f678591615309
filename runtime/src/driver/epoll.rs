//! The driver for machines that refuse `io_uring`: plain calls while hot, an epoll instance to sleep in.
//!
//! Hot it does what [`super::uring`] does, by the same code. To sleep, it waits on all its sockets and on the waker's
//! eventfd at once; what arrived meanwhile is read by plain calls.
//!
//! Always holds: *no datagram is lost or overlooked*: the sockets wake by level, so a wait ends while anything is
//! unread. *No wake is lost*: see `DriverWaker`; sleep is announced before the wait, and the eventfd, which nobody reads,
//! wakes by edge, once per write. *No buffer outlives its turn*: there is one per socket, lent for the sink's call.

use std::io;
use std::net::SocketAddr;

use super::poller::{Poller, Trigger};
use super::sockets::{MEMORY_PAUSE, Sockets, TURN_BATCHES_MAX};
use super::waker::{DriverWaker, WakeState};
use super::{Driver, DriverStats, Port, Received};
use crate::clock::Clock;
use crate::faults::{self, Call};
use crate::socket::{GroupHold, GroupMember, SendStatus, SocketBuffers, UdpSocket};

const MAIN_TAG: u64 = 1;
const WAKE_TAG: u64 = 2;
const SIDE_TAG: u64 = 3;
const OWN_TAG: u64 = 4;

/// A UDP socket with an epoll instance to sleep in.
pub struct EpollDriver {
    poller: Poller,
    sockets: Sockets,
    wake: WakeState,
    clock: Clock,
    memory_refusals: u64,
    waits: u64,
    wakes: u64,
}

impl EpollDriver {
    /// A driver for `socket`.
    ///
    /// # Errors
    /// The kernel's, when there is no descriptor (`EMFILE`, `ENFILE`) or memory left.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        Self::with_side(socket, None)
    }

    /// As [`EpollDriver::new`], with a second socket that is read by [`Driver::recv_side`] and wakes as well.
    ///
    /// # Errors
    /// As there.
    pub fn with_side(socket: UdpSocket, side: Option<UdpSocket>) -> io::Result<Self> {
        Self::of(Sockets::new(socket, side))
    }

    /// A driver for the sockets of a member of a group, which `hold` keeps in their places.
    ///
    /// # Errors
    /// As [`EpollDriver::new`].
    pub fn of_member(member: GroupMember, hold: &GroupHold) -> io::Result<Self> {
        Self::of(Sockets::of_member(member, hold))
    }

    fn of(sockets: Sockets) -> io::Result<Self> {
        let (wake, poller) = (WakeState::with_event()?, Poller::new()?);
        poller.add(sockets.main_fd(), MAIN_TAG, Trigger::Level)?;
        if let Some(event) = wake.event_fd() {
            poller.add(event, WAKE_TAG, Trigger::Edge)?;
        }
        if let Some(side) = sockets.side_fd() {
            poller.add(side, SIDE_TAG, Trigger::Level)?;
        }
        if let Some(own) = sockets.own_fd() {
            poller.add(own, OWN_TAG, Trigger::Level)?;
        }
        Ok(Self {
            poller,
            sockets,
            wake,
            clock: Clock::new(),
            memory_refusals: 0,
            waits: 0,
            wakes: 0,
        })
    }

    /// The socket, for its facts and counters.
    pub fn socket(&self) -> &UdpSocket {
        &self.sockets.main
    }

    /// Sleeps until something is there or the deadline; whether a socket but the side one has something, or may. An
    /// interrupted sleep just ends.
    fn sleep(&mut self, deadline_nanos: Option<u64>) -> io::Result<bool> {
        let now = || self.clock.now_nanos();
        let left = deadline_nanos.map(|deadline| deadline.saturating_sub(now()));
        let ready = faults::check(Call::Sleep).and_then(|()| self.poller.wait(left));
        let ready = match ready.map_err(|error| (error.raw_os_error(), error)) {
            Ok(ready) => ready,
            Err((Some(libc::EINTR | libc::EAGAIN), _)) => return Ok(true),
            Err((Some(libc::ENOMEM), _)) => {
                self.memory_refusals += 1;
                self.clock.pause(deadline_nanos, MEMORY_PAUSE);
                return Ok(true);
            }
            Err((_, error)) => return Err(error),
        };
        let mut is_there = false;
        for tag in ready.tags() {
            match tag {
                MAIN_TAG => is_there = true,
                OWN_TAG => {
                    is_there = true;
                    self.sockets.on_own();
                }
                SIDE_TAG => self.sockets.on_side(),
                // Whoever wrote to the eventfd has changed the state before, and that is what counts.
                _ => {}
            }
        }
        Ok(is_there)
    }
}

impl Driver for EpollDriver {
    fn local_addr(&self) -> SocketAddr {
        self.sockets.main.local_addr()
    }

    #[inline]
    fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.sockets.recv(batches_max, sink)
    }

    fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.sockets.recv_side(datagrams_max, sink)
    }

    fn has_side(&self) -> bool {
        self.sockets.side.is_some()
    }

    #[inline]
    fn is_side_pending(&self) -> bool {
        self.sockets.is_side_pending()
    }

    #[inline]
    fn send(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        self.sockets.main.send(to, bytes, segment_bytes)
    }

    #[inline]
    fn send_from(
        &mut self,
        port: Port,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        self.sockets.send(port, to, bytes, segment_bytes)
    }

    fn wait(
        &mut self,
        deadline_nanos: Option<u64>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.waits += 1;
        let is_due = deadline_nanos.is_some_and(|deadline| deadline <= self.clock.now_nanos());
        if is_due || self.sockets.is_pending() {
            self.wakes += u64::from(self.wake.unpark());
            return self.recv(TURN_BATCHES_MAX, sink);
        }
        if !self.wake.park() {
            self.wakes += 1;
            return self.recv(TURN_BATCHES_MAX, sink);
        }
        let slept = self.sleep(deadline_nanos);
        self.wakes += u64::from(self.wake.unpark());
        if slept? { self.recv(TURN_BATCHES_MAX, sink) } else { Ok(0) }
    }

    fn waker(&self) -> DriverWaker {
        self.wake.waker()
    }

    /// Nothing of a ring: its counters stay 0.
    fn stats(&self) -> DriverStats {
        let sockets = self.sockets.stats();
        DriverStats {
            memory_refusals: sockets.memory_refusals + self.memory_refusals,
            waits: self.waits,
            wakes: self.wakes,
            ..sockets
        }
    }

    fn buffers(&self) -> SocketBuffers {
        self.sockets.main.buffers()
    }
}
