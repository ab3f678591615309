//! The measuring node and its peer: a process started here, or one that somebody else runs.

use std::{
    fmt::Debug,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use cubed::{Identity, Machine, Node, PublicKey, Remote, Shard, SpinPolicy, block_on};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    CONTROL_FLOW,
    server::{PEER_COMMAND, load_identity, new_identity},
};
use crate::{
    cli::MachineArgs,
    control::{Answer, Order},
    error::{BenchError, Result},
    machine::Cores,
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
    /// What both nodes run on (only ours, when the peer is there already).
    pub machine: MachineArgs,
}

/// A node with a session to a serving node.
#[derive(Debug)]
pub struct Client {
    node: Node,
    machine: Machine,
    control: Remote,
    // Last, so that it outlives the node's farewell.
    _peer: Option<PeerProcess>,
}

impl Client {
    /// Starts the node, and the peer process if there is to be one, and connects.
    ///
    /// # Errors
    ///
    /// Those of the key file and of the node; `Peer` when the session does not come about.
    pub fn start(settings: &ClientSettings<'_>) -> Result<Self> {
        let identity = settings.key_file.map_or_else(new_identity, load_identity)?;
        let cores = Cores::choose()?;
        let (peer, served) = match settings.served {
            Some(served) => (None, served),
            None => start_peer(settings, cores, identity.public_key())?,
        };
        let node = start_node(settings, cores, identity, served)?;
        let stats = block_on(node.stats());
        let stats = stats.map_err(|error| BenchError::Machine(error.to_string()))?;
        let control = node.resolve(served.key, CONTROL_FLOW);
        let control = control.map_err(|error| BenchError::Peer(error.to_string()))?;
        let client = Self { node, machine: stats.shards[0].machine, control, _peer: peer };
        let connected = block_on(client.control.connect());
        connected.map_err(|error| BenchError::Peer(error.to_string()))?;
        Ok(client)
    }

    /// The peer's key.
    pub fn peer_key(&self) -> PublicKey {
        self.control.peer_key()
    }

    /// What the measuring node runs on.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Runs `work` on the node's shard and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of `work`; `Peer` when the node ends before it.
    pub fn on_shard<T, F, Fut>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        match block_on(self.node.on_shard(0, work)) {
            Ok(result) => result,
            Err(stopped) => {
                self.node.shutdown();
                let ended = self.node.join();
                let cause = ended.map_or_else(|error| error.to_string(), |()| stopped.to_string());
                Err(BenchError::Machine(cause))
            }
        }
    }

    /// What the node's shard has counted since it started: protocol, driver, pump.
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

    /// Starts a slice in the peer.
    ///
    /// # Errors
    ///
    /// When the peer is gone, denies, or answers something else.
    pub fn begin(&self, order: &impl Serialize) -> Result<()> {
        match self.ask::<_, ()>(&Order::Begin(order))? {
            Answer::Begun => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the slice and returns what the peer counted.
    ///
    /// # Errors
    ///
    /// When the peer is gone, failed, or answers something else.
    pub fn end<R: DeserializeOwned + Debug>(&self) -> Result<R> {
        match self.ask(&Order::<()>::End)? {
            Answer::Report(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    fn ask<B: Serialize, R: DeserializeOwned>(&self, order: &Order<B>) -> Result<Answer<R>> {
        let text = serde_json::to_vec(order)
            .map_err(|error| BenchError::Peer(format!("order not encodable: {error}")))?;
        let answer = block_on(self.control.request(text, ANSWER_TIME_MAX));
        let answer = answer.map_err(|error| BenchError::Peer(error.to_string()))?;
        serde_json::from_slice(&answer)
            .map_err(|error| BenchError::Peer(format!("answer not understood: {error}")))
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
        .shards([cores.sender])
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
