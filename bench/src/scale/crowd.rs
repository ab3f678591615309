//! A process full of light peers, each with a socket of its own, that all come to one node.
//!
//! One thread serves them in turn. They are made before the measurement begins and dial at its word; what the process counts goes
//! back when it ends. A socket that is not read long enough loses datagrams like any other, and the protocol repeats them.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cubed::{PublicKey, runtime::Clock};
use cubed_transport::{Endpoint, Event, FlowId, Limits, PeerId, Service, time::Instant};
use serde::{Deserialize, Serialize};

use super::{
    args::CrowdArgs,
    guest::{self, FLOW},
};
use crate::{
    counting::Counting,
    error::{BenchError, Result},
    keeper::{self, Kept},
};

/// Name of the hidden sub-command that runs the process.
pub const CROWD_COMMAND: &str = "peer-crowd";

/// Longest datagram that a guest takes; the protocol's longest is shorter.
const DATAGRAM_BYTES_MAX: usize = 9_216;

/// Rounds without a datagram after which the thread sleeps between rounds.
const ROUNDS_BUSY: u32 = 50;

/// How long it then sleeps: far below the second after which a watched peer is asked for a sign of life.
const PAUSE: Duration = Duration::from_millis(10);

/// What a crowd does when it begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CrowdOrder {
    /// Acknowledged messages of 64 B that each guest sends once it is connected.
    pub messages: u64,
}

/// What a crowd counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdCounts {
    /// Nanoseconds from the beginning until each guest was connected; one entry for each that is.
    pub connected_ns: Vec<u64>,
    /// Dials that failed and were begun again.
    pub redials: u64,
    /// Messages that ended as delivered.
    pub delivered: u64,
    /// Datagrams that the system took from the guests.
    pub datagrams_sent: u64,
    /// Datagrams that it refused.
    pub sends_refused: u64,
    /// Datagrams that the guests read.
    pub datagrams_received: u64,
}

/// One guest.
struct Guest {
    socket: UdpSocket,
    endpoint: Endpoint,
    application: Counting,
    peer: PeerId,
    flow: FlowId,
    is_connected: bool,
    to_send: u64,
}

/// The guests of this process. They stay on the thread that made them.
struct Crowd {
    guests: Vec<Guest>,
    buffer: Vec<u8>,
    run: Vec<u8>,
    counts: CrowdCounts,
}

/// Runs the process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// When a socket is refused, or stdin or stdout fail.
pub fn run(args: &CrowdArgs) -> Result<()> {
    let args = args.clone();
    keeper::serve("guests", move || Crowd::new(&args))
}

impl Kept for Crowd {
    type Begin = CrowdOrder;
    type Report = CrowdCounts;

    /// All dial at once; they are served until it is over.
    fn serve(&mut self, order: CrowdOrder, is_over: &AtomicBool) -> Result<CrowdCounts> {
        self.counts = CrowdCounts::default();
        let begun = now();
        for guest in &mut self.guests {
            guest.to_send = order.messages;
            guest.connect(begun)?;
        }
        let mut quiet = 0;
        while !is_over.load(Ordering::Relaxed) {
            let moved = self.round(begun)?;
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet > ROUNDS_BUSY {
                thread::sleep(PAUSE);
            }
        }
        self.counts.delivered = self.guests.iter().map(|g| g.endpoint.tally().delivered).sum();
        Ok(self.counts.clone())
    }
}

impl Crowd {
    /// The guests, and the address of the first.
    fn new(args: &CrowdArgs) -> Result<(Self, SocketAddr)> {
        let guests = (args.first..).take(args.count).map(|number| Guest::new(number, args));
        let guests = guests.collect::<Result<Vec<_>>>()?;
        let Some(first) = guests.first() else {
            return Err(BenchError::Argument("--count 0: a crowd has guests".into()));
        };
        let address = first.socket.local_addr().map_err(BenchError::system("name a socket"))?;
        let buffer = vec![0; DATAGRAM_BYTES_MAX];
        Ok((Self { guests, buffer, run: Vec::new(), counts: CrowdCounts::default() }, address))
    }

    /// Serves each guest once; whether a datagram moved.
    fn round(&mut self, begun: Instant) -> Result<bool> {
        let mut moved = false;
        for guest in &mut self.guests {
            let at = now();
            moved |= guest.receive(at, &mut self.buffer, &mut self.counts)?;
            if guest.endpoint.poll_timeout().is_some_and(|due| due <= at) {
                guest.endpoint.handle_timeout(at, &mut guest.application);
            }
            guest.say(at)?;
            moved |= guest.send(at, &mut self.run, &mut self.counts)?;
            guest.note_events(at, begun, &mut self.counts)?;
        }
        Ok(moved)
    }
}

impl Guest {
    fn new(number: u64, args: &CrowdArgs) -> Result<Self> {
        let socket = UdpSocket::bind((address_of(number), 0))
            .map_err(BenchError::system("bind a guest's socket (enough descriptors?)"))?;
        socket.set_nonblocking(true).map_err(BenchError::system("make a socket non-blocking"))?;
        let mut endpoint = guest::endpoint(&guest::identity(number), Limits::default())?;
        let (peer, flow) = meet(&mut endpoint, args.host_key, args.host)?;
        let application = Counting::default();
        Ok(Self { socket, endpoint, application, peer, flow, is_connected: false, to_send: 0 })
    }

    fn connect(&mut self, at: Instant) -> Result<()> {
        self.endpoint.connect(at, self.peer).map_err(|error| BenchError::Corrupt(error.to_string()))
    }

    fn receive(
        &mut self,
        at: Instant,
        buffer: &mut [u8],
        counts: &mut CrowdCounts,
    ) -> Result<bool> {
        let mut moved = false;
        loop {
            match self.socket.recv_from(buffer) {
                Ok((bytes, from)) => {
                    moved = true;
                    counts.datagrams_received += 1;
                    let datagram = &mut buffer[..bytes];
                    self.endpoint.handle_datagram(at, from, datagram, &mut self.application);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
                // An ICMP error of an earlier datagram.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(BenchError::system("read a guest's socket")(error)),
            }
        }
    }

    /// Hands over what the guest has to say, as far as there is room.
    fn say(&mut self, at: Instant) -> Result<()> {
        while self.is_connected && self.to_send > 0 {
            match self.endpoint.send(at, self.flow, &[7; 64], Service::Acknowledged, None) {
                Ok(()) => self.to_send -= 1,
                Err(cubed::SendError::Full) => return Ok(()),
                Err(error) => return Err(BenchError::Corrupt(error.to_string())),
            }
        }
        Ok(())
    }

    fn send(&mut self, at: Instant, run: &mut Vec<u8>, counts: &mut CrowdCounts) -> Result<bool> {
        let mut moved = false;
        while let Some(transmit) = self.endpoint.poll_transmit(at, run) {
            moved = true;
            for datagram in run.chunks(transmit.segment_bytes) {
                match self.socket.send_to(datagram, transmit.to) {
                    Ok(_) => counts.datagrams_sent += 1,
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::ConnectionRefused
                        ) =>
                    {
                        counts.sends_refused += 1;
                    }
                    Err(error) => return Err(BenchError::system("send from a guest")(error)),
                }
            }
        }
        Ok(moved)
    }

    fn note_events(&mut self, at: Instant, begun: Instant, counts: &mut CrowdCounts) -> Result<()> {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Connected { .. } if !self.is_connected => {
                    self.is_connected = true;
                    let took = at.saturating_duration_since(begun);
                    counts.connected_ns.push(took.as_nanos() as u64);
                }
                Event::DialFailed { .. } => {
                    counts.redials += 1;
                    self.connect(at)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// An address of this machine for each guest: a node under load allows one address only a part of its half-open handshakes.
fn address_of(number: u64) -> Ipv4Addr {
    let [.., high, middle, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 254, middle, low)
}

fn meet(endpoint: &mut Endpoint, key: PublicKey, address: SocketAddr) -> Result<(PeerId, FlowId)> {
    let wrong = |error: cubed::SendError| BenchError::Argument(error.to_string());
    let peer = endpoint.add_peer(key, Some(address)).map_err(wrong)?;
    Ok((peer, endpoint.open_flow(peer, FLOW).map_err(wrong)?))
}

fn now() -> Instant {
    Instant::from_nanos(Clock::new().now_nanos())
}
