//! An agent: sends streams and counts them, at the word of a controller whose key it allows.
//!
//! It has one shard. Orders are taken by a task of that shard, one after the other; until a controller has named the other agents,
//! only the controller may reach it. It sends for a controller that keeps asking, and for nobody who is gone.

use std::{cell::RefCell, net::SocketAddr, path::Path, rc::Rc, time::Duration};

use cubed::{
    Capacity, FlowError, FlowPattern, Instant, Node, Policy, PublicKey, Shard, SpinPolicy, Verb,
    block_on, runtime::clock::Clock,
};

use super::{
    AGENT_FLOW, AgentAnswer, AgentCounts, AgentOrder, Stream,
    live::Pulse,
    peer_error, stream_flow,
    streams::{SILENCE_MAX, Streams},
};
use crate::{
    cli::MachineArgs,
    error::{BenchError, Result},
    machine::cores_from,
    node::{
        FLOWS,
        bodies::Mode,
        load::{Load, PER_CALL, Pace},
        server::load_identity,
        sink::{Sink, SinkOrder},
        sum,
    },
    stats::{HistogramCounts, latency_histogram},
    surroundings::{Surroundings, doubts_of_one},
    workload::{Choice, Sizes},
};

/// Room for orders that wait; a plan of many streams is long.
const QUEUE_BYTES: u64 = 16 << 20;

/// How often it looks whether the controller is gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Who an agent is, and whom it obeys.
#[derive(Debug)]
pub struct Agent<'a> {
    /// Where to listen.
    pub listen: SocketAddr,
    /// File with its key.
    pub identity: &'a Path,
    /// Controllers.
    pub allowed: &'a [PublicKey],
    /// Core to run on; the system chooses without it.
    pub core: Option<usize>,
    /// What the node runs on.
    pub machine: MachineArgs,
}

/// The agent's state, on its shard.
struct State {
    shard: Shard,
    node: Node,
    surroundings: Surroundings,
    controllers: Vec<PublicKey>,
    agents: Vec<PublicKey>,
    sending: Vec<Stream>,
    receiving: Vec<(Stream, Rc<RefCell<Sink>>)>,
    sent: Rc<RefCell<Vec<(u32, u64, u64)>>>,
    streams: Rc<Streams>,
    failure: Rc<RefCell<Option<String>>>,
}

impl Agent<'_> {
    /// Serves until a signal ends it or it fails; `say` gets the lines that tell where and for whom, and at the end what it did.
    ///
    /// # Errors
    ///
    /// Those of the key file and of the node.
    pub fn serve(&self, say: fn(&str)) -> Result<()> {
        if self.machine.shards != 1 {
            return Err(BenchError::Argument("--shards: an agent has one; start several".into()));
        }
        let surroundings = Surroundings::gather();
        let controllers = self.allowed.to_vec();
        let mut builder = Node::builder()
            .identity(load_identity(self.identity)?)
            .listen(self.listen)
            .policy(policy(self.allowed.iter()))
            .spin(SpinPolicy::Adaptive);
        if let Some(core) = self.core {
            builder = builder.shards(cores_from(core, 1));
        }
        let node = self.machine.apply(builder).start(async |_: Shard| ());
        let node = node.map_err(|error| BenchError::Machine(error.to_string()))?;
        let own = node.clone();
        let obeying = block_on(
            node.on_shard(0, async move |shard| obey(&shard, own, controllers, surroundings)),
        );
        obeying
            .map_err(|error| BenchError::Machine(error.to_string()))?
            .map_err(|error| BenchError::Machine(error.to_string()))?;
        say(&format!("listening on {}", node.local_addr()));
        say(&format!("key {}", node.public_key()));
        if self.allowed.is_empty() {
            say("nobody is allowed, so no controller is obeyed: name its key with --allow KEY");
        }
        if node.local_addr().ip().is_unspecified() {
            say("below, put an address of this host that controller and agents reach");
        }
        sum::stop_by_signal(&node, say);
        say(&format!("agent {}@{}", node.public_key(), node.local_addr()));
        node.join().map_err(|error| BenchError::Machine(error.to_string()))
    }
}

fn policy<'a>(keys: impl Iterator<Item = &'a PublicKey>) -> Policy {
    let flows: FlowPattern = FLOWS.parse().expect("a constant pattern is valid");
    let verbs = [Verb::Send, Verb::Request];
    keys.fold(Policy::deny(), |policy, key| policy.with_rule(*key, flows.clone(), &verbs))
}

fn obey(
    shard: &Shard,
    node: Node,
    controllers: Vec<PublicKey>,
    surroundings: Surroundings,
) -> Result<(), FlowError> {
    let mut queue = shard.flow(AGENT_FLOW).queue(Capacity::bytes(QUEUE_BYTES))?;
    let mut state = State {
        shard: shard.clone(),
        node,
        surroundings,
        controllers,
        agents: Vec::new(),
        sending: Vec::new(),
        receiving: Vec::new(),
        sent: Rc::default(),
        streams: Rc::default(),
        failure: Rc::default(),
    };
    let (here, streams) = (shard.clone(), Rc::clone(&state.streams));
    shard.spawn_local(async move {
        loop {
            here.sleep(LOOK_INTERVAL).await;
            streams.look(here.now());
        }
    });
    shard.spawn_local(async move {
        while let Some(batch) = queue.next_batch().await {
            for message in &batch {
                // An agent of a plan may send to the streams, and order nothing.
                if !state.controllers.contains(message.sender()) {
                    continue;
                }
                let answer = match serde_json::from_slice(message.body()) {
                    Ok(order) => state
                        .take(order, *message.sender())
                        .unwrap_or_else(|error| AgentAnswer::Failed(error.to_string())),
                    Err(error) => AgentAnswer::Failed(format!("order not understood: {error}")),
                };
                let text = serde_json::to_vec(&answer).unwrap_or_default();
                // Without room for the reply, the asker's deadline tells.
                let _ = message.reply(&text);
            }
        }
    });
    Ok(())
}

impl State {
    fn take(&mut self, order: AgentOrder, controller: PublicKey) -> Result<AgentAnswer> {
        self.streams.hear(controller, self.shard.now());
        match order {
            AgentOrder::Clock => Ok(AgentAnswer::Clock { nanos: Clock::new().now_nanos() }),
            AgentOrder::Prepare { index, agents, streams } => {
                self.prepare(index, &agents, streams).map(|()| AgentAnswer::Done)
            }
            AgentOrder::Reset => {
                self.reset()?;
                Ok(AgentAnswer::Done)
            }
            AgentOrder::Run { start_nanos, seconds } => {
                let seconds = Duration::try_from_secs_f64(seconds).map_err(peer_error)?;
                self.streams.begin(controller, self.shard.now());
                self.run(start_nanos, seconds)?;
                Ok(AgentAnswer::Done)
            }
            AgentOrder::Status => Ok(self.status()),
            AgentOrder::Stop => {
                self.streams.stop(controller);
                Ok(AgentAnswer::Done)
            }
            AgentOrder::Collect => Ok(self.collect()),
        }
    }

    fn prepare(
        &mut self,
        index: usize,
        agents: &[(String, SocketAddr)],
        streams: Vec<Stream>,
    ) -> Result<()> {
        if self.streams.are_running() {
            return Err(BenchError::Peer(format!(
                "a run is under way; one whose controller is gone ends after {} s",
                SILENCE_MAX.as_secs()
            )));
        }
        for (stream, _) in self.receiving.drain(..) {
            self.shard.remove_flow(&stream_flow(stream.number)).map_err(peer_error)?;
        }
        // What still waits for an agent that is gone ends with this; the next run's would wait for it, too.
        for key in self.agents.drain(..) {
            self.node.forget_peer(key);
        }
        for (place, (key, address)) in agents.iter().enumerate() {
            let key: PublicKey = key.parse().map_err(peer_error)?;
            if place != index {
                self.shard.add_peer(key, *address).map_err(peer_error)?;
            }
            self.agents.push(key);
        }
        let keys = self.controllers.iter().chain(&self.agents);
        self.shard.set_policy(policy(keys)).map_err(peer_error)?;
        let is_known = |stream: &Stream| stream.to < agents.len() && stream.from < agents.len();
        if let Some(wrong) = streams.iter().find(|stream| !is_known(stream)) {
            return Err(BenchError::Peer(format!("stream {} has no such agent", wrong.number)));
        }
        self.sending = streams.iter().filter(|stream| stream.from == index).cloned().collect();
        for stream in streams.into_iter().filter(|stream| stream.to == index) {
            self.receive(stream)?;
        }
        self.reset()
    }

    fn receive(&mut self, stream: Stream) -> Result<()> {
        let sink = Rc::new(RefCell::new(Sink::new(1)));
        let counted = Rc::clone(&sink);
        let flow = self.shard.flow(&stream_flow(stream.number)).takes_requests(false);
        let registered = flow.handler(move |message, context| {
            counted.borrow_mut().handle(0, message.body(), context.now());
        });
        registered.map_err(peer_error)?;
        self.receiving.push((stream, sink));
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        for (stream, sink) in &self.receiving {
            let sizes: Sizes = stream.sizes.parse().map_err(BenchError::Peer)?;
            sink.borrow_mut().begin(SinkOrder {
                size_bytes: sizes.fixed(),
                stamped: stream.stamp_every.is_some(),
                offset_nanos: stream.offset_nanos,
            });
        }
        self.sent.borrow_mut().clear();
        *self.failure.borrow_mut() = None;
        Ok(())
    }

    fn run(&mut self, start_nanos: u64, duration: Duration) -> Result<()> {
        for stream in &self.sending {
            let load = Load {
                sizes: stream.sizes.parse().map_err(BenchError::Peer)?,
                mode: if stream.is_acknowledged { Mode::Acked } else { Mode::BestEffort },
                flows: 1,
                choice: Choice::RoundRobin,
                seed: stream.seed,
                pace: stream.rate.map_or(Pace::Full, Pace::Rate),
                per_call: PER_CALL,
                stamp_every: stream.stamp_every,
            };
            let (shard, peer, number) = (self.shard.clone(), self.agents[stream.to], stream.number);
            let (sent, failure) = (Rc::clone(&self.sent), Rc::clone(&self.failure));
            let running = self.streams.add();
            self.shard.spawn_local(async move {
                let flow = stream_flow(number);
                let sending = send(&shard, load, peer, flow, start_nanos, duration);
                match running.until_ended(sending).await {
                    Some(Ok((messages, bytes))) => {
                        sent.borrow_mut().push((number, messages, bytes));
                    }
                    Some(Err(error)) => {
                        *failure.borrow_mut() = Some(format!("stream {number}: {error}"));
                    }
                    None => *failure.borrow_mut() = Some(format!("stream {number}: was stopped")),
                }
            });
        }
        Ok(())
    }

    fn status(&self) -> AgentAnswer {
        if let Some(failure) = self.failure.borrow().clone() {
            return AgentAnswer::Failed(failure);
        }
        let mut latencies = latency_histogram();
        let mut pulse = Pulse { is_busy: self.streams.are_running(), ..Pulse::default() };
        for (_, sink) in &self.receiving {
            pulse.delivered += sink.borrow().add_to(&mut latencies);
        }
        pulse.latencies = HistogramCounts::of(&latencies);
        pulse.resent = self.shard.stats().map_or(0, |stats| stats.counters.blocks_resent);
        AgentAnswer::Status(Box::new(pulse))
    }

    fn collect(&self) -> AgentAnswer {
        let counts =
            |(stream, sink): &(Stream, Rc<RefCell<Sink>>)| (stream.number, sink.borrow().counts());
        let Some(stats) = self.shard.stats() else {
            return AgentAnswer::Failed("the shard's statistics are in use".into());
        };
        let some = stats.counters.iter().filter(|(_, value)| *value > 0);
        AgentAnswer::Counts(Box::new(AgentCounts {
            sent: self.sent.borrow().clone(),
            received: self.receiving.iter().map(counts).collect(),
            counters: some.map(|(name, value)| (name.to_owned(), value)).collect(),
            backend: stats.machine.driver.to_string(),
            executor: stats.machine.executor.to_string(),
            surroundings: serde_json::to_value(&self.surroundings).unwrap_or_default(),
            doubts: doubts_of_one(&self.surroundings),
        }))
    }
}

/// An error unless the start is to come: a stream that begins later than the others would be counted as one that was slow.
fn check_in_time(start: Instant, now: Instant) -> Result<()> {
    if now <= start {
        return Ok(());
    }
    Err(BenchError::Peer(format!(
        "its order came, or it was connected, {} ms after the start; repeat the run, with a warm-up if it had none",
        now.saturating_duration_since(start).as_millis()
    )))
}

/// Sends one stream; messages and bytes.
async fn send(
    shard: &Shard,
    load: Load,
    peer: PublicKey,
    flow: String,
    start_nanos: u64,
    duration: Duration,
) -> Result<(u64, u64)> {
    let to = shard.resolve(peer, &flow).map_err(peer_error)?;
    to.connect().await.map_err(peer_error)?;
    let start = Instant::from_nanos(start_nanos);
    check_in_time(start, shard.now())?;
    shard.sleep_until(start).await;
    let counts = load.run(shard, (peer, &[flow]), duration, None).await?;
    Ok((counts.messages, counts.bytes))
}

#[cfg(test)]
mod tests {
    //! Goal: a stream that missed its start is an error.
    use super::*;

    #[test]
    fn a_missed_start_is_told() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert!(check_in_time(at(5), at(5)).is_ok());
        let error = check_in_time(at(5), at(12)).unwrap_err().to_string();
        assert!(error.contains("7 ms after the start"), "{error}");
    }
}
