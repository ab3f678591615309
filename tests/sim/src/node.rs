//! One simulated node: an endpoint, its application, and the starts of its process.
//!
//! Owns identity and address, which outlive a crash, and the endpoint with all that refers to it,
//! which do not: everything of one start is dropped with it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_router::policy::Policy;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{Config, Endpoint, FlowId, Limits, NodeMode, PeerId, Token};

use crate::addresses::Addresses;
use crate::ledger::NodeIndex;
use crate::recorder::{FlowSetup, Recorder};

/// How a node is set up at each start.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    /// Limits of its endpoint.
    pub limits: Limits,
    /// Who may do what.
    pub policy: Policy,
    /// Its flows.
    pub flows: Vec<FlowSetup>,
}

impl Default for NodeSetup {
    /// Everybody may do everything, and there are no flows.
    fn default() -> Self {
        Self { limits: Limits::default(), policy: Policy::open(), flows: Vec::new() }
    }
}

/// A node; it lives as long as its world, its [`Start`]s may not.
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    pub(crate) address: SocketAddr,
    pub(crate) key: PublicKey,
    /// How far its clock is ahead of the world's.
    pub(crate) ahead: Duration,
    /// The running process, if there is one.
    pub(crate) start: Option<Start>,
    identity: Identity,
    setup: NodeSetup,
    starts: u32,
    seed: u64,
}

/// An entry without room, and a request's deadline.
pub(crate) type Waiting = (Token, Option<Instant>);

/// One start of a node's process.
pub(crate) struct Start {
    pub(crate) number: u32,
    pub(crate) endpoint: Endpoint,
    pub(crate) recorder: Recorder,
    /// The deadline that is on the agenda, by the world's clock.
    pub(crate) timer: Option<Instant>,
    /// Entries that the endpoint had no room for, by receiver, in order.
    pub(crate) waiting: BTreeMap<NodeIndex, VecDeque<Waiting>>,
    pub(crate) peers: BTreeMap<PeerId, NodeIndex>,
    /// What went to and came from each address, and whose of them is proven.
    pub(crate) addresses: Addresses,
    /// Messages, requests and replies that the endpoint took.
    pub(crate) acknowledged_taken: u64,
    /// Best-effort messages that the endpoint took.
    pub(crate) best_effort_taken: u64,
    flows: BTreeMap<(NodeIndex, &'static str), FlowId>,
}

impl Node {
    /// A node that does not run yet. Its keys follow from the seed.
    pub(crate) fn new(index: NodeIndex, seed: u64, setup: NodeSetup) -> Self {
        let mut key_seed = [0; 32];
        SeededEntropy::new(seed ^ 0x1de7_7177).fill(&mut key_seed);
        let identity = Identity::from_seed(&key_seed);
        let host = [10, 0, (index >> 8) as u8, index as u8];
        Self {
            index,
            address: SocketAddr::from((host, 7530)),
            key: identity.public_key(),
            ahead: Duration::ZERO,
            start: None,
            identity,
            setup,
            starts: 0,
            seed,
        }
    }

    /// Starts the process: a new incarnation with the same identity.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        let number = self.starts;
        self.starts += 1;
        let mut entropy =
            SeededEntropy::new(self.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9));
        let mut config = Config {
            incarnation: [0; 16],
            name: format!("node-{}", self.index),
            role: String::new(),
            mode: NodeMode::PLAIN,
            kind: 0,
            channels: Vec::new(),
            shard: 0,
            shards: 1,
            placement_salt: [0; 32],
            limits: self.setup.limits.clone(),
        };
        entropy.fill(&mut config.incarnation);
        entropy.fill(&mut config.placement_salt);
        let endpoint = Endpoint::new(config, &self.identity, Box::new(entropy))
            .map_err(|error| format!("node {} does not start: {error}", self.index))?;
        self.start = Some(Start {
            number,
            endpoint,
            recorder: Recorder::new(self.setup.policy.clone(), self.setup.flows.clone()),
            timer: None,
            waiting: BTreeMap::new(),
            peers: BTreeMap::new(),
            addresses: Addresses::default(),
            acknowledged_taken: 0,
            best_effort_taken: 0,
            flows: BTreeMap::new(),
        });
        Ok(())
    }
}

impl Start {
    /// Tells the endpoint about another node.
    pub(crate) fn meet(
        &mut self,
        node: NodeIndex,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, String> {
        let peer = self.endpoint.add_peer(key, address).map_err(|error| format!("{error:?}"))?;
        self.peers.insert(peer, node);
        Ok(peer)
    }

    /// The endpoint's name for another node that it was told about.
    pub(crate) fn peer(&self, node: NodeIndex) -> Option<PeerId> {
        self.peers.iter().find(|(_, index)| **index == node).map(|(peer, _)| *peer)
    }

    /// The flow, opened at first use.
    pub(crate) fn flow(&mut self, to: NodeIndex, name: &'static str) -> Result<FlowId, String> {
        if let Some(flow) = self.flows.get(&(to, name)) {
            return Ok(*flow);
        }
        let peer = self.peer(to).ok_or_else(|| format!("node {to} was never introduced"))?;
        let flow = self.endpoint.open_flow(peer, name).map_err(|error| format!("{error:?}"))?;
        self.flows.insert((to, name), flow);
        Ok(flow)
    }
}
