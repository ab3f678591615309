//! The sending half of a socket: single datagrams, segmented runs, and what to do when those are refused.
//!
//! Always holds: a run that the kernel takes leaves in one call; one that it refuses leaves in order,
//! datagram by datagram; what did not leave is told to the byte.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::address::RawAddress;
use super::control::ControlSpace;
use super::{UdpSocket, empty_header};
use crate::faults::{self, Call};

/// Datagrams in one segmented send, at most (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const SEND_RUN_SEGMENTS_MAX: usize = 64;

/// Bytes in one segmented send, at most: the longest UDP payload over IPv4.
pub const SEND_RUN_BYTES_MAX: usize = 65_507;

/// What became of a send that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "bytes that were turned away have to be sent again"]
pub enum SendStatus {
    /// All of it was handed to the kernel.
    Sent,
    /// The kernel had no room; what follows the first `sent_bytes` has not been sent.
    WouldBlock {
        /// Bytes that did leave: whole segments, from the front.
        sent_bytes: usize,
    },
}

impl UdpSocket {
    /// Sends one datagram, or a run of them when `bytes` is longer than `segment_bytes`.
    ///
    /// A run goes out as datagrams of `segment_bytes`, the last one what is left, in one call (GSO).
    /// If the kernel or the interface refuses segmentation (`EIO`, `EINVAL`), the run is sent datagram by
    /// datagram, still in one call (`sendmmsg`), and so are all later ones ([`UdpSocket::gso_enabled`]). `segment_bytes` 0 means one datagram.
    ///
    /// # Errors
    /// `InvalidInput` for a run above [`SEND_RUN_SEGMENTS_MAX`] or [`SEND_RUN_BYTES_MAX`] and for an
    /// IPv6 address on an IPv4 socket; else the kernel's: `EMSGSIZE` above the interface's limit,
    /// `ENETUNREACH` and `EHOSTUNREACH` without a route, `EPERM` when a firewall forbids it.
    #[inline]
    pub fn send(
        &self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> Result<SendStatus, io::Error> {
        let Some(to) = RawAddress::encode(to, self.family) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an IPv6 address cannot be reached from a socket bound to IPv4: listen on [::]",
            ));
        };
        if segment_bytes == 0 || bytes.len() <= segment_bytes {
            return self.send_singly(&to, bytes, bytes.len());
        }
        if bytes.len() > SEND_RUN_BYTES_MAX
            || bytes.len() > segment_bytes.saturating_mul(SEND_RUN_SEGMENTS_MAX)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a segmented send carries at most 64 datagrams and 65,507 bytes: cut it in several",
            ));
        }
        if !self.gso.get() {
            return self.send_singly(&to, bytes, segment_bytes);
        }
        let result = self.retry_icmp(|| self.sendmsg_segmented(&to, bytes, segment_bytes));
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) => {
                self.count_sent(bytes.len().div_ceil(segment_bytes), bytes.len());
                Ok(SendStatus::Sent)
            }
            Err(Some(libc::EIO | libc::EINVAL)) => self.send_refused_run(&to, bytes, segment_bytes),
            Err(_) => self.turned_away(result, 0),
        }
    }

    /// Sends `bytes` as datagrams of `segment_bytes`, unsegmented: as many by one call as the kernel takes.
    fn send_singly(
        &self,
        to: &RawAddress,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        let mut sent_bytes = 0;
        loop {
            let rest = &bytes[sent_bytes..];
            let result = self.retry_icmp(|| {
                if rest.len() <= segment_bytes {
                    self.sendto(to, rest).map(|_| 1)
                } else {
                    self.sendmmsg(to, rest, segment_bytes)
                }
            });
            let Ok(datagrams) = result else {
                return self.turned_away(result, sent_bytes);
            };
            let end = bytes.len().min(sent_bytes + datagrams * segment_bytes);
            self.count_sent(datagrams, end - sent_bytes);
            sent_bytes = end;
            if sent_bytes == bytes.len() {
                return Ok(SendStatus::Sent);
            }
        }
    }

    /// A run was refused: send it singly and, if that works, segment no more. If single datagrams
    /// fail too (too long for the interface, say), segmentation was not to blame and stays on.
    #[cold]
    fn send_refused_run(
        &self,
        to: &RawAddress,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        let status = self.send_singly(to, bytes, segment_bytes)?;
        if status != (SendStatus::WouldBlock { sent_bytes: 0 }) {
            self.gso.set(false);
            self.count(|stats| stats.gso_fallbacks += 1);
            tracing::warn!(
                address = %self.local,
                "segmentation offload refused: datagrams of this socket now leave unsegmented"
            );
        }
        Ok(status)
    }

    fn sendto(&self, to: &RawAddress, bytes: &[u8]) -> io::Result<usize> {
        self.count(|stats| stats.send_calls += 1);
        faults::check(Call::Send)?;
        // SAFETY: `bytes` and `to` are borrowed for the length of the call with the lengths stated,
        // only read by the kernel, and not kept by it.
        let result = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
                to.as_ptr(),
                to.length(),
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn sendmsg_segmented(
        &self,
        to: &RawAddress,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<usize> {
        // A run is at most 65,507 bytes and longer than a segment, so a segment's length fits.
        let mut control = ControlSpace::segment(segment_bytes as u16);
        let mut part =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut header = empty_header();
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.length();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        self.count(|stats| stats.send_calls += 1);
        faults::check(Call::Send)?;
        // SAFETY: `header` names `to`, `part`, `control` and `bytes`, all alive for the length of the
        // call with the lengths stated; sendmsg only reads through them and keeps none.
        let result = unsafe {
            libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT)
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Turns a full buffer into a status and leaves other errors as they are.
    fn turned_away(&self, result: io::Result<usize>, sent_bytes: usize) -> io::Result<SendStatus> {
        match result {
            Err(error) if is_full(&error) => {
                self.count(|stats| stats.send_would_block += 1);
                Ok(SendStatus::WouldBlock { sent_bytes })
            }
            Err(error) => Err(error),
            Ok(_) => Ok(SendStatus::Sent),
        }
    }

    fn count_sent(&self, datagrams: usize, bytes: usize) {
        self.count(|stats| {
            stats.send_datagrams += datagrams as u64;
            stats.send_bytes += bytes as u64;
        });
    }
}

/// Whether a send failed because a datagram is longer than the interface carries (`EMSGSIZE`): what a probe of the path's
/// limit finds out.
#[must_use]
pub fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// No room now, some later: in the socket's buffer (`EAGAIN`), the interface's queue (`ENOBUFS`), the kernel (`ENOMEM`).
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM))
}
