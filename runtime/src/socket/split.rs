//! One port, two sockets: a classic BPF filter sends datagrams that begin with a certain byte to the second.
//!
//! Given: a bound socket. Always holds: the kernel decides per datagram by its first byte alone, so that what floods one
//! socket's buffer leaves the other's untouched; another process finds the port as busy as before, because the first
//! socket was bound without sharing it.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use super::error::BindError;
use super::{SocketOptions, UdpSocket};

/// Place of the first socket in the port's group: the order in which they were bound.
const FIRST: u32 = 0;
const SECOND: u32 = 1;

impl UdpSocket {
    /// Binds a second socket to the same address, which from then on receives all datagrams whose first byte is
    /// `first_byte`; this one goes on receiving the others, and empty ones. Call it before anything is received.
    ///
    /// The second socket joins no batches: each receive brings one datagram.
    ///
    /// # Errors
    /// [`BindError`], when the kernel refuses to share the port or takes no filter. This socket then works as before.
    pub fn split(&self, first_byte: u8, recv_buffer_bytes: usize) -> Result<Self, BindError> {
        let refused = |option| move |source| BindError::OptionRefused { option, source };
        self.socket.set_reuse_port(true).map_err(refused("SO_REUSEPORT"))?;
        let options =
            SocketOptions { recv_buffer_bytes, reuse_port: true, gro: false, ..Default::default() };
        let second = Self::bind(self.local, &options)?;
        self.attach(first_byte).map_err(refused("SO_ATTACH_REUSEPORT_CBPF"))?;
        Ok(second)
    }

    /// Gives the port's group its filter, which names the socket for each datagram. Offset 0 is the UDP payload.
    fn attach(&self, first_byte: u8) -> io::Result<()> {
        let statement = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let mut filter = [
            // An empty datagram has no byte 0; the kernel then ends the program with 0, the first socket.
            statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0),
            libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 1,
                jf: 0,
                k: u32::from(first_byte),
            },
            statement(libc::BPF_RET | libc::BPF_K, FIRST),
            statement(libc::BPF_RET | libc::BPF_K, SECOND),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: `program` names `filter`, a live array of the stated length; the kernel copies both during the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each datagram reaches the socket that its first byte says, a flood of one leaves the other alone, and the
    //! port stays busy for others.
    use super::*;
    use crate::buffers::RECV_BUFFER_BYTES;

    fn split(address: &str) -> (UdpSocket, UdpSocket) {
        let options = SocketOptions::default();
        let first = UdpSocket::bind(address.parse().expect("an address"), &options).expect("bind");
        let second = first.split(1, 128 << 10).expect("a second socket");
        (first, second)
    }

    fn sender() -> std::net::UdpSocket {
        std::net::UdpSocket::bind("127.0.0.1:0").expect("bind")
    }

    fn first_bytes(socket: &UdpSocket) -> Vec<Option<u8>> {
        let mut buffer = vec![0; RECV_BUFFER_BYTES];
        let mut bytes = Vec::new();
        while let Some(meta) = socket.recv(&mut buffer).expect("recv") {
            bytes.push(buffer[..meta.len].first().copied());
        }
        bytes
    }

    #[test]
    fn the_first_byte_decides() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let (first, second) = split(address);
            assert_eq!(first.local_addr(), second.local_addr());
            let sender = sender();
            let to = ("127.0.0.1", first.local_addr().port());
            for byte in [0_u8, 0x40, 1, 0xff, 1, 2] {
                sender.send_to(&[byte, 7, 7], to).expect("send");
            }
            sender.send_to(&[], to).expect("send");
            let others = [Some(0), Some(0x40), Some(0xff), Some(2), None];
            assert_eq!((first_bytes(&first), &address), (others.to_vec(), &address));
            assert_eq!(first_bytes(&second), [Some(1), Some(1)]);
        }
    }

    #[test]
    fn a_flood_of_one_kind_takes_nothing_from_the_other() {
        let (first, second) = split("127.0.0.1:0");
        let sender = sender();
        for _ in 0..1_000 {
            sender.send_to(&[1; 1_200], first.local_addr()).expect("send");
        }
        for _ in 0..100 {
            sender.send_to(&[0x40; 1_200], first.local_addr()).expect("send");
        }
        assert_eq!(first_bytes(&first).len(), 100);
        assert!(first.stats().kernel_drops == 0 && first_bytes(&second).len() < 1_000);
    }

    #[test]
    fn the_port_stays_busy_for_others() {
        let (first, _second) = split("127.0.0.1:0");
        let again = UdpSocket::bind(first.local_addr(), &SocketOptions::default());
        assert!(again.is_err(), "{again:?}");
    }
}
