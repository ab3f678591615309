//! The receiving end of the sealed loop: as many sockets as there are peers, read in turn, one sealed message a datagram.
//!
//! A datagram is a header and a frame of [`crate::ceiling::frame`] and a tag; each socket has a key of its own, as each peer has.

use std::{
    hint,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use cubed::runtime::{
    clock::Clock,
    socket::{SendStatus, UdpSocket},
};
use serde::{Deserialize, Serialize};

use super::bind_all;
use crate::{
    ceiling::{
        frame::{FRAME_BYTES, Header},
        seal::{Seal, Suite},
    },
    cli::PeerAudienceArgs,
    error::{BenchError, Result},
    machine,
    peer::{self, PeerRole},
    tag::TagChecker,
};

/// Name of the hidden sub-command that runs the process.
pub const PEER_COMMAND: &str = "peer-listeners";

/// Datagrams between two reports of progress, at most.
const PROGRESS_EVERY: u64 = 64;

/// Holds any datagram that the loop sends.
const RECV_BUFFER_BYTES: usize = 65_536 + 256;

/// Datagrams read from one socket before it is the turn of the next.
const RECEIVES_PER_TURN: usize = 4;

/// The order of a slice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListenOrder {
    /// Tells the slice's datagrams from those of others.
    pub slice: u32,
    /// Body bytes of each message.
    pub size_bytes: usize,
    /// How datagrams are sealed.
    pub suite: Suite,
    /// What the key of each socket is made from: see [`key_of`].
    pub key: Vec<u8>,
}

/// What was counted in a slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenCounts {
    /// Ports of the sockets.
    pub ports: Vec<u16>,
    /// From the first datagram to the last one.
    pub seconds: f64,
    /// Distinct messages of each socket.
    pub delivered: Vec<u64>,
    /// Messages met more than once, of all.
    pub duplicated: u64,
}

/// The key of socket `number` in a slice: another one for each.
pub fn key_of(key: &[u8], number: u32) -> Vec<u8> {
    let mut own = key.to_vec();
    for (byte, bits) in own.iter_mut().zip(number.to_le_bytes()) {
        *byte ^= bits;
    }
    own
}

/// One socket in a slice.
struct Listener {
    seal: Seal,
    checker: TagChecker,
}

/// All sockets.
struct Listeners {
    core: usize,
    sockets: Vec<UdpSocket>,
    buffer: Vec<u8>,
}

/// Runs the process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// When a socket is refused, or stdin or stdout fail.
pub fn run(args: &PeerAudienceArgs) -> Result<()> {
    let sockets = bind_all(args.count.max(1))?;
    let address = sockets[0].local_addr();
    let buffer = vec![0; RECV_BUFFER_BYTES];
    peer::serve(&mut Listeners { core: args.core, sockets, buffer }, address, None)
}

impl PeerRole for Listeners {
    type Begin = ListenOrder;
    type Report = ListenCounts;

    fn run(&mut self, order: ListenOrder, stop: &AtomicBool) -> Result<ListenCounts> {
        machine::pin(self.core)?;
        let clock = Clock::new();
        let numbers = 0..self.sockets.len() as u32;
        let listener = |number| {
            let seal = Seal::new(order.suite, &key_of(&order.key, number))?;
            Ok(Listener { seal, checker: TagChecker::new() })
        };
        let mut listeners = numbers.map(listener).collect::<Result<Vec<_>>>()?;
        let (mut opened, mut told, mut sender) = (0, 0, None);
        let mut times: Option<(u64, u64)> = None;
        while !stop.load(Ordering::Relaxed) {
            let before = opened;
            for (socket, listener) in self.sockets.iter().zip(&mut listeners) {
                for _ in 0..RECEIVES_PER_TURN {
                    let received = socket.recv(&mut self.buffer);
                    let received = received.map_err(BenchError::system("receive"))?;
                    let Some(meta) = received else { break };
                    for datagram in self.buffer[..meta.len].chunks_mut(meta.segment_bytes) {
                        opened += u64::from(listener.take(&order, datagram));
                    }
                    sender = Some(meta.from);
                }
                if opened - told >= PROGRESS_EVERY {
                    told = tell(&self.sockets[0], sender, order.slice, opened, told)?;
                }
            }
            if opened == before {
                if opened > told {
                    told = tell(&self.sockets[0], sender, order.slice, opened, told)?;
                }
                hint::spin_loop();
                continue;
            }
            let now = clock.now_nanos();
            let (_, last) = times.get_or_insert((now, now));
            *last = now;
        }
        Ok(ListenCounts {
            ports: self.sockets.iter().map(|socket| socket.local_addr().port()).collect(),
            seconds: times.map_or(0.0, |(first, last)| (last - first) as f64 / 1e9),
            delivered: listeners.iter().map(|one| one.checker.delivered()).collect(),
            duplicated: listeners.iter().map(|one| one.checker.duplicated()).sum(),
        })
    }
}

impl Listener {
    /// Opens and counts one datagram; whether it was one of the slice.
    #[inline]
    fn take(&mut self, order: &ListenOrder, datagram: &mut [u8]) -> bool {
        let Some(Header::Data { slice, number, .. }) = Header::decode(datagram) else {
            return false;
        };
        if slice != order.slice {
            return false;
        }
        let Some(payload) = self.seal.open(number, datagram) else { return false };
        let body = payload.split_first_chunk::<FRAME_BYTES>();
        let Some((length, body)) = body else { return false };
        if u32::from_le_bytes(*length) as usize != order.size_bytes
            || body.len() != order.size_bytes
        {
            return false;
        }
        self.checker.check(body);
        true
    }
}

/// Tells the sender how many datagrams were opened; how many it has been told.
fn tell(
    socket: &UdpSocket,
    sender: Option<SocketAddr>,
    slice: u32,
    opened: u64,
    told: u64,
) -> Result<u64> {
    let Some(sender) = sender else { return Ok(told) };
    let report = Header::Progress { slice, next: opened }.encode();
    let sent = socket.send(sender, &report, 0).map_err(BenchError::system("report progress"))?;
    // Without room it is told with the next.
    Ok(if sent == SendStatus::Sent { opened } else { told })
}

#[cfg(test)]
mod tests {
    //! Goal: each socket has a key of its own.
    use super::*;

    #[test]
    fn keys_differ_by_number() {
        let key = [7; 16];
        assert_eq!(key_of(&key, 0), key);
        assert_ne!(key_of(&key, 1), key_of(&key, 256));
    }
}
