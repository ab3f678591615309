//! One host endpoint in memory, and guests that come to it one after the other: no socket, no clock, no thread.
//!
//! Each guest shakes hands, has its messages acknowledged, falls silent and is thrown away; the host keeps its session. So what
//! this process holds afterwards is what the host holds.

use std::{net::SocketAddr, time::Duration};

use cubed::runtime::Clock;
use cubed_transport::{Endpoint, FlowId, Limits, PeerId, Service, Tally, time::Instant};

use super::guest::{self, FLOW};
use crate::{
    counting::Counting,
    error::{BenchError, Result},
};

/// Time in which nothing happens after which a guest counts as silent: longer than any acknowledgement's delay or probe's timer.
const QUIET: Duration = Duration::from_millis(500);

/// A guest that takes longer is stuck. Virtual time.
const VISIT_TIME_MAX: Duration = Duration::from_secs(20);

/// A host that is not idle so long after its last guest is stuck. Virtual time.
const REST_TIME_MAX: Duration = Duration::from_mins(1);

/// How long a datagram is under way.
const FLIGHT: Duration = Duration::from_micros(100);

const HOST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 255, 0, 1)), 7530);

/// The host and virtual time.
#[derive(Debug)]
pub struct MemoryNetwork {
    host: Endpoint,
    application: Counting,
    now: Instant,
    run: Vec<u8>,
    guests: u64,
    spent: Spent,
}

/// Time of this machine that both sides took so far, without making guests and throwing them away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// The host.
    pub host: Duration,
    /// Its guests.
    pub guests: Duration,
}

/// One guest during its visit.
struct Visit {
    endpoint: Endpoint,
    application: Counting,
    address: SocketAddr,
    peer: PeerId,
    flow: FlowId,
}

impl MemoryNetwork {
    /// A host with room for so many guests.
    ///
    /// # Errors
    ///
    /// Those of [`guest::endpoint`].
    pub fn new(guests_max: usize) -> Result<Self> {
        let limits = Limits { peers_max: guests_max + 1, ..limits() };
        Ok(Self {
            host: guest::endpoint(&guest::identity(u64::MAX), limits)?,
            application: Counting::default(),
            now: Instant::from_nanos(1_000_000_000),
            run: Vec::new(),
            guests: 0,
            spent: Spent::default(),
        })
    }

    /// Guests whose session the host has.
    pub fn sessions(&self) -> u64 {
        let counters = self.host.counters();
        counters.sessions_begun - counters.sessions_ended
    }

    /// What both sides took.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// The next guest comes, sends so many messages of 64 B, and goes without a word.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it finds no session, or a message of it was not delivered.
    pub fn welcome(&mut self, messages: u64) -> Result<()> {
        let number = self.guests;
        self.guests += 1;
        let mut visit = self.arrive(number)?;
        self.settle(&mut visit)?;
        for _ in 0..messages {
            let sent =
                visit.endpoint.send(self.now, visit.flow, &[7; 64], Service::Acknowledged, None);
            sent.map_err(|error| BenchError::Corrupt(format!("guest {number}: {error}")))?;
        }
        self.settle(&mut visit)?;
        let Tally { delivered, pending, .. } = visit.endpoint.tally();
        if delivered == messages && pending == 0 && visit.endpoint.is_connected(visit.peer) {
            return Ok(());
        }
        Err(BenchError::Corrupt(format!(
            "guest {number}: {delivered} of {messages} messages were delivered, {pending} wait"
        )))
    }

    /// Nobody comes until the host has nothing left to do: all its sessions are dormant.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a session is not, or the host would never be done.
    pub fn rest(&mut self) -> Result<()> {
        let end = self.now + REST_TIME_MAX;
        while let Some(at) = self.host.poll_timeout() {
            self.now = self.now.max(at);
            if self.now > end {
                return Err(BenchError::Corrupt("the host does not rest".into()));
            }
            self.host.handle_timeout(self.now, &mut self.application);
            while self.host.poll_transmit(self.now, &mut self.run).is_some() {}
            while self.host.poll_event().is_some() {}
        }
        let (rested, sessions) = (self.host.counters().sessions_rested, self.sessions());
        if rested < sessions {
            return Err(BenchError::Corrupt(format!("{rested} of {sessions} sessions rest")));
        }
        Ok(())
    }

    fn arrive(&mut self, number: u64) -> Result<Visit> {
        let wrong = |error| BenchError::Corrupt(format!("guest {number}: {error}"));
        let mut endpoint = guest::endpoint(&guest::identity(number), limits())?;
        let peer = endpoint.add_peer(self.host.public_key(), Some(HOST)).map_err(wrong)?;
        let flow = endpoint.open_flow(peer, FLOW).map_err(wrong)?;
        let begun = Clock::new().now_nanos();
        endpoint.connect(self.now, peer).map_err(wrong)?;
        self.spent.guests += since(begun);
        let [.., a, b, c, d] = number.to_be_bytes();
        let port = 1_024 + u16::from_be_bytes([a, b]);
        let address = SocketAddr::from(([10, c, d, 2], port));
        Ok(Visit { endpoint, application: Counting::default(), address, peer, flow })
    }

    /// Moves datagrams and time until guest and host have nothing to say for [`QUIET`].
    fn settle(&mut self, visit: &mut Visit) -> Result<()> {
        let end = self.now + VISIT_TIME_MAX;
        loop {
            while self.carry(visit) {
                self.now += FLIGHT;
            }
            while self.host.poll_event().is_some() || visit.endpoint.poll_event().is_some() {}
            let due = [self.host.poll_timeout(), visit.endpoint.poll_timeout()];
            let Some(next) = due.into_iter().flatten().min() else { return Ok(()) };
            if next > self.now + QUIET {
                return Ok(());
            }
            self.now = self.now.max(next);
            if self.now > end {
                return Err(BenchError::Corrupt("a guest does not fall silent".into()));
            }
            self.host.handle_timeout(self.now, &mut self.application);
            visit.endpoint.handle_timeout(self.now, &mut visit.application);
        }
    }

    /// Whether anything was under way.
    fn carry(&mut self, visit: &mut Visit) -> bool {
        let Self { host, application, now, run, spent, .. } = self;
        let mut moved = false;
        loop {
            let begun = Clock::new().now_nanos();
            let transmit = visit.endpoint.poll_transmit(*now, run);
            spent.guests += since(begun);
            let Some(transmit) = transmit else { break };
            moved = true;
            let begun = Clock::new().now_nanos();
            for datagram in run.chunks_mut(transmit.segment_bytes) {
                host.handle_datagram(*now, visit.address, datagram, application);
            }
            spent.host += since(begun);
        }
        loop {
            let begun = Clock::new().now_nanos();
            let transmit = host.poll_transmit(*now, run);
            spent.host += since(begun);
            let Some(transmit) = transmit else { return moved };
            moved = true;
            let begun = Clock::new().now_nanos();
            for datagram in run.chunks_mut(transmit.segment_bytes) {
                let guest = &mut visit.application;
                visit.endpoint.handle_datagram(*now, HOST, datagram, guest);
            }
            spent.guests += since(begun);
        }
    }
}

/// Time since a reading of the clock.
fn since(begun: u64) -> Duration {
    Duration::from_nanos(Clock::new().now_nanos() - begun)
}

/// The defaults, but that nobody is asked for a cookie: guests come faster than a hundred a second of virtual time.
fn limits() -> Limits {
    Limits { hellos_per_second: u32::MAX, ..Limits::default() }
}

#[cfg(test)]
mod tests {
    //! Goal: the host has a session with every guest, and got what they sent.
    use super::*;

    #[test]
    fn every_guest_leaves_a_session_behind() {
        let mut network = MemoryNetwork::new(20).unwrap();
        for _ in 0..20 {
            network.welcome(3).unwrap();
        }
        assert_eq!((network.sessions(), network.application.messages), (20, 60));
        assert!(network.now < Instant::from_nanos(100_000_000_000), "silent guests cost no time");
    }
}
