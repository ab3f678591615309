//! The measuring node and its peer: a process started here, or one that somebody else runs.

use std::{
    fmt::Debug,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use cubed::{Identity, Machine, Node, PublicKey, Remote, Shard, SpinPolicy, block_on};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    SHARDS_FLOW, STRAYS_FLOW,
    owned::{OwnedFlows, owned_name},
    server::{PEER_COMMAND, load_identity, new_identity, unreached},
    strays::Strays,
};
use crate::{
    cli::MachineArgs,
    control::{Answer, Order},
    error::{BenchError, Result},
    machine::{Cores, cores_from},
    process::PeerProcess,
};

/// How long the peer may take to answer an order.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A peer that says nothing for this long is gone: its messages end and the measurement fails.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A serving node that is there already.
#[derive(Debug, Clone, Copy)]
pub struct ServedPeer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its key.
    pub key: PublicKey,
}

/// What the measuring node is to be.
#[derive(Debug)]
pub struct ClientSettings<'a> {
    /// The peer to measure against; `None` starts one.
    pub served: Option<ServedPeer>,
    /// File with the key of the measuring node; `None` makes a new one.
    pub key_file: Option<&'a Path>,
    /// How both nodes wait (only ours, when the peer is there already).
    pub spin: SpinPolicy,
    /// Bytes of each UDP datagram.
    pub datagram_bytes: u16,
    /// Flows of each shard of the peer's that count messages (a peer that is there already must have them).
    pub flows: usize,
    /// What both nodes run on (only ours, when the peer is there already).
    pub machine: MachineArgs,
}

/// A node with a session to a serving node.
#[derive(Debug)]
pub struct Client {
    node: Node,
    machine: Machine,
    datagram_bytes: u16,
    peer_key: PublicKey,
    /// One for each of our shards, at a shard of the peer's.
    lanes: Vec<Lane>,
    // Last, so that it outlives the node's farewell.
    _peer: Option<PeerProcess>,
}

/// What one of our shards measures with: a shard of the peer's.
#[derive(Debug)]
struct Lane {
    control: Remote,
    echo: String,
    sinks: Vec<String>,
}

impl Client {
    /// Starts the node, and the peer process if there is to be one, and connects.
    ///
    /// # Errors
    ///
    /// Those of the key file and of the node; `Peer` when the session does not come about.
    pub fn start(settings: &ClientSettings<'_>) -> Result<Self> {
        let identity = settings.key_file.map_or_else(new_identity, load_identity)?;
        Self::start_as(identity, settings)
    }

    /// As [`Client::start`], with this identity, whatever the settings say of its file.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_as(identity: Identity, settings: &ClientSettings<'_>) -> Result<Self> {
        let cores = Cores::choose_for(settings.machine.shards)?;
        let (peer, served) = match settings.served {
            Some(served) if served.key == identity.public_key() => {
                return Err(BenchError::Argument(format!(
                    "--peer {}: that is our own key: give the one that `serve` printed, and not the same file to --key there and here",
                    served.key
                )));
            }
            Some(served) => (None, served),
            None => start_peer(settings, cores, identity.public_key())?,
        };
        let node = start_node(settings, cores, identity, served)?;
        let stats = block_on(node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        let machine = stats.shards[0].machine;
        let lanes = lanes(&node, served.key, settings.flows)?;
        let datagram_bytes = settings.datagram_bytes;
        let client =
            Self { node, machine, datagram_bytes, peer_key: served.key, lanes, _peer: peer };
        client.connect_all()?;
        Ok(client)
    }

    /// Has each shard meet the peer's shard that it sends to, so that no slice begins with a handshake.
    fn connect_all(&self) -> Result<()> {
        for (shard, lane) in self.lanes.iter().enumerate() {
            let (key, sink) = (self.peer_key, lane.sinks[0].clone());
            self.on_shard(shard, async move |shard: Shard| {
                let to = shard.resolve(key, &sink).map_err(|error| error.to_string());
                let to = to.map_err(BenchError::Peer)?;
                to.connect().await.map_err(|error| BenchError::Peer(error.to_string()))
            })?;
        }
        Ok(())
    }

    /// How many shards measure.
    pub fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// The flows that our shard `shard` sends to.
    pub fn sinks(&self, shard: usize) -> &[String] {
        &self.lanes[shard].sinks
    }

    /// The flow that answers what our shard `shard` asks.
    pub fn echo(&self, shard: usize) -> &str {
        &self.lanes[shard].echo
    }

    /// The peer's key.
    pub fn peer_key(&self) -> PublicKey {
        self.peer_key
    }

    /// The measuring node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What the measuring node runs on.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Runs `work` on a shard of the node and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of `work`; `Peer` when the node ends before it.
    pub fn on_shard<T, F, Fut>(&self, shard: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        on_shard(&self.node, shard, work)
    }

    /// Runs a work of its own on each shard, all at once, and waits for their ends.
    ///
    /// # Errors
    ///
    /// As [`Client::on_shard`].
    pub fn on_each_shard<T, F, Fut>(&self, work: impl Fn(usize) -> F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        thread::scope(|scope| {
            let run = |shard| {
                let (node, work) = (&self.node, work(shard));
                scope.spawn(move || on_shard(node, shard, work))
            };
            let running: Vec<_> = (0..self.shards()).map(run).collect();
            let gone = |_| Err(BenchError::Machine("a measuring thread panicked".into()));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
        })
    }

    /// What the node's shards have counted since they started, one after the other: protocol, driver, pump.
    ///
    /// # Errors
    ///
    /// When the node has stopped.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>> {
        let stats = block_on(self.node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        let mut counters = Vec::new();
        for shard in &stats.shards {
            counters.extend(shard.counters.iter());
            counters.push(("turns", shard.turns));
            counters.push(("parks", shard.parks));
            counters.push(("send_errors", shard.send_errors));
        }
        Ok(counters)
    }

    /// What the shards of both nodes that measure have counted of datagrams for others.
    ///
    /// # Errors
    ///
    /// When the node has stopped, or the peer does not answer.
    pub fn strays(&self) -> Result<Strays> {
        let stats = block_on(self.node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        let ours = stats.shards.iter().map(Strays::of).fold(Strays::default(), Strays::plus);
        (0..self.lanes.len()).try_fold(ours, |sum, shard| {
            let flow = self.node.resolve(self.peer_key, &owned_name(STRAYS_FLOW, shard as u32));
            let flow = flow.map_err(|error| BenchError::Peer(error.to_string()))?;
            let answer = block_on(flow.request("", ANSWER_TIME_MAX));
            let answer = answer.map_err(|error| BenchError::Peer(error.to_string()))?;
            let theirs = serde_json::from_slice(&answer).map_err(|error| {
                BenchError::Peer(format!("its counts of strays not understood: {error}"))
            })?;
            Ok(sum.plus(theirs))
        })
    }

    /// Bytes of the datagrams that it sends.
    pub fn datagram_bytes(&self) -> u16 {
        self.datagram_bytes
    }

    /// Runs of datagrams that the kernel refused to segment, so that they left singly.
    ///
    /// # Errors
    ///
    /// When the node has stopped.
    pub fn gso_fallbacks(&self) -> Result<u64> {
        let stats = block_on(self.node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        Ok(stats.shards.iter().map(|shard| shard.driver.gso_fallbacks).sum())
    }

    /// Datagrams that the node's shards have handed to the kernel, and the send calls that carried them.
    ///
    /// # Errors
    ///
    /// When the node has stopped.
    pub fn sent(&self) -> Result<(u64, u64)> {
        let stats = block_on(self.node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        let counters = stats.shards.iter().map(|shard| &shard.counters);
        let sent = |sum: (u64, u64), one: &cubed::Counters| {
            (sum.0 + one.datagrams_sent, sum.1 + one.runs_sent)
        };
        Ok(counters.fold((0, 0), sent))
    }

    /// Starts a slice in each shard of the peer's that is sent to.
    ///
    /// # Errors
    ///
    /// When the peer is gone, denies, or answers something else.
    pub fn begin(&self, order: &impl Serialize) -> Result<()> {
        self.lanes.iter().try_for_each(|lane| match lane.ask::<_, ()>(&Order::Begin(order))? {
            Answer::Begun => Ok(()),
            other => Err(unexpected(&other)),
        })
    }

    /// Ends the slice and returns what each of these shards counted.
    ///
    /// # Errors
    ///
    /// When the peer is gone, failed, or answers something else.
    pub fn end<R: DeserializeOwned + Debug>(&self) -> Result<Vec<R>> {
        let ends = self.lanes.iter().map(|lane| match lane.ask(&Order::<()>::End)? {
            Answer::Report(report) => Ok(report),
            other => Err(unexpected(&other)),
        });
        ends.collect()
    }
}

impl Lane {
    fn ask<B: Serialize, R: DeserializeOwned>(&self, order: &Order<B>) -> Result<Answer<R>> {
        let text = serde_json::to_vec(order)
            .map_err(|error| BenchError::Peer(format!("order not encodable: {error}")))?;
        let answer = block_on(self.control.request(text, ANSWER_TIME_MAX));
        let answer = answer.map_err(|error| BenchError::Peer(error.to_string()))?;
        serde_json::from_slice(&answer)
            .map_err(|error| BenchError::Peer(format!("answer not understood: {error}")))
    }
}

fn on_shard<T, F, Fut>(node: &Node, shard: usize, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(Shard) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>> + 'static,
{
    match block_on(node.on_shard(shard, work)) {
        Ok(result) => result,
        Err(stopped) => {
            node.shutdown();
            let cause =
                node.join().map_or_else(|error| error.to_string(), |()| stopped.to_string());
            Err(BenchError::Machine(cause))
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.node.shutdown();
        // How the node ended changes nothing about what was measured.
        let _ = self.node.join();
    }
}

/// Starts a peer process that allows `client`.
fn start_peer(
    settings: &ClientSettings<'_>,
    cores: Cores,
    client: PublicKey,
) -> Result<(Option<PeerProcess>, ServedPeer)> {
    let mut arguments = vec![PEER_COMMAND.to_owned()];
    let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    flag("--core", cores.receiver.to_string());
    flag("--allow", client.to_string());
    flag("--datagram", settings.datagram_bytes.to_string());
    flag("--flows", settings.flows.to_string());
    match settings.spin {
        SpinPolicy::Adaptive => {}
        SpinPolicy::Never => flag("--spin-micros", "0".into()),
        SpinPolicy::For(time) => flag("--spin-micros", time.as_micros().to_string()),
    }
    arguments.extend(settings.machine.flags());
    let peer = PeerProcess::start(&arguments)?;
    let key = peer.key().and_then(|key| key.parse().ok());
    let key = key.ok_or_else(|| BenchError::Peer("said no key of its own".into()))?;
    let served = ServedPeer { address: peer.address(), key };
    Ok((Some(peer), served))
}

/// Asks the peer for the flows of its shards, and takes those of one for each of ours.
fn lanes(node: &Node, key: PublicKey, flows: usize) -> Result<Vec<Lane>> {
    let resolve = |name: &str| {
        let flow = node.resolve(key, name);
        flow.map_err(|error| BenchError::Peer(error.to_string()))
    };
    let asked = resolve(SHARDS_FLOW)?;
    block_on(asked.connect()).map_err(|error| unreached(&error, &node.public_key()))?;
    let told = block_on(asked.request("", ANSWER_TIME_MAX));
    let told = told.map_err(|error| BenchError::Peer(error.to_string()))?;
    let owned: Vec<OwnedFlows> = serde_json::from_slice(&told).map_err(|error| {
        BenchError::Peer(format!("flows of its shards not understood: {error}"))
    })?;
    let (ours, theirs) = (node.shards(), owned.len());
    if theirs < ours {
        return Err(BenchError::Argument(format!(
            "--shards {ours}: the peer has {theirs}, and each of ours needs one of its own there"
        )));
    }
    let lane = |owned: &OwnedFlows| {
        let has = owned.sinks().len();
        if has < flows {
            return Err(BenchError::Argument(format!(
                "--flows {flows}: the peer has {has}; start it with --flows {flows}"
            )));
        }
        let control = resolve(&owned.control())?;
        Ok(Lane { control, echo: owned.echo(), sinks: owned.sinks().take(flows).collect() })
    };
    owned.iter().take(ours).map(lane).collect()
}

fn start_node(
    settings: &ClientSettings<'_>,
    cores: Cores,
    identity: Identity,
    served: ServedPeer,
) -> Result<Node> {
    let any = match served.address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let builder = Node::builder()
        .identity(identity)
        .listen(any)
        .peer(served.key, served.address)
        .shards(cores_from(cores.sender, settings.machine.shards))
        .spin(settings.spin)
        .datagram_bytes(settings.datagram_bytes)
        .give_up(SILENCE_MAX);
    let node = settings.machine.apply(builder).start(async |_: Shard| ());
    node.map_err(|error| BenchError::Machine(error.to_string()))
}

fn unexpected<R: Debug>(answer: &Answer<R>) -> BenchError {
    match answer {
        Answer::Failed(text) => BenchError::Peer(text.clone()),
        other => BenchError::Peer(format!("unexpected answer {other:?}")),
    }
}
