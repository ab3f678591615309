//! Datagrams that reached another shard than the one they name: copied, and handed over in batches.
//!
//! With the steering filter there are few: a batch that the kernel joined goes where its first datagram says. Without it the
//! kernel spreads by addresses, and most are strays. Always holds: a
//! datagram is handled by the shard that it names, or by none, and then it is counted; what names no shard of this node
//! stays, and the endpoint counts it.

use std::net::SocketAddr;

use cubed_runtime::{Drained, DriverWaker, HandOff, HandOffOptions, handoff};
use cubed_transport::handshake::Kind;

use crate::limits::{STRAY_BATCHES_MAX, STRAYS_PER_BATCH_MAX, STRAYS_PER_TURN_MAX};

/// One datagram on its way to its shard.
pub(crate) struct Stray {
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl Default for Stray {
    fn default() -> Self {
        Self { from: SocketAddr::from(([0; 4], 0)), bytes: Vec::new() }
    }
}

/// The ends of a mesh between so many shards, in order.
pub(crate) fn mesh(shards: usize) -> Vec<HandOff<Stray>> {
    let options =
        HandOffOptions { batch_items_max: STRAYS_PER_BATCH_MAX, batches_max: STRAY_BATCHES_MAX };
    handoff::mesh(shards, options)
}

/// Both ends of one shard.
pub(crate) struct Strays {
    index: u8,
    shards: u8,
    ends: HandOff<Stray>,
}

/// What one shard has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StrayCounters {
    pub(crate) handed: u64,
    pub(crate) taken: u64,
    pub(crate) dropped: u64,
}

impl Strays {
    pub(crate) fn new(index: u8, ends: HandOff<Stray>, waker: DriverWaker) -> Self {
        ends.inbound.attach(waker);
        let shards = ends.outbound.shards() as u8;
        Self { index, shards, ends }
    }

    /// The other shard that this datagram names.
    #[inline]
    pub(crate) fn destination(&self, datagram: &[u8]) -> Option<u8> {
        let &[kind, byte, ..] = datagram else { return None };
        if byte == self.index { None } else { self.other(kind, byte) }
    }

    #[cold]
    fn other(&self, kind: u8, byte: u8) -> Option<u8> {
        let shard = match kind {
            // Drawn at random by a dialler that does not know how many shards there are.
            kind if kind == Kind::Hello as u8 => byte % self.shards,
            _ => byte,
        };
        (shard < self.shards && shard != self.index).then_some(shard)
    }

    /// Copies a datagram for another shard. If that one is behind it is lost, as on a full socket, and counted.
    #[cold]
    pub(crate) fn hand_over(&mut self, to: u8, from: SocketAddr, datagram: &[u8]) {
        let fill = |stray: &mut Stray| {
            stray.from = from;
            stray.bytes.clear();
            stray.bytes.extend_from_slice(datagram);
        };
        // Counted by the outbound end.
        let _ = self.ends.outbound.push_with(usize::from(to), fill);
    }

    /// Lets go of what was copied. Once per turn, and before parking.
    #[inline]
    pub(crate) fn flush(&mut self) {
        self.ends.outbound.flush();
    }

    /// Gives the datagrams that others handed to this shard to `take`, some at a time.
    #[inline]
    pub(crate) fn take(&mut self, mut take: impl FnMut(SocketAddr, &mut [u8])) -> Drained {
        self.ends.inbound.drain(STRAYS_PER_TURN_MAX, |_, stray| take(stray.from, &mut stray.bytes))
    }

    pub(crate) fn counters(&self) -> StrayCounters {
        let (out, into) = (self.ends.outbound.stats(), self.ends.inbound.stats());
        StrayCounters { handed: out.items, taken: into.items, dropped: out.full + out.closed }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a datagram goes to the shard that it names, unless it names none.
    use cubed_runtime::{Driver, MemoryNetwork};

    use super::*;

    fn shards(count: usize) -> Vec<Strays> {
        let network = MemoryNetwork::new();
        let ends = mesh(count).into_iter().zip(0..);
        ends.map(|(ends, index)| {
            let address = SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(index)));
            let driver = network.bind(address).expect("a free address");
            Strays::new(index, ends, driver.waker())
        })
        .collect()
    }

    const HELLO: u8 = Kind::Hello as u8;

    #[test]
    fn hellos_are_spread_and_other_kinds_name_their_shard() {
        for count in [1, 2, 3, 8, 255] {
            for (strays, index) in shards(count).iter().zip(0..) {
                for byte in 0..=u8::MAX {
                    let other = |shard: u8| (shard != index).then_some(shard);
                    let hello = usize::from(byte) % count;
                    assert_eq!(strays.destination(&[HELLO, byte, 0]), other(hello as u8));
                    let named = if usize::from(byte) < count { other(byte) } else { None };
                    assert_eq!(strays.destination(&[0x40, byte, 0]), named);
                }
                assert_eq!(strays.destination(&[0x40]), None);
                assert_eq!(strays.destination(&[]), None);
            }
        }
    }

    #[test]
    fn what_is_handed_over_arrives_whole_and_in_order_and_the_rest_is_counted() {
        let mut shards = shards(2);
        let from = SocketAddr::from(([192, 0, 2, 7], 9));
        let count = 2 * STRAYS_PER_BATCH_MAX * STRAY_BATCHES_MAX;
        for number in 0..count {
            shards[0].hand_over(1, from, &[0x40, 1, number as u8]);
        }
        shards[0].flush();
        let mut taken = Vec::new();
        while shards[1].take(|from, bytes| taken.push((from, bytes.to_vec()))).items > 0 {}
        let room = count / 2;
        let expected = (0..room).map(|number| (from, vec![0x40, 1, number as u8]));
        assert_eq!(taken, expected.collect::<Vec<_>>());
        let sent = StrayCounters { handed: room as u64, taken: 0, dropped: room as u64 };
        assert_eq!(shards[0].counters(), sent);
        assert_eq!(shards[1].counters().taken, room as u64);
    }
}
