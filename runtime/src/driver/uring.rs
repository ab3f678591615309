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
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::pool::{BufferPool, POOL_BUFFERS_MAX};
use super::side::{Side, poll_entry, poll_result};
use super::waker::{DriverWaker, WakeState};
use super::{Driver, DriverStats, Received};
use crate::buffers::RECV_BUFFER_BYTES;
use crate::clock::Clock;
use crate::ring_error::RingError;
use crate::socket::{RecvMeta, SendStatus, SocketBuffers, UdpSocket, parse_batch};

/// Submissions in flight between two entries: the receive and two polls.
const RING_ENTRIES: u32 = 8;
const BUFFER_GROUP: u16 = 0;
const SOCKET_FILE: Fixed = Fixed(0);
const EVENT_FILE: Fixed = Fixed(1);
const SIDE_FILE: Fixed = Fixed(2);
const RECV_TAG: u64 = 1;
const WAKE_TAG: u64 = 2;
const SIDE_TAG: u64 = 3;

/// How long a driver that is dropped waits for each of its requests to end.
const RELEASE_PATIENCE: Timespec = Timespec::new().nsec(100_000_000);

/// Batches that a wait which does not sleep reads at most, and completions that one turn takes.
const TURN_BATCHES_MAX: usize = 64;

/// Bytes in front of the payload of a ring buffer: `io_uring_recvmsg_out`, address, control data.
const HEADER_BYTES: usize = 16;
const NAME_BYTES: usize = 32;
const CONTROL_BYTES: usize = 96;
const PAYLOAD_OFFSET: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;

// The longest batch fits whole, and payloads start on a 16-byte boundary as ciphers like.
const _: () =
    assert!(PAYLOAD_OFFSET + 65_535 <= RECV_BUFFER_BYTES && PAYLOAD_OFFSET.is_multiple_of(16));

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
    // Dropped in this order: the ring's descriptor before the memory it was told about.
    ring: IoUring,
    pool: BufferPool,
    header: Box<libc::msghdr>,
    socket: UdpSocket,
    side: Option<Side>,
    wake: WakeState,
    hot_buffer: Box<[u8]>,
    clock: Clock,
    recv_armed: bool,
    recv_arms: u64,
    wake_armed: bool,
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
        let capacity = options.ring_buffers.clamp(1, POOL_BUFFERS_MAX).next_power_of_two();
        let ring = build_ring().map_err(RingError::at("io_uring_setup"))?;
        if !ring.params().is_feature_ext_arg() {
            return Err(RingError::NotSupported { step: "waiting with a timeout" });
        }
        let wake = WakeState::with_event().map_err(RingError::at("eventfd"))?;
        let event_fd = wake.event_fd().unwrap_or(-1);
        // Without a side socket its place stays empty (-1), and nothing names it.
        let side_fd = side.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        ring.submitter()
            .register_files(&[socket.as_raw_fd(), event_fd, side_fd])
            .map_err(RingError::at("registering files"))?;
        let pool = BufferPool::new(capacity).map_err(RingError::at("mapping receive buffers"))?;
        // SAFETY: the address is a page-aligned page of `pool` with room for its entries. It stays
        // mapped until the driver's `drop` has unregistered it: ring and pool live in one struct.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(
                    pool.entries_address(),
                    pool.capacity(),
                    BUFFER_GROUP,
                    0,
                )
                .map_err(RingError::at("registering receive buffers"))?;
        }
        let mut driver = Self {
            ring,
            pool,
            header: Box::new(recv_header()),
            socket,
            side: side.map(Side::new),
            wake,
            hot_buffer: vec![0; RECV_BUFFER_BYTES].into_boxed_slice(),
            clock: Clock::new(),
            recv_armed: false,
            recv_arms: 0,
            wake_armed: false,
            icmp_errors: 0,
            waits: 0,
            wakes: 0,
            thread: PhantomData,
        };
        driver.pool.give_all();
        driver.check_multishot()?;
        Ok(driver)
    }

    /// The socket, for its facts and counters.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Finds out at start-up whether this kernel knows multishot receive: asked for on a file that is
    /// no socket, it is refused as unknown (`EINVAL`) or, where it is known, for the file (`ENOTSOCK`).
    fn check_multishot(&mut self) -> Result<(), RingError> {
        let step = "multishot recvmsg";
        let entry =
            opcode::RecvMsgMulti::new(EVENT_FILE, &raw const *self.header, BUFFER_GROUP).build();
        self.push(&entry);
        self.ring.submit_and_wait(1).map_err(RingError::at(step))?;
        let result = self.ring.completion().next().map_or(0, |entry| -entry.result());
        match result {
            libc::ENOTSOCK => Ok(()),
            errno => Err(RingError::new(step, io::Error::from_raw_os_error(errno))),
        }
    }

    /// Queues whichever of the requests is not armed.
    fn arm(&mut self) {
        if !self.recv_armed {
            let entry =
                opcode::RecvMsgMulti::new(SOCKET_FILE, &raw const *self.header, BUFFER_GROUP)
                    .build()
                    .user_data(RECV_TAG);
            self.push(&entry);
            self.recv_armed = true;
            self.recv_arms += 1;
        }
        if !self.wake_armed {
            self.push(&poll_entry(EVENT_FILE, WAKE_TAG));
            self.wake_armed = true;
        }
        if self.side.as_mut().is_some_and(|side| !mem::replace(&mut side.is_armed, true)) {
            self.push(&poll_entry(SIDE_FILE, SIDE_TAG));
        }
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        // SAFETY: the entry names registered files, a buffer group whose memory the driver keeps until
        // it has unregistered it, and `header`, which lives in a box as long as the ring.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "three requests fit a submission queue of {RING_ENTRIES}");
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
        match self.ring.submitter().submit_with_args(1, &arguments) {
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
            let Some(entry) = self.ring.completion().next() else {
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
        assert_eq!(self.pool.lent(), self.pool.returned(), "receive buffers outlived their turn");
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
            && let Some(buffer) = self.pool.take(index)
        {
            let filled = usize::try_from(entry.result()).unwrap_or(0).min(buffer.len());
            if hand_over(&self.socket, &self.header, &mut buffer[..filled], sink) {
                batches = 1;
            }
            self.pool.give(index);
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
        if let Some(side) = &mut self.side {
            side.is_pending = true;
            side.is_armed = cqueue::more(entry.flags());
        }
        poll_result(entry)
    }

    /// Lets go of socket and buffers at once, rather than when the kernel gets round to it: a request
    /// holds its file until its last completion was made, which takes an entry to the ring.
    fn release(&mut self) -> io::Result<()> {
        let everything = CancelBuilder::any();
        match self.ring.submitter().register_sync_cancel(Some(RELEASE_PATIENCE), everything) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        let patience = SubmitArgs::new().timespec(&RELEASE_PATIENCE);
        let is_side_armed = |side: &Option<Side>| side.as_ref().is_some_and(|side| side.is_armed);
        while self.recv_armed || self.wake_armed || is_side_armed(&self.side) {
            self.ring.submitter().submit_with_args(1, &patience)?;
            for entry in self.ring.completion() {
                let armed = cqueue::more(entry.flags());
                match entry.user_data() {
                    RECV_TAG => self.recv_armed = armed,
                    SIDE_TAG => self.side.iter_mut().for_each(|side| side.is_armed = armed),
                    _ => self.wake_armed = armed,
                }
            }
        }
        self.ring.submitter().unregister_buf_ring(BUFFER_GROUP)?;
        self.ring.submitter().unregister_files()
    }
}

impl Driver for UringDriver {
    fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    #[inline]
    fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        // Without DEFER_TASKRUN the ring fills buffers at any time; older batches go first.
        let mut batches = 0;
        if !self.ring.completion().is_empty() {
            batches += self.drain(sink)?;
        }
        while batches < batches_max {
            let Some(meta) = self.socket.recv(&mut self.hot_buffer)? else {
                break;
            };
            if meta.truncated {
                continue;
            }
            batches += 1;
            sink(Received {
                bytes: &mut self.hot_buffer[..meta.len],
                segment_bytes: meta.segment_bytes,
                from: meta.from,
            });
        }
        Ok(batches)
    }

    fn recv_side(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.side.as_mut().map_or(Ok(0), |side| side.recv(datagrams_max, sink))
    }

    #[inline]
    fn is_side_pending(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.is_pending)
    }

    #[inline]
    fn send(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        self.socket.send(to, bytes, segment_bytes)
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
        let socket = DriverStats::from(self.socket.stats());
        let side = self.side.as_ref().map_or_else(Default::default, Side::stats);
        DriverStats {
            side_datagrams: side.recv_datagrams,
            side_drops: side.kernel_drops,
            icmp_errors: socket.icmp_errors + self.icmp_errors,
            waits: self.waits,
            wakes: self.wakes,
            multishot_rearms: self.recv_arms.saturating_sub(1),
            buffers_lent: self.pool.lent(),
            buffers_returned: self.pool.returned(),
            ..socket
        }
    }

    fn buffers(&self) -> SocketBuffers {
        self.socket.buffers()
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            self.pool.leak();
            tracing::warn!(%error, "an io_uring did not let go of its socket at once");
        }
    }
}

/// The most capable ring this kernel has: flags of Linux 6.1, then of 6.0 and 5.19, then none.
fn build_ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(RING_ENTRIES * 16);
    let flag_sets: [fn(&mut io_uring::Builder); 4] = [
        |builder| {
            builder.setup_single_issuer().setup_defer_taskrun();
        },
        |builder| {
            builder.setup_single_issuer().setup_coop_taskrun();
        },
        |builder| {
            builder.setup_coop_taskrun();
        },
        |_| {},
    ];
    let mut refusal = io::Error::from_raw_os_error(libc::EINVAL);
    for set_flags in flag_sets {
        let mut flagged = builder.clone();
        set_flags(&mut flagged);
        match flagged.build(RING_ENTRIES) {
            Ok(ring) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

/// Tells a multishot receive how much room each buffer keeps for address and control data.
fn recv_header() -> libc::msghdr {
    // SAFETY: msghdr is a C structure of integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_controllen = CONTROL_BYTES;
    header
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

#[cfg(test)]
#[path = "uring_tests.rs"]
mod tests;
