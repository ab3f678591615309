//! One simulated node: the shards of it, and the starts of its process.
//!
//! Owns identity and address, which outlive a crash, and the shards, each an endpoint with its application and all that
//! refers to it, which do not: everything of one start is dropped with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use cubed_router::keep::{Keep, Trust};
use cubed_router::policy::Policy;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    ChannelConfig, ChannelId, Config, Counters, Endpoint, FlowId, Limits, PeerId, Tally, Token,
};

use crate::addresses::Addresses;
use crate::ledger::{Entry, NodeIndex};
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
    /// How many shards it has, at each start in turn; the last at all later ones.
    pub shards: Vec<u8>,
}

impl NodeSetup {
    /// The application of one shard, which shares its node's keeps.
    fn recorder(&self, keeps: &Rc<RefCell<Vec<Keep>>>) -> Recorder {
        let mut recorder = Recorder::new(self.policy.clone(), self.flows.clone());
        recorder.keeps = Rc::clone(keeps);
        recorder
    }
}

impl Default for NodeSetup {
    /// Everybody may do everything, and there are no flows.
    fn default() -> Self {
        let (limits, policy) = (Limits::default(), Policy::open());
        Self { limits, policy, flows: Vec::new(), keeps: None, shards: vec![1] }
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
    pub(crate) shards: Vec<Shard>,
    /// Who owns which flow here.
    pub(crate) salt: [u8; 32],
    /// The deadline that is on the agenda, by the world's clock.
    pub(crate) timer: Option<Instant>,
    /// What went to and came from each address, and whose of them is proven.
    pub(crate) addresses: Addresses,
    /// The node's keeps, one for all shards.
    keeps: Rc<RefCell<Vec<Keep>>>,
}

/// One shard of a start.
pub(crate) struct Shard {
    pub(crate) endpoint: Endpoint,
    pub(crate) recorder: Recorder,
    /// Entries that the endpoint had no room for, by receiver, in order.
    pub(crate) waiting: BTreeMap<NodeIndex, VecDeque<Waiting>>,
    /// The contacts of other nodes.
    pub(crate) peers: BTreeMap<PeerId, NodeIndex>,
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
        let seed = self.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9);
        let mut entropy = SeededEntropy::new(seed);
        let last = self.setup.shards.last().copied().unwrap_or(1);
        let shards = self.setup.shards.get(number as usize).copied().unwrap_or(last);
        let mut config = Config {
            name: format!("node-{}", self.index),
            channels: self.kept.iter().skip(1).map(|_| garden()).collect(),
            shards,
            placement: cubed_router::placement::owner_shard,
            limits: self.setup.limits.clone(),
            ..Config::new([0; 16], [0; 32])
        };
        entropy.fill(&mut config.incarnation);
        entropy.fill(&mut config.placement_salt);
        let salt = config.placement_salt;
        let keeps = Rc::new(RefCell::new(self.kept.clone()));
        let mut start = Start {
            number,
            shards: Vec::new(),
            salt,
            timer: None,
            addresses: Addresses::default(),
            keeps: Rc::clone(&keeps),
        };
        for shard in 0..shards {
            let config = Config { shard, ..config.clone() };
            let endpoint = Endpoint::new(config, &self.identity, Box::new(entropy))
                .map_err(|error| format!("node {} does not start: {error}", self.index))?;
            let recorder = self.setup.recorder(&keeps);
            start.shards.push(Shard::new(endpoint, recorder));
            entropy = SeededEntropy::new(seed ^ (u64::from(shard) + 1) << 32);
        }
        self.start = Some(start);
        Ok(())
    }

    /// Ends the process; what it stored stays.
    pub(crate) fn kill(&mut self) -> Option<Start> {
        let start = self.start.take()?;
        self.kept.clone_from(&start.keeps.borrow());
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
        let mut keeps = self.keeps.borrow_mut();
        let Some(keep) = keeps.get_mut(usize::from(channel.0)) else { return };
        let changes = &mut Vec::new();
        if accept {
            let _ = keep.accept(&key, changes);
            return;
        }
        let _ = keep.reject(&key, changes);
        for Shard { endpoint, .. } in &mut self.shards {
            if let Some(peer) = endpoint.find_peer_on(channel, &key) {
                endpoint.reject(peer);
            }
        }
    }

    /// How the messages of all shards stand.
    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for Shard { endpoint, .. } in &self.shards {
            let Tally {
                offered,
                delivered,
                refused,
                expired,
                peer_lost,
                peer_lost_unsent,
                unknown,
                pending,
            } = endpoint.tally();
            sum.offered += offered;
            sum.delivered += delivered;
            sum.refused += refused;
            sum.expired += expired;
            sum.peer_lost += peer_lost;
            sum.peer_lost_unsent += peer_lost_unsent;
            sum.unknown += unknown;
            sum.pending += pending;
        }
        sum
    }

    /// The counters of all shards.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.endpoint.counters()));
        sum
    }

    /// Which shard gets a datagram with this steering byte, as the node's filter does it.
    pub(crate) fn steer(&self, datagram: &[u8]) -> usize {
        usize::from(datagram.get(1).copied().unwrap_or_default()) % self.shards.len()
    }

    /// Which shard sends an entry: by turns, but all of one flow of which more than delivery is asked.
    pub(crate) fn sender_of(&self, token: Token, entry: &Entry) -> usize {
        let by_flow = entry.flow.bytes().map(u64::from).sum::<u64>() + entry.to as u64;
        let turn = if entry.asked.is_some() { by_flow } else { token.0 };
        (turn % self.shards.len() as u64) as usize
    }
}

impl Shard {
    fn new(endpoint: Endpoint, recorder: Recorder) -> Self {
        Self {
            endpoint,
            recorder,
            waiting: BTreeMap::new(),
            peers: BTreeMap::new(),
            acknowledged_taken: 0,
            best_effort_taken: 0,
            flows: BTreeMap::new(),
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
        if self.recorder.keeps.borrow().len() > 1 {
            let there = self.endpoint.add_peer_on(GARDEN, key, address);
            self.peers.insert(there.map_err(|error| format!("{error:?}"))?, node);
        }
        Ok(peer)
    }

    /// Has the endpoint forget another node, and keeps no name of it.
    pub(crate) fn forget(&mut self, now: Instant, node: NodeIndex) {
        let Self { endpoint, peers, flows, .. } = self;
        peers.retain(|peer, index| {
            let is_kept = *index != node;
            assert!(is_kept || endpoint.forget_peer(now, *peer), "it was introduced");
            is_kept
        });
        flows.retain(|(to, _), _| *to != node);
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

    /// A flow has moved to another lane.
    pub(crate) fn follow(&mut self, to: NodeIndex, name: &'static str, flow: FlowId) {
        self.flows.insert((to, name), flow);
    }
}
