//! A member's own port, beside the one that it shares with the others of its group.
//!
//! Always holds: `is_pending` is false only if the socket was found empty and nothing has been announced since, as with
//! [`super::side::Side`]. What is sent from another member's port goes through a handle of that socket, opened when it is
//! first needed; nobody reads from such a handle.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use super::{DriverStats, Port, Received};
use crate::socket::{GroupHold, OwnSocket, SendStatus, UdpSocket};

/// A member's own port, and those of others.
pub(super) struct Own {
    member: u8,
    socket: UdpSocket,
    /// There may be something to read.
    pub(super) is_pending: bool,
    /// It is read before the shared port this time.
    is_first: bool,
    hold: GroupHold,
    /// Handles of other members' ports.
    others: HashMap<u8, UdpSocket>,
}

impl Own {
    pub(super) fn new(own: OwnSocket, hold: GroupHold) -> Self {
        let OwnSocket { member, socket } = own;
        let others = HashMap::new();
        Self { member, socket, is_pending: true, is_first: false, hold, others }
    }

    /// Whether it is read before the shared port: every other time, so that neither waits for the other to be empty.
    #[inline]
    pub(super) fn take_turn(&mut self) -> bool {
        self.is_first = !self.is_first;
        self.is_first
    }

    /// Reads at most `batches_max` batches; how many there were.
    #[inline]
    pub(super) fn recv(
        &mut self,
        buffer: &mut [u8],
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let refused = self.socket.stats().recv_refused;
        let batches = read(&self.socket, Port::Member(self.member), buffer, batches_max, sink)?;
        // Want of memory says nothing of what is there.
        self.is_pending = batches == batches_max || self.socket.stats().recv_refused > refused;
        Ok(batches)
    }

    /// Sends from this port, or from that of another member.
    pub(super) fn send(
        &mut self,
        member: u8,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        if member == self.member {
            return self.socket.send(to, bytes, segment_bytes);
        }
        if !self.others.contains_key(&member)
            && let Some(socket) = self.hold.own_port(member)
        {
            self.others.insert(member, socket);
        }
        let Some(socket) = self.others.get(&member) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        socket.send(to, bytes, segment_bytes)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Adds what was counted here to the counts of the shared port.
    pub(super) fn count_into(&self, stats: &mut DriverStats) {
        stats.own_datagrams = self.socket.stats().recv_datagrams;
        for socket in self.others.values().chain([&self.socket]) {
            stats.add(socket.stats());
        }
    }
}

/// Reads at most `batches_max` batches of one socket; how many there were.
#[inline]
pub(super) fn read(
    socket: &UdpSocket,
    port: Port,
    buffer: &mut [u8],
    batches_max: usize,
    sink: &mut dyn FnMut(Received<'_>),
) -> io::Result<usize> {
    let mut batches = 0;
    while batches < batches_max {
        let Some(meta) = socket.recv(buffer)? else {
            break;
        };
        if meta.truncated {
            continue;
        }
        batches += 1;
        let bytes = &mut buffer[..meta.len];
        sink(Received { bytes, segment_bytes: meta.segment_bytes, from: meta.from, port });
    }
    Ok(batches)
}
