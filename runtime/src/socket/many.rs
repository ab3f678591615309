//! Several datagrams by one call, where no offload joins them: runs that cannot be segmented, and what many send.
//!
//! Always holds: datagrams leave in order, and the first that the kernel refuses ends the call; what a call brought is handed
//! over before the next one. Nothing is allocated.

use std::array;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::RawAddress;
use super::control::{ControlFacts, ControlSpace, RECV_CONTROL_BYTES};
use super::send::SEND_RUN_SEGMENTS_MAX;
use super::{RecvMeta, UdpSocket, empty_header};
use crate::faults::{self, Call};

/// Datagrams that one receive takes, at most.
pub(crate) const RECV_MANY_MAX: usize = 8;

impl UdpSocket {
    /// Sends `bytes` as datagrams of `segment_bytes`, the last one what is left, by one call; how many left.
    ///
    /// # Errors
    /// The kernel's for the first datagram.
    pub(super) fn sendmmsg(
        &self,
        to: &RawAddress,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<usize> {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut parts = [empty; SEND_RUN_SEGMENTS_MAX];
        let mut count = 0;
        for (part, segment) in parts.iter_mut().zip(bytes.chunks(segment_bytes)) {
            part.iov_base = segment.as_ptr().cast_mut().cast();
            part.iov_len = segment.len();
            count += 1;
        }
        let mut messages: [libc::mmsghdr; SEND_RUN_SEGMENTS_MAX] =
            array::from_fn(|_| empty_message());
        for (message, part) in messages.iter_mut().zip(&mut parts[..count]) {
            let header = &mut message.msg_hdr;
            header.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_namelen = to.length();
            header.msg_iov = ptr::from_mut(part);
            header.msg_iovlen = 1;
        }
        self.count(|stats| stats.send_calls += 1);
        faults::check(Call::Send)?;
        // SAFETY: the first `count` messages name `to`, their parts and, through these, `bytes`: all alive for the length of
        // the call with the lengths stated. The kernel reads through them, writes to `messages` only, and keeps none.
        let result = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Receives at most `datagrams_max` datagrams or batches (and [`RECV_MANY_MAX`]), each into its slot of `slot_bytes` of `buffer`,
    /// and hands them to `sink` with the slot's number; how many there were, 0 if there is none.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub(crate) fn recv_many(
        &self,
        buffer: &mut [u8],
        slot_bytes: usize,
        datagrams_max: usize,
        sink: &mut dyn FnMut(usize, RecvMeta, &mut [u8]),
    ) -> io::Result<usize> {
        let mut names: [RawAddress; RECV_MANY_MAX] = array::from_fn(|_| RawAddress::empty());
        let mut controls: [ControlSpace<RECV_CONTROL_BYTES>; RECV_MANY_MAX] =
            array::from_fn(|_| ControlSpace([0; RECV_CONTROL_BYTES]));
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut parts = [empty; RECV_MANY_MAX];
        let mut messages: [libc::mmsghdr; RECV_MANY_MAX] = array::from_fn(|_| empty_message());
        let slots = buffer.chunks_exact_mut(slot_bytes).take(datagrams_max);
        let mut wanted = 0;
        for (slot, part) in slots.zip(&mut parts) {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
            let header = &mut messages[wanted].msg_hdr;
            header.msg_name = names[wanted].as_mut_ptr().cast();
            header.msg_namelen = names[wanted].length();
            header.msg_iov = ptr::from_mut(part);
            header.msg_iovlen = 1;
            header.msg_control = controls[wanted].0.as_mut_ptr().cast();
            header.msg_controllen = RECV_CONTROL_BYTES;
            wanted += 1;
        }
        let received = self.retry_icmp(|| {
            self.count(|stats| stats.recv_calls += 1);
            faults::check(Call::Recv)?;
            // SAFETY: the first `wanted` messages name their own name, control area and, through their part, slot of
            // `buffer`: all alive and borrowed by this function for the length of the call, with the lengths stated. The
            // kernel keeps no pointer after it. A null timeout means none, and MSG_DONTWAIT that it does not block.
            let result = unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    wanted as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    ptr::null_mut(),
                )
            };
            usize::try_from(result).map_err(|_| io::Error::last_os_error())
        });
        let count = match received {
            Ok(count) => count,
            Err(error) => return self.quiet_when_empty(error).map(|_| 0),
        };
        for (index, slot) in buffer.chunks_exact_mut(slot_bytes).take(count).enumerate() {
            let libc::mmsghdr { msg_hdr, msg_len } = messages[index];
            let facts = ControlFacts::parse(&controls[index].0[..msg_hdr.msg_controllen]);
            // A UDP socket of ours gets no other address family; skip what cannot be answered anyway.
            let Some(from) = names[index].decode() else { continue };
            let is_truncated = msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let meta = self.describe(facts, from, msg_len as usize, is_truncated);
            let len = meta.len.min(slot.len());
            sink(index, meta, &mut slot[..len]);
        }
        Ok(count)
    }
}

fn empty_message() -> libc::mmsghdr {
    libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 }
}

// Headers, parts, names and control areas of one call stand on the stack.
const _: () = assert!(SEND_RUN_SEGMENTS_MAX * mem::size_of::<libc::mmsghdr>() <= 8 << 10);
