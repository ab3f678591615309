//! The serving node: the peer process of a measurement, and `cubed-bench serve`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use cubed::{
    ConnectError, DialFailure, FlowPattern, Identity, Node, Policy, PublicKey, Shard, SpinPolicy,
    Verb,
};

use super::{FLOWS, FLOWS_MAX, sink, strays, sum};
use crate::{
    cli::MachineArgs,
    error::{BenchError, Result},
    machine::{Cores, cores_from},
    peer,
};

/// Name of the hidden sub-command that runs the peer process.
pub const PEER_COMMAND: &str = "peer-node";

/// Where the peer process listens: any port of this machine alone.
pub const ANY_LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Who serves, where, and for whom.
#[derive(Debug)]
pub struct Server {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The core to pin the first shard to; `None` lets the system move a single shard.
    pub core: Option<usize>,
    /// How the node waits.
    pub spin: SpinPolicy,
    /// Bytes of the datagrams it sends.
    pub datagram_bytes: u16,
    /// What the node runs on.
    pub machine: MachineArgs,
    /// Flows of each shard that messages are counted on.
    pub flows: usize,
    /// The keys that may measure against it.
    pub allowed: Vec<PublicKey>,
}

impl Server {
    /// Starts the node.
    ///
    /// # Errors
    ///
    /// `Machine` with the node's own text: a busy port, a datagram length out of range, no `io_uring` although it was asked for.
    pub fn start(&self, identity: Identity) -> Result<Node> {
        let builder = Node::builder()
            .identity(identity)
            .listen(self.listen)
            .policy(self.policy())
            .spin(self.spin)
            .datagram_bytes(self.datagram_bytes);
        let mut builder = self.machine.apply(builder);
        match (self.core, self.machine.shards) {
            (Some(core), count) => builder = builder.shards(cores_from(core, count)),
            (None, 1) => {}
            (None, count) => builder = builder.shards(count),
        }
        let flows = checked_flows(self.flows)?;
        let node = builder.start(move |shard: Shard| async move { register(&shard, flows) });
        node.map_err(|error| BenchError::Machine(error.to_string()))
    }

    fn policy(&self) -> Policy {
        let flows: FlowPattern = FLOWS.parse().expect("a constant pattern is valid");
        let verbs = [Verb::Send, Verb::Request];
        let rule = |policy: Policy, key: &PublicKey| policy.with_rule(*key, flows.clone(), &verbs);
        self.allowed.iter().fold(Policy::deny(), rule)
    }
}

/// `flows`, if it is in range.
///
/// # Errors
///
/// `Argument` outside 1 to [`FLOWS_MAX`].
pub fn checked_flows(flows: usize) -> Result<usize> {
    if (1..=FLOWS_MAX).contains(&flows) {
        return Ok(flows);
    }
    Err(BenchError::Argument(format!("--flows {flows}: between 1 and {FLOWS_MAX}")))
}

fn register(shard: &Shard, flows: usize) -> Result<(), cubed::FlowError> {
    sink::register(shard, flows)?;
    strays::register(shard)
}

/// Runs the peer process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// Those of the node and of stdin.
pub fn run_peer(server: &Server) -> Result<()> {
    let node = server.start(new_identity()?)?;
    peer::announce(node.local_addr(), Some(node.public_key().to_string()))?;
    node.shutdown();
    node.join().map_err(|error| BenchError::Machine(error.to_string()))
}

/// Serves until a signal ends it or it fails; `say` gets the lines that tell where and for whom, and at the end what it did.
///
/// # Errors
///
/// Those of the key file and of the node.
pub fn serve(server: &Server, key_file: &Path, say: fn(&str)) -> Result<()> {
    let node = server.start(load_identity(key_file)?)?;
    sum::stop_by_signal(&node, say);
    say(&format!("listening on {}", node.local_addr()));
    say(&format!("key {}", node.public_key()));
    if server.allowed.is_empty() {
        say("nobody is allowed, so every dial is denied: name keys with --allow KEY");
    }
    for key in &server.allowed {
        say(&format!("allowed {key} ({})", key.fingerprint()));
    }
    node.join().map_err(|error| BenchError::Machine(error.to_string()))
}

/// A new identity for one measurement.
///
/// # Errors
///
/// `Machine` when the system gives no random bytes.
pub fn new_identity() -> Result<Identity> {
    Identity::generate().map_err(|error| BenchError::Machine(error.to_string()))
}

/// The identity in `file`.
///
/// # Errors
///
/// `Argument`, with the file's name and what is wrong with it.
pub fn load_identity(file: &Path) -> Result<Identity> {
    Identity::load(file).map_err(|error| BenchError::Argument(error.to_string()))
}

/// Why the node of `own` has no session with one that serves; a key that is not admitted there is told whole, for its `--allow`.
pub fn unreached(error: &ConnectError, own: &PublicKey) -> BenchError {
    BenchError::Peer(match error {
        ConnectError::Dial(DialFailure::NotAdmitted { .. }) => {
            format!("{error}; of `serve` and `agent` that is --allow {own}")
        }
        error => error.to_string(),
    })
}

/// How a node waits that was told for how many microseconds to poll, or nothing.
pub fn spin_for(micros: Option<u64>) -> SpinPolicy {
    match micros {
        None => SpinPolicy::Adaptive,
        Some(0) => SpinPolicy::Never,
        Some(micros) => SpinPolicy::For(Duration::from_micros(micros)),
    }
}

/// How two nodes wait that take turns: with `spin` they poll for as long as a slice has pauses, and
/// sleep between slices; on a single core they never poll, since that keeps the other from running.
///
/// # Errors
///
/// When the system names no core.
pub fn spin_policy(spin: bool, pause_max: Duration) -> Result<SpinPolicy> {
    let spins = spin && !Cores::choose()?.are_shared();
    Ok(if spins { SpinPolicy::For(pause_max) } else { SpinPolicy::Never })
}
