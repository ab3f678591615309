//! The sending half of the ceiling: fill, seal, send; keep at most a window in flight.
//!
//! A run of datagrams is filled and sealed before there is room in the window, so that waiting
//! costs as little as it can. What the window lost is given up after a timeout and never resent.

use std::{hint, io, net::SocketAddr, time::Duration};

use cubed::runtime::{
    clock::Clock,
    socket::{SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, UdpSocket},
};

use super::{
    frame::{HEADER_BYTES, Header, Packer},
    seal::{Seal, TAG_BYTES},
};
use crate::meter::Meter;

/// Without progress for this long, what is in flight counts as lost.
const STALL_NANOS: u64 = 50_000_000;

/// What one slice is made of.
#[derive(Debug, Clone, Copy)]
pub struct SliceOrder {
    /// Tells the slice's datagrams from those of others.
    pub slice: u32,
    /// Body bytes of each message.
    pub size_bytes: usize,
    /// Bytes of each datagram.
    pub datagram_bytes: usize,
    /// Datagrams in flight, at most.
    pub window: u64,
    /// Runs leave by one call, which the kernel cuts into datagrams (GSO); else each datagram by a call of its own.
    pub offload: bool,
    /// Wait in the kernel and not by polling: both processes share a core.
    pub shares_core: bool,
}

/// What the sender counted in one slice.
#[derive(Debug, Clone, Copy, Default)]
pub struct SendCounts {
    /// Messages written to their last byte into datagrams that were sent.
    pub messages: u64,
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// Send calls that carried them.
    pub sends: u64,
    /// Times that a window was given up.
    pub stalls: u64,
}

/// Datagrams of `datagram_bytes` that one send may carry: 64, what fits into a UDP payload, and no
/// more than half of the window.
pub fn run_datagrams(datagram_bytes: usize, window: u64) -> usize {
    let by_bytes = SEND_RUN_BYTES_MAX / datagram_bytes;
    SEND_RUN_SEGMENTS_MAX.min(by_bytes).min((window / 2) as usize).max(1)
}

/// The sender during one slice.
#[derive(Debug)]
pub struct Sender<'a> {
    socket: &'a UdpSocket,
    to: SocketAddr,
    seal: &'a Seal,
    order: SliceOrder,
    packer: Packer,
    staging: Vec<u8>,
    run: u64,
    next: u64,
    acknowledged: u64,
    counts: SendCounts,
    meter: Option<&'a Meter>,
    clock: Clock,
}

impl<'a> Sender<'a> {
    /// A sender at packet number and message number 0.
    pub fn new(socket: &'a UdpSocket, to: SocketAddr, seal: &'a Seal, order: SliceOrder) -> Self {
        let run = if order.offload { run_datagrams(order.datagram_bytes, order.window) } else { 1 };
        Self {
            socket,
            to,
            seal,
            order,
            packer: Packer::new(order.size_bytes),
            staging: vec![0; run * order.datagram_bytes],
            run: run as u64,
            next: 0,
            acknowledged: 0,
            counts: SendCounts::default(),
            meter: None,
            clock: Clock::new(),
        }
    }

    /// The same sender, which tells `meter` of every message.
    #[must_use]
    pub fn watched(self, meter: Option<&'a Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Sends for `duration`, then waits until all was received or nothing moves any more.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn run(mut self, duration: Duration) -> io::Result<SendCounts> {
        let deadline = self.clock.now_nanos() + duration.as_nanos() as u64;
        while self.clock.now_nanos() < deadline {
            self.fill_run();
            self.wait_in_flight_at_most(self.order.window - self.run)?;
            self.send_run()?;
        }
        self.wait_in_flight_at_most(0)?;
        Ok(self.counts)
    }

    fn fill_run(&mut self) {
        let numbers = self.next..;
        for (number, datagram) in
            numbers.zip(self.staging.chunks_exact_mut(self.order.datagram_bytes))
        {
            let end = datagram.len() - TAG_BYTES;
            let first_frame = self.packer.fill(&mut datagram[HEADER_BYTES..end]);
            let header = Header::Data { first_frame, slice: self.order.slice, number };
            datagram[..HEADER_BYTES].copy_from_slice(&header.encode());
            self.seal.seal(number, datagram);
        }
    }

    fn send_run(&mut self) -> io::Result<()> {
        let mut rest = self.staging.as_slice();
        while !rest.is_empty() {
            self.counts.sends += 1;
            match self.socket.send(self.to, rest, self.order.datagram_bytes)? {
                SendStatus::Sent => break,
                SendStatus::WouldBlock { sent_bytes } => rest = &rest[sent_bytes..],
            }
        }
        self.next += self.run;
        self.counts.datagrams += self.run;
        let messages = self.packer.completed();
        if let Some(meter) = self.meter {
            meter.add_messages(messages - self.counts.messages);
        }
        self.counts.messages = messages;
        Ok(())
    }

    /// Waits for progress until at most `limit` datagrams are in flight; gives all of them up when
    /// there is none for [`STALL_NANOS`].
    fn wait_in_flight_at_most(&mut self, limit: u64) -> io::Result<()> {
        let mut waiting_since = None;
        while self.next - self.acknowledged > limit {
            if self.read_progress()? {
                waiting_since = None;
                continue;
            }
            let now = self.clock.now_nanos();
            let since = *waiting_since.get_or_insert(now);
            if now - since > STALL_NANOS {
                self.acknowledged = self.next;
                self.counts.stalls += 1;
            } else if self.order.shares_core {
                self.socket.wait_readable(Some(STALL_NANOS))?;
            } else {
                hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Takes one receive's worth of progress datagrams; false when there was none.
    fn read_progress(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * HEADER_BYTES];
        let Some(meta) = self.socket.recv(&mut buffer)? else {
            return Ok(false);
        };
        for datagram in buffer[..meta.len].chunks(meta.segment_bytes) {
            if let Some(Header::Progress { slice, next }) = Header::decode(datagram)
                && slice == self.order.slice
                && meta.from == self.to
                && next <= self.next
            {
                self.acknowledged = self.acknowledged.max(next);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a run obeys the limits of the kernel and of the window, and silence stops nothing.
    use cubed::runtime::socket::SocketOptions;

    use super::*;
    use crate::ceiling::seal::Suite;

    #[test]
    fn a_silent_receiver_costs_windows_and_not_the_slice() {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = || UdpSocket::bind(any_port, &SocketOptions::default()).unwrap();
        let (socket, silent) = (bind(), bind());
        let seal = Seal::new(Suite::Aes128Gcm, &[1; 16]).unwrap();
        let order = SliceOrder {
            slice: 1,
            size_bytes: 64,
            datagram_bytes: 1452,
            window: 256,
            offload: true,
            shares_core: false,
        };
        let duration = Duration::from_nanos(STALL_NANOS * 3 / 2);
        let sender = Sender::new(&socket, silent.local_addr(), &seal, order);
        let counts = sender.run(duration).unwrap();
        assert!(counts.stalls >= 2, "{counts:?}");
        assert!(counts.datagrams > 256, "{counts:?}");
        assert_eq!(counts.datagrams, 45 * counts.sends);
    }

    #[test]
    fn runs_stay_within_kernel_and_window() {
        assert_eq!(run_datagrams(1452, 1024), 45);
        assert_eq!(run_datagrams(100, 1024), 64);
        assert_eq!(run_datagrams(9000, 1024), 7);
        assert_eq!(run_datagrams(65_507, 1024), 1);
        assert_eq!(run_datagrams(100, 20), 10);
        assert_eq!(run_datagrams(100, 1), 1);
    }
}
