//! The process of the many peers: one thread that reads their sockets in turn and counts their messages.
//!
//! Endpoints stay on the thread that made them: see [`crate::keeper`].

use std::sync::atomic::{AtomicBool, Ordering};

use cubed::runtime::{
    clock::Clock,
    socket::{SendStatus, UdpSocket},
};
use cubed_transport::{
    Application, Binding, ChannelId, Disposition, Endpoint, Incoming, Limits, PeerId, Refusal,
    identity::PublicKey, time::Instant,
};
use serde::{Deserialize, Serialize};

use super::bind_all;
use crate::{
    cli::PeerAudienceArgs,
    error::{BenchError, Result},
    keeper::{self, Kept},
    machine,
    scale::guest,
    tag::TagChecker,
};

/// Name of the hidden sub-command that runs the process.
pub const PEER_COMMAND: &str = "peer-audience";

/// The flow that each of the peers has.
pub const FLOW: &str = "bench.sink";

/// Credit of the flow, as of an inline handler's.
const WINDOW_BYTES: u64 = 4 << 20;

/// Holds any batch that the kernel hands over in one receive.
const RECV_BUFFER_BYTES: usize = 65_536 + 256;

/// Receives from one socket before it is the turn of the next.
const RECEIVES_PER_TURN: usize = 4;

/// What the peers counted in a slice, one entry each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AudienceCounts {
    /// Ports that the peers listen on.
    pub ports: Vec<u16>,
    /// From the first message of any to the last one.
    pub seconds: f64,
    /// Distinct messages.
    pub delivered: Vec<u64>,
    /// Messages met more than once, of all.
    pub duplicated: u64,
    /// Messages of another length, of all.
    pub missized: u64,
}

/// The order of a slice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AudienceOrder {
    /// Body bytes of each message.
    pub size_bytes: usize,
}

/// What one peer takes.
#[derive(Debug, Default)]
struct Taken {
    size_bytes: usize,
    checker: TagChecker,
    missized: u64,
    at: Instant,
    times: Option<(Instant, Instant)>,
}

impl Application for Taken {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }

    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        let message_bytes_max = WINDOW_BYTES / 2;
        Ok(Binding { flow: 1, window_bytes: WINDOW_BYTES, message_bytes_max })
    }

    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let body = message.body.as_slice();
        if body.len() == self.size_bytes {
            self.checker.check(body);
        } else {
            self.missized += 1;
        }
        let (_, last) = self.times.get_or_insert((self.at, self.at));
        *last = self.at;
        Ok(Disposition::Consumed)
    }
}

/// One peer.
struct Peer {
    socket: UdpSocket,
    endpoint: Endpoint,
    taken: Taken,
}

/// All of them.
struct Audience {
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    run: Vec<u8>,
}

/// Runs the process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// When a socket is refused, or stdin or stdout fail.
pub fn run(args: &PeerAudienceArgs) -> Result<()> {
    let (core, count) = (args.core, args.count);
    keeper::serve("peers", move || {
        machine::pin(core)?;
        let audience = Audience::new(count)?;
        let address = audience.peers[0].socket.local_addr();
        Ok((audience, address))
    })
}

impl Kept for Audience {
    type Begin = AudienceOrder;
    type Report = AudienceCounts;

    fn serve(&mut self, order: AudienceOrder, is_over: &AtomicBool) -> Result<AudienceCounts> {
        for peer in &mut self.peers {
            peer.taken = Taken { size_bytes: order.size_bytes, ..Taken::default() };
        }
        while !is_over.load(Ordering::Relaxed) {
            for peer in &mut self.peers {
                peer.turn(&mut self.buffer, &mut self.run)?;
            }
        }
        Ok(self.counts())
    }
}

impl Audience {
    fn new(count: usize) -> Result<Self> {
        let sockets = bind_all(count.max(1))?;
        let peer = |(number, socket)| {
            let endpoint = guest::endpoint(&guest::identity(number), Limits::default())?;
            Ok(Peer { socket, endpoint, taken: Taken::default() })
        };
        let peers = (0..).zip(sockets).map(peer).collect::<Result<_>>()?;
        Ok(Self { peers, buffer: vec![0; RECV_BUFFER_BYTES], run: Vec::new() })
    }

    fn counts(&self) -> AudienceCounts {
        let of = |value: fn(&Taken) -> u64| self.peers.iter().map(move |peer| value(&peer.taken));
        let times = || self.peers.iter().filter_map(|peer| peer.taken.times);
        let first = times().map(|(first, _)| first).min();
        let last = times().map(|(_, last)| last).max();
        let seconds = first
            .zip(last)
            .map_or(0.0, |(first, last)| last.saturating_duration_since(first).as_secs_f64());
        AudienceCounts {
            ports: self.peers.iter().map(|peer| peer.socket.local_addr().port()).collect(),
            seconds,
            delivered: of(|taken| taken.checker.delivered()).collect(),
            duplicated: of(|taken| taken.checker.duplicated()).sum(),
            missized: of(|taken| taken.missized).sum(),
        }
    }
}

impl Peer {
    /// Reads what came, does what is due, and answers.
    fn turn(&mut self, buffer: &mut [u8], run: &mut Vec<u8>) -> Result<()> {
        let at = Instant::from_nanos(Clock::new().now_nanos());
        self.taken.at = at;
        for _ in 0..RECEIVES_PER_TURN {
            let received = self.socket.recv(buffer).map_err(BenchError::system("receive"))?;
            let Some(meta) = received else { break };
            for datagram in buffer[..meta.len].chunks_mut(meta.segment_bytes) {
                self.endpoint.handle_datagram(at, meta.from, datagram, &mut self.taken);
            }
        }
        if self.endpoint.poll_timeout().is_some_and(|due| due <= at) {
            self.endpoint.handle_timeout(at, &mut self.taken);
        }
        while let Some(transmit) = self.endpoint.poll_transmit(at, run) {
            let sent = self.socket.send(transmit.to, run, transmit.segment_bytes);
            match sent.map_err(BenchError::system("send from a peer"))? {
                SendStatus::Sent => {}
                // Lost, like a datagram on its way: the protocol sends again what matters.
                SendStatus::WouldBlock { .. } => break,
            }
        }
        while self.endpoint.poll_event().is_some() {}
        Ok(())
    }
}
