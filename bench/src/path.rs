//! The message path without kernel, clock and threads: two endpoints over the memory driver, for who counts instructions and
//! allocations.
//!
//! Always holds: time is virtual and stands still while messages are offered, so the same arguments make the same blocks,
//! datagrams and acknowledgements, whatever else the machine does; only the handshake draws random numbers.

use std::net::SocketAddr;
use std::time::Duration;

use cubed::runtime::{Driver, MemoryDriver, MemoryNetwork, socket::SendStatus};
use cubed_transport::{
    Config, Endpoint, FlowId, SendError, Service, identity::Identity, random::SeededEntropy,
    time::Instant,
};

use crate::{
    counting::Counting,
    error::{BenchError, Result},
};

/// Time between two turns, each of which carries all that is under way.
const TURN: Duration = Duration::from_micros(20);

/// A turn that does not come is a stuck path. Of 20 us each, so 20 s.
const TURNS_MAX: u32 = 1_000_000;

struct End {
    endpoint: Endpoint,
    application: Counting,
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
            (self.receiver.application.messages, self.receiver.application.bytes);
        for _ in 0..messages {
            self.offer(&body)?;
        }
        for _ in 0..TURNS_MAX {
            let tally = self.sender.endpoint.tally();
            if tally.pending > 0 {
                self.turn()?;
                continue;
            }
            let Counting { messages: all, bytes: sum } = self.receiver.application;
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
        Ok(Self { endpoint, application: Counting::default(), driver, run: Vec::new() })
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
    //! Goal: each message arrives, whatever its size, and time passes only in turns.
    use super::*;

    #[test]
    fn messages_of_any_size_arrive() {
        let mut path = MessagePath::new().unwrap();
        for bytes in [0, 1, 64, 1_440, 100_000] {
            path.send(500, bytes).unwrap();
        }
        assert_eq!(path.receiver.application.messages, 1 + 5 * 500);
    }
}
