//! The sealed loop: what one message to each of as many sockets costs without a protocol, one datagram and one send call apiece.
//!
//! Messages in flight are bounded by what the listeners have told, two a socket, so that no socket's buffer overflows.

use std::{
    hint,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use cubed::runtime::{
    clock::Clock,
    socket::{SendStatus, UdpSocket},
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    Visits, bind_all,
    listeners::{ListenCounts, ListenOrder, PEER_COMMAND, key_of},
};
use crate::{
    ceiling::{
        frame::{FRAME_BYTES, HEADER_BYTES, Header},
        seal::{Seal, Suite, TAG_BYTES},
    },
    error::{BenchError, Result},
    machine::{self, Cores},
    process::PeerProcess,
    subject::{ThroughputSlice, ThroughputSubject},
    tag::write_tag,
};

/// Body bytes, at most: a datagram carries one whole.
const SIZE_BYTES_MAX: usize = 8_192;

/// Messages in flight to each socket, on average.
const IN_FLIGHT_PER_SOCKET: u64 = 2;

/// Fewest messages in flight to all together.
const IN_FLIGHT_MIN: u64 = 256;

/// Without progress for this long, what is in flight counts as lost.
const STALL_NANOS: u64 = 50_000_000;

/// Sent before each slice and left out of it.
const WARM_UP: Duration = Duration::from_millis(50);

/// The sealed loop for some number of sockets.
#[derive(Debug)]
pub struct SealedLoop {
    peer: PeerProcess,
    socket: UdpSocket,
    ports: Vec<u16>,
    cores: Cores,
    suite: Suite,
    size_bytes: usize,
    slices: u32,
    random: SystemRandom,
}

impl SealedLoop {
    /// Starts the listening process.
    ///
    /// # Errors
    ///
    /// `Argument` outside the limits; else those of the process and the sockets.
    pub fn start(visits: Visits) -> Result<Self> {
        visits.check(SIZE_BYTES_MAX)?;
        let cores = Cores::choose()?;
        let arguments = [
            PEER_COMMAND,
            "--core",
            &cores.receiver.to_string(),
            "--count",
            &visits.peers.to_string(),
        ];
        let mut sealed = Self {
            peer: PeerProcess::start(&arguments.map(str::to_owned))?,
            socket: bind_all(1)?.remove(0),
            ports: Vec::new(),
            cores,
            suite: Suite::of_this_machine(),
            size_bytes: visits.size_bytes,
            slices: 0,
            random: SystemRandom::new(),
        };
        let order = sealed.order()?;
        sealed.peer.begin(&order)?;
        sealed.ports = sealed.peer.end::<ListenCounts>()?.ports;
        Ok(sealed)
    }

    fn order(&mut self) -> Result<ListenOrder> {
        let mut key = vec![0; self.suite.key_bytes()];
        self.random
            .fill(&mut key)
            .map_err(|_| BenchError::Machine("the system gave no random bytes".into()))?;
        self.slices += 1;
        let (slice, size_bytes, suite) = (self.slices, self.size_bytes, self.suite);
        Ok(ListenOrder { slice, size_bytes, suite, key })
    }

    fn measure(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let order = self.order()?;
        self.peer.begin(&order)?;
        let numbers = 0..self.ports.len() as u32;
        let seals: Result<Vec<_>> =
            numbers.map(|number| Seal::new(self.suite, &key_of(&order.key, number))).collect();
        let in_flight_max = (IN_FLIGHT_PER_SOCKET * self.ports.len() as u64).max(IN_FLIGHT_MIN);
        let mut caller = Caller {
            socket: &mut self.socket,
            ports: &self.ports,
            seals: seals?,
            slice: order.slice,
            in_flight_max,
            datagram: vec![0; HEADER_BYTES + FRAME_BYTES + self.size_bytes + TAG_BYTES],
            sent: vec![0; self.ports.len()],
            total: 0,
            told: 0,
            clock: Clock::new(),
        };
        let core = self.cores.sender;
        let call = move || {
            machine::pin(core)?;
            caller.run(duration)?;
            Ok::<_, BenchError>(caller.sent)
        };
        let sent = thread::scope(|scope| scope.spawn(call).join())
            .map_err(|_| BenchError::Peer("the sealed loop's sender panicked".into()))??;
        let received: ListenCounts = self.peer.end()?;
        checked_slice(self.size_bytes, &sent, &received)
    }
}

impl ThroughputSubject for SealedLoop {
    fn name(&self) -> &'static str {
        "sealed"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        self.measure(WARM_UP)?;
        self.measure(duration)
    }
}

/// The sending side during one slice.
struct Caller<'a> {
    socket: &'a mut UdpSocket,
    ports: &'a [u16],
    seals: Vec<Seal>,
    slice: u32,
    in_flight_max: u64,
    datagram: Vec<u8>,
    sent: Vec<u64>,
    total: u64,
    told: u64,
    clock: Clock,
}

impl Caller<'_> {
    fn run(&mut self, duration: Duration) -> Result<()> {
        let end = self.clock.now_nanos() + duration.as_nanos() as u64;
        while self.clock.now_nanos() < end {
            for number in 0..self.ports.len() {
                self.send(number)?;
                if self.total - self.told >= self.in_flight_max {
                    self.wait_in_flight_below(self.in_flight_max)?;
                }
            }
        }
        self.wait_in_flight_below(1)
    }

    fn send(&mut self, number: usize) -> Result<()> {
        let next = self.sent[number];
        let header = Header::Data { first_frame: 0, slice: self.slice, number: next };
        let end = self.datagram.len() - TAG_BYTES;
        self.datagram[..HEADER_BYTES].copy_from_slice(&header.encode());
        let (length, body) = self.datagram[HEADER_BYTES..end].split_at_mut(FRAME_BYTES);
        length.copy_from_slice(&(body.len() as u32).to_le_bytes());
        body.fill(0x5A);
        write_tag(body, next);
        self.seals[number].seal(next, &mut self.datagram);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[number]));
        loop {
            let sent = self.socket.send(to, &self.datagram, 0);
            match sent.map_err(BenchError::system("send to a listener"))? {
                SendStatus::Sent => break,
                SendStatus::WouldBlock { .. } => hint::spin_loop(),
            }
        }
        self.sent[number] += 1;
        self.total += 1;
        Ok(())
    }

    fn wait_in_flight_below(&mut self, limit: u64) -> Result<()> {
        let mut since = self.clock.now_nanos();
        while self.total - self.told >= limit {
            let mut buffer = [0; 64 * HEADER_BYTES];
            let received = self.socket.recv(&mut buffer);
            let Some(meta) = received.map_err(BenchError::system("receive progress"))? else {
                if self.clock.now_nanos() - since > STALL_NANOS {
                    // What is in flight is lost; the slice's counts show it.
                    self.told = self.total;
                }
                hint::spin_loop();
                continue;
            };
            for report in buffer[..meta.len].chunks(meta.segment_bytes) {
                if let Some(Header::Progress { slice, next }) = Header::decode(report)
                    && slice == self.slice
                    && next <= self.total
                {
                    self.told = self.told.max(next);
                    since = self.clock.now_nanos();
                }
            }
        }
        Ok(())
    }
}

fn checked_slice(
    size_bytes: usize,
    sent: &[u64],
    received: &ListenCounts,
) -> Result<ThroughputSlice> {
    let invented = sent.len() != received.delivered.len()
        || sent.iter().zip(&received.delivered).any(|(sent, received)| received > sent)
        || received.duplicated > 0;
    if invented {
        return Err(BenchError::Corrupt("the sealed loop counted what was not sent".into()));
    }
    let messages = sent.iter().sum();
    Ok(ThroughputSlice {
        seconds: received.seconds,
        sent: messages,
        delivered: received.delivered.iter().sum(),
        duplicated: 0,
        size_bytes: size_bytes as u64,
        datagrams: messages,
        sends: messages,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a loss is counted, an invention voids the slice.
    use super::*;

    #[test]
    fn losses_count_and_inventions_void() {
        let received = ListenCounts { delivered: vec![4, 5], seconds: 1.0, ..Default::default() };
        assert_eq!(checked_slice(64, &[5, 5], &received).unwrap().lost(), 1);
        assert!(checked_slice(64, &[5, 4], &received).is_err());
        assert!(checked_slice(64, &[5], &received).is_err());
        assert!(checked_slice(64, &[5, 5], &ListenCounts { duplicated: 1, ..received }).is_err());
    }
}
