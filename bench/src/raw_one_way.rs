//! The baseline of times one way: plain UDP between two pinned processes, on the same schedule, without anything of Cubed's protocol.
//!
//! Messages of the same length lie side by side in datagrams of the same length, leave by GSO as soon as they are due, come by GRO,
//! and are counted and timed by the same sink. Neither side frames, seals, acknowledges or repeats anything, so its times are the
//! machine's: a stall of either core delays these messages as it does Cubed's. What the receiver's buffer has no room for in a stall
//! is lost and not timed.

mod receiver;

mod sender;

pub mod stalls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use cubed::{
    Instant,
    runtime::{
        clock::Clock,
        socket::{SocketOptions, UdpSocket},
    },
};

use self::{
    receiver::{ReceiveCounts, Receiver},
    sender::{SendOrder, Sender},
    stalls::Stalls,
};
use crate::{
    error::{BenchError, Result},
    machine::{self, Cores},
    node::{bodies::STAMPED_BYTES_MIN, schedule::Schedule, sink::SinkOrder},
    peer,
    process::PeerProcess,
    subject::LatencySlice,
};

/// Name of the hidden sub-command that runs the receiving process.
pub const PEER_COMMAND: &str = "peer-one-way";

/// Sent before each slice and not timed, as before those of Cubed.
const WARM_UP: Duration = Duration::from_millis(50);

/// Time for the peer's thread to start.
const START_TIME: Duration = Duration::from_millis(2);

/// How long a side that does not spin polls before it sleeps, as long as a node that adapts.
const POLLED_NANOS: u64 = 50_000;

/// Plain UDP one way: a process that counts, and a socket to send to it from.
#[derive(Debug)]
pub struct RawOneWay {
    peer: PeerProcess,
    socket: UdpSocket,
    cores: Cores,
    size_bytes: usize,
    messages_per_datagram: usize,
    spin: bool,
}

/// What one slice gave.
#[derive(Debug, Clone, Default)]
pub struct RawSlice {
    /// Times of the stamped messages from when they were due.
    pub latency: LatencySlice,
    /// How the sender's loop stood still.
    pub sender_stalls: Stalls,
    /// How the receiver's did.
    pub receiver_stalls: Stalls,
}

impl RawOneWay {
    /// Starts the counting process. With `spin` both sides poll; on a single core they sleep all the same.
    ///
    /// # Errors
    ///
    /// `Argument` when a message carries no stamp or is longer than a datagram; else those of the process and the sockets.
    pub fn start(size_bytes: usize, datagram_bytes: usize, spin: bool) -> Result<Self> {
        if !(STAMPED_BYTES_MIN..=datagram_bytes).contains(&size_bytes) {
            return Err(BenchError::Argument(format!(
                "--size {size_bytes}: between {STAMPED_BYTES_MIN} and the datagram's {datagram_bytes} for plain UDP one way"
            )));
        }
        let cores = Cores::choose()?;
        let spin = spin && !cores.are_shared();
        let mut arguments: Vec<String> = vec![PEER_COMMAND.into()];
        arguments.extend(["--core".into(), cores.receiver.to_string()]);
        arguments.extend(["--size".into(), size_bytes.to_string()]);
        if spin {
            arguments.push("--spin".into());
        }
        let messages_per_datagram = datagram_bytes / size_bytes;
        let peer = PeerProcess::start(&arguments)?;
        Ok(Self { peer, socket: bind()?, cores, size_bytes, messages_per_datagram, spin })
    }

    /// Sends `rate` messages per second, each on time, for `duration` after a warm-up, and times one of `stamp_every`.
    ///
    /// # Errors
    ///
    /// When a process or a socket fails; `Corrupt` when what came is not what was sent.
    pub fn run(&mut self, rate: f64, stamp_every: u64, duration: Duration) -> Result<RawSlice> {
        let (size_bytes, spin) = (self.size_bytes, self.spin);
        self.peer.begin(&SinkOrder {
            size_bytes: Some(size_bytes),
            stamped: true,
            offset_nanos: 0,
        })?;
        let start = Instant::from_nanos(Clock::new().now_nanos()) + START_TIME;
        let schedule = Schedule::new(start, rate);
        let order = SendOrder {
            to: self.peer.address(),
            size_bytes,
            messages_per_datagram: self.messages_per_datagram,
            spin,
            schedule,
            stamp_every,
            warm_up_count: schedule.count(WARM_UP),
            duration: WARM_UP + duration,
        };
        let (socket, core) = (&mut self.socket, self.cores.sender);
        let work = move || {
            machine::pin(core)?;
            Sender::new(socket, order).run()
        };
        let sent = thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| BenchError::Machine("the sending thread panicked".into()))?;
        let received = self.peer.end()?;
        checked_slice(&order, sent?, &received)
    }
}

/// Joins the two sides' counts, of which both have those of the warm-up; an error when they cannot both be true.
fn checked_slice(
    order: &SendOrder,
    (all, sender_stalls): (u64, Stalls),
    received: &ReceiveCounts,
) -> Result<RawSlice> {
    let ReceiveCounts { sink, stalls } = received;
    if sink.delivered > all
        || sink.next_message > all
        || sink.duplicated + sink.missized + sink.before_due > 0
    {
        return Err(BenchError::Corrupt(format!("plain UDP: sent {all}, received {received:?}")));
    }
    let sent = all.saturating_sub(order.warm_up_count);
    let latency = LatencySlice {
        histogram: sink.latencies.histogram(),
        seconds: order.duration.saturating_sub(WARM_UP).as_secs_f64(),
        sent,
        lost: (all - sink.delivered).min(sent),
    };
    Ok(RawSlice { latency, sender_stalls, receiver_stalls: *stalls })
}

/// Runs the counting process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// Those of the socket and of the control channel.
pub fn run_peer(core: usize, size_bytes: usize, spin: bool) -> Result<()> {
    let socket = bind()?;
    let address = socket.local_addr();
    peer::serve(&mut Receiver { socket, core, spin, size_bytes }, address, None)
}

fn bind() -> Result<UdpSocket> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    UdpSocket::bind(address, &SocketOptions::default())
        .map_err(|error| BenchError::Machine(error.to_string()))
}

#[cfg(test)]
mod tests {
    //! Goal: what came is what was sent, in its own datagrams, and timed from when it was due.
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;
    use crate::peer::PeerRole;

    fn order(to: SocketAddr, size_bytes: usize, rate: f64) -> SendOrder {
        let schedule = Schedule::new(Instant::from_nanos(Clock::new().now_nanos()), rate);
        SendOrder {
            to,
            size_bytes,
            messages_per_datagram: 1_452 / size_bytes,
            spin: false,
            schedule,
            stamp_every: 4,
            warm_up_count: 20,
            duration: Duration::from_millis(60),
        }
    }

    #[test]
    fn every_message_is_counted_and_one_of_four_timed() {
        let core = Cores::choose().unwrap().sender;
        // 120 messages each: whatever the kernel gave the socket holds them.
        for size_bytes in [16, 64, 1_452] {
            let (socket, to) = (bind().unwrap(), bind().unwrap());
            let order = order(to.local_addr(), size_bytes, 2_000.0);
            let sent = Sender::new(&socket, order).run().unwrap();
            // All of it is there: the order to end has come already.
            let mut counting = Receiver { socket: to, core, spin: false, size_bytes };
            let sink = SinkOrder { size_bytes: Some(size_bytes), stamped: true, offset_nanos: 0 };
            let received = thread::scope(|scope| {
                let stop = AtomicBool::new(true);
                scope.spawn(move || counting.run(sink, &stop)).join().unwrap().unwrap()
            });
            assert_eq!(received.sink.delivered, sent.0);
            let LatencySlice { histogram, sent, lost, .. } =
                checked_slice(&order, sent, &received).unwrap().latency;
            assert_eq!(lost, 0);
            let timed = histogram.len();
            assert!((sent / 4..=sent / 4 + 1).contains(&timed), "{timed} of {sent}");
        }
    }

    #[test]
    fn counts_that_cannot_be_true_void_the_slice() {
        let order = order(SocketAddr::from(([127, 0, 0, 1], 9)), 64, 1e6);
        let check = |change: fn(&mut ReceiveCounts)| {
            let mut received = ReceiveCounts::default();
            (received.sink.delivered, received.sink.next_message) = (1_090, 1_100);
            change(&mut received);
            checked_slice(&order, (1_100, Stalls::default()), &received)
        };
        let slice = check(|_| ()).unwrap().latency;
        assert_eq!((slice.sent, slice.lost), (1_080, 10));
        let wrong: [fn(&mut ReceiveCounts); 4] = [
            |received| received.sink.delivered = 1_101,
            |received| received.sink.next_message = 1_101,
            |received| received.sink.duplicated = 1,
            |received| received.sink.before_due = 1,
        ];
        for change in wrong {
            assert!(matches!(check(change), Err(BenchError::Corrupt(_))));
        }
    }

    #[test]
    fn sizes_are_those_of_one_datagram_with_a_stamp() {
        for size_bytes in [15, 1_453] {
            let text = RawOneWay::start(size_bytes, 1_452, true).unwrap_err().to_string();
            assert!(text.contains("--size"), "{text}");
        }
    }
}
