//! The message path without kernel, clock and threads: two endpoints over the memory driver, for who counts instructions and
//! allocations.
//!
//! Always holds: time is virtual and stands still while messages are offered, so the same arguments make the same blocks,
//! datagrams and acknowledgements, whatever else the machine does; only the handshake draws random numbers.

mod party;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use cubed::runtime::{Driver, MemoryDriver, MemoryNetwork, socket::SendStatus};
use cubed_transport::{
    Config, Endpoint, FlowId, SendError, Service, Token, identity::Identity, random::SeededEntropy,
    time::Instant,
};

use self::party::Party;
use crate::{
    counting::Counting,
    error::{BenchError, Result},
};

/// Time between two turns, each of which carries all that is under way.
const TURN: Duration = Duration::from_micros(20);

/// A turn that does not come is a stuck path. Of 20 us each, so 20 s.
const TURNS_MAX: u32 = 1_000_000;

/// Bytes of questions outstanding, at most, unless one is longer: what both logs surely hold.
const OUTSTANDING_BYTES: u64 = 256 << 10;

/// No answer is that late.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

struct End {
    endpoint: Endpoint,
    application: Party,
    driver: MemoryDriver,
    run: Vec<u8>,
}

/// A sender, a receiver, and the network between them.
pub struct MessagePath {
    sender: End,
    receiver: End,
    flow: FlowId,
    now: Instant,
}

impl std::fmt::Debug for MessagePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessagePath").field("now", &self.now).finish_non_exhaustive()
    }
}

impl MessagePath {
    /// Two ends with a session, on which the receiver knows the flow.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the two do not come together.
    pub fn new() -> Result<Self> {
        let network = MemoryNetwork::new();
        let mut sender = End::new(&network, 1)?;
        let receiver = End::new(&network, 2)?;
        let key = receiver.endpoint.public_key();
        let peer = sender.endpoint.add_peer(key, Some(receiver.driver.local_addr()));
        let flow = sender.endpoint.open_flow(peer.map_err(wrong)?, "path").map_err(wrong)?;
        let now = Instant::from_nanos(1_000_000_000);
        let mut path = Self { sender, receiver, flow, now };
        path.send(1, 8)?;
        Ok(path)
    }

    /// Sends so many acknowledged messages of `bytes` bytes, as fast as they are taken, until each is delivered.
    ///
    /// # Errors
    ///
    /// `Corrupt` when one is not delivered, or nothing moves any more.
    pub fn send(&mut self, messages: u64, bytes: usize) -> Result<()> {
        let body = vec![7; bytes];
        let (taken, counted) =
            (self.receiver.application.counting.messages, self.receiver.application.counting.bytes);
        for _ in 0..messages {
            self.offer(&body)?;
        }
        for _ in 0..TURNS_MAX {
            let tally = self.sender.endpoint.tally();
            if tally.pending > 0 {
                self.turn()?;
                continue;
            }
            let Counting { messages: all, bytes: sum } = self.receiver.application.counting;
            let arrived = (all - taken, sum - counted);
            if arrived == (messages, messages * bytes as u64) && tally.delivered == tally.offered {
                return Ok(());
            }
            return Err(BenchError::Corrupt(format!(
                "{arrived:?} of {messages} arrived: {tally:?}"
            )));
        }
        Err(BenchError::Corrupt("messages are neither delivered nor lost".into()))
    }

    fn offer(&mut self, body: &[u8]) -> Result<()> {
        for _ in 0..TURNS_MAX {
            let sender = &mut self.sender.endpoint;
            match sender.send(self.now, self.flow, body, Service::Acknowledged, None) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => self.turn()?,
                Err(error) => return Err(wrong(error)),
            }
        }
        Err(BenchError::Corrupt("the sender takes no more".into()))
    }

    /// Asks so many questions of `bytes` bytes, which are answered by as many bytes, `outstanding` at any time, or as many as
    /// 256 KiB are: the next ones follow the answers of a turn.
    ///
    /// # Errors
    ///
    /// `Corrupt` when one is not answered, or nothing moves any more.
    pub fn ask(&mut self, requests: u64, bytes: usize, outstanding: NonZeroU64) -> Result<()> {
        let body = Bytes::from(vec![7; bytes]);
        let (before, mut asked) = (self.sender.application.answered, 0);
        let outstanding = (OUTSTANDING_BYTES / bytes.max(1) as u64).clamp(1, outstanding.get());
        for _ in 0..TURNS_MAX {
            let answered = self.sender.application.answered - before;
            if answered == requests {
                return Ok(());
            }
            while asked < requests && asked - answered < outstanding {
                let (sender, until) = (&mut self.sender.endpoint, self.now + ANSWER_TIME_MAX);
                sender.request(self.now, self.flow, &body, Token(asked), until).map_err(wrong)?;
                asked += 1;
            }
            self.turn()?;
            let unanswered = self.sender.application.unanswered;
            if unanswered > 0 {
                return Err(BenchError::Corrupt(format!("{unanswered} requests unanswered")));
            }
        }
        Err(BenchError::Corrupt("requests are neither answered nor given up".into()))
    }

    /// Carries all that both ends have to say, and lets time pass.
    fn turn(&mut self) -> Result<()> {
        for end in [&mut self.sender, &mut self.receiver] {
            end.transmit(self.now)?;
        }
        self.now += TURN;
        for end in [&mut self.sender, &mut self.receiver] {
            end.receive(self.now)?;
        }
        Ok(())
    }
}

impl End {
    fn new(network: &MemoryNetwork, number: u8) -> Result<Self> {
        let config = Config::new([number; 16], [number; 32]);
        let identity = Identity::from_seed(&[number; 32]);
        let entropy = Box::new(SeededEntropy::new(number.into()));
        let endpoint = Endpoint::new(config, &identity, entropy).map_err(wrong)?;
        let address = SocketAddr::from(([10, 0, 0, number], 7530));
        let driver = network.bind(address).map_err(wrong)?;
        Ok(Self { endpoint, application: Party::default(), driver, run: Vec::new() })
    }

    fn transmit(&mut self, now: Instant) -> Result<()> {
        while let Some(transmit) = self.endpoint.poll_transmit(now, &mut self.run) {
            let sent = self.driver.send(transmit.to, &self.run, transmit.segment_bytes);
            if sent.map_err(wrong)? != SendStatus::Sent {
                return Err(wrong("the network in memory turned datagrams away"));
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant) -> Result<()> {
        let Self { endpoint, application, driver, .. } = self;
        let received = driver.recv(usize::MAX, &mut |batch| {
            for datagram in batch.bytes.chunks_mut(batch.segment_bytes) {
                endpoint.handle_datagram(now, batch.from, datagram, application);
            }
        });
        received.map_err(wrong)?;
        if application.answer(endpoint) > 0 {
            return Err(wrong("the answerer has no room for its answers"));
        }
        if endpoint.poll_timeout().is_some_and(|at| at <= now) {
            endpoint.handle_timeout(now, application);
        }
        while endpoint.poll_event().is_some() {}
        Ok(())
    }
}

fn wrong(error: impl std::fmt::Display) -> BenchError {
    BenchError::Corrupt(format!("on the message path: {error}"))
}

#[cfg(test)]
mod tests {
    //! Goal: each message arrives and each request is answered, whatever its size, and time passes only in turns.
    use super::*;

    #[test]
    fn requests_of_any_size_are_answered() {
        let mut path = MessagePath::new().unwrap();
        for (bytes, outstanding) in
            [(0, 64), (1, 64), (64, 64), (64, 1), (1_440, 64), (100_000, 64)]
        {
            path.ask(500, bytes, NonZeroU64::new(outstanding).unwrap()).unwrap();
        }
        assert_eq!(path.sender.application.answered, 6 * 500);
        assert_eq!(path.receiver.application.counting.messages, 1 + 6 * 500);
    }

    #[test]
    fn messages_of_any_size_arrive() {
        let mut path = MessagePath::new().unwrap();
        for bytes in [0, 1, 64, 1_440, 100_000] {
            path.send(500, bytes).unwrap();
        }
        assert_eq!(path.receiver.application.counting.messages, 1 + 5 * 500);
    }
}
