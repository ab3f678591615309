//! Everything at one virtual time: nodes, links, the agenda, and the rules that are checked all along.
//!
//! Owns time. Nothing happens but by an event on the agenda, and each event is followed by the same
//! steps: outputs until there are none, then the application's work, then the checks. What a
//! seed and a script decide is therefore decided for good, and the [`Trace`] shows it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::Token;
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;

use crate::agenda::Agenda;
use crate::ledger::{Ledger, NodeIndex};
use crate::link::{Link, LinkConfig};
use crate::node::{Node, NodeSetup, Shard, Start};
use crate::recorder::Held;
use crate::script::{Action, Fault, Seen};
use crate::trace::Trace;

/// The world does not begin at the clock's origin: code that took zero for "never" would hide there.
const BEGUN: Instant = Instant::from_nanos(10_000_000_000);
/// More events than any scenario has: reaching it means that something runs in circles.
const EVENTS_MAX: u64 = 20_000_000;
/// Timeouts of one node at one time: reaching it means that a timeout does not move its deadline.
const TIMEOUTS_AT_ONCE_MAX: u32 = 1_000;

enum Happening {
    /// `is_steered`: the shard that it fell on handed it over to the one that it names.
    Datagram {
        from: SocketAddr,
        to: NodeIndex,
        datagram: Vec<u8>,
        is_steered: bool,
    },
    Timeout {
        node: NodeIndex,
        start: u32,
    },
    Release {
        place: (NodeIndex, usize),
        start: u32,
        held: Held,
    },
    Act(Action),
}

mod act;
mod look;
mod moves;
mod settle;
mod submit;
mod sums;
mod tamper;

pub use tamper::{Deed, Rule};

/// Nodes and links at one virtual time.
pub struct World {
    /// Every message, and how it ended.
    pub ledger: Ledger,
    /// What happened, as one hash.
    pub trace: Trace,
    /// Events of endpoints about peers: when, at which node, about which.
    pub seen: Vec<(Duration, NodeIndex, NodeIndex, Seen)>,
    /// How long each message that was told of took, from the script's word to the outcome.
    pub latencies: Vec<(Token, Duration)>,
    submitted: Vec<Duration>,
    seed: u64,
    now: Instant,
    agenda: Agenda<Happening>,
    nodes: Vec<Node>,
    links: BTreeMap<(NodeIndex, NodeIndex), Link>,
    chance: SeededEntropy,
    events: u64,
    timeouts_at_once: u32,
    run: Vec<u8>,
    /// Every lane datagram sealed: its sender, which start of it, and the header less its flags, which is key and number; its hash.
    sealed: HashMap<(NodeIndex, u32, [u8; LANE_HEADER_BYTES]), [u8; 32]>,
    rules: Vec<Rule>,
    /// Datagrams to addresses of no node.
    strays: Vec<(SocketAddr, Vec<u8>)>,
    /// All datagrams sent, with their sender, once that is asked for.
    captured: Option<Vec<(NodeIndex, Vec<u8>)>>,
    /// The sums of starts that were killed.
    killed: sums::Totals,
    /// Datagrams fall on any shard.
    is_unsteered: bool,
}

/// Bytes of a lane datagram that name its key and number; its flags stand at [`LANE_FLAGS`].
const LANE_HEADER_BYTES: usize = 16;
const LANE_FLAGS: usize = 7;

impl World {
    /// A world in which nothing exists yet.
    pub fn new(seed: u64) -> Self {
        Self {
            ledger: Ledger::default(),
            trace: Trace::new(),
            seen: Vec::new(),
            latencies: Vec::new(),
            submitted: Vec::new(),
            seed,
            now: BEGUN,
            agenda: Agenda::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            chance: SeededEntropy::new(seed ^ 0x11_4b5),
            events: 0,
            timeouts_at_once: 0,
            run: Vec::new(),
            sealed: HashMap::new(),
            rules: Vec::new(),
            strays: Vec::new(),
            captured: None,
            killed: sums::Totals::default(),
            is_unsteered: false,
        }
    }

    /// Adds a running node.
    ///
    /// # Errors
    ///
    /// Its endpoint refuses the setup.
    pub fn add_node(&mut self, setup: NodeSetup) -> Result<NodeIndex, Fault> {
        let index = self.nodes.len();
        let seed = self.seed ^ (index as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d);
        let mut node = Node::new(index, seed, setup);
        node.start().map_err(|what| self.fault(what))?;
        self.nodes.push(node);
        Ok(index)
    }

    /// Lays a path with the same faults both ways and tells both nodes about each other.
    ///
    /// # Errors
    ///
    /// An endpoint refuses the peer.
    pub fn join(&mut self, a: NodeIndex, b: NodeIndex, config: &LinkConfig) -> Result<(), Fault> {
        for (from, to) in [(a, b), (b, a)] {
            self.links.insert((from, to), Link::new(config.clone()));
            self.introduce(from, to)?;
        }
        Ok(())
    }

    /// Puts an action on the agenda, `after` the world's beginning.
    pub fn at(&mut self, after: Duration, action: Action) {
        self.agenda.put(BEGUN + after, Happening::Act(action));
    }

    /// Makes a datagram that no endpoint sent arrive, as from a node's address.
    pub fn inject(
        &mut self,
        after: Duration,
        (from, to): (NodeIndex, NodeIndex),
        datagram: Vec<u8>,
    ) {
        let from = self.nodes[from].address;
        let arrival = Happening::Datagram { from, to, datagram, is_steered: false };
        self.agenda.put(BEGUN + after, arrival);
    }

    /// Lets time pass until `after` the world's beginning. A time that is over changes nothing: time does not go back.
    ///
    /// # Errors
    ///
    /// The first breach.
    pub fn run_until(&mut self, after: Duration) -> Result<(), Fault> {
        let until = BEGUN + after;
        while self.step(until)? {}
        self.now = self.now.max(until);
        Ok(())
    }

    /// Lets time pass until every message ended and nothing more is planned, at most until `after`.
    ///
    /// # Errors
    ///
    /// The first breach, or messages that have not ended by then.
    pub fn run_until_settled(&mut self, planned: Duration, after: Duration) -> Result<(), Fault> {
        self.run_until(planned)?;
        let mut until = planned;
        while self.open() > 0 {
            if until >= after {
                let what = format!("messages have not ended. {}", self.describe());
                return Err(self.fault(what));
            }
            until += Duration::from_millis(50);
            self.run_until(until)?;
        }
        Ok(())
    }

    /// Checks what must hold at the end, when all messages have ended.
    ///
    /// # Errors
    ///
    /// Arrivals contradict outcomes, or a running endpoint still counts messages as pending.
    pub fn verify(&mut self) -> Result<(), Fault> {
        self.ledger.verify().map_err(|what| self.fault(what))?;
        for index in 0..self.nodes.len() {
            if let Some(tally) = self.tally(index)
                && tally.pending > 0
            {
                return Err(self.fault(format!("node {index} ends with {tally:?}")));
            }
        }
        self.check_totals()
    }

    /// What a node's own clock says.
    pub(super) fn local(&self, node: NodeIndex) -> Instant {
        self.now + self.nodes[node].ahead
    }

    pub(super) fn starts(&self) -> Vec<Option<u32>> {
        self.nodes.iter().map(|node| node.start.as_ref().map(|start| start.number)).collect()
    }

    fn fault(&self, what: String) -> Fault {
        Fault { at: self.age(), what }
    }

    fn introduce(&mut self, from: NodeIndex, to: NodeIndex) -> Result<(), Fault> {
        let (key, address) = (self.nodes[to].key, self.nodes[to].address);
        let mut shards = self.nodes[from].start.iter_mut().flat_map(|start| &mut start.shards);
        let result = shards.try_for_each(|shard| shard.meet(to, key, Some(address)).map(|_| ()));
        result.map_err(|what| self.fault(what))
    }

    /// One event; false when none is left until then.
    fn step(&mut self, until: Instant) -> Result<bool, Fault> {
        let Some((at, happening)) = self.agenda.take(until) else {
            return Ok(false);
        };
        if at > self.now {
            self.timeouts_at_once = 0;
        }
        self.now = at;
        self.events += 1;
        if self.events > EVENTS_MAX {
            return Err(self.fault(format!("{EVENTS_MAX} events: something runs in circles")));
        }
        match happening {
            Happening::Datagram { from, to, datagram, is_steered } => {
                self.on_arrival(from, to, datagram, is_steered)?;
            }
            Happening::Timeout { node, start } => self.on_timeout(node, start)?,
            Happening::Release { place, start, held } => self.on_release(place, start, held)?,
            Happening::Act(action) => self.act(action)?,
        }
        Ok(true)
    }

    fn on_arrival(
        &mut self,
        from: SocketAddr,
        to: NodeIndex,
        mut datagram: Vec<u8>,
        is_steered: bool,
    ) -> Result<(), Fault> {
        let now = self.local(to);
        let Some(start) = &mut self.nodes[to].start else {
            return Ok(());
        };
        let shard = start.steer(&datagram);
        let shards = start.shards.len() as u64;
        if self.is_unsteered && !is_steered && self.chance.below(shards) as usize != shard {
            // The shard that it fell on hands it over, a turn later.
            let at = self.now + Duration::from_micros(self.chance.below(200));
            self.agenda.put(at, Happening::Datagram { from, to, datagram, is_steered: true });
            return Ok(());
        }
        start.addresses.received(from, datagram.len());
        let Shard { endpoint, recorder, .. } = &mut start.shards[shard];
        let before = endpoint.counters().associations_established;
        endpoint.handle_datagram(now, from, &mut datagram, recorder);
        if endpoint.counters().associations_established > before {
            start.addresses.proven(from);
        }
        self.settle(to)
    }

    /// From here on datagrams fall on any shard of a node, as without a filter, and are handed over.
    pub fn steer_no_more(&mut self) {
        self.is_unsteered = true;
    }

    fn on_timeout(&mut self, node: NodeIndex, number: u32) -> Result<(), Fault> {
        let Some(start) = self.nodes[node].start.as_mut().filter(|start| start.number == number)
        else {
            return Ok(());
        };
        if start.timer.is_none_or(|timer| timer > self.now) {
            return Ok(());
        }
        start.timer = None;
        let now = self.now + self.nodes[node].ahead;
        for Shard { endpoint, recorder, .. } in &mut self.running(node).shards {
            if endpoint.poll_timeout().is_some_and(|at| at <= now) {
                endpoint.handle_timeout(now, recorder);
            }
        }
        self.timeouts_at_once += 1;
        if self.timeouts_at_once > TIMEOUTS_AT_ONCE_MAX {
            let what = format!("node {node}: handle_timeout does not move poll_timeout past now");
            return Err(self.fault(what));
        }
        self.settle(node)
    }

    fn on_release(
        &mut self,
        (node, shard): (NodeIndex, usize),
        number: u32,
        held: Held,
    ) -> Result<(), Fault> {
        let Some(start) = self.nodes[node].start.as_mut().filter(|start| start.number == number)
        else {
            return Ok(());
        };
        let endpoint = &mut start.shards[shard].endpoint;
        endpoint.release(held.peer, held.session, held.alias, held.charge);
        self.settle(node)
    }

    fn running(&mut self, node: NodeIndex) -> &mut Start {
        self.nodes[node].start.as_mut().expect("the caller found it running")
    }

    fn shard(&mut self, node: NodeIndex, shard: usize) -> &mut Shard {
        &mut self.running(node).shards[shard]
    }

    fn shards(&mut self, node: NodeIndex) -> usize {
        self.running(node).shards.len()
    }
}
