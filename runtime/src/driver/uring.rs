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
use std::os::fd::RawFd;

use io_uring::cqueue;
use io_uring::types::{CancelBuilder, RecvMsgOut, SubmitArgs, Timespec};

use super::ring::{EVENT_FILE, NO_FILE, OWN_FILE, PAYLOAD_OFFSET, Ring, SIDE_FILE, SOCKET_FILE};
use super::sockets::{MEMORY_PAUSE, Sockets, TURN_BATCHES_MAX};
use super::waker::{DriverWaker, WakeState};
use super::{Driver, DriverStats, Port, Received};
use crate::clock::Clock;
use crate::faults::{self, Call};
use crate::ring_error::RingError;
use crate::socket::{
    GroupHold, GroupMember, RecvMeta, SendStatus, SocketBuffers, UdpSocket, parse_batch,
};

pub use super::ring::UringOptions;

const RECV_TAG: u64 = 1;
const WAKE_TAG: u64 = 2;
const SIDE_TAG: u64 = 3;
const OWN_TAG: u64 = 4;

/// How long a driver that is dropped waits for each of its requests to end.
const RELEASE_PATIENCE: Timespec = Timespec::new().nsec(100_000_000);

/// Which requests the ring works on, until a completion says that one has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per request, each with a life of its own")]
struct Armed {
    recv: bool,
    wake: bool,
    side: bool,
    own: bool,
}

/// What a ring counts beside the sockets.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    icmp_errors: u64,
    truncated: u64,
    memory_refusals: u64,
    renewals: u64,
    /// Buffers lent by rings that are gone, and so returned.
    buffers_before: u64,
}

/// A UDP socket with a ring to sleep in. Belongs to the thread that made it.
pub struct UringDriver {
    // Dropped in this order: the ring before the files that it was told about.
    ring: Ring,
    sockets: Sockets,
    options: UringOptions,
    wake: WakeState,
    clock: Clock,
    armed: Armed,
    recv_arms: u64,
    /// The kernel has just refused something for want of memory.
    is_short: bool,
    /// Completions were lost, so nobody knows what is armed and where the buffers are.
    is_lost: bool,
    facts: Facts,
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
        Self::of(Sockets::new(socket, side), options)
    }

    /// A driver for the sockets of a member of a group, which `hold` keeps in their places.
    ///
    /// # Errors
    /// As [`UringDriver::new`].
    pub fn of_member(
        member: GroupMember,
        hold: &GroupHold,
        options: UringOptions,
    ) -> Result<Self, RingError> {
        Self::of(Sockets::of_member(member, hold), options)
    }

    fn of(sockets: Sockets, options: UringOptions) -> Result<Self, RingError> {
        let wake = WakeState::with_event().map_err(RingError::at("eventfd"))?;
        Ok(Self {
            ring: Ring::new(files(&sockets, &wake), options)?,
            sockets,
            options,
            wake,
            clock: Clock::new(),
            armed: Armed::default(),
            recv_arms: 0,
            is_short: false,
            is_lost: false,
            facts: Facts::default(),
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
        if !mem::replace(&mut self.armed.recv, true) {
            self.ring.push_recv(SOCKET_FILE, RECV_TAG);
            self.recv_arms += 1;
        }
        if !mem::replace(&mut self.armed.wake, true) {
            self.ring.push_poll(EVENT_FILE, WAKE_TAG);
        }
        if self.sockets.side.is_some() && !mem::replace(&mut self.armed.side, true) {
            self.ring.push_poll(SIDE_FILE, SIDE_TAG);
        }
        if self.sockets.own.is_some() && !mem::replace(&mut self.armed.own, true) {
            self.ring.push_poll(OWN_FILE, OWN_TAG);
        }
    }

    /// Sleeps in the ring until a completion or the deadline; an interrupted sleep just ends.
    fn sleep(&mut self, deadline_nanos: Option<u64>) -> io::Result<()> {
        if mem::take(&mut self.is_short) {
            self.clock.pause(deadline_nanos, MEMORY_PAUSE);
        }
        self.arm();
        let left = deadline_nanos.map(|deadline| {
            let nanos = deadline.saturating_sub(self.clock.now_nanos());
            Timespec::new().sec(nanos / 1_000_000_000).nsec((nanos % 1_000_000_000) as u32)
        });
        let arguments = match &left {
            Some(left) => SubmitArgs::new().timespec(left),
            None => SubmitArgs::new(),
        };
        let entered = faults::check(Call::Sleep)
            .and_then(|()| self.ring.uring.submitter().submit_with_args(1, &arguments));
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            // Timeout, signal, or completions to take first: all are reasons to look and return.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            Some(libc::ENOMEM) => {
                self.on_shortage();
                Ok(())
            }
            // What is there is taken first; then the ring is renewed.
            Some(libc::EBADR) => {
                self.is_lost = true;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Want of memory passes: it is counted, and the next sleep begins with a pause, so that nothing spins.
    fn on_shortage(&mut self) {
        self.facts.memory_refusals += 1;
        self.is_short = true;
    }

    /// Makes a new ring in place of one that lost completions.
    fn renew(&mut self) -> io::Result<()> {
        self.is_lost = false;
        if self.release().is_err() {
            // Its last completions may be among those lost. What the kernel may still write to stays.
            self.ring.pool.leak();
        }
        self.armed = Armed::default();
        self.facts.buffers_before += self.ring.pool.lent();
        self.facts.renewals += 1;
        self.ring =
            Ring::new(files(&self.sockets, &self.wake), self.options).map_err(io::Error::other)?;
        // Whatever the old one was about to tell of.
        self.sockets.on_side();
        self.sockets.on_own();
        Ok(())
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
                OWN_TAG => self.on_own(&entry),
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
            self.armed.recv = false;
        }
        let mut batches = 0;
        let result = faults::completed(entry.result());
        if let Some(index) = cqueue::buffer_select(entry.flags())
            && let Some(buffer) = self.ring.pool.take(index)
        {
            let filled = usize::try_from(result).unwrap_or(0).min(buffer.len());
            match hand_over(&self.sockets.main, &self.ring.header, &mut buffer[..filled], sink) {
                HandOver::Done => batches = 1,
                HandOver::Counted => {}
                HandOver::Incomplete => self.facts.truncated += 1,
            }
            self.ring.pool.give(index);
        }
        match -result {
            errno if UdpSocket::is_icmp(errno) => {
                self.facts.icmp_errors += 1;
                Ok(batches)
            }
            errno => self.pass(errno).map(|()| batches),
        }
    }

    /// What the result of a request says: all is well, or what stands in its way passes, or its file is broken. A request
    /// that ended is armed again by the next wait.
    fn pass(&mut self, errno: i32) -> io::Result<()> {
        match errno {
            // Out of buffers: they are back by the end of this turn.
            ..=0 | libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR => Ok(()),
            libc::ENOMEM => {
                self.on_shortage();
                Ok(())
            }
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn on_wake(&mut self, entry: &cqueue::Entry) -> io::Result<usize> {
        if !cqueue::more(entry.flags()) {
            self.armed.wake = false;
        }
        self.pass(-entry.result()).map(|()| 0)
    }

    /// Something arrived at the side socket; it is read when there is time.
    fn on_side(&mut self, entry: &cqueue::Entry) -> io::Result<usize> {
        self.sockets.on_side();
        self.armed.side = cqueue::more(entry.flags());
        self.pass(-entry.result()).map(|()| 0)
    }

    /// Something arrived at the own port; it is read before the wait ends.
    fn on_own(&mut self, entry: &cqueue::Entry) -> io::Result<usize> {
        self.sockets.on_own();
        self.armed.own = cqueue::more(entry.flags());
        self.pass(-entry.result()).map(|()| 0)
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
        while self.armed != Armed::default() {
            self.ring.uring.submitter().submit_with_args(1, &patience)?;
            for entry in self.ring.uring.completion() {
                let armed = cqueue::more(entry.flags());
                match entry.user_data() {
                    RECV_TAG => self.armed.recv = armed,
                    SIDE_TAG => self.armed.side = armed,
                    OWN_TAG => self.armed.own = armed,
                    _ => self.armed.wake = armed,
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
        slept?;
        let mut batches = self.drain(sink)?;
        if self.is_lost {
            self.renew()?;
        }
        if self.sockets.is_own_pending() {
            batches += self.sockets.recv(TURN_BATCHES_MAX.saturating_sub(batches), sink)?;
        }
        Ok(batches)
    }

    fn waker(&self) -> DriverWaker {
        self.wake.waker()
    }

    fn stats(&self) -> DriverStats {
        let sockets = self.sockets.stats();
        DriverStats {
            icmp_errors: sockets.icmp_errors + self.facts.icmp_errors,
            recv_truncated: sockets.recv_truncated + self.facts.truncated,
            memory_refusals: sockets.memory_refusals + self.facts.memory_refusals,
            ring_renewals: self.facts.renewals,
            waits: self.waits,
            wakes: self.wakes,
            multishot_rearms: self.recv_arms.saturating_sub(1),
            buffers_lent: self.facts.buffers_before + self.ring.pool.lent(),
            buffers_returned: self.facts.buffers_before + self.ring.pool.returned(),
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

/// The files of a ring, each in its place.
fn files(sockets: &Sockets, wake: &WakeState) -> [RawFd; 4] {
    let event = wake.event_fd().unwrap_or(NO_FILE);
    let side = sockets.side_fd().unwrap_or(NO_FILE);
    [sockets.main_fd(), event, side, sockets.own_fd().unwrap_or(NO_FILE)]
}

/// What became of a filled buffer.
enum HandOver {
    /// The sink had it.
    Done,
    /// Its payload was cut; the socket has counted that.
    Counted,
    /// Not even its description was whole.
    Incomplete,
}

/// Takes a filled ring buffer apart and lends its payload to `sink`, if it is usable.
fn hand_over(
    socket: &UdpSocket,
    header: &libc::msghdr,
    buffer: &mut [u8],
    sink: &mut dyn FnMut(Received<'_>),
) -> HandOver {
    let Some(meta) = RecvMsgOut::parse(buffer, header).ok().and_then(|out| {
        let len = out.payload_data().len();
        let truncated = out.is_payload_truncated() || out.is_name_data_truncated();
        parse_batch(socket, out.name_data(), out.control_data(), len, truncated)
    }) else {
        return HandOver::Incomplete;
    };
    let RecvMeta { len, segment_bytes, from, truncated, .. } = meta;
    if truncated {
        return HandOver::Counted;
    }
    let bytes = &mut buffer[PAYLOAD_OFFSET..PAYLOAD_OFFSET + len];
    sink(Received { bytes, segment_bytes, from, port: Port::Shared });
    HandOver::Done
}
