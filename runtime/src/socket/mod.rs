//! One non-blocking UDP socket with segmentation offload both ways (GSO out, GRO in).
//!
//! Given: an address and options. Always holds: no call allocates; no call blocks but
//! [`UdpSocket::wait_readable`]; a datagram leaves whole or not at all; IPv4 peers of an IPv6 socket
//! appear with their IPv4 addresses. Datagrams are never fragmented by IP (`DF` is set): one above the
//! interface's limit is an `EMSGSIZE` error, as path MTU probing needs.

mod address;
mod control;
mod error;
mod group;
mod many;
mod options;
mod send;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Clock;
use crate::faults::{self, Call};
use address::{Family, RawAddress};
use control::{ControlFacts, ControlSpace, RECV_CONTROL_BYTES};

pub use error::BindError;
pub use group::{
    GROUP_MEMBERS_MAX, GroupHold, GroupMember, GroupOptions, OwnSocket, SideOptions, SocketGroup,
};
pub(crate) use many::RECV_MANY_MAX;
pub use options::{SocketBuffers, SocketOptions, SocketStats};
pub use send::{SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, is_too_long};

/// How often one call steps over a pending ICMP error before it lets the caller have it.
const ICMP_RETRIES_MAX: u32 = 4;

/// What one receive brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvMeta {
    /// Bytes written to the buffer.
    pub len: usize,
    /// Length of each datagram in them but the last, which may be shorter. At least 1, also for an
    /// empty datagram, so that `bytes.chunks(segment_bytes)` is always allowed.
    pub segment_bytes: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// Datagrams dropped by this socket so far for want of buffer, as the kernel last told; wraps.
    pub kernel_drops: u32,
    /// The buffer was too short and the rest is lost.
    pub truncated: bool,
}

/// A bound UDP socket. `Send`, not `Sync`: one thread at a time uses it.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    family: Family,
    local: SocketAddr,
    buffers: SocketBuffers,
    gro: bool,
    gso: Cell<bool>,
    drops: Cell<u32>,
    stats: Cell<SocketStats>,
}

/// A bound socket of which several threads may open handles: each counts for itself.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    socket: Socket,
    family: Family,
    local: SocketAddr,
    buffers: SocketBuffers,
    gro: bool,
    gso: bool,
}

impl SharedSocket {
    /// A handle of the same socket.
    pub(crate) fn open(&self) -> io::Result<UdpSocket> {
        Ok(UdpSocket {
            socket: self.socket.try_clone()?,
            family: self.family,
            local: self.local,
            buffers: self.buffers,
            gro: self.gro,
            gso: Cell::new(self.gso),
            drops: Cell::new(0),
            stats: Cell::new(SocketStats::default()),
        })
    }
}

impl UdpSocket {
    /// Makes a non-blocking socket bound to `address` (port 0: the kernel chooses one).
    ///
    /// An IPv6 socket on `[::]` also receives IPv4. A kernel without GRO is no error
    /// ([`UdpSocket::gro_enabled`] says so), nor are smaller buffers than asked for
    /// ([`UdpSocket::buffers`]).
    ///
    /// # Errors
    /// [`BindError`], whose text says what to do.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self, BindError> {
        let refused = |option| move |source| BindError::OptionRefused { option, source };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
            .map_err(|source| BindError::new(address, source))?;
        socket.set_nonblocking(true).map_err(refused("O_NONBLOCK"))?;
        if address.is_ipv6() {
            socket.set_only_v6(false).map_err(refused("IPV6_V6ONLY"))?;
        }
        if options.reuse_port {
            socket.set_reuse_port(true).map_err(refused("SO_REUSEPORT"))?;
        }
        socket.set_recv_buffer_size(options.recv_buffer_bytes).map_err(refused("SO_RCVBUF"))?;
        socket.set_send_buffer_size(options.send_buffer_bytes).map_err(refused("SO_SNDBUF"))?;
        forbid_fragments(&socket, address).map_err(refused("IP_MTU_DISCOVER"))?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
            .map_err(refused("SO_RXQ_OVFL"))?;
        let gro = options.gro && set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        // Setting "no segmentation by default" changes nothing and fails where GSO is unknown.
        let gso = set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        socket.bind(&address.into()).map_err(|source| BindError::new(address, source))?;
        let local = socket
            .local_addr()
            .map_err(|source| BindError::new(address, source))?
            .as_socket()
            .unwrap_or(address);
        let buffers = SocketBuffers {
            recv_bytes: socket.recv_buffer_size().map_err(refused("SO_RCVBUF"))?,
            send_bytes: socket.send_buffer_size().map_err(refused("SO_SNDBUF"))?,
            recv_requested_bytes: options.recv_buffer_bytes,
            send_requested_bytes: options.send_buffer_bytes,
        };
        Ok(Self {
            socket,
            family: Family::of(address),
            local,
            buffers,
            gro,
            gso: Cell::new(gso),
            drops: Cell::new(0),
            stats: Cell::new(SocketStats::default()),
        })
    }

    /// Receives one datagram, or one batch of equal ones, without blocking; `None` when there is none.
    ///
    /// Buffers of [`crate::buffers::RECV_BUFFER_BYTES`] hold any batch; a shorter one loses the rest.
    ///
    /// # Errors
    /// The kernel's, for a socket that is broken; ICMP errors of earlier sends are counted instead.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<RecvMeta>> {
        let mut from = RawAddress::empty();
        let mut control = ControlSpace([0; RECV_CONTROL_BYTES]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut header = empty_header();
        let received = self.retry_icmp(|| {
            header.msg_name = from.as_mut_ptr().cast();
            header.msg_namelen = from.length();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = RECV_CONTROL_BYTES;
            self.count(|stats| stats.recv_calls += 1);
            faults::check(Call::Recv)?;
            // SAFETY: `header` names `from`, `part`, `control` and, through `part`, `buffer`: all are
            // locals or borrowed mutably by this function for the length of the call, with the
            // lengths stated, and the kernel keeps no pointer after it returns.
            let result = unsafe {
                libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT)
            };
            usize::try_from(result).map_err(|_| io::Error::last_os_error())
        });
        let len = match received {
            Ok(len) => len,
            Err(error) => return self.quiet_when_empty(error),
        };
        let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
        let facts = ControlFacts::parse(&control.0[..header.msg_controllen]);
        // A UDP socket of ours gets no other address family; skip what cannot be answered anyway.
        let Some(from) = from.decode() else {
            return Ok(None);
        };
        let meta = self.describe(facts, from, len, truncated);
        Ok(Some(meta))
    }

    /// Blocks until a datagram can be read, at most `timeout_nanos` (`None`: for ever); says whether.
    ///
    /// For plain baselines and tools; a shard parks in its driver instead.
    ///
    /// # Errors
    /// The kernel's, when `poll` fails.
    pub fn wait_readable(&self, timeout_nanos: Option<u64>) -> io::Result<bool> {
        let clock = Clock::new();
        let deadline = timeout_nanos.map(|nanos| clock.now_nanos().saturating_add(nanos));
        let mut wanted =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            let left =
                deadline.map(|deadline| timespec(deadline.saturating_sub(clock.now_nanos())));
            let left_ptr = left.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: `wanted` is one live pollfd and `left` outlives the call; a null signal mask
            // leaves the thread's own in force.
            let result = unsafe { libc::ppoll(&raw mut wanted, 1, left_ptr, ptr::null()) };
            match result {
                0 => return Ok(false),
                1.. => return Ok(true),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The address bound to, with the port that the kernel chose if 0 was asked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Buffer sizes as asked and as granted.
    pub fn buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Whether the kernel joins datagrams into batches on receipt.
    pub fn gro_enabled(&self) -> bool {
        self.gro
    }

    /// Whether runs leave in one call; false for good once the kernel has refused one.
    pub fn gso_enabled(&self) -> bool {
        self.gso.get()
    }

    /// What another thread needs for a handle of its own.
    pub(crate) fn share(&self) -> io::Result<SharedSocket> {
        let &Self { family, local, buffers, gro, ref gso, .. } = self;
        let socket = self.socket.try_clone()?;
        Ok(SharedSocket { socket, family, local, buffers, gro, gso: gso.get() })
    }

    /// What this socket has done so far.
    pub fn stats(&self) -> SocketStats {
        self.stats.get()
    }

    /// Puts together what is known of a batch, and counts it.
    fn describe(
        &self,
        facts: ControlFacts,
        from: SocketAddr,
        len: usize,
        truncated: bool,
    ) -> RecvMeta {
        let kernel_drops = facts.kernel_drops.unwrap_or_else(|| self.drops.get());
        let new_drops = kernel_drops.wrapping_sub(self.drops.replace(kernel_drops));
        let segment_bytes = facts.segment_bytes.unwrap_or(len).max(1);
        self.count(|stats| {
            stats.recv_batches += 1;
            stats.recv_datagrams += len.div_ceil(segment_bytes).max(1) as u64;
            stats.recv_bytes += len as u64;
            stats.recv_truncated += u64::from(truncated);
            stats.kernel_drops += u64::from(new_drops);
        });
        RecvMeta { len, segment_bytes, from, kernel_drops, truncated }
    }

    /// Whether `errno` is what an ICMP answer to an earlier datagram leaves for the next call to find.
    pub(crate) fn is_icmp(errno: i32) -> bool {
        matches!(
            errno,
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
        )
    }

    /// An empty socket is no error, nor are ICMP errors beyond those stepped over: more may follow. Nor is want of memory,
    /// which passes: what is there is read later.
    fn quiet_when_empty(&self, error: io::Error) -> io::Result<Option<RecvMeta>> {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(None),
            Some(libc::ENOMEM | libc::ENOBUFS) => {
                self.count(|stats| stats.recv_refused += 1);
                Ok(None)
            }
            Some(errno) if UdpSocket::is_icmp(errno) => Ok(None),
            _ => Err(error),
        }
    }

    /// Repeats a call that a signal or an ICMP error of an earlier datagram cut short.
    #[inline]
    fn retry_icmp(&self, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut icmp_errors = 0;
        loop {
            let error = match call() {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(errno) if UdpSocket::is_icmp(errno) && icmp_errors < ICMP_RETRIES_MAX => {
                    icmp_errors += 1;
                    self.count(|stats| stats.icmp_errors += 1);
                }
                _ => return Err(error),
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut SocketStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Describes and counts a batch that a ring received for `socket`: sender's address and control data
/// in the kernel's form. `None` if there is no usable address.
pub(crate) fn parse_batch(
    socket: &UdpSocket,
    name: &[u8],
    control: &[u8],
    len: usize,
    truncated: bool,
) -> Option<RecvMeta> {
    let from = address::decode(name)?;
    Some(socket.describe(ControlFacts::parse(control), from, len, truncated))
}

fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr is a C structure of integers and pointers, for all of which zero is a value.
    unsafe { mem::zeroed() }
}

pub(crate) fn timespec(nanos: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
    }
}

/// Sets `DF` and ignores what ICMP says about the path: the transport probes for itself.
fn forbid_fragments(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
}

fn set_option(socket: &Socket, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option value is one live c_int, read by the kernel during the call only.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
