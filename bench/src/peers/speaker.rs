//! The node that visits many peers in turn, some messages each.
//!
//! A peer without room for more is left until its next turn, so that none holds up the others. A slice ends when every message has
//! an outcome; then each peer must have counted what was sent to it, once.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use cubed::{Destination, Limits, Node, PublicKey, SendError, Shard, SpinPolicy, block_on};

use super::{
    SIZE_BYTES_MAX, Visits,
    audience::{AudienceCounts, AudienceOrder, FLOW, PEER_COMMAND},
};
use crate::{
    cli::MachineArgs,
    error::{BenchError, Result},
    machine::Cores,
    meter::Meter,
    node::{
        bodies::Mode,
        load::{BURST_BYTES_MAX, BURST_MESSAGES_MAX, PER_CALL, drain, stats},
        server::new_identity,
        watch::CounterWatch,
    },
    process::PeerProcess,
    scale::guest,
    subject::{ThroughputSlice, ThroughputSubject},
    tag::write_tag,
    workload::Choice,
};

/// Sent before each slice and left out of it.
const WARM_UP: Duration = Duration::from_millis(50);

/// Peers dialled at once: a dial is answered in a turn of the audience.
const DIALS_MAX: usize = 32;

/// How long a round waits in which no peer had room.
const FULL_PAUSE: Duration = Duration::from_micros(50);

/// Throughput of one node to many peers.
#[derive(Debug)]
pub struct CubedPeers {
    node: Node,
    visits: Visits,
    choice: Choice,
    seed: u64,
    keys: Vec<PublicKey>,
    meter: Option<Meter>,
    // Last, so that it outlives the node's farewell.
    audience: PeerProcess,
}

/// What the sender counted in one slice.
#[derive(Debug, Clone, Default, PartialEq)]
struct SendCounts {
    messages: Vec<u64>,
    datagrams: u64,
    sends: u64,
}

impl CubedPeers {
    /// Starts the peers and the node, and has the node meet each of them.
    ///
    /// # Errors
    ///
    /// `Argument` outside the limits; else those of the process, the node, and of a peer that is not reached.
    pub fn start(
        visits: Visits,
        choice: Choice,
        seed: u64,
        machine: MachineArgs,
        datagram_bytes: u16,
    ) -> Result<Self> {
        visits.check(SIZE_BYTES_MAX)?;
        let cores = Cores::choose()?;
        let arguments = [
            PEER_COMMAND,
            "--core",
            &cores.receiver.to_string(),
            "--count",
            &visits.peers.to_string(),
        ];
        let mut audience = PeerProcess::start(&arguments.map(str::to_owned))?;
        audience.begin(&AudienceOrder { size_bytes: visits.size_bytes })?;
        let told: AudienceCounts = audience.end()?;
        let builder = Node::builder()
            .identity(new_identity()?)
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .shards([cores.sender])
            .spin(SpinPolicy::Adaptive)
            .limits(Limits { datagram_bytes, peers_max: visits.peers + 64, ..Limits::default() });
        let node = machine.apply(builder).start(async |_: Shard| ());
        let node = node.map_err(|error| BenchError::Machine(error.to_string()))?;
        let numbers = 0..told.ports.len() as u64;
        let keys: Vec<_> = numbers.map(|number| guest::identity(number).public_key()).collect();
        let mut peers = Self { node, visits, choice, seed, keys, meter: None, audience };
        peers.meet(&told.ports)?;
        Ok(peers)
    }

    /// Tells `meter` of every slice from here on, if there is one.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// What the measuring node runs on.
    ///
    /// # Errors
    ///
    /// When it has stopped.
    pub fn machine(&self) -> Result<cubed::Machine> {
        let stats = block_on(self.node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        Ok(stats.shards[0].machine)
    }

    /// A session with each, and a message on its flow.
    fn meet(&mut self, ports: &[u16]) -> Result<()> {
        self.audience.begin(&AudienceOrder { size_bytes: 0 })?;
        let known: Vec<_> = self.keys.iter().copied().zip(ports.iter().copied()).collect();
        self.on_shard(async move |shard: Shard| {
            for some in known.chunks(DIALS_MAX) {
                let mut dials = Vec::with_capacity(some.len());
                for (key, port) in some {
                    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                    let added = shard.add_peer(*key, address);
                    added.map_err(|error| BenchError::Machine(error.to_string()))?;
                    let to = resolve(&shard, *key)?;
                    dials.push(shard.spawn_local(async move {
                        to.connect().await.map_err(|error| BenchError::Peer(error.to_string()))?;
                        let outcome = to.send(b"").acknowledged().await;
                        outcome.map(drop).map_err(|error| BenchError::Peer(error.to_string()))
                    }));
                }
                for dial in dials {
                    dial.await.map_err(|error| BenchError::Machine(error.to_string()))??;
                }
            }
            Ok(())
        })?;
        self.audience.end::<AudienceCounts>().map(drop)
    }

    fn on_shard<T, F, Fut>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let done = block_on(self.node.on_shard(0, work));
        done.unwrap_or_else(|stopped| Err(BenchError::Machine(stopped.to_string())))
    }

    fn send(&self, duration: Duration, meter: Option<Meter>) -> Result<SendCounts> {
        let (keys, visits) = (self.keys.clone(), self.visits);
        let table = self.choice.table(keys.len(), self.seed);
        self.on_shard(async move |shard: Shard| {
            let peers = keys.iter().map(|key| resolve(&shard, *key)).collect::<Result<_>>()?;
            let watch = meter.map(|meter| CounterWatch::new(&shard, meter, Some(Mode::Acked)));
            let messages = vec![0; keys.len()];
            let row = (BURST_BYTES_MAX / visits.size_bytes).clamp(1, PER_CALL.get());
            let bytes = row.min(visits.messages) * visits.size_bytes;
            let bodies =
                (0..bytes).map(|index| (index % visits.size_bytes * 31 + 7) as u8).collect();
            let mut round = Round { shard: &shard, visits, table, peers, messages, bodies, watch };
            round.run(duration).await
        })
    }
}

impl Drop for CubedPeers {
    fn drop(&mut self) {
        self.node.shutdown();
        // How the node ended changes nothing about what was measured.
        let _ = self.node.join();
    }
}

fn resolve(shard: &Shard, key: PublicKey) -> Result<Destination> {
    shard.resolve(key, FLOW).map_err(|error| BenchError::Peer(error.to_string()))
}

/// A sender during one slice.
struct Round<'a> {
    shard: &'a Shard,
    visits: Visits,
    table: Vec<u32>,
    peers: Vec<Destination>,
    messages: Vec<u64>,
    /// Those of one call, one behind the other.
    bodies: Vec<u8>,
    watch: Option<CounterWatch>,
}

impl Round<'_> {
    async fn run(&mut self, duration: Duration) -> Result<SendCounts> {
        let before = stats(self.shard)?;
        let burst = (BURST_BYTES_MAX / self.visits.size_bytes.max(1)).clamp(1, BURST_MESSAGES_MAX);
        // A round ends in a turn of the node's: what was said to a peer leaves before there is more for it, unless its window is full.
        let burst = burst.min(self.visits.messages * self.peers.len());
        let end = self.shard.now() + duration;
        let (mut since_yield, mut since_sent) = (0, 0);
        for visit in 0_usize.. {
            let peer = match self.table.as_slice() {
                [] => visit % self.peers.len(),
                // The table's length is a power of two.
                table => table[visit & (table.len() - 1)] as usize,
            };
            let sent = self.visit(peer)?;
            since_sent = if sent > 0 { 0 } else { since_sent + 1 };
            // A visit in vain counts as well, or a round of them would never end in a turn of the node's.
            since_yield += sent.max(1);
            if since_sent > self.peers.len() {
                self.shard.sleep(FULL_PAUSE).await;
                since_sent = 0;
            } else if since_yield >= burst {
                self.shard.yield_now().await;
            } else {
                continue;
            }
            since_yield = 0;
            let now = self.shard.now();
            if let Some(watch) = &mut self.watch {
                watch.look(self.shard, now);
            }
            if now >= end {
                break;
            }
        }
        drain(self.shard).await?;
        if let Some(watch) = &mut self.watch {
            watch.look_at_once(self.shard);
        }
        let after = stats(self.shard)?;
        Ok(SendCounts {
            messages: std::mem::take(&mut self.messages),
            datagrams: after.counters.datagrams_sent - before.counters.datagrams_sent,
            sends: after.counters.runs_sent - before.counters.runs_sent,
        })
    }

    /// Sends one visit's messages, or as many as there is room for, by as few calls as one flow's sender; how many.
    #[inline]
    fn visit(&mut self, peer: usize) -> Result<usize> {
        let Visits { messages, size_bytes, .. } = self.visits;
        let (to, next) = (&self.peers[peer], &mut self.messages[peer]);
        let row_max = self.bodies.len() / size_bytes;
        let mut sent = 0;
        while sent < messages {
            let row = &mut self.bodies[..row_max.min(messages - sent) * size_bytes];
            for (number, body) in (*next..).zip(row.chunks_exact_mut(size_bytes)) {
                write_tag(body, number);
            }
            match to.try_send_many(row.chunks_exact(size_bytes)) {
                Ok(taken) => {
                    *next += taken as u64;
                    sent += taken;
                }
                Err(SendError::Full) => break,
                Err(error) => return Err(BenchError::Peer(error.to_string())),
            }
        }
        Ok(sent)
    }
}

impl ThroughputSubject for CubedPeers {
    fn name(&self) -> &'static str {
        "cubed"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let order = AudienceOrder { size_bytes: self.visits.size_bytes };
        self.audience.begin(&order)?;
        self.send(WARM_UP, None)?;
        self.audience.end::<AudienceCounts>()?;
        self.audience.begin(&order)?;
        let open = self.meter.as_ref().map(Meter::open);
        let sent = self.send(duration, self.meter.clone())?;
        drop(open);
        let received = self.audience.end()?;
        checked_slice(self.visits.size_bytes, &sent, &received)
    }
}

fn checked_slice(
    size_bytes: usize,
    sent: &SendCounts,
    received: &AudienceCounts,
) -> Result<ThroughputSlice> {
    if sent.messages != received.delivered || received.duplicated > 0 || received.missized > 0 {
        let wrong = sent.messages.iter().zip(&received.delivered).position(|(s, r)| s != r);
        return Err(BenchError::Corrupt(format!(
            "peer {wrong:?} is the first that did not count what was sent to it; {} were doubled, {} had another length",
            received.duplicated, received.missized
        )));
    }
    let messages = sent.messages.iter().sum();
    Ok(ThroughputSlice {
        seconds: received.seconds,
        sent: messages,
        delivered: messages,
        duplicated: 0,
        size_bytes: size_bytes as u64,
        datagrams: sent.datagrams,
        sends: sent.sends,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a message that another peer got, or that came twice, voids the slice.
    use super::*;

    #[test]
    fn every_peer_must_have_counted_its_own() {
        let sent = SendCounts { messages: vec![5, 7], datagrams: 2, sends: 2 };
        let right =
            AudienceCounts { delivered: vec![5, 7], seconds: 1.0, ..AudienceCounts::default() };
        assert_eq!(checked_slice(64, &sent, &right).unwrap().delivered, 12);
        for wrong in [
            AudienceCounts { delivered: vec![6, 6], ..right.clone() },
            AudienceCounts { duplicated: 1, ..right.clone() },
            AudienceCounts { missized: 1, ..right.clone() },
        ] {
            assert!(checked_slice(64, &sent, &wrong).is_err(), "{wrong:?}");
        }
    }
}
