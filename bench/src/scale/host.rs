//! The node under test, in this process, and the crowds of light peers that come to it from others.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use cubed::{
    FlowError, Identity, Limits, Node, NodeStats, Policy, PublicKey, Shard, Shards, block_on,
};

use super::{
    crowd::{CROWD_COMMAND, CrowdCounts, CrowdOrder},
    guest::FLOW,
};
use crate::{
    cli::MachineArgs,
    error::{BenchError, Result},
    process::PeerProcess,
};

/// Guests in one process, at most: each has a descriptor, and one thread serves them all.
const GUESTS_PER_PROCESS: usize = 2_500;

/// How often the node is asked whether all are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A crowd in which nobody came for this long comes no more.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The node.
#[derive(Debug)]
pub struct Host {
    node: Node,
}

/// Datagrams as the node's sockets counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Read.
    pub received: u64,
    /// Dropped by the kernel for want of room in the main sockets.
    pub kernel_drops: u64,
    /// The same of the sockets for hellos.
    pub side_drops: u64,
}

impl Host {
    /// Starts a node that admits everybody, with room for so many peers and the flow that guests send to.
    ///
    /// # Errors
    ///
    /// `Machine` with the node's own text.
    pub fn start(machine: &MachineArgs, peers_max: usize) -> Result<Self> {
        let identity =
            Identity::generate().map_err(|error| BenchError::Machine(error.to_string()))?;
        let builder = Node::builder()
            .identity(identity)
            .listen("127.0.0.1:0")
            .policy(Policy::open())
            .limits(Limits { peers_max: peers_max + 64, ..Limits::default() })
            .shards(Shards::Unpinned(machine.shards));
        let node = machine.apply(builder).start(async |shard: Shard| {
            shard.flow(FLOW).handler(|_, _| {})?;
            Ok::<_, FlowError>(())
        });
        Ok(Self { node: node.map_err(|error| BenchError::Machine(error.to_string()))? })
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where guests come to.
    pub fn address(&self) -> SocketAddr {
        self.node.local_addr()
    }

    /// Its key.
    pub fn key(&self) -> PublicKey {
        self.node.public_key()
    }

    /// What it counted.
    ///
    /// # Errors
    ///
    /// `Machine` when it has stopped.
    pub fn stats(&self) -> Result<NodeStats> {
        block_on(self.node.stats()).map_err(|error| BenchError::Machine(error.to_string()))
    }

    /// Sessions that it has.
    ///
    /// # Errors
    ///
    /// As [`Host::stats`].
    pub fn sessions(&self) -> Result<u64> {
        let stats = self.stats()?;
        let count = |name| stats.counter(name).unwrap_or_default();
        Ok(count("sessions_begun") - count("sessions_ended"))
    }

    /// Waits until so many sessions have become dormant.
    ///
    /// # Errors
    ///
    /// `Peer` when none did for half a minute.
    pub fn await_rest(&self, sessions: u64) -> Result<()> {
        let mut best = (0, Instant::now());
        loop {
            let rested = self.stats()?.counter("sessions_rested").unwrap_or_default();
            if rested >= sessions {
                return Ok(());
            }
            if rested > best.0 {
                best = (rested, Instant::now());
            } else if best.1.elapsed() > STALL_MAX {
                let error = format!(
                    "{rested} of {sessions} guests are idle, and no more for {STALL_MAX:?}"
                );
                return Err(BenchError::Peer(error));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// What came to its sockets.
    ///
    /// # Errors
    ///
    /// As [`Host::stats`].
    pub fn arrivals(&self) -> Result<Arrivals> {
        let add = |sum: Arrivals, shard: &cubed::ShardStats| Arrivals {
            received: sum.received + shard.driver.recv_datagrams + shard.driver.side_datagrams,
            kernel_drops: sum.kernel_drops + shard.driver.kernel_drops,
            side_drops: sum.side_drops + shard.driver.side_drops,
        };
        Ok(self.stats()?.shards.iter().fold(Arrivals::default(), add))
    }

    /// Waits until it has so many sessions and has taken so many messages.
    ///
    /// # Errors
    ///
    /// `Peer` when nobody came for half a minute.
    pub fn await_guests(&self, sessions: u64, messages: u64) -> Result<()> {
        let mut best = (0, Instant::now());
        loop {
            let here = self.sessions()?;
            let taken = self.stats()?.flow(FLOW).map_or(0, |flow| flow.accepted);
            if here >= sessions && taken >= messages {
                return Ok(());
            }
            if here + taken > best.0 {
                best = (here + taken, Instant::now());
            } else if best.1.elapsed() > STALL_MAX {
                return Err(BenchError::Peer(format!(
                    "{here} of {sessions} guests came, {taken} of {messages} messages, and none for {STALL_MAX:?}"
                )));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.node.shutdown();
        // How the node ended changes nothing about what was measured.
        let _ = self.node.join();
    }
}

/// Guests of one host, in as many processes as they need.
#[derive(Debug)]
pub struct Guests {
    processes: Vec<PeerProcess>,
}

impl Guests {
    /// Makes the guests from number `first` on, over at least so many processes. They do not dial yet.
    ///
    /// # Errors
    ///
    /// When a process cannot be started, or has not enough descriptors for its sockets.
    pub fn start(host: &Host, first: usize, count: usize, processes: usize) -> Result<Self> {
        let processes = processes.max(count.div_ceil(GUESTS_PER_PROCESS)).max(1);
        let each = count.div_ceil(processes);
        let starts = (0..processes).map(|index| index * each).filter(|from| *from < count);
        let started = starts.map(|from| {
            let arguments = [
                "scale".to_owned(),
                CROWD_COMMAND.to_owned(),
                format!("--host={}", host.address()),
                format!("--host-key={}", host.key()),
                format!("--first={}", first + from),
                format!("--count={}", each.min(count - from)),
            ];
            PeerProcess::start(&arguments)
        });
        Ok(Self { processes: started.collect::<Result<_>>()? })
    }

    /// They dial, all at once.
    ///
    /// # Errors
    ///
    /// When a process is gone.
    pub fn come(&mut self, messages: u64) -> Result<()> {
        self.processes.iter_mut().try_for_each(|crowd| crowd.begin(&CrowdOrder { messages }))
    }

    /// They do nothing any more; what they counted.
    ///
    /// # Errors
    ///
    /// When a process is gone, or failed.
    pub fn rest(&mut self) -> Result<CrowdCounts> {
        let mut sum = CrowdCounts::default();
        for crowd in &mut self.processes {
            let counts: CrowdCounts = crowd.end()?;
            sum.connected_ns.extend(counts.connected_ns);
            sum.redials += counts.redials;
            sum.delivered += counts.delivered;
            sum.datagrams_sent += counts.datagrams_sent;
            sum.sends_refused += counts.sends_refused;
            sum.datagrams_received += counts.datagrams_received;
        }
        sum.connected_ns.sort_unstable();
        Ok(sum)
    }
}
