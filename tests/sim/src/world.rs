//! Everything at one virtual time: nodes, links, the agenda, and the rules that are checked all along.
//!
//! Owns time. Nothing happens but by an event on the agenda, and each event is followed by the same
//! steps: outputs until there are none, then the application's work, then the checks. What a
//! seed and a script decide is therefore decided for good, and the [`Trace`] shows it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, SendError, SendOptions, Service, Token};

use crate::agenda::Agenda;
use crate::ledger::{Entry, Kind, Ledger, NodeIndex};
use crate::link::{Link, LinkConfig};
use crate::node::{GARDEN, Node, NodeSetup, Shard, Start, Waiting};
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
    Arrival {
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

mod look;
mod moves;
mod settle;
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
        let arrival = Happening::Arrival { from, to, datagram, is_steered: false };
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
            Happening::Arrival { from, to, datagram, is_steered } => {
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
            self.agenda.put(at, Happening::Arrival { from, to, datagram, is_steered: true });
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

    fn act(&mut self, action: Action) -> Result<(), Fault> {
        match action {
            Action::Send { from, to, flow, bytes, service } => {
                let kind = Kind::seen(service, false);
                self.submit(Entry::new(from, to, flow, kind, bytes), None)?;
                self.settle(from)
            }
            Action::SendToAll { from, to, flow, bytes, service } => {
                let kind = Kind::seen(service, false);
                for to in to {
                    self.submit(Entry::new(from, to, flow, kind, bytes), None)?;
                }
                self.settle(from)
            }
            Action::Offer { from, to, flow, bytes, asked } => {
                let entry = Entry::new(from, to, flow, Kind::Acknowledged, bytes);
                self.submit(Entry { asked: Some(asked), ..entry }, None)?;
                self.settle(from)
            }
            Action::Request { from, to, flow, bytes, deadline } => {
                let deadline = self.local(from) + deadline;
                self.submit(Entry::new(from, to, flow, Kind::Request, bytes), Some(deadline))?;
                self.settle(from)
            }
            Action::Connect { from, to } => self.connect(from, to),
            Action::Watch { from, to } => self.watch(from, to),
            Action::Kill(node) => {
                self.kill(node);
                Ok(())
            }
            Action::Jump { node, by } => {
                self.nodes[node].ahead += by;
                self.settle(node)
            }
            Action::Decide { at, about, garden, accept } => {
                let key = self.nodes[about].key;
                let channel = if garden { GARDEN } else { ChannelId::DEFAULT };
                if let Some(start) = &mut self.nodes[at].start {
                    start.decide(channel, key, accept);
                }
                self.settle(at)
            }
            Action::Restart(node) => self.restart(node),
            Action::Close(node) => {
                if let Some(start) = &mut self.nodes[node].start {
                    start.shards.iter_mut().for_each(|shard| shard.endpoint.close());
                }
                self.settle(node)
            }
            Action::Move { node, address } => {
                self.nodes[node].address = address;
                Ok(())
            }
            Action::SetLink { from, to, config } => {
                self.links
                    .entry((from, to))
                    .or_insert_with(|| Link::new(config.clone()))
                    .set(config);
                Ok(())
            }
        }
    }

    fn connect(&mut self, from: NodeIndex, to: NodeIndex) -> Result<(), Fault> {
        let now = self.local(from);
        let Some(start) = &mut self.nodes[from].start else {
            return Ok(());
        };
        let peer = start.shards[0].peer(to).ok_or(SendError::UnknownPeer);
        let result = peer.and_then(|peer| start.shards[0].endpoint.connect(now, peer));
        result.map_err(|error| self.fault(format!("node {from} cannot dial {to}: {error:?}")))?;
        self.settle(from)
    }

    fn watch(&mut self, from: NodeIndex, to: NodeIndex) -> Result<(), Fault> {
        let now = self.local(from);
        let Some(start) = &mut self.nodes[from].start else {
            return Ok(());
        };
        let peer = start.shards[0].peer(to).ok_or(SendError::UnknownPeer);
        let result = peer.and_then(|peer| start.shards[0].endpoint.watch(now, peer));
        result.map_err(|error| self.fault(format!("node {from} cannot watch {to}: {error:?}")))?;
        self.settle(from)
    }

    fn restart(&mut self, node: NodeIndex) -> Result<(), Fault> {
        self.kill(node);
        self.nodes[node].start().map_err(|what| self.fault(what))?;
        for other in 0..self.nodes.len() {
            if self.links.contains_key(&(node, other)) {
                self.introduce(node, other)?;
            }
        }
        self.settle(node)
    }

    /// Writes an entry down and hands it over, or queues it behind those that wait for room.
    fn submit(&mut self, entry: Entry, deadline: Option<Instant>) -> Result<(), Fault> {
        let (from, to, kind) = (entry.from, entry.to, entry.kind);
        let (token, _) = self.ledger.write(entry);
        self.submitted.push(self.age());
        let Some(start) = &mut self.nodes[from].start else {
            self.ledger.rejected(token, SendError::Closing);
            return Ok(());
        };
        let shard = start.sender_of(token, self.ledger.entry(token));
        let queue = start.shards[shard].waiting.entry(to).or_default();
        if kind != Kind::BestEffort && !queue.is_empty() {
            queue.push_back((token, deadline));
            return Ok(());
        }
        if self.hand_over(token, deadline)? == Err(SendError::Full) {
            if kind == Kind::BestEffort {
                self.ledger.rejected(token, SendError::Full);
            } else {
                self.wait_for_room((from, shard), to, (token, deadline));
            }
        }
        Ok(())
    }

    fn wait_for_room(
        &mut self,
        (from, shard): (NodeIndex, usize),
        to: NodeIndex,
        waiting: Waiting,
    ) {
        self.shard(from, shard).waiting.entry(to).or_default().push_front(waiting);
    }

    /// Hands one entry to its endpoint and writes down what it said.
    fn hand_over(
        &mut self,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Result<(), SendError>, Fault> {
        loop {
            match self.offer(token, deadline)? {
                Err(SendError::Moved(flow)) => {
                    let entry = self.ledger.entry(token).clone();
                    let shard = self.running(entry.from).sender_of(token, &entry);
                    self.shard(entry.from, shard).follow(entry.to, entry.flow, flow);
                }
                result => return Ok(result),
            }
        }
    }

    /// Offers one entry to the endpoint of the shard that sends it.
    fn offer(
        &mut self,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<Result<(), SendError>, Fault> {
        let entry = self.ledger.entry(token).clone();
        let body = crate::ledger::body(token.0, entry.bytes);
        let (age, now) = (self.age(), self.local(entry.from));
        let start = self.running(entry.from);
        let (number, shard) = (start.number, start.sender_of(token, &entry));
        let start = &mut start.shards[shard];
        let flow = start.flow(entry.to, entry.flow);
        let flow = flow.map_err(|what| Fault { at: age, what })?;
        let endpoint = &mut start.endpoint;
        let acknowledged = Service::Acknowledged;
        let result = match (entry.kind, deadline) {
            (Kind::Request, deadline) => {
                endpoint.request(now, flow, body.into(), token, deadline.unwrap_or(now))
            }
            (Kind::BestEffort, _) => endpoint.send(now, flow, &body, Service::BestEffort, None),
            (Kind::Acknowledged, _) if entry.asked.is_some() => {
                let options = entry.asked.map(|asked| SendOptions {
                    deadline: asked.deadline.map(|after| now + after),
                    ..asked.options
                });
                let options = options.unwrap_or_default();
                endpoint.send_owned_with(now, flow, body.into(), &options, Some(token))
            }
            // Both ways in are used, by turns.
            (Kind::Acknowledged, _) if token.0.is_multiple_of(2) => {
                endpoint.send_owned(now, flow, body.into(), acknowledged, Some(token))
            }
            (Kind::Acknowledged, _) => endpoint.send(now, flow, &body, acknowledged, Some(token)),
        };
        match result {
            Ok(()) => {
                match entry.kind {
                    Kind::BestEffort => start.best_effort_taken += 1,
                    Kind::Acknowledged | Kind::Request => start.acknowledged_taken += 1,
                }
                self.ledger.taken(token, number);
            }
            Err(SendError::Full | SendError::Moved(_)) => {}
            Err(error) => self.ledger.rejected(token, error),
        }
        Ok(result)
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
