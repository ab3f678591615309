//! The sending half: at each turn what is due by then, side by side in datagrams, by one send call.
//!
//! Always holds: a datagram holds whole messages; all of a call but the last hold as many.

use std::{hint, net::SocketAddr, thread, time::Duration};

use cubed::{
    Instant,
    runtime::{
        clock::Clock,
        socket::{SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, UdpSocket},
    },
};

use super::{
    POLLED_NANOS,
    stalls::{StallWatch, Stalls},
};
use crate::{
    error::{BenchError, Result},
    node::{
        bodies::write_stamp,
        schedule::{Schedule, Stamps},
    },
    tag::write_tag,
};

/// How much earlier than the next message is due a sleep ends, since it ends some 60 us late.
const SLEEP_LATE_NANOS: u64 = 150_000;

/// What one slice is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct SendOrder {
    pub(super) to: SocketAddr,
    /// Body bytes of each message.
    pub(super) size_bytes: usize,
    /// Messages in one datagram, above zero.
    pub(super) messages_per_datagram: usize,
    /// Poll for ever, whatever is due.
    pub(super) spin: bool,
    /// When messages are due, the first ones among the warm-up.
    pub(super) schedule: Schedule,
    /// One message of so many is timed.
    pub(super) stamp_every: u64,
    /// Messages of the warm-up, which are not timed.
    pub(super) warm_up_count: u64,
    /// How long all of this takes.
    pub(super) duration: Duration,
}

/// The sender during one slice.
pub(super) struct Sender<'a> {
    socket: &'a UdpSocket,
    order: SendOrder,
    stamps: Stamps,
    staging: Vec<u8>,
    next: u64,
    watch: StallWatch,
    clock: Clock,
}

impl<'a> Sender<'a> {
    pub(super) fn new(socket: &'a UdpSocket, order: SendOrder) -> Self {
        let datagram_bytes = order.size_bytes * order.messages_per_datagram;
        let datagrams = (SEND_RUN_BYTES_MAX / datagram_bytes).clamp(1, SEND_RUN_SEGMENTS_MAX);
        Self {
            socket,
            order,
            stamps: Stamps::new(order.schedule, order.stamp_every),
            staging: vec![0x5A; datagrams * datagram_bytes],
            next: 0,
            watch: StallWatch::default(),
            clock: Clock::new(),
        }
    }

    /// Sends what is due, when it is due, until all was sent or the time is over. Returns how many messages were sent, those of the
    /// warm-up among them, and how the loop stood still.
    pub(super) fn run(mut self) -> Result<(u64, Stalls)> {
        let SendOrder { schedule, duration, .. } = self.order;
        let (end, count) = (schedule.start() + duration, schedule.count(duration));
        while self.next < count {
            let now = Instant::from_nanos(self.clock.now_nanos());
            self.watch.on_turn(now.as_nanos());
            if now > end {
                break;
            }
            let due_count = if now < schedule.start() { 0 } else { schedule.due_count(now) };
            if due_count.min(count) > self.next {
                self.send_run(due_count.min(count))?;
            } else {
                self.wait(now);
            }
        }
        Ok((self.next, self.watch.stalls()))
    }

    /// Sends the messages before `until`, as many of them as one call carries.
    fn send_run(&mut self, until: u64) -> Result<()> {
        let size = self.order.size_bytes;
        let room = (self.staging.len() / size) as u64;
        let messages = room.min(until - self.next);
        for body in self.staging.chunks_exact_mut(size).take(messages as usize) {
            let stamp = self.stamps.take(self.next);
            write_tag(body, self.next);
            write_stamp(body, if self.next < self.order.warm_up_count { 0 } else { stamp });
            self.next += 1;
        }
        let mut rest = &self.staging[..messages as usize * size];
        while !rest.is_empty() {
            let sent =
                self.socket.send(self.order.to, rest, size * self.order.messages_per_datagram);
            match sent.map_err(BenchError::system("send plain datagrams"))? {
                SendStatus::Sent => break,
                SendStatus::WouldBlock { sent_bytes } => rest = &rest[sent_bytes..],
            }
        }
        Ok(())
    }

    fn wait(&mut self, now: Instant) {
        let left = self.order.schedule.due(self.next).saturating_duration_since(now);
        let nanos = (left.as_nanos() as u64).saturating_sub(SLEEP_LATE_NANOS);
        if self.order.spin || nanos < POLLED_NANOS {
            hint::spin_loop();
        } else {
            self.watch.on_sleep();
            thread::sleep(Duration::from_nanos(nanos));
        }
    }
}
