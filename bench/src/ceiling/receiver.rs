//! The receiving half of the ceiling: receive, open, unpack, check every tag, report progress.
//!
//! Runs in a peer process. All counting happens here; only what opened under the slice's key and
//! carried a tag is counted.

use std::{
    hint,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use cubed::runtime::{
    clock::Clock,
    socket::{RecvMeta, SendStatus, UdpSocket},
};
use serde::{Deserialize, Serialize};

use super::{
    frame::{FrameError, Header, Unpacker},
    seal::{Seal, Suite},
};
use crate::{
    error::{BenchError, Result},
    machine,
    peer::PeerRole,
    tag::TagChecker,
};

/// Holds any batch that the kernel hands over in one receive.
const RECV_BUFFER_BYTES: usize = 65_536 + 256;

/// Empty polls after which unreported progress is reported: about 20 us.
const POLLS_BEFORE_REPORT: u32 = 50;

/// Longest sleep while both processes share a core.
const SHARED_CORE_WAIT_NANOS: u64 = 1_000_000;

/// What the receiver must know of a slice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReceiveOrder {
    /// Tells the slice's datagrams from those of others.
    pub slice: u32,
    /// Body bytes of each message.
    pub size_bytes: usize,
    /// How the datagrams are sealed.
    pub suite: Suite,
    /// Under which key.
    pub key: Vec<u8>,
    /// Datagrams between two reports of progress, at most.
    pub progress_every: u64,
}

/// What the receiver counted in a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiveCounts {
    /// From the first to the last receive with a datagram of the slice.
    pub seconds: f64,
    /// Distinct messages.
    pub delivered: u64,
    /// Messages met more than once.
    pub duplicated: u64,
    /// One more than the highest message number met.
    pub next_message: u64,
    /// Datagrams that opened.
    pub datagrams: u64,
    /// Datagrams ignored: of another slice, not opening, or older than one already received.
    pub ignored: u64,
    /// Receive calls that brought something.
    pub receives: u64,
}

/// The receiver between and during slices.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    core: usize,
    shares_core: bool,
    buffer: Vec<u8>,
}

impl Receiver {
    /// A receiver on `socket` that pins its slices to `core`.
    pub fn new(socket: UdpSocket, core: usize, shares_core: bool) -> Self {
        Self { socket, core, shares_core, buffer: vec![0; RECV_BUFFER_BYTES] }
    }
}

impl PeerRole for Receiver {
    type Begin = ReceiveOrder;
    type Report = ReceiveCounts;

    fn run(&mut self, order: ReceiveOrder, stop: &AtomicBool) -> Result<ReceiveCounts> {
        machine::pin(self.core)?;
        let mut slice = SliceReceiver::new(&order)?;
        let mut empty_polls = 0;
        while !stop.load(Ordering::Relaxed) {
            let received = self.socket.recv(&mut self.buffer);
            if let Some(meta) = received.map_err(BenchError::system("receive"))? {
                empty_polls = 0;
                slice.handle_batch(&mut self.buffer, &meta).map_err(corrupt)?;
                slice.report_progress(&self.socket, order.progress_every)?;
                continue;
            }
            empty_polls += 1;
            if empty_polls == POLLS_BEFORE_REPORT || self.shares_core {
                slice.report_progress(&self.socket, 1)?;
            }
            if self.shares_core {
                let waited = self.socket.wait_readable(Some(SHARED_CORE_WAIT_NANOS));
                waited.map_err(BenchError::system("wait for a datagram"))?;
            } else {
                hint::spin_loop();
            }
        }
        Ok(slice.counts())
    }
}

fn corrupt(error: FrameError) -> BenchError {
    BenchError::Corrupt(error.to_string())
}

/// State of one slice.
struct SliceReceiver {
    slice: u32,
    seal: Seal,
    unpacker: Unpacker,
    checker: TagChecker,
    next: u64,
    reported: u64,
    sender: Option<SocketAddr>,
    first_nanos: u64,
    last_nanos: u64,
    counts: ReceiveCounts,
    clock: Clock,
}

impl SliceReceiver {
    fn new(order: &ReceiveOrder) -> Result<Self> {
        let seal = Seal::new(order.suite, &order.key)?;
        Ok(Self {
            slice: order.slice,
            seal,
            unpacker: Unpacker::new(order.size_bytes),
            checker: TagChecker::new(),
            next: 0,
            reported: 0,
            sender: None,
            first_nanos: 0,
            last_nanos: 0,
            counts: ReceiveCounts::default(),
            clock: Clock::new(),
        })
    }

    fn handle_batch(&mut self, buffer: &mut [u8], meta: &RecvMeta) -> Result<(), FrameError> {
        let arrived_nanos = self.clock.now_nanos();
        let before = self.counts.datagrams;
        for datagram in buffer[..meta.len].chunks_mut(meta.segment_bytes) {
            self.handle_datagram(datagram)?;
        }
        if self.counts.datagrams > before {
            if self.sender.is_none() {
                self.first_nanos = arrived_nanos;
            }
            self.sender = Some(meta.from);
            self.last_nanos = self.clock.now_nanos();
            self.counts.receives += 1;
        }
        Ok(())
    }

    #[inline]
    fn handle_datagram(&mut self, datagram: &mut [u8]) -> Result<(), FrameError> {
        let Some(Header::Data { first_frame, slice, number }) = Header::decode(datagram) else {
            self.counts.ignored += 1;
            return Ok(());
        };
        if slice != self.slice || number < self.next {
            self.counts.ignored += 1;
            return Ok(());
        }
        let Some(payload) = self.seal.open(number, datagram) else {
            self.counts.ignored += 1;
            return Ok(());
        };
        let is_next = number == self.next;
        self.next = number + 1;
        self.counts.datagrams += 1;
        let checker = &mut self.checker;
        self.unpacker.unpack(payload, first_frame, is_next, |body| checker.check(body))
    }

    /// Reports progress when at least `every` datagrams came since the last report.
    fn report_progress(&mut self, socket: &UdpSocket, every: u64) -> Result<()> {
        let Some(sender) = self.sender else {
            return Ok(());
        };
        if self.next - self.reported < every {
            return Ok(());
        }
        let report = Header::Progress { slice: self.slice, next: self.next }.encode();
        let sent =
            socket.send(sender, &report, 0).map_err(BenchError::system("report progress"))?;
        // A report that found no room is repeated with the next batch or the next silence.
        if sent == SendStatus::Sent {
            self.reported = self.next;
        }
        Ok(())
    }

    fn counts(&self) -> ReceiveCounts {
        ReceiveCounts {
            seconds: (self.last_nanos - self.first_nanos) as f64 / 1e9,
            delivered: self.checker.delivered(),
            duplicated: self.checker.duplicated(),
            next_message: self.checker.next(),
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: datagrams lost, late, doubled, forged or of another slice never count as messages.
    use super::*;
    use crate::ceiling::{
        frame::{HEADER_BYTES, Packer},
        seal::TAG_BYTES,
    };

    const KEY: [u8; 16] = [9; 16];
    const DATAGRAM_BYTES: usize = 300;

    fn order() -> ReceiveOrder {
        ReceiveOrder {
            slice: 4,
            size_bytes: 64,
            suite: Suite::Aes128Gcm,
            key: KEY.to_vec(),
            progress_every: 64,
        }
    }

    /// Sealed datagrams of slice 4, and the number of messages whole in them.
    fn sealed(count: u64) -> (Vec<Vec<u8>>, u64) {
        let seal = Seal::new(Suite::Aes128Gcm, &KEY).unwrap();
        let mut packer = Packer::new(64);
        let datagrams = (0..count)
            .map(|number| {
                let mut datagram = vec![0; DATAGRAM_BYTES];
                let payload = HEADER_BYTES..DATAGRAM_BYTES - TAG_BYTES;
                let first_frame = packer.fill(&mut datagram[payload]);
                let header = Header::Data { first_frame, slice: 4, number };
                datagram[..HEADER_BYTES].copy_from_slice(&header.encode());
                seal.seal(number, &mut datagram);
                datagram
            })
            .collect();
        (datagrams, packer.completed())
    }

    fn received(datagrams: impl IntoIterator<Item = Vec<u8>>) -> ReceiveCounts {
        let mut slice = SliceReceiver::new(&order()).unwrap();
        for mut datagram in datagrams {
            slice.handle_datagram(&mut datagram).unwrap();
        }
        slice.counts()
    }

    #[test]
    fn all_in_order_is_all_delivered() {
        let (datagrams, messages) = sealed(50);
        let counts = received(datagrams);
        assert_eq!((counts.delivered, counts.next_message), (messages, messages));
        assert_eq!((counts.datagrams, counts.ignored, counts.duplicated), (50, 0, 0));
    }

    #[test]
    fn a_lost_datagram_loses_its_messages_only() {
        let (mut datagrams, messages) = sealed(50);
        datagrams.drain(10..12);
        let counts = received(datagrams);
        // Two payloads of 268 bytes carry parts of at most 9 frames of 68 bytes.
        assert!(counts.delivered < messages && counts.delivered >= messages - 9);
        assert_eq!((counts.datagrams, counts.next_message), (48, messages));
    }

    #[test]
    fn late_and_doubled_datagrams_are_ignored() {
        let (mut datagrams, messages) = sealed(50);
        datagrams.insert(20, datagrams[19].clone());
        datagrams.swap(30, 31);
        let counts = received(datagrams);
        assert_eq!((counts.ignored, counts.duplicated), (2, 0));
        assert!(counts.delivered < messages);
    }

    #[test]
    fn foreign_datagrams_are_ignored() {
        let (datagrams, messages) = sealed(10);
        let mut forged = datagrams[0].clone();
        forged[HEADER_BYTES] ^= 1;
        let mut other_slice = datagrams[0].clone();
        other_slice[4] ^= 1;
        let noise = vec![forged, other_slice, Vec::new(), vec![0xC1; 20], vec![0; 1452]];
        let count = noise.len() as u64;
        let counts = received(noise.into_iter().chain(datagrams));
        assert_eq!((counts.ignored, counts.delivered), (count, messages));
    }
}
