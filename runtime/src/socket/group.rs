//! Several sockets on one port: a classic BPF filter says, by a datagram's first two bytes, which of them gets it.
//!
//! Owns how a group is bound and steered. Given: an address, and how many members share it. Always holds:
//! - the group is fresh: its first socket was bound before it shared the port, so a port that somebody else has is an
//!   error, and no socket of a process that is ending can stand among ours and shift them when it closes. A program of the
//!   same user that asks for a shared port afterwards gets one, behind ours, where the filter never points;
//! - all sockets join datagrams to batches, or none does: the kernel asks a socket whether it does before the filter, and
//!   takes the first of the group that the addresses' hash gives;
//! - the order of sockets is the order in which they were bound: the main sockets of members 0 to n - 1, then the side sockets;
//! - no socket leaves before all do, as long as a [`GroupHold`] lives: the kernel would fill its place with the last one.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::error::BindError;
use super::{SharedSocket, SocketOptions, UdpSocket};
use crate::clock::Clock;

/// Most members of a group: a datagram names one by a byte, and a protocol may keep one value for itself.
pub const GROUP_MEMBERS_MAX: usize = 255;

/// How long between two attempts to bind a port that is in use.
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Datagrams that get sockets of their own, so that a flood of them takes no buffer from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideOptions {
    /// The first byte of these datagrams.
    pub first_byte: u8,
    /// `SO_RCVBUF` to ask for, in bytes.
    pub recv_buffer_bytes: usize,
}

/// What to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOptions {
    /// How many members share the port: 1 to [`GROUP_MEMBERS_MAX`].
    pub members: usize,
    /// What to ask for each main socket.
    pub socket: SocketOptions,
    /// Sockets beside the main ones. There are none without a filter, since the kernel would put anything into them.
    pub side: Option<SideOptions>,
    /// A port for each member alone, beside the one that they share: member *i* gets this one + *i*, or any that is free for
    /// each when this is 0. It joins no group and no filter.
    pub own_ports: Option<u16>,
    /// Whether the filter steers. Without it the kernel chooses by a hash of both addresses.
    pub is_steered: bool,
    /// How long to go on trying while a port that was named is in use: a process that was killed gives it back when the kernel
    /// has taken its ring apart, some milliseconds later.
    pub bind_patience: Duration,
}

impl Default for GroupOptions {
    /// One member, steered, no side socket, no own ports, no patience.
    fn default() -> Self {
        Self {
            members: 1,
            socket: SocketOptions::default(),
            side: None,
            own_ports: None,
            is_steered: true,
            bind_patience: Duration::ZERO,
        }
    }
}

/// The sockets of one member.
#[derive(Debug)]
pub struct GroupMember {
    /// Gets what names this member, and what begins with no byte of the side sockets'.
    pub main: UdpSocket,
    /// Gets what begins with theirs; absent when none were asked for or nothing steers.
    pub side: Option<UdpSocket>,
    /// On a port of this member's own, if that was asked for.
    pub own: Option<OwnSocket>,
}

/// A member's socket on a port of its own.
#[derive(Debug)]
pub struct OwnSocket {
    /// The number of the member.
    pub member: u8,
    /// The socket.
    pub socket: UdpSocket,
}

/// Sockets that share a port.
#[derive(Debug)]
pub struct SocketGroup {
    /// By number.
    pub members: Vec<GroupMember>,
    /// Keeps every socket's place; each user of a member keeps a clone.
    pub hold: GroupHold,
    /// Why nothing steers although it was asked for. Datagrams then come to any member.
    pub unsteered: Option<BindError>,
}

/// Keeps the sockets of a group open, so that each stays in its place until all go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupHold {
    _files: Arc<Vec<OwnedFd>>,
    /// Of the members' own ports, by number.
    own: Arc<Vec<SharedSocket>>,
}

impl SocketGroup {
    /// Binds all sockets of a group to `address` (port 0: the kernel chooses one) and attaches the filter.
    ///
    /// The main socket of member *i* gets datagrams whose second byte is *i* modulo the number of members, its side
    /// socket those of them that begin with [`SideOptions::first_byte`]. A datagram too short to say goes to member 0.
    ///
    /// A kernel that takes no filter is no error: see [`SocketGroup::unsteered`].
    ///
    /// # Errors
    /// [`BindError`], whose text says what to do.
    ///
    /// # Panics
    /// When `members` is out of range.
    pub fn bind(address: SocketAddr, options: &GroupOptions) -> Result<Self, BindError> {
        let count = options.members;
        assert!((1..=GROUP_MEMBERS_MAX).contains(&count), "a group of {count} members");
        let refused = |option| move |source| BindError::OptionRefused { option, source };
        let first = bind_patiently(address, options)?;
        let local = first.local_addr();
        let side = options.side.filter(|_| options.is_steered);
        let mut mains = vec![first];
        let mut sides = Vec::new();
        if count > 1 || side.is_some() {
            mains[0].socket.set_reuse_port(true).map_err(refused("SO_REUSEPORT"))?;
        }
        let shared = SocketOptions { reuse_port: true, ..options.socket };
        for _ in 1..count {
            mains.push(UdpSocket::bind(local, &shared)?);
        }
        if let Some(SideOptions { recv_buffer_bytes, .. }) = side {
            let shared = SocketOptions { recv_buffer_bytes, ..shared };
            for _ in 0..count {
                sides.push(UdpSocket::bind(local, &shared)?);
            }
        }
        let is_shared = count > 1 || side.is_some();
        let attached = if is_shared && options.is_steered {
            attach(&mains[0], count, side.map(|side| side.first_byte))
        } else {
            Ok(())
        };
        let unsteered = attached.err().map(refused("SO_ATTACH_REUSEPORT_CBPF"));
        if unsteered.is_some() {
            sides.clear();
        }
        let own = bind_own(address, options)?;
        let hold = GroupHold::new(mains.iter().chain(&sides), &own)
            .map_err(|source| BindError::new(address, source))?;
        let (mut sides, mut own) = (sides.into_iter(), own.into_iter());
        let members = mains.into_iter().zip(0..).map(|(main, member)| {
            let own = own.next().map(|socket| OwnSocket { member, socket });
            GroupMember { main, side: sides.next(), own }
        });
        Ok(Self { members: members.collect(), hold, unsteered })
    }
}

impl GroupHold {
    fn new<'a>(
        sockets: impl Iterator<Item = &'a UdpSocket>,
        own: &[UdpSocket],
    ) -> io::Result<Self> {
        let files = sockets.map(|socket| Ok(socket.socket.try_clone()?.into()));
        let own = own.iter().map(UdpSocket::share);
        let own = Arc::new(own.collect::<io::Result<_>>()?);
        Ok(Self { _files: Arc::new(files.collect::<io::Result<_>>()?), own })
    }

    /// Another handle of a member's own port, to send from; `None` if it has none, or there is no descriptor left.
    pub(crate) fn own_port(&self, member: u8) -> Option<UdpSocket> {
        self.own.get(usize::from(member))?.open().ok()
    }
}

/// Binds the members' own ports, if they are to have any.
fn bind_own(address: SocketAddr, options: &GroupOptions) -> Result<Vec<UdpSocket>, BindError> {
    let Some(first) = options.own_ports else { return Ok(Vec::new()) };
    let ports = (0..options.members).map(|member| match first {
        0 => Some(0),
        first => first.checked_add(member as u16),
    });
    let sockets = ports.map(|port| {
        let none = || io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        let port = port.ok_or_else(|| BindError::new(address, none()))?;
        bind_patiently(SocketAddr::new(address.ip(), port), options)
    });
    sockets.collect()
}

/// Binds the first socket, alone, and waits a little for a port that is still in use.
fn bind_patiently(address: SocketAddr, options: &GroupOptions) -> Result<UdpSocket, BindError> {
    let clock = Clock::new();
    let until = clock.now_nanos().saturating_add(options.bind_patience.as_nanos() as u64);
    let alone = SocketOptions { reuse_port: false, ..options.socket };
    loop {
        match UdpSocket::bind(address, &alone) {
            Err(BindError::AddressInUse { .. }) if clock.now_nanos() < until => {
                thread::sleep(BIND_RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Gives the port's group its filter, which numbers the socket for each datagram. Offset 0 is the UDP payload; a byte that
/// is not there ends the program with 0, the first socket.
fn attach(socket: &UdpSocket, members: usize, side_byte: Option<u8>) -> io::Result<()> {
    let mut filter = filter(members as u32, side_byte);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` names `filter`, a live vector of the stated length; the kernel copies both during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn filter(members: u32, side_byte: Option<u8>) -> Vec<libc::sock_filter> {
    let statement = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset);
    let calculate = |operation, k| statement(libc::BPF_ALU | operation | libc::BPF_K, k);
    let answer = statement(libc::BPF_RET | libc::BPF_A, 0);
    // With one member there is nothing to read: 0, also of a datagram that has no second byte.
    let member = match members {
        1 => vec![statement(libc::BPF_LD | libc::BPF_IMM, 0)],
        _ => vec![load(1), calculate(libc::BPF_MOD, members)],
    };
    let mut filter = Vec::new();
    if let Some(byte) = side_byte {
        filter.push(load(0));
        // Any other first byte: over the side sockets' part, which is as long as `member` and two more.
        filter.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: member.len() as u8 + 2,
            k: u32::from(byte),
        });
        filter.extend_from_slice(&member);
        filter.push(calculate(libc::BPF_ADD, members));
        filter.push(answer);
    }
    filter.extend(member);
    filter.push(answer);
    filter
}

#[cfg(test)]
mod tests;
