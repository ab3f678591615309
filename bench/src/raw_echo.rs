//! The latency baseline: plain UDP echo between two pinned processes, without anything of Cubed's.
//!
//! Both sides either spin on non-blocking calls or block in the kernel (*parked*). Sockets are not
//! connected, as a node's one socket for many peers is not. The sockets are the standard library's,
//! with no offload, since one datagram travels at a time. With an interval each question is sent when it
//! is due, whatever became of those before, and is timed from then.

mod on_time;

pub mod requests;

use std::{
    hint, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cubed::runtime::clock::Clock;

use crate::{
    error::{BenchError, Result},
    machine::{self, Cores},
    meter::Meter,
    peer::{self, PeerRole},
    process::PeerProcess,
    stats::record_latency,
    subject::{LatencySlice, LatencySubject},
    tag::{TAG_BYTES, write_tag},
};

/// Smallest question: its number must fit.
pub const SIZE_BYTES_MIN: usize = TAG_BYTES;

/// Largest question: the longest UDP payload over IPv4.
pub const SIZE_BYTES_MAX: usize = 65_507;

/// Name of the hidden sub-command that runs the echoing process.
pub const PEER_COMMAND: &str = "peer-echo";

/// A question without its answer after this long is lost.
const ANSWER_NANOS_MAX: u64 = 100_000_000;

/// Empty polls between two looks at the clock: reading it each time would delay the next poll.
const POLLS_PER_CHECK: u64 = 256;

/// Not recorded at the start of each slice: the peer's thread starts, caches fill.
const WARM_UP: Duration = Duration::from_millis(20);

/// How much later than asked a sleep may end without harm.
const SLEEP_LATE_NANOS_MAX: u64 = 150_000;

/// How often a parked echo looks whether its slice is over.
const PARKED_CHECK: Duration = Duration::from_millis(50);

/// Plain UDP echo for one size and wait mode: a peer process and a socket to ask it from.
#[derive(Debug)]
pub struct RawEcho {
    peer: PeerProcess,
    socket: UdpSocket,
    cores: Cores,
    size_bytes: usize,
    spin: bool,
    interval: Option<Duration>,
    meter: Option<Meter>,
}

impl RawEcho {
    /// Starts the echoing process. With `spin` both sides poll; on a single core they park all the
    /// same, since polling would only keep the other from running.
    ///
    /// # Errors
    ///
    /// `Argument` outside [`SIZE_BYTES_MIN`] and [`SIZE_BYTES_MAX`]; else those of the process and
    /// the sockets.
    pub fn start(size_bytes: usize, spin: bool, interval: Option<Duration>) -> Result<Self> {
        if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size_bytes) {
            return Err(BenchError::Argument(format!(
                "--size {size_bytes}: between {SIZE_BYTES_MIN} and {SIZE_BYTES_MAX} for raw echo"
            )));
        }
        let cores = Cores::choose()?;
        let spin = spin && !cores.are_shared();
        let mut arguments = vec![PEER_COMMAND.to_owned(), "--core".into()];
        arguments.push(cores.receiver.to_string());
        if spin {
            arguments.push("--spin".into());
        }
        let peer = PeerProcess::start(&arguments)?;
        // Who asks on time has other questions due while it waits.
        let polls = spin || interval.is_some();
        let socket = bind(polls, Duration::from_nanos(ANSWER_NANOS_MAX))?;
        Ok(Self { peer, socket, cores, size_bytes, spin, interval, meter: None })
    }

    /// Tells `meter` of every slice from here on, if there is one.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// Whether both sides poll.
    pub fn spins(&self) -> bool {
        self.spin
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            socket: &self.socket,
            to: self.peer.address(),
            spin: self.spin,
            question: vec![0x5A; self.size_bytes],
            answer: vec![0; self.size_bytes + 1],
            next: 0,
            clock: Clock::new(),
            answer_nanos_max: ANSWER_NANOS_MAX,
        }
    }
}

impl LatencySubject for RawEcho {
    fn name(&self) -> &'static str {
        "raw UDP"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<LatencySlice> {
        self.peer.begin(&())?;
        let (mut asker, core, interval) = (self.asker(), self.cores.sender, self.interval);
        let meter = self.meter.as_ref();
        let ask = move || {
            machine::pin(core)?;
            asker.run(WARM_UP, interval, None)?;
            let _open = meter.map(Meter::open);
            asker.run(duration, interval, meter)
        };
        let measured = thread::scope(|scope| scope.spawn(ask).join())
            .map_err(|_| BenchError::Peer("the asking thread panicked".into()))?;
        self.peer.end::<u64>()?;
        measured
    }
}

/// The asking side during one slice.
struct Asker<'a> {
    socket: &'a UdpSocket,
    to: SocketAddr,
    spin: bool,
    question: Vec<u8>,
    answer: Vec<u8>,
    next: u64,
    clock: Clock,
    /// A question without its answer after this long is lost.
    answer_nanos_max: u64,
}

impl Asker<'_> {
    fn run(
        &mut self,
        duration: Duration,
        interval: Option<Duration>,
        meter: Option<&Meter>,
    ) -> Result<LatencySlice> {
        match interval {
            None => self.run_in_turn(duration, meter),
            Some(interval) => self.run_on_time(duration, interval, meter),
        }
    }

    /// Asks for `duration`, each question after the answer to the one before.
    fn run_in_turn(&mut self, duration: Duration, meter: Option<&Meter>) -> Result<LatencySlice> {
        let mut slice = LatencySlice::empty();
        let start = self.clock.now_nanos();
        let end = start + duration.as_nanos() as u64;
        let mut now = start;
        while now < end {
            let asked = now;
            write_tag(&mut self.question, self.next);
            self.next += 1;
            slice.sent += 1;
            let sent = self.socket.send_to(&self.question, self.to);
            sent.map_err(BenchError::system("send a question"))?;
            let answered = self.wait_for_answer()?;
            now = self.clock.now_nanos();
            if answered {
                record_latency(&mut slice.histogram, now - asked);
                if let Some(meter) = meter {
                    meter.record(now - asked);
                }
            } else {
                slice.lost += 1;
            }
        }
        slice.seconds = (now - start) as f64 / 1e9;
        Ok(slice)
    }

    /// Waits for the answer to the last question, passing over older ones; false after
    /// `answer_nanos_max`.
    fn wait_for_answer(&mut self) -> Result<bool> {
        let asked = self.clock.now_nanos();
        let polls_per_check = if self.spin { POLLS_PER_CHECK } else { 1 };
        for poll in 1_u64.. {
            match self.socket.recv_from(&mut self.answer) {
                Ok((count, from)) => {
                    if from == self.to && self.answer[..count] == self.question {
                        return Ok(true);
                    }
                    self.check_older(count)?;
                }
                Err(error) if is_empty(&error) => hint::spin_loop(),
                Err(error) => return Err(BenchError::system("receive an answer")(error)),
            }
            if poll % polls_per_check == 0 && self.clock.now_nanos() - asked > self.answer_nanos_max
            {
                break;
            }
        }
        Ok(false)
    }

    fn check_older(&self, count: usize) -> Result<()> {
        let tag =
            self.answer[..count].first_chunk::<TAG_BYTES>().map(|tag| u64::from_le_bytes(*tag));
        if count == self.question.len() && tag.is_some_and(|tag| tag + 1 < self.next) {
            return Ok(());
        }
        Err(BenchError::Corrupt(format!("an answer of {count} bytes that was never asked for")))
    }
}

/// The echoing side, in the peer process.
struct Echo {
    socket: UdpSocket,
    core: usize,
}

impl PeerRole for Echo {
    type Begin = ();
    type Report = u64;

    /// Sends everything back to where it came from; reports how much that was.
    fn run(&mut self, (): (), stop: &AtomicBool) -> Result<u64> {
        machine::pin(self.core)?;
        let mut buffer = vec![0; SIZE_BYTES_MAX + 1];
        let mut echoed = 0;
        while !stop.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut buffer) {
                Ok((count, from)) => {
                    let sent = self.socket.send_to(&buffer[..count], from);
                    sent.map_err(BenchError::system("echo"))?;
                    echoed += 1;
                }
                Err(error) if is_empty(&error) => hint::spin_loop(),
                Err(error) => return Err(BenchError::system("receive a question")(error)),
            }
        }
        Ok(echoed)
    }
}

/// Runs the echoing process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// Those of the socket and of the control channel.
pub fn run_peer(core: usize, spin: bool) -> Result<()> {
    let socket = bind(spin, PARKED_CHECK)?;
    let address =
        socket.local_addr().map_err(BenchError::system("read the address of a socket"))?;
    peer::serve(&mut Echo { socket, core }, address, None)
}

/// A socket on loopback that never blocks (`spin`), or blocks for at most `wait`.
fn bind(spin: bool, wait: Duration) -> Result<UdpSocket> {
    let bound = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(spin)?;
        socket.set_read_timeout((!spin).then_some(wait))?;
        Ok(socket)
    };
    bound().map_err(BenchError::system("bind a UDP socket on 127.0.0.1"))
}

fn is_empty(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
