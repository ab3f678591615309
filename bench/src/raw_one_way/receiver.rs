//! The receiving half: reads batches, counts and times every message as the sink of a serving node does.
//!
//! What was sent has arrived when the order to end comes, as loopback delivers within the send call; so a slice ends when the order
//! has come and the socket is empty.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
};

use cubed::{
    Instant,
    runtime::{clock::Clock, socket::UdpSocket},
};
use serde::{Deserialize, Serialize};

use super::{
    POLLED_NANOS,
    stalls::{StallWatch, Stalls},
};
use crate::{
    error::{BenchError, Result},
    machine,
    node::sink::{Sink, SinkCounts, SinkOrder},
    peer::PeerRole,
};

/// Holds any batch that the kernel hands over in one receive.
const RECV_BUFFER_BYTES: usize = 65_536 + 256;

/// Longest sleep: how late an order to end may be seen.
const SLEEP_NANOS_MAX: u64 = 1_000_000;

/// What the receiver counted in a slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ReceiveCounts {
    pub(super) sink: SinkCounts,
    pub(super) stalls: Stalls,
}

/// The receiver between and during slices.
pub(super) struct Receiver {
    pub(super) socket: UdpSocket,
    pub(super) core: usize,
    pub(super) spin: bool,
    /// Body bytes of each message.
    pub(super) size_bytes: usize,
}

impl PeerRole for Receiver {
    type Begin = SinkOrder;
    type Report = ReceiveCounts;

    fn run(&mut self, order: SinkOrder, stop: &AtomicBool) -> Result<ReceiveCounts> {
        machine::pin(self.core)?;
        let (mut sink, mut watch, clock) = (Sink::new(1), StallWatch::default(), Clock::new());
        sink.begin(order);
        let mut buffer = vec![0; RECV_BUFFER_BYTES];
        let mut busy_nanos = clock.now_nanos();
        loop {
            let now_nanos = clock.now_nanos();
            watch.on_turn(now_nanos);
            let is_over = stop.load(Ordering::Relaxed);
            let received = self.socket.recv(&mut buffer).map_err(BenchError::system("receive"))?;
            if let Some(meta) = received {
                let now = Instant::from_nanos(now_nanos);
                // Every datagram but the last holds as many whole messages, so they lie side by side.
                for body in buffer[..meta.len].chunks(self.size_bytes) {
                    sink.handle(0, body, now);
                }
                busy_nanos = now_nanos;
            } else if is_over {
                return Ok(ReceiveCounts { sink: sink.counts(), stalls: watch.stalls() });
            } else if self.spin || now_nanos - busy_nanos < POLLED_NANOS {
                hint::spin_loop();
            } else {
                watch.on_sleep();
                let waited = self.socket.wait_readable(Some(SLEEP_NANOS_MAX));
                waited.map_err(BenchError::system("wait for a datagram"))?;
            }
        }
    }
}
