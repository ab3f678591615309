//! The second socket of a driver: for datagrams that must not crowd out the others (see [`crate::SocketGroup`]).
//!
//! It joins datagrams to batches as the first one does: the kernel looks for a socket that does before the port's filter is
//! asked, and may meet this one. Always holds: `is_pending` is false only if the socket was found empty, everything that was
//! read is handed over, and nothing has been announced since; so a driver that sleeps while it is false, and is told of
//! arrivals, overlooks nothing. However datagrams were joined, they are handed over as few at a time as was asked for.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::{DriverStats, Port, Received};
use crate::socket::{RECV_MANY_MAX, RecvMeta, UdpSocket};

/// A second socket, read a little at a time.
pub(super) struct Side {
    socket: UdpSocket,
    /// There may be something to read.
    pub(super) is_pending: bool,
    buffer: Box<[u8]>,
    slot_bytes: usize,
    /// What the last call brought, and which of it is next.
    held: Vec<Held>,
    next: usize,
    /// Handed over so far.
    datagrams: u64,
}

/// A batch in the buffer, from what is next of it to its end. Empty when not one datagram of it was whole.
struct Held {
    next: usize,
    end: usize,
    segment_bytes: usize,
    meta: RecvMeta,
}

/// Room for one batch: 13 hellos, or the longest datagram of a lane. What is longer is cut after its last whole datagram.
/// Whole batches would take four times the memory, under a flood only.
const SLOT_BYTES: usize = 16 << 10;

impl Side {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self::with_slots(socket, SLOT_BYTES)
    }

    fn with_slots(socket: UdpSocket, slot_bytes: usize) -> Self {
        let buffer = vec![0; RECV_MANY_MAX * slot_bytes].into_boxed_slice();
        let held = Vec::with_capacity(RECV_MANY_MAX);
        Self { socket, is_pending: true, buffer, slot_bytes, held, next: 0, datagrams: 0 }
    }

    /// Hands over at most `datagrams_max`; how many there were, one for each batch of which nothing was whole included.
    pub(super) fn recv(
        &mut self,
        datagrams_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.is_pending = true;
        let mut count = 0;
        while count < datagrams_max {
            let Some(held) = self.held.get_mut(self.next) else {
                let refused = self.socket.stats().recv_refused;
                // Fewer than asked for may also mean an error of the next one, so only nothing means empty.
                if self.read(datagrams_max - count)? {
                    continue;
                }
                // Want of memory says nothing of what is there.
                self.is_pending = self.socket.stats().recv_refused > refused;
                break;
            };
            let Held { next, end, segment_bytes, meta } = held;
            let until = (*next + (datagrams_max - count) * *segment_bytes).min(*end);
            let bytes = &mut self.buffer[*next..until];
            let datagrams = bytes.len().div_ceil(*segment_bytes);
            *next = until;
            if until == *end {
                self.next += 1;
            }
            count += datagrams.max(1);
            self.datagrams += datagrams as u64;
            if datagrams > 0 {
                sink(Received {
                    bytes,
                    segment_bytes: *segment_bytes,
                    from: meta.from,
                    port: Port::Shared,
                });
            }
        }
        Ok(count)
    }

    /// Reads at most so many batches into the empty buffer; whether there were any.
    fn read(&mut self, batches_max: usize) -> io::Result<bool> {
        let Self { socket, buffer, slot_bytes, held, .. } = self;
        held.clear();
        self.next = 0;
        let mut hold = |slot: usize, meta: RecvMeta, bytes: &mut [u8]| {
            let segment_bytes = meta.segment_bytes;
            let cut = if meta.truncated { bytes.len() % segment_bytes } else { 0 };
            let next = slot * *slot_bytes;
            // A datagram that was cut is as long as its batch: nothing of it is whole.
            let is_lost = meta.truncated && segment_bytes >= bytes.len();
            let end = if is_lost { next } else { next + bytes.len() - cut };
            held.push(Held { next, end, segment_bytes, meta });
        };
        socket.recv_many(buffer, *slot_bytes, batches_max, &mut hold).map(|batches| batches > 0)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Adds what was counted here.
    pub(super) fn count_into(&self, stats: &mut DriverStats) {
        let socket = self.socket.stats();
        stats.side_datagrams = self.datagrams;
        stats.side_truncated = socket.recv_truncated;
        stats.side_drops = socket.kernel_drops;
        stats.memory_refusals += socket.recv_refused;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: batches are handed over in portions, and what was cut is counted, costs its part of the budget, and no more.
    use super::*;
    use crate::driver::tests::{send, socket};

    /// What one look brings: how many it counts, and the first byte and length of each datagram.
    fn look(side: &mut Side, datagrams_max: usize) -> (usize, Vec<(u8, usize)>) {
        let mut seen = Vec::new();
        let count = side.recv(datagrams_max, &mut |received| {
            let datagrams = received.bytes.chunks(received.segment_bytes);
            seen.extend(datagrams.map(|datagram| (datagram[0], datagram.len())));
        });
        (count.expect("recv"), seen)
    }

    fn run(datagrams: u8, bytes: usize) -> Vec<u8> {
        (0..datagrams).flat_map(|number| vec![number; bytes]).collect()
    }

    #[test]
    fn a_batch_is_handed_over_in_portions() {
        let (sender, side) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = side.local_addr();
        let mut side = Side::new(side);
        send(&sender, to, &run(10, 100), 100);
        send(&sender, to, &[10; 60], 0);
        let mut seen = Vec::new();
        for expected in [4, 4, 3, 0] {
            let (count, datagrams) = look(&mut side, 4);
            assert_eq!((count, datagrams.len()), (expected, expected));
            assert_eq!(side.is_pending, expected == 4, "what is held is pending");
            seen.extend(datagrams);
        }
        let expected = (0..10).map(|number| (number, 100)).chain([(10, 60)]);
        assert_eq!(seen, expected.collect::<Vec<_>>());
        assert_eq!(side.socket.stats().recv_batches, 2, "the run came as one");
    }

    #[test]
    fn a_batch_that_is_too_long_is_cut_after_a_whole_datagram() {
        let (sender, side) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = side.local_addr();
        let mut side = Side::with_slots(side, 250);
        send(&sender, to, &run(10, 100), 100);
        send(&sender, to, &[7; 251], 0);
        send(&sender, to, &[8; 250], 0);
        assert_eq!(look(&mut side, 8), (4, vec![(0, 100), (1, 100), (8, 250)]));
        let mut stats = DriverStats::default();
        side.count_into(&mut stats);
        assert_eq!((stats.side_datagrams, stats.side_truncated), (3, 2));
    }
}
