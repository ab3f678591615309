//! One simulated node: an endpoint, its application, and the starts of its process.
//!
//! Owns identity and address, which outlive a crash, and the endpoint with all that refers to it,
//! which do not: everything of one start is dropped with it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_router::keep::{Keep, Trust};
use cubed_router::policy::Policy;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    ChannelConfig, ChannelId, Config, Endpoint, FlowId, Limits, NodeMode, PeerId, Token,
};

use crate::addresses::Addresses;
use crate::ledger::NodeIndex;
use crate::recorder::{FlowSetup, Recorder};

/// The channel "garden" of nodes with keeps; flows whose names begin with this are there, all others are not.
pub(crate) const GARDEN: ChannelId = ChannelId(1);
pub(crate) const GARDEN_PREFIX: &str = "garden.";

/// How a node is set up at each start.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    /// Limits of its endpoint.
    pub limits: Limits,
    /// Who may do what.
    pub policy: Policy,
    /// Its flows.
    pub flows: Vec<FlowSetup>,
    /// How its keeps deal with new keys, on the default channel and on "garden", if it has that and them.
    pub keeps: Option<[Trust; 2]>,
}

impl NodeSetup {
    /// The application at a start, with what the disk has of its keeps.
    fn recorder(&self, kept: &[Keep]) -> Recorder {
        let mut recorder = Recorder::new(self.policy.clone(), self.flows.clone());
        recorder.keeps = kept.to_vec();
        recorder
    }
}

impl Default for NodeSetup {
    /// Everybody may do everything, and there are no flows.
    fn default() -> Self {
        let (limits, policy) = (Limits::default(), Policy::open());
        Self { limits, policy, flows: Vec::new(), keeps: None }
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
    /// What its disk has of its keeps.
    kept: Vec<Keep>,
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
            kept: setup.keeps.iter().flatten().map(|trust| Keep::new(*trust, false)).collect(),
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
            channels: self.kept.iter().skip(1).map(|_| garden()).collect(),
            shard: 0,
            shards: 1,
            placement_salt: [0; 32],
            placement: cubed_router::placement::owner_shard,
            limits: self.setup.limits.clone(),
        };
        entropy.fill(&mut config.incarnation);
        entropy.fill(&mut config.placement_salt);
        let endpoint = Endpoint::new(config, &self.identity, Box::new(entropy))
            .map_err(|error| format!("node {} does not start: {error}", self.index))?;
        self.start = Some(Start {
            number,
            endpoint,
            recorder: self.setup.recorder(&self.kept),
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

    /// Ends the process; what it stored stays.
    pub(crate) fn kill(&mut self) -> Option<Start> {
        let start = self.start.take()?;
        self.kept.clone_from(&start.recorder.keeps);
        Some(start)
    }
}

/// The second channel of nodes with keeps.
fn garden() -> ChannelConfig {
    ChannelConfig { name: "garden".to_owned(), identity: None }
}

impl Start {
    /// The operator says whether a key is accepted on a channel.
    pub(crate) fn decide(&mut self, channel: ChannelId, key: PublicKey, accept: bool) {
        let Some(keep) = self.recorder.keeps.get_mut(usize::from(channel.0)) else { return };
        let changes = &mut Vec::new();
        if accept {
            let _ = keep.accept(&key, changes);
        } else {
            let _ = keep.reject(&key, changes);
            if let Some(peer) = self.endpoint.find_peer_on(channel, &key) {
                self.endpoint.reject(peer);
            }
        }
    }

    /// Tells the endpoint about another node.
    pub(crate) fn meet(
        &mut self,
        node: NodeIndex,
        key: PublicKey,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, String> {
        let peer = self.endpoint.add_peer(key, address).map_err(|error| format!("{error:?}"))?;
        self.peers.insert(peer, node);
        if self.recorder.keeps.len() > 1 {
            let there = self.endpoint.add_peer_on(GARDEN, key, address);
            self.peers.insert(there.map_err(|error| format!("{error:?}"))?, node);
        }
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
        let mut peer = self.peer(to).ok_or_else(|| format!("node {to} was never introduced"))?;
        if name.starts_with(GARDEN_PREFIX) {
            let key = self.endpoint.peer_key(peer).ok_or("a peer without a key")?;
            peer = self.endpoint.find_peer_on(GARDEN, &key).ok_or("nobody in the garden")?;
        }
        let flow = self.endpoint.open_flow(peer, name).map_err(|error| format!("{error:?}"))?;
        self.flows.insert((to, name), flow);
        Ok(flow)
    }
}
