//! Socket addresses to and from the kernel's form, by hand and on the stack.
//!
//! Always holds: an IPv4 address sent through an IPv6 socket travels as `::ffff:a.b.c.d`, and such
//! an address coming from the kernel is given out as IPv4, so a peer has one name on both families.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the longest address that a UDP socket of ours can meet (`sockaddr_in6`).
const RAW_ADDRESS_BYTES: usize = mem::size_of::<libc::sockaddr_in6>();

const _: () = assert!(RAW_ADDRESS_BYTES == 28 && mem::size_of::<libc::sockaddr_in>() == 16);

/// The address family of a socket; decides how an address must be spelt to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address in the kernel's layout, with room for either family.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct RawAddress {
    bytes: [u8; RAW_ADDRESS_BYTES],
    length: libc::socklen_t,
}

impl RawAddress {
    /// Room for the kernel to write an address into.
    pub(crate) const fn empty() -> Self {
        Self { bytes: [0; RAW_ADDRESS_BYTES], length: RAW_ADDRESS_BYTES as libc::socklen_t }
    }

    /// `address` as a socket of `family` wants it; `None` for an IPv6 address on an IPv4 socket.
    #[inline]
    pub(crate) fn encode(address: SocketAddr, family: Family) -> Option<Self> {
        match (address, family) {
            (SocketAddr::V4(v4), Family::V4) => Some(Self::encode_v4(v4)),
            (SocketAddr::V4(v4), Family::V6) => {
                Some(Self::encode_v6(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            (SocketAddr::V6(v6), Family::V6) => {
                Some(Self::encode_v6(*v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()))
            }
            (SocketAddr::V6(_), Family::V4) => None,
        }
    }

    fn encode_v4(address: SocketAddrV4) -> Self {
        let mut raw = Self::empty();
        raw.length = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
        raw.bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        raw.bytes[4..8].copy_from_slice(&address.ip().octets());
        raw
    }

    fn encode_v6(ip: Ipv6Addr, port: u16, flow_info: u32, scope_id: u32) -> Self {
        let mut raw = Self::empty();
        raw.bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        raw.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        raw.bytes[4..8].copy_from_slice(&flow_info.to_be_bytes());
        raw.bytes[8..24].copy_from_slice(&ip.octets());
        raw.bytes[24..28].copy_from_slice(&scope_id.to_ne_bytes());
        raw
    }

    /// The address that the kernel wrote here.
    #[inline]
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        decode(&self.bytes)
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }
}

/// Reads an address in the kernel's layout; `None` if it is short or of another family.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        libc::AF_INET6 => decode_v6(rest.first_chunk::<24>()?, port),
        _ => None,
    }
}

fn decode_v6(rest: &[u8; 24], port: u16) -> Option<SocketAddr> {
    let (flow_info, rest) = rest.split_first_chunk::<4>()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let ip = Ipv6Addr::from(*ip);
    if let Some(v4) = ip.to_ipv4_mapped() {
        return Some(SocketAddr::V4(SocketAddrV4::new(v4, port)));
    }
    let scope_id = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
    let flow_info = u32::from_be_bytes(*flow_info);
    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow_info, scope_id)))
}

#[cfg(test)]
mod tests {
    use super::{Family, RawAddress, decode};
    use std::net::SocketAddr;

    fn round_trip(text: &str, family: Family) -> Option<SocketAddr> {
        let address: SocketAddr = text.parse().expect("an address");
        RawAddress::encode(address, family)?.decode()
    }

    #[test]
    fn addresses_survive_the_kernel_form() {
        for (text, family) in [
            ("192.0.2.7:7530", Family::V4),
            ("192.0.2.7:7530", Family::V6),
            ("[2001:db8::7]:65535", Family::V6),
            ("[fe80::1%3]:1", Family::V6),
        ] {
            assert_eq!(round_trip(text, family), Some(text.parse().expect("an address")));
        }
    }

    #[test]
    fn an_ipv6_address_cannot_be_spelt_to_an_ipv4_socket() {
        assert_eq!(round_trip("[::1]:7530", Family::V4), None);
    }

    #[test]
    fn short_and_foreign_addresses_are_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[2, 0, 1, 2, 127, 0, 0]), None);
        assert_eq!(decode(&[1; 28]), None);
    }
}
