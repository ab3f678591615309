//! An `io_uring` with receive buffers: built, told of its files and buffers, and known to receive.
//!
//! Given: the files it is to work on. Always holds: what the kernel was told to write to stays mapped until it was told
//! to forget it, or for ever; a ring that is there can receive more than once per request (multishot).

use std::io;
use std::mem;
use std::os::fd::RawFd;

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode, squeue};

use super::pool::{BufferPool, POOL_BUFFERS_MAX};
use super::waker::WakeState;
use crate::buffers::RECV_BUFFER_BYTES;
use crate::ring_error::RingError;

/// Submissions in flight between two entries: the receive and three polls.
const RING_ENTRIES: u32 = 8;
const BUFFER_GROUP: u16 = 0;

/// Places of the files that a ring is made for.
pub(super) const SOCKET_FILE: Fixed = Fixed(0);
pub(super) const EVENT_FILE: Fixed = Fixed(1);
pub(super) const SIDE_FILE: Fixed = Fixed(2);
pub(super) const OWN_FILE: Fixed = Fixed(3);

/// No file in this place; nothing may name it.
pub(super) const NO_FILE: RawFd = -1;

/// Bytes in front of the payload of a ring buffer: `io_uring_recvmsg_out`, address, control data.
const HEADER_BYTES: usize = 16;
const NAME_BYTES: usize = 32;
const CONTROL_BYTES: usize = 96;
pub(super) const PAYLOAD_OFFSET: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;

// The longest batch fits whole, and payloads start on a 16-byte boundary as ciphers like.
const _: () =
    assert!(PAYLOAD_OFFSET + 65_535 <= RECV_BUFFER_BYTES && PAYLOAD_OFFSET.is_multiple_of(16));

/// What to ask of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringOptions {
    /// Receive buffers that the ring may fill during one sleep, each
    /// [`crate::buffers::RECV_BUFFER_BYTES`] long; rounded up to a power of two, 1 to 256.
    pub ring_buffers: u16,
    /// Completions that the ring holds before the kernel has to keep them elsewhere; a power of two, 8 at least.
    pub completions: u32,
}

impl Default for UringOptions {
    /// 16 buffers, about 1 MiB: more than one sleep brings, and the rest is read hot. 128 completions: all buffers' and
    /// many wakes'.
    fn default() -> Self {
        Self { ring_buffers: 16, completions: 128 }
    }
}

/// A ring and the memory that it was told about.
pub(super) struct Ring {
    // Dropped in this order: the ring's descriptor before the memory.
    pub(super) uring: IoUring,
    pub(super) pool: BufferPool,
    pub(super) header: Box<libc::msghdr>,
}

impl Ring {
    /// Sets up a ring on the calling thread, which alone may use it from then on, for these files ([`NO_FILE`] leaves a
    /// place empty).
    pub(super) fn new(files: [RawFd; 4], options: UringOptions) -> Result<Self, RingError> {
        let capacity = options.ring_buffers.clamp(1, POOL_BUFFERS_MAX).next_power_of_two();
        let uring = build(options.completions).map_err(RingError::at("io_uring_setup"))?;
        if !uring.params().is_feature_ext_arg() {
            return Err(RingError::NotSupported { step: "waiting with a timeout" });
        }
        uring.submitter().register_files(&files).map_err(RingError::at("registering files"))?;
        let pool = BufferPool::new(capacity).map_err(RingError::at("mapping receive buffers"))?;
        // SAFETY: the address is a page-aligned page of `pool` with room for its entries. It stays
        // mapped until `drop` has unregistered it: ring and pool live in one struct.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(
                    pool.entries_address(),
                    pool.capacity(),
                    BUFFER_GROUP,
                    0,
                )
                .map_err(RingError::at("registering receive buffers"))?;
        }
        let mut ring = Self { uring, pool, header: Box::new(recv_header()) };
        ring.pool.give_all();
        ring.check_multishot()?;
        Ok(ring)
    }

    /// Finds out at start-up whether this kernel knows multishot receive: asked for on a file that is
    /// no socket, it is refused as unknown (`EINVAL`) or, where it is known, for the file (`ENOTSOCK`).
    fn check_multishot(&mut self) -> Result<(), RingError> {
        let step = "multishot recvmsg";
        self.push_recv(EVENT_FILE, 0);
        self.uring.submit_and_wait(1).map_err(RingError::at(step))?;
        let result = self.uring.completion().next().map_or(0, |entry| -entry.result());
        match result {
            libc::ENOTSOCK => Ok(()),
            errno => Err(RingError::new(step, io::Error::from_raw_os_error(errno))),
        }
    }

    /// Asks for what arrives at `file`, until further notice.
    pub(super) fn push_recv(&mut self, file: Fixed, tag: u64) {
        let header = &raw const *self.header;
        self.push(&opcode::RecvMsgMulti::new(file, header, BUFFER_GROUP).build().user_data(tag));
    }

    /// Asks to be told whenever `file` becomes readable.
    pub(super) fn push_poll(&mut self, file: Fixed, tag: u64) {
        let events = libc::POLLIN as u32;
        self.push(&opcode::PollAdd::new(file, events).multi(true).build().user_data(tag));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry names registered files, a buffer group whose memory this struct keeps until
        // it has unregistered it, and `header`, which lives in a box as long as the ring.
        let pushed = unsafe { self.uring.submission().push(entry) };
        assert!(pushed.is_ok(), "four requests fit a submission queue of {RING_ENTRIES}");
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let forgotten = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        let forgotten = forgotten.and_then(|()| self.uring.submitter().unregister_files());
        if let Err(error) = forgotten {
            self.pool.leak();
            tracing::warn!(%error, "an io_uring did not let go of its buffers");
        }
    }
}

/// Asks the kernel for a ring like a driver's, and lets go of it.
///
/// # Errors
/// [`RingError`] when there is none to be had here.
pub(crate) fn probe() -> Result<(), RingError> {
    let wake = WakeState::with_event().map_err(RingError::at("eventfd"))?;
    let event = wake.event_fd().unwrap_or(NO_FILE);
    Ring::new([NO_FILE, event, NO_FILE, NO_FILE], UringOptions::default()).map(drop)
}

/// The most capable ring this kernel has: flags of Linux 6.1, then of 6.0 and 5.19, then none.
fn build(completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(completions.max(RING_ENTRIES));
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
