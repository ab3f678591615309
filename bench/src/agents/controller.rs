//! The controller: estimates the agents' clocks, tells them what to send and when, and adds up what they counted.
//!
//! Nothing is averaged: counts are summed and histograms added.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cubed::{Node, Remote, RequestError, Shard, SpinPolicy, block_on, runtime::clock::Clock};
use serde_json::{Value, json};

use super::{
    AGENT_FLOW, AgentAddress, AgentAnswer, AgentCounts, AgentOrder, Stream,
    ends::{before_due, check, ends, late},
    live::{Live, Pulse},
    peer_error,
    plan::Plan,
};
use crate::{
    error::{BenchError, Result},
    interrupt,
    monitor::Interval,
    node::server::{load_identity, new_identity, unreached},
    progress::Progress,
    stats::{LatencySummary, latency_histogram},
    subject::{LatencySlice, ThroughputSlice},
};

/// How long an agent may take for any answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Round trips by which a clock is estimated; the shortest counts.
const CLOCK_ROUNDS: usize = 50;

/// Time from when the last agent has its order until all begin, so that each is connected by then.
const START_AFTER: Duration = Duration::from_secs(1);

/// How long one may take for the order to stop, when something went wrong already.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// How often agents are asked whether they have ended: each second while they send, so that none takes us for gone, and as often
/// as this after their time.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// How much longer than planned a run may take until all is settled.
const OVERTIME_MAX: Duration = Duration::from_mins(1);

/// An agent, with its clock as estimated.
#[derive(Debug)]
struct Controlled {
    at: AgentAddress,
    orders: Remote,
    /// Its clock less ours, in ns.
    offset_nanos: i64,
    /// How wrong the offset may be: half of the shortest round trip, or what it changed by until the end if that is more.
    error_nanos: u64,
}

/// A node that controls agents.
#[derive(Debug)]
pub struct Controller {
    node: Node,
    agents: Vec<Controlled>,
    /// The user ends it: the agents are told before.
    is_ended: Arc<AtomicBool>,
}

/// What a run gave.
#[derive(Debug)]
pub struct RunResult {
    /// All streams together.
    pub throughput: ThroughputSlice,
    /// Times of all stamped messages, from when they were due to their handler on the other agent.
    pub latency: LatencySlice,
    /// One object for each stream.
    pub streams: Value,
    /// One object for each agent.
    pub agents: Value,
    /// How it went, about a second each.
    pub intervals: Vec<Interval>,
    /// Streams that did not keep their rate, clocks that cannot be right, and what there is to doubt of the agents' machines.
    pub warnings: Vec<String>,
}

impl Controller {
    /// Starts a node with the key in `identity`, or a new one, and meets every agent.
    ///
    /// # Errors
    ///
    /// Those of the key file and of the node; `Peer` for an agent that is not reached or does not admit us.
    pub fn start(identity: Option<&Path>, agents: &[AgentAddress]) -> Result<Self> {
        let Some(first) = agents.first() else {
            return Err(BenchError::Argument("--agents: name at least one".into()));
        };
        let any = match first.address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let mut builder = Node::builder()
            .identity(identity.map_or_else(new_identity, load_identity)?)
            .listen(any)
            .spin(SpinPolicy::Adaptive);
        for agent in agents {
            builder = builder.peer(agent.key, agent.address);
        }
        let node = builder.start(async |_: Shard| ());
        let node = node.map_err(|error| BenchError::Machine(error.to_string()))?;
        let controlled = agents.iter().map(|at| {
            let orders = node.resolve(at.key, AGENT_FLOW).map_err(peer_error)?;
            block_on(orders.connect()).map_err(|error| unreached(&error, &node.public_key()))?;
            Ok(Controlled { at: *at, orders, offset_nanos: 0, error_nanos: 0 })
        });
        let agents = controlled.collect::<Result<_>>()?;
        let is_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_ended);
        interrupt::end_by(move || ended.store(true, Ordering::Relaxed));
        Ok(Self { node, agents, is_ended })
    }

    /// Runs `plan`: warm-up, then the measurement; `say` gets a line when each began.
    ///
    /// # Errors
    ///
    /// `Argument` for a plan that the agents do not fit; `Corrupt` when the ends of a stream do not agree; else those of the agents.
    pub fn run(&mut self, plan: &Plan, say: impl Fn(&str)) -> Result<RunResult> {
        let result = self.run_plan(plan, say);
        if result.is_err() {
            for agent in &self.agents {
                // An agent that is not reached stops by itself.
                let _ = agent.ask_within(&AgentOrder::Stop, STOP_TIME_MAX);
            }
        }
        result
    }

    fn run_plan(&mut self, plan: &Plan, say: impl Fn(&str)) -> Result<RunResult> {
        for agent in &mut self.agents {
            (agent.offset_nanos, agent.error_nanos) = agent.read_clock()?;
        }
        let mut streams = plan.streams(self.agents.len())?;
        for stream in &mut streams {
            let offset = |place: usize| self.agents[place].offset_nanos;
            stream.offset_nanos = offset(stream.to) - offset(stream.from);
        }
        self.prepare(&streams)?;
        if plan.warm_up_seconds > 0.0 {
            let planned = self.begin_all(plan.warm_up_seconds)?;
            say(&format!("warming up {} s", plan.warm_up_seconds));
            self.wait_until_ended(planned, None)?;
            self.tell_all(|_| AgentOrder::Reset)?;
        }
        let planned = self.begin_all(plan.seconds)?;
        say(&format!("measuring {} s", plan.seconds));
        let length = Duration::from_secs_f64(plan.seconds);
        let mut live = Live::new(Progress::of("run", length), planned.saturating_sub(length));
        let ended = self.wait_until_ended(planned, Some(&mut live));
        let intervals = live.finish();
        ended?;
        for agent in &mut self.agents {
            agent.check_clock()?;
        }
        // Counts are taken when all have ended, or a receiver's could lack what a sender still sends.
        let counts = self.agents.iter().map(Controlled::collect).collect::<Result<Vec<_>>>()?;
        let mut result = self.add_up(&streams, &counts)?;
        result.intervals = intervals;
        result.warnings = late(&streams, &counts, plan.seconds);
        result.warnings.extend(before_due(&counts));
        for (agent, counts) in self.agents.iter().zip(&counts) {
            let named = |doubt: &String| format!("agent {}: {doubt}", agent.at.address);
            result.warnings.extend(counts.doubts.iter().map(named));
        }
        Ok(result)
    }

    /// Each agent is told of all agents and of the streams that are its own.
    fn prepare(&self, streams: &[Stream]) -> Result<()> {
        let named = |agent: &Controlled| (agent.at.key.to_string(), agent.at.address);
        let agents: Vec<_> = self.agents.iter().map(named).collect();
        self.tell_all(|index| {
            let own = |stream: &&Stream| stream.from == index || stream.to == index;
            let streams = streams.iter().filter(own).cloned().collect();
            AgentOrder::Prepare { index, agents: agents.clone(), streams }
        })
    }

    fn tell_all(&self, order: impl Fn(usize) -> AgentOrder) -> Result<()> {
        self.agents.iter().enumerate().try_for_each(|(index, agent)| {
            match agent.ask(&order(index))? {
                AgentAnswer::Done => Ok(()),
                other => Err(agent.unexpected(&other)),
            }
        })
    }

    /// Has all agents send from one moment on; how far away their end is.
    fn begin_all(&self, seconds: f64) -> Result<Duration> {
        // They are told one after the other, and each takes a round trip.
        let orders: u64 = self.agents.iter().map(|agent| 2 * agent.error_nanos).sum();
        let lead = START_AFTER + Duration::from_nanos(orders);
        let start = Clock::new().now_nanos() + lead.as_nanos() as u64;
        self.tell_all(|index| {
            let start_nanos = start.saturating_add_signed(self.agents[index].offset_nanos);
            AgentOrder::Run { start_nanos, seconds }
        })?;
        Ok(lead + Duration::from_secs_f64(seconds))
    }

    /// Asks all agents from time to time until none sends, which should be after `planned`; `live` is told what they say.
    fn wait_until_ended(&self, planned: Duration, mut live: Option<&mut Live>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let pulses = self.agents.iter().map(Controlled::pulse).collect::<Result<Vec<_>>>()?;
            if let Some(live) = &mut live {
                live.take(begun.elapsed(), &pulses);
            }
            let named = self.agents.iter().zip(&pulses).filter(|(_, pulse)| pulse.is_busy);
            let busy: Vec<_> = named.map(|(agent, _)| agent.at.address.to_string()).collect();
            if busy.is_empty() {
                return Ok(());
            }
            if self.is_ended.load(Ordering::Relaxed) {
                return Err(BenchError::Interrupted);
            }
            let left = planned.saturating_sub(begun.elapsed());
            if begun.elapsed() > planned + OVERTIME_MAX {
                return Err(BenchError::Peer(format!(
                    "agent {}: still sending {} s after the end; is an agent that it sends to gone?",
                    busy.join(", "),
                    OVERTIME_MAX.as_secs()
                )));
            }
            thread::sleep(left.clamp(STATUS_INTERVAL, Duration::from_secs(1)));
        }
    }

    fn add_up(&self, streams: &[Stream], counts: &[AgentCounts]) -> Result<RunResult> {
        let mut throughput = ThroughputSlice::default();
        let mut latency = LatencySlice { histogram: latency_histogram(), ..LatencySlice::empty() };
        let (mut told, mut bytes) = (Vec::new(), 0);
        for stream in streams {
            let (messages, received) = ends(stream, counts)?;
            check(stream, messages, received)?;
            let times = received.latencies.histogram();
            told.push(json!({
                "from": stream.from,
                "to": stream.to,
                "sizes": stream.sizes,
                "planned_messages_per_second": stream.rate,
                "sent": messages.0,
                "delivered": received.delivered,
                "seconds": received.seconds,
                "before_due": received.before_due,
                "latency_us": LatencySummary::of(&times),
            }));
            throughput.seconds = throughput.seconds.max(received.seconds);
            throughput.sent += messages.0;
            throughput.delivered += received.delivered;
            throughput.duplicated += received.duplicated;
            bytes += received.bytes;
            latency.histogram.add(times).map_err(peer_error)?;
        }
        throughput.size_bytes = bytes / throughput.delivered.max(1);
        latency.seconds = throughput.seconds;
        latency.sent = throughput.sent;
        latency.lost = throughput.lost();
        let agents = self.agents.iter().zip(counts).map(|(agent, counts)| agent.describe(counts));
        Ok(RunResult {
            throughput,
            latency,
            streams: told.into(),
            agents: agents.collect::<Vec<_>>().into(),
            intervals: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

/// What to say of an agent that did not answer within `time`.
fn silent(error: &RequestError, time: Duration) -> String {
    match error {
        RequestError::Expired | RequestError::PeerLost | RequestError::Unknown => format!(
            "no answer within {} s: it was killed, or its host is not reached; start it again and repeat the run",
            time.as_secs()
        ),
        error => error.to_string(),
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.node.shutdown();
        // How the node ended changes nothing about what was measured.
        let _ = self.node.join();
    }
}

impl Controlled {
    fn ask(&self, order: &AgentOrder) -> Result<AgentAnswer> {
        self.ask_within(order, ANSWER_TIME_MAX)
    }

    fn ask_within(&self, order: &AgentOrder, time_max: Duration) -> Result<AgentAnswer> {
        let text = serde_json::to_vec(order).map_err(peer_error)?;
        let answer = block_on(self.orders.request(text, time_max));
        let named = |error: String| BenchError::Peer(format!("agent {}: {error}", self.at.address));
        let answer = answer.map_err(|error| named(silent(&error, time_max)))?;
        match serde_json::from_slice(&answer).map_err(|error| named(error.to_string()))? {
            AgentAnswer::Failed(text) => Err(named(text)),
            answer => Ok(answer),
        }
    }

    fn unexpected(&self, answer: &AgentAnswer) -> BenchError {
        BenchError::Peer(format!("agent {}: unexpected answer {answer:?}", self.at.address))
    }

    /// Reads its clock within the shortest of some round trips, and takes it for read in the middle: its clock less ours, and
    /// how wrong that may be, in ns.
    fn read_clock(&self) -> Result<(i64, u64)> {
        let clock = Clock::new();
        let (mut shortest, mut offset_nanos) = (u64::MAX, 0);
        for _ in 0..CLOCK_ROUNDS {
            let before = clock.now_nanos();
            let answer = self.ask(&AgentOrder::Clock)?;
            let took = clock.now_nanos() - before;
            let AgentAnswer::Clock { nanos } = answer else {
                return Err(self.unexpected(&answer));
            };
            if took < shortest {
                shortest = took;
                offset_nanos = nanos.wrapping_sub(before + took / 2) as i64;
            }
        }
        Ok((offset_nanos, shortest / 2))
    }

    /// Reads its clock once more: clocks drift.
    fn check_clock(&mut self) -> Result<()> {
        let (offset_nanos, error_nanos) = self.read_clock()?;
        let drift_nanos = offset_nanos.abs_diff(self.offset_nanos);
        self.error_nanos = self.error_nanos.max(error_nanos).max(drift_nanos);
        Ok(())
    }

    fn pulse(&self) -> Result<Pulse> {
        match self.ask(&AgentOrder::Status)? {
            AgentAnswer::Status(pulse) => Ok(*pulse),
            other => Err(self.unexpected(&other)),
        }
    }

    fn collect(&self) -> Result<AgentCounts> {
        match self.ask(&AgentOrder::Collect)? {
            AgentAnswer::Counts(counts) => Ok(*counts),
            other => Err(self.unexpected(&other)),
        }
    }

    fn describe(&self, counts: &AgentCounts) -> Value {
        let counters: serde_json::Map<_, _> =
            counts.counters.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
        json!({
            "address": self.at.address.to_string(),
            "key": self.at.key.to_string(),
            "clock_offset_us": self.offset_nanos as f64 / 1e3,
            "clock_error_us": self.error_nanos as f64 / 1e3,
            "counters": counters,
            "backend": counts.backend,
            "executor": counts.executor,
            "surroundings": counts.surroundings,
        })
    }
}
