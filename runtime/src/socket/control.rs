//! Control messages beside a datagram: segment size out (GSO), segment size and drop count in (GRO).
//!
//! Always holds: parsing reads inside the slice it is given and nowhere else, whatever the lengths
//! in it say; it takes no alignment for granted, as `io_uring` gives none.

use std::mem;

const WORD_BYTES: usize = mem::size_of::<usize>();
const HEADER_BYTES: usize = mem::size_of::<libc::cmsghdr>();

// The parser reads length, level and type at these offsets; the kernel's layout on 64-bit machines.
const _: () = assert!(HEADER_BYTES == 16 && WORD_BYTES == 8);

/// Room for everything that our socket options make the kernel attach to a datagram: the GRO
/// segment size and the overflow counter (24 bytes each), and as much again for options to come.
pub(crate) const RECV_CONTROL_BYTES: usize = 96;

/// Room for one `UDP_SEGMENT` message: header, two bytes, padding.
pub(crate) const SEND_CONTROL_BYTES: usize = HEADER_BYTES + WORD_BYTES;

/// Control bytes aligned as the kernel wants them.
#[repr(C, align(8))]
pub(crate) struct ControlSpace<const N: usize>(pub(crate) [u8; N]);

impl ControlSpace<SEND_CONTROL_BYTES> {
    /// One `UDP_SEGMENT` message: cut what is sent into datagrams of `segment_bytes`.
    pub(crate) fn segment(segment_bytes: u16) -> Self {
        let mut space = Self([0; SEND_CONTROL_BYTES]);
        let length = HEADER_BYTES + mem::size_of::<u16>();
        space.0[0..8].copy_from_slice(&length.to_ne_bytes());
        space.0[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        space.0[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        space.0[16..18].copy_from_slice(&segment_bytes.to_ne_bytes());
        space
    }
}

/// What the kernel told beside a datagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ControlFacts {
    /// Size of each segment but the last, when several datagrams arrived as one batch.
    pub(crate) segment_bytes: Option<usize>,
    /// Datagrams that this socket dropped for want of buffer so far; wraps.
    pub(crate) kernel_drops: Option<u32>,
}

impl ControlFacts {
    /// Reads the control area of one received datagram; stops at the first malformed message.
    #[inline]
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut facts = Self::default();
        while let Some((level, kind, data, rest)) = split_message(bytes) {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    facts.segment_bytes = read_u32(data).map(|size| size as usize);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => facts.kernel_drops = read_u32(data),
                _ => {}
            }
            bytes = rest;
        }
        facts
    }
}

/// Takes the first message apart: level, type, data, and what follows it.
#[inline]
fn split_message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let length = usize::from_ne_bytes(*header.first_chunk::<8>()?);
    let level = i32::from_ne_bytes(*header[8..].first_chunk::<4>()?);
    let kind = i32::from_ne_bytes(*header[12..].first_chunk::<4>()?);
    let data = bytes.get(HEADER_BYTES..length)?;
    let next = length.next_multiple_of(WORD_BYTES).min(bytes.len());
    Some((level, kind, data, &bytes[next..]))
}

fn read_u32(data: &[u8]) -> Option<u32> {
    data.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::{ControlFacts, ControlSpace};

    fn message(level: i32, kind: i32, data: u32) -> Vec<u8> {
        let mut bytes = 20usize.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn both_facts_are_found_among_foreign_messages() {
        let mut bytes = message(0, 1, 9);
        bytes.extend(message(libc::SOL_UDP, libc::UDP_GRO, 1_452));
        bytes.extend(message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 7));
        let facts = ControlFacts::parse(&bytes);
        assert_eq!(facts, ControlFacts { segment_bytes: Some(1_452), kernel_drops: Some(7) });
    }

    #[test]
    fn lying_lengths_stop_the_parser() {
        let good = message(libc::SOL_UDP, libc::UDP_GRO, 1_452);
        for length in [0usize, 1, 15, 25, usize::MAX - 7, usize::MAX] {
            let mut bytes = good.clone();
            bytes[0..8].copy_from_slice(&length.to_ne_bytes());
            bytes.extend(&good);
            let facts = ControlFacts::parse(&bytes);
            assert!(facts.segment_bytes.is_none() || length == 25, "length {length}");
        }
        for cut in 0..20 {
            assert_eq!(ControlFacts::parse(&good[..cut]), ControlFacts::default());
        }
    }

    #[test]
    fn the_send_message_has_the_layout_of_the_c_macros() {
        let space = ControlSpace::segment(1_452);
        // SAFETY: CMSG_LEN is arithmetic on its argument.
        let length = unsafe { libc::CMSG_LEN(2) } as usize;
        assert_eq!(space.0[0..8], length.to_ne_bytes());
        // SAFETY: CMSG_SPACE is arithmetic on its argument.
        assert_eq!(space.0.len(), unsafe { libc::CMSG_SPACE(2) } as usize);
    }
}
