//! The sending side of a slice, on one shard: what is sent, to which flows, how fast, and until when.
//!
//! Either as fast as there is room, or on time: message n is due at n over the rate, and is sent then whether or not what came
//! before has arrived. A message that finds no room is late, and is timed from when it was due all the same.

use std::{num::NonZeroUsize, time::Duration};

use cubed::{Destination, Instant, PublicKey, SendError, Shard, ShardStats};

use super::{
    bodies::{Bodies, Mode},
    schedule::{Schedule, Stamps},
    watch::CounterWatch,
};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    preempted::{Preempted, PreemptionWatch},
    workload::{Choice, Sizes},
};

/// Messages between two yields, at most: some 100 us of them. The node sends when the task yields, so
/// with 256 (13 datagrams a send call in place of 40) the rate at 64 B is a fifth lower.
pub(crate) const BURST_MESSAGES_MAX: usize = 2_048;

/// Body bytes between two yields, on average, unless a body is longer: a quarter of what a lane keeps
/// unacknowledged. With 64 KiB the rate at 64 KiB is a tenth lower, with 512 KiB a sixth.
pub(crate) const BURST_BYTES_MAX: usize = 256 << 10;

/// How often a drain looks whether all is settled.
const DRAIN_INTERVAL: Duration = Duration::from_micros(200);

/// A drain in which nothing is settled for this long has failed.
const DRAIN_STALL_MAX: Duration = Duration::from_secs(10);

/// Time for the last best-effort datagrams to arrive after they left.
const FLIGHT_TIME: Duration = Duration::from_millis(20);

/// How much earlier than due a sleep ends; the rest is polled, since a sleep ends some 60 us late and the times measured are to
/// be the path's.
const POLLED: Duration = Duration::from_micros(150);

/// Bodies handed over by one call, at most, unless asked for otherwise.
pub const PER_CALL: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// How fast messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as there is room.
    Full,
    /// So many per second, each on time.
    Rate(f64),
}

impl Pace {
    /// When each message is due if the first one is at `start`; `None` when none ever is.
    fn schedule(self, start: Instant) -> Option<Schedule> {
        match self {
            Self::Full => None,
            Self::Rate(rate) => Some(Schedule::new(start, rate)),
        }
    }
}

/// What is sent in a slice.
#[derive(Debug, Clone)]
pub struct Load {
    /// How long bodies are.
    pub sizes: Sizes,
    /// How they are sent.
    pub mode: Mode,
    /// Flows that they go to.
    pub flows: usize,
    /// Which of them.
    pub choice: Choice,
    /// What sizes and choices are drawn from.
    pub seed: u64,
    /// How fast.
    pub pace: Pace,
    /// Bodies of one length handed over by one call, at most, where one after the other goes to the same flow; 1 for a call each.
    pub per_call: NonZeroUsize,
    /// One message of so many carries the time at which it was due, in a place that differs from group to group; `None` for none.
    pub stamp_every: Option<u64>,
}

impl Load {
    /// Acknowledged messages of one size, to one flow, as fast as there is room.
    pub fn fixed(size_bytes: usize, mode: Mode) -> Self {
        Self {
            sizes: Sizes::Fixed(size_bytes),
            mode,
            flows: 1,
            choice: Choice::RoundRobin,
            seed: 0,
            pace: Pace::Full,
            per_call: PER_CALL,
            stamp_every: None,
        }
    }

    /// The part of it that one of so many shards sends.
    #[must_use]
    pub fn divided(&self, shards: usize) -> Self {
        match self.pace {
            Pace::Full => self.clone(),
            Pace::Rate(rate) => self.at(Pace::Rate(rate / shards as f64)),
        }
    }

    /// The same at a pace.
    #[must_use]
    pub fn at(&self, pace: Pace) -> Self {
        Self { pace, ..self.clone() }
    }
}

/// What the sender counted in one slice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendCounts {
    /// Messages handed to the node.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages to each flow.
    pub flows: Vec<u64>,
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// Send calls that carried them.
    pub sends: u64,
    /// Best-effort messages that the node counted as offered to it.
    pub best_effort_offered: u64,
    /// What the shard waited for its core while it sent.
    pub preempted: Preempted,
}

/// The flows that a sender walks.
struct Targets {
    flows: Vec<Destination>,
    table: Vec<u32>,
    counts: Vec<u64>,
    next: usize,
}

impl Targets {
    fn new(shard: &Shard, load: &Load, peer: PublicKey, sinks: &[String]) -> Result<Self> {
        let resolve = |sink: &String| shard.resolve(peer, sink);
        let flows: Result<Vec<_>, _> = sinks.iter().take(load.flows).map(resolve).collect();
        let flows = flows.map_err(|error| BenchError::Peer(error.to_string()))?;
        let table = load.choice.table(load.flows, load.seed);
        Ok(Self { counts: vec![0; flows.len()], flows, table, next: 0 })
    }

    /// Number of the flow whose turn it is.
    #[inline]
    fn at(&self) -> usize {
        match self.table.as_slice() {
            [] => self.next,
            // The table's length is a power of two.
            table => table[self.next & (table.len() - 1)] as usize,
        }
    }

    #[inline]
    fn advance(&mut self, at: usize) {
        self.counts[at] += 1;
        self.next += 1;
        if self.table.is_empty() && self.next == self.flows.len() {
            self.next = 0;
        }
    }
}

/// A sender during one slice.
struct Sender<'a> {
    shard: &'a Shard,
    bodies: Bodies,
    targets: Targets,
    burst: usize,
    per_call: usize,
    watch: Option<CounterWatch>,
}

impl Load {
    /// Sends to the flows `sinks` of `peer` for `duration`, then until nothing is on its way, and tells `meter` of it.
    ///
    /// # Errors
    ///
    /// When the peer is gone or settles nothing any more.
    pub async fn run(
        self,
        shard: &Shard,
        (peer, sinks): (PublicKey, &[String]),
        duration: Duration,
        meter: Option<Meter>,
    ) -> Result<SendCounts> {
        let before = stats(shard)?;
        let mean = self.sizes.mean(self.seed).ceil().max(1.0) as usize;
        let schedule = self.pace.schedule(shard.now());
        let stamps = self.stamp_every.map(|every| match schedule {
            Some(schedule) => Stamps::new(schedule, every),
            None => Stamps::none(),
        });
        let mut sender = Sender {
            shard,
            bodies: Bodies::new(&self.sizes, self.seed, self.mode, stamps),
            targets: Targets::new(shard, &self, peer, sinks)?,
            burst: (BURST_BYTES_MAX / mean).clamp(1, BURST_MESSAGES_MAX),
            per_call: self.per_call.get(),
            watch: meter.map(|meter| CounterWatch::new(shard, meter, Some(self.mode))),
        };
        let preemption = PreemptionWatch::begin();
        match schedule {
            None => sender.send_full(duration).await?,
            Some(schedule) => sender.send_on_time(schedule, duration).await?,
        }
        let preempted = preemption.so_far();
        match self.mode {
            Mode::Acked => drain(shard).await?,
            Mode::BestEffort => settle(shard).await?,
        }
        if let Some(watch) = &mut sender.watch {
            watch.look_at_once(shard);
        }
        let after = stats(shard)?;
        Ok(SendCounts {
            messages: sender.bodies.sent(),
            bytes: sender.bodies.bytes(),
            flows: sender.targets.counts,
            datagrams: after.counters.datagrams_sent - before.counters.datagrams_sent,
            sends: after.counters.runs_sent - before.counters.runs_sent,
            best_effort_offered: after.counters.best_effort_offered
                - before.counters.best_effort_offered,
            preempted,
        })
    }
}

impl Sender<'_> {
    async fn send_full(&mut self, duration: Duration) -> Result<()> {
        let end = self.shard.now() + duration;
        while self.look() < end {
            if self.send_up_to(self.burst)? {
                self.shard.yield_now().await;
            } else {
                self.room().await?;
            }
        }
        Ok(())
    }

    /// The time, at which the meter is told what there is to tell.
    #[inline]
    fn look(&mut self) -> Instant {
        let now = self.shard.now();
        if let Some(watch) = &mut self.watch {
            watch.look(self.shard, now);
        }
        now
    }

    /// Sends so many messages; false when there was no room for all.
    #[inline]
    fn send_up_to(&mut self, messages: usize) -> Result<bool> {
        if let ([to], [count]) = (&self.targets.flows[..], &mut self.targets.counts[..])
            && self.bodies.are_uniform()
        {
            let (taken, result) = self.bodies.send_run(to, messages, self.per_call);
            *count += taken as u64;
            return is_taken(result);
        }
        for _ in 0..messages {
            if !self.send_one()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends the next message; false when there was no room.
    #[inline]
    fn send_one(&mut self) -> Result<bool> {
        let at = self.targets.at();
        let sent = self.bodies.send_next(&self.targets.flows[at]);
        if sent.is_ok() {
            self.targets.advance(at);
        }
        is_taken(sent)
    }

    async fn room(&self) -> Result<()> {
        let room = self.targets.flows[self.targets.at()].ready().await;
        room.map_err(|error| BenchError::Machine(error.to_string()))
    }

    /// Hands over at each turn what is due by then, by as few calls as a sender that never waits: its rate is the one of which a part is
    /// asked for.
    async fn send_on_time(&mut self, schedule: Schedule, duration: Duration) -> Result<()> {
        let end = schedule.start() + duration;
        let count = schedule.count(duration);
        while self.bodies.sent() < count {
            let now = self.look();
            // An overload is over when the slice is: what was due and never sent is no message.
            if now > end {
                break;
            }
            let due_count = schedule.due_count(now).min(count);
            let waiting = due_count.saturating_sub(self.bodies.sent());
            let has_room = self.send_up_to(self.burst.min(waiting as usize))?;
            if !has_room {
                self.room().await?;
            } else if self.bodies.sent() < due_count {
                self.shard.yield_now().await;
            } else {
                // After the last one nothing is due any more.
                wait_until(self.shard, schedule.due(self.bodies.sent()).min(end)).await;
            }
        }
        Ok(())
    }
}

/// Whether a message was taken, or found no room.
#[inline]
fn is_taken(sent: Result<(), SendError>) -> Result<bool> {
    match sent {
        Ok(()) => Ok(true),
        Err(SendError::Full) => Ok(false),
        Err(error) => Err(BenchError::Peer(error.to_string())),
    }
}

/// Waits for a time, the last part by polling, and lets the node have a turn in any case.
pub async fn wait_until(shard: &Shard, due: Instant) {
    let left = due.saturating_duration_since(shard.now());
    if let Some(unpolled) = left.checked_sub(POLLED) {
        shard.sleep(unpolled).await;
    }
    loop {
        shard.yield_now().await;
        if shard.now() >= due {
            return;
        }
    }
}

/// Waits until every acknowledged message has an outcome.
pub(crate) async fn drain(shard: &Shard) -> Result<()> {
    let mut progress = Progress::new(shard);
    loop {
        let pending = stats(shard)?.tally.pending;
        if pending == 0 {
            return Ok(());
        }
        progress.check(pending, shard)?;
        shard.sleep(DRAIN_INTERVAL).await;
    }
}

/// Waits until every best-effort message has left, and then for the flight of the last ones.
async fn settle(shard: &Shard) -> Result<()> {
    let mut progress = Progress::new(shard);
    loop {
        let counters = stats(shard)?.counters;
        let gone = counters.best_effort_sent + counters.best_effort_dropped_local;
        let waiting = counters.best_effort_offered.saturating_sub(gone);
        if waiting == 0 {
            break;
        }
        progress.check(waiting, shard)?;
        shard.sleep(DRAIN_INTERVAL).await;
    }
    shard.sleep(FLIGHT_TIME).await;
    Ok(())
}

/// Watches a number that should fall to zero.
struct Progress {
    left: u64,
    since: Instant,
}

impl Progress {
    fn new(shard: &Shard) -> Self {
        Self { left: u64::MAX, since: shard.now() }
    }

    /// An error when `left` has not changed for [`DRAIN_STALL_MAX`].
    fn check(&mut self, left: u64, shard: &Shard) -> Result<()> {
        let now = shard.now();
        if left != self.left {
            *self = Self { left, since: now };
        } else if now.saturating_duration_since(self.since) > DRAIN_STALL_MAX {
            return Err(BenchError::Peer(format!(
                "{left} messages are without an outcome, and none had one for {DRAIN_STALL_MAX:?}"
            )));
        }
        Ok(())
    }
}

pub(crate) fn stats(shard: &Shard) -> Result<ShardStats> {
    shard.stats().ok_or_else(|| BenchError::Machine("the shard's statistics are in use".into()))
}
