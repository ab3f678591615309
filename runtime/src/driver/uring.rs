//! The driver for real sockets: plain calls while hot, an `io_uring` to sleep in.
//!
//! Hot, `recv` and `send` are non-blocking system calls on the socket. On the way to sleep, `wait` arms two
//! requests on the ring that stay armed while they can: a multishot receive that fills buffers of a
//! pool, and a multishot poll of the waker's eventfd. With `DEFER_TASKRUN` neither does anything until
//! the thread enters the ring, so an armed ring costs hot traffic next to nothing.
//!
//! Always holds: *no datagram is lost or overlooked.* The armed receive notes each arrival; entering the
//! ring then reads until the socket is empty before it sleeps, and arming it anew reads at once what is
//! there already. So `wait` needs no last look at the socket. *No wake is lost*: see `DriverWaker`; sleep is
//! announced before the ring is entered. *No buffer outlives its turn*: each goes back as soon as the
//! sink has seen it. What the ring delivered and what a later `recv` reads may come out of order by as
//! much as one turn.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::SocketAddr;

use io_uring::cqueue;
use io_uring::types::{CancelBuilder, RecvMsgOut, SubmitArgs, Timespec};

use super::ring::{EVENT_FILE, NO_FILE, PAYLOAD_OFFSET, Ring, SIDE_FILE, SOCKET_FILE};
use super::sockets::{Sockets, TURN_BATCHES_MAX};
use super::waker::{DriverWaker, WakeState};
use super::{Driver, DriverStats, Received};
use crate::clock::Clock;
use crate::ring_error::RingError;
use crate::socket::{RecvMeta, SendStatus, SocketBuffers, UdpSocket, parse_batch};

const RECV_TAG: u64 = 1;
const WAKE_TAG: u64 = 2;
const SIDE_TAG: u64 = 3;

/// How long a driver that is dropped waits for each of its requests to end.
const RELEASE_PATIENCE: Timespec = Timespec::new().nsec(100_000_000);

/// What to ask of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringOptions {
    /// Receive buffers that the ring may fill during one sleep, each
    /// [`crate::buffers::RECV_BUFFER_BYTES`] long; rounded up to a power of two, 1 to 256.
    pub ring_buffers: u16,
}

impl Default for UringOptions {
    /// 16 buffers, about 1 MiB: more than one sleep brings, and the rest is read hot.
    fn default() -> Self {
        Self { ring_buffers: 16 }
    }
}

/// A UDP socket with a ring to sleep in. Belongs to the thread that made it.
pub struct UringDriver {
    // Dropped in this order: the ring before the files that it was told about.
    ring: Ring,
    sockets: Sockets,
    wake: WakeState,
    clock: Clock,
    recv_armed: bool,
    recv_arms: u64,
    wake_armed: bool,
    side_armed: bool,
    icmp_errors: u64,
    waits: u64,
    wakes: u64,
    /// `SINGLE_ISSUER`: only the thread that made the ring may enter it, so the type is not `Send`.
    thread: PhantomData<*const ()>,
}

impl UringDriver {
    /// Sets up a ring for `socket` on the calling thread, which alone may use it from then on.
    ///
    /// # Errors
    /// [`RingError`] when the kernel refuses; its text names cause and remedy.
    pub fn new(socket: UdpSocket, options: UringOptions) -> Result<Self, RingError> {
        Self::with_side(socket, None, options)
    }

    /// As [`UringDriver::new`], with a second socket that is read by [`Driver::recv_side`] and wakes as well.
    ///
    /// # Errors
    /// As there.
    pub fn with_side(
        socket: UdpSocket,
        side: Option<UdpSocket>,
        options: UringOptions,
    ) -> Result<Self, RingError> {
        let sockets = Sockets::new(socket, side);
        let wake = WakeState::with_event().map_err(RingError::at("eventfd"))?;
        let event_fd = wake.event_fd().unwrap_or(NO_FILE);
        let files = [sockets.main_fd(), event_fd, sockets.side_fd().unwrap_or(NO_FILE)];
        Ok(Self {
            ring: Ring::new(files, options.ring_buffers)?,
            sockets,
            wake,
            clock: Clock::new(),
            recv_armed: false,
            recv_arms: 0,
            wake_armed: false,
            side_armed: false,
            icmp_errors: 0,
            waits: 0,
            wakes: 0,
            thread: PhantomData,
        })
    }

    /// The socket, for its facts and counters.
    pub fn socket(&self) -> &UdpSocket {
        &self.sockets.main
    }

    /// Queues whichever of the requests is not armed.
    fn arm(&mut self) {
        if !mem::replace(&mut self.recv_armed, true) {
            self.ring.push_recv(SOCKET_FILE, RECV_TAG);
            self.recv_arms += 1;
        }
        if !mem::replace(&mut self.wake_armed, true) {
            self.ring.push_poll(EVENT_FILE, WAKE_TAG);
        }
        if self.sockets.side.is_some() && !mem::replace(&mut self.side_armed, true) {
            self.ring.push_poll(SIDE_FILE, SIDE_TAG);
        }
    }

    /// Sleeps in the ring until a completion or the deadline; an interrupted sleep just ends.
    fn sleep(&mut self, deadline_nanos: Option<u64>) -> io::Result<()> {
        self.arm();
        let left = deadline_nanos.map(|deadline| {
            let nanos = deadline.saturating_sub(self.clock.now_nanos());
            Timespec::new().sec(nanos / 1_000_000_000).nsec((nanos % 1_000_000_000) as u32)
        });
        let arguments = match &left {
            Some(left) => SubmitArgs::new().timespec(left),
            None => SubmitArgs::new(),
        };
        match self.ring.uring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Timeout, signal, or completions to take first: all are reasons to look and return.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes completions and hands over what they brought; returns how many batches.
    fn drain(&mut self, sink: &mut dyn FnMut(Received<'_>)) -> io::Result<usize> {
        let mut batches = 0;
        let mut failure = Ok(());
        for _ in 0..TURN_BATCHES_MAX {
            let Some(entry) = self.ring.uring.completion().next() else {
                break;
            };
            let outcome = match entry.user_data() {
                RECV_TAG => self.on_recv(&entry, sink),
                SIDE_TAG => self.on_side(&entry),
                _ => self.on_wake(&entry),
            };
            match outcome {
                Ok(brought) => batches += brought,
                Err(error) => failure = Err(error),
            }
        }
        assert_eq!(
            self.ring.pool.lent(),
            self.ring.pool.returned(),
            "receive buffers outlived their turn"
        );
        failure.map(|()| batches)
    }

    fn on_recv(
        &mut self,
        entry: &cqueue::Entry,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        if !cqueue::more(entry.flags()) {
            self.recv_armed = false;
        }
        let mut batches = 0;
        if let Some(index) = cqueue::buffer_select(entry.flags())
            && let Some(buffer) = self.ring.pool.take(index)
        {
            let filled = usize::try_from(entry.result()).unwrap_or(0).min(buffer.len());
            if hand_over(&self.sockets.main, &self.ring.header, &mut buffer[..filled], sink) {
                batches = 1;
            }
            self.ring.pool.give(index);
        }
        match -entry.result() {
            // Out of buffers: they are back by the end of this turn, and the next wait arms anew.
            ..=0 | libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR => Ok(batches),
            errno if UdpSocket::is_icmp(errno) => {
                self.icmp_errors += 1;
                Ok(batches)
            }
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn on_wake(&mut self, entry: &cqueue::Entry) -> io::Result<usize> {
        if !cqueue::more(entry.flags()) {
            self.wake_armed = false;
        }
        poll_result(entry)
    }

    /// Something arrived at the side socket; it is read when there is time.
    fn on_side(&mut self, entry: &cqueue::Entry) -> io::Result<usize> {
        self.sockets.on_side();
        self.side_armed = cqueue::more(entry.flags());
        poll_result(entry)
    }

    /// Lets go of the files at once, rather than when the kernel gets round to it: a request holds its file until its
    /// last completion was made, which takes an entry to the ring.
    fn release(&mut self) -> io::Result<()> {
        let everything = CancelBuilder::any();
        let submitter = self.ring.uring.submitter();
        match submitter.register_sync_cancel(Some(RELEASE_PATIENCE), everything) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        let patience = SubmitArgs::new().timespec(&RELEASE_PATIENCE);
        while self.recv_armed || self.wake_armed || self.side_armed {
            self.ring.uring.submitter().submit_with_args(1, &patience)?;
            for entry in self.ring.uring.completion() {
                let armed = cqueue::more(entry.flags());
                match entry.user_data() {
                    RECV_TAG => self.recv_armed = armed,
                    SIDE_TAG => self.side_armed = armed,
                    _ => self.wake_armed = armed,
                }
            }
        }
        Ok(())
    }
}

impl Driver for UringDriver {
    fn local_addr(&self) -> SocketAddr {
        self.sockets.main.local_addr()
    }

    #[inline]
    fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        // Without DEFER_TASKRUN the ring fills buffers at any time; older batches go first.
        let mut batches = 0;
        if !self.ring.uring.completion().is_empty() {
            batches += self.drain(sink)?;
        }
        batches += self.sockets.recv(batches_max.saturating_sub(batches), sink)?;
        Ok(batches)
    }

    fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.sockets.recv_side(datagrams_max, sink)
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

    fn wait(
        &mut self,
        deadline_nanos: Option<u64>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.waits += 1;
        let is_due = deadline_nanos.is_some_and(|deadline| deadline <= self.clock.now_nanos());
        if is_due || self.is_side_pending() {
            self.wakes += u64::from(self.wake.unpark());
            return self.recv(TURN_BATCHES_MAX, sink);
        }
        if !self.wake.park() {
            self.wakes += 1;
            return self.recv(TURN_BATCHES_MAX, sink);
        }
        let slept = self.sleep(deadline_nanos);
        self.wakes += u64::from(self.wake.unpark());
        slept?;
        self.drain(sink)
    }

    fn waker(&self) -> DriverWaker {
        self.wake.waker()
    }

    fn stats(&self) -> DriverStats {
        let sockets = self.sockets.stats();
        DriverStats {
            icmp_errors: sockets.icmp_errors + self.icmp_errors,
            waits: self.waits,
            wakes: self.wakes,
            multishot_rearms: self.recv_arms.saturating_sub(1),
            buffers_lent: self.ring.pool.lent(),
            buffers_returned: self.ring.pool.returned(),
            ..sockets
        }
    }

    fn buffers(&self) -> SocketBuffers {
        self.sockets.main.buffers()
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            self.ring.pool.leak();
            tracing::warn!(%error, "an io_uring did not let go of its socket at once");
        }
    }
}

/// What the completion of a poll says: no batch, or that its file is broken.
fn poll_result(entry: &cqueue::Entry) -> io::Result<usize> {
    match -entry.result() {
        ..=0 | libc::ECANCELED => Ok(0),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Takes a filled ring buffer apart and lends its payload to `sink`; false if it was not usable.
fn hand_over(
    socket: &UdpSocket,
    header: &libc::msghdr,
    buffer: &mut [u8],
    sink: &mut dyn FnMut(Received<'_>),
) -> bool {
    let Some(meta) = RecvMsgOut::parse(buffer, header).ok().and_then(|out| {
        let len = out.payload_data().len();
        let truncated = out.is_payload_truncated() || out.is_name_data_truncated();
        parse_batch(socket, out.name_data(), out.control_data(), len, truncated)
    }) else {
        return false;
    };
    let RecvMeta { len, segment_bytes, from, truncated, .. } = meta;
    if !truncated {
        let bytes = &mut buffer[PAYLOAD_OFFSET..PAYLOAD_OFFSET + len];
        sink(Received { bytes, segment_bytes, from });
    }
    !truncated
}
