//! Throughput of Cubed: one task on each shard sends, message by message, through the public API, to a shard of the peer's.
//!
//! A slice of acknowledged messages ends when every message has an outcome; then all of them must
//! have been counted, once each, or the measurement is void.

use std::time::Duration;

use cubed::{Destination, Instant, SendError, Shard, ShardStats, SpinPolicy};

use super::{
    bodies::{Bodies, Mode},
    client::{Client, ClientSettings},
    sink::{SinkCounts, SinkOrder},
    watch::CounterWatch,
};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    subject::{ThroughputSlice, ThroughputSubject},
};

/// Largest body, in bytes.
pub const SIZE_BYTES_MAX: usize = 64 << 20;

/// Messages between two yields, at most: some 100 us of them. The node sends when the task yields, so
/// with 256 (13 datagrams a send call in place of 40) the rate at 64 B is a fifth lower.
const BURST_MESSAGES_MAX: usize = 2_048;

/// Body bytes between two yields, unless one body is longer: a quarter of what a lane keeps
/// unacknowledged. With 64 KiB the rate at 64 KiB is a tenth lower, with 512 KiB a sixth.
const BURST_BYTES_MAX: usize = 256 << 10;

/// How often a drain looks whether all is settled.
const DRAIN_INTERVAL: Duration = Duration::from_micros(200);

/// A drain in which nothing is settled for this long has failed.
const DRAIN_STALL_MAX: Duration = Duration::from_secs(10);

/// Time for the last best-effort datagrams to arrive after they left.
const FLIGHT_TIME: Duration = Duration::from_millis(20);

/// What one slice is made of.
#[derive(Debug, Clone)]
struct SliceOrder {
    peer: cubed::PublicKey,
    sink: String,
    size_bytes: usize,
    mode: Mode,
    duration: Duration,
    meter: Option<Meter>,
}

/// What the sender counted in one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct SendCounts {
    messages: u64,
    datagrams: u64,
    sends: u64,
}

/// Throughput of Cubed for one message size and mode.
#[derive(Debug)]
pub struct CubedThroughput {
    client: Client,
    size_bytes: usize,
    mode: Mode,
    meter: Option<Meter>,
}

impl CubedThroughput {
    /// Starts the nodes and connects them.
    ///
    /// # Errors
    ///
    /// `Argument` above [`SIZE_BYTES_MAX`]; else those of [`Client::start`].
    pub fn start(size_bytes: usize, mode: Mode, settings: &ClientSettings<'_>) -> Result<Self> {
        if size_bytes > SIZE_BYTES_MAX {
            return Err(BenchError::Argument(format!(
                "--size {size_bytes}: at most {SIZE_BYTES_MAX} bytes"
            )));
        }
        Ok(Self { client: Client::start(settings)?, size_bytes, mode, meter: None })
    }

    /// Tells `meter` of every slice from here on.
    pub fn watch(&mut self, meter: Meter) {
        self.meter = Some(meter);
    }

    /// The measuring node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How both nodes wait in this measurement.
    pub const SPIN: SpinPolicy = SpinPolicy::Adaptive;
}

impl ThroughputSubject for CubedThroughput {
    fn name(&self) -> &'static str {
        "cubed"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let (size_bytes, mode) = (self.size_bytes, self.mode);
        self.client.begin(&SinkOrder { size_bytes })?;
        let client = &self.client;
        let open = self.meter.as_ref().map(Meter::open);
        let sent = client.on_each_shard(|shard| {
            let (peer, sink) = (client.peer_key(), client.sink(shard).to_owned());
            let meter = self.meter.clone();
            let order = SliceOrder { peer, sink, size_bytes, mode, duration, meter };
            async move |shard: Shard| order.run(&shard).await
        })?;
        drop(open);
        let received = client.end()?;
        let slices = sent.iter().zip(&received);
        let slices = slices.map(|(sent, received)| checked_slice(size_bytes, mode, sent, received));
        slices
            .reduce(|sum, slice| Ok(together(sum?, &slice?)))
            .unwrap_or_else(|| Err(BenchError::Machine("the measuring node has no shard".into())))
    }
}

/// Two shards' slices as one: they ran at the same time, and the longer one says for how long.
fn together(one: ThroughputSlice, other: &ThroughputSlice) -> ThroughputSlice {
    ThroughputSlice {
        seconds: one.seconds.max(other.seconds),
        sent: one.sent + other.sent,
        delivered: one.delivered + other.delivered,
        duplicated: one.duplicated + other.duplicated,
        size_bytes: one.size_bytes,
        datagrams: one.datagrams + other.datagrams,
        sends: one.sends + other.sends,
    }
}

impl SliceOrder {
    /// Sends for the slice's duration, then until nothing is on its way.
    async fn run(self, shard: &Shard) -> Result<SendCounts> {
        let to = shard.resolve(self.peer, &self.sink);
        let to = to.map_err(|error| BenchError::Peer(error.to_string()))?;
        let before = stats(shard)?;
        let mut bodies = Bodies::new(self.size_bytes, self.mode);
        let burst = (BURST_BYTES_MAX / self.size_bytes.max(1)).clamp(1, BURST_MESSAGES_MAX);
        let mut watch = self.meter.map(|meter| CounterWatch::new(shard, meter, Some(self.mode)));
        let end = shard.now() + self.duration;
        loop {
            let now = shard.now();
            if now >= end {
                break;
            }
            if let Some(watch) = &mut watch {
                watch.look(shard, now);
            }
            if send_burst(&mut bodies, &to, burst)? {
                shard.yield_now().await;
            } else {
                let room = to.ready().await;
                room.map_err(|error| BenchError::Machine(error.to_string()))?;
            }
        }
        match self.mode {
            Mode::Acked => drain(shard).await?,
            Mode::BestEffort => settle(shard).await?,
        }
        if let Some(watch) = &mut watch {
            watch.look_at_once(shard);
        }
        let after = stats(shard)?;
        Ok(SendCounts {
            messages: bodies.sent(),
            datagrams: after.counters.datagrams_sent - before.counters.datagrams_sent,
            sends: after.counters.runs_sent - before.counters.runs_sent,
        })
    }
}

/// Sends up to `count` messages; false when there was no room for all.
#[inline]
fn send_burst(bodies: &mut Bodies, to: &Destination, count: usize) -> Result<bool> {
    for _ in 0..count {
        match bodies.send_next(to) {
            Ok(()) => {}
            Err(SendError::Full) => return Ok(false),
            Err(error) => return Err(BenchError::Peer(error.to_string())),
        }
    }
    Ok(true)
}

/// Waits until every acknowledged message has an outcome.
async fn drain(shard: &Shard) -> Result<()> {
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

fn stats(shard: &Shard) -> Result<ShardStats> {
    shard.stats().ok_or_else(|| BenchError::Machine("the shard's statistics are in use".into()))
}

/// Joins the two sides' counts; an error when they cannot both be true, or when an acknowledged
/// message was not counted exactly once. Order is no promise of the service, so it is none here.
fn checked_slice(
    size_bytes: usize,
    mode: Mode,
    sent: &SendCounts,
    received: &SinkCounts,
) -> Result<ThroughputSlice> {
    let invented = received.next_message > sent.messages
        || received.delivered > sent.messages
        || received.missized > 0;
    let broken =
        mode == Mode::Acked && (received.delivered != sent.messages || received.duplicated > 0);
    if invented || broken {
        return Err(BenchError::Corrupt(format!("sent {sent:?}, but received {received:?}")));
    }
    Ok(ThroughputSlice {
        seconds: received.seconds,
        sent: sent.messages,
        delivered: received.delivered,
        duplicated: received.duplicated,
        size_bytes: size_bytes as u64,
        datagrams: sent.datagrams,
        sends: sent.sends,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: an acknowledged message that was not counted exactly once voids the slice.
    use super::*;

    const SENT: SendCounts = SendCounts { messages: 100, datagrams: 10, sends: 1 };

    fn received() -> SinkCounts {
        SinkCounts { seconds: 1.0, delivered: 100, next_message: 100, ..SinkCounts::default() }
    }

    fn is_void(mode: Mode, received: SinkCounts) -> bool {
        let result = checked_slice(64, mode, &SENT, &received);
        matches!(result, Err(BenchError::Corrupt(_)))
    }

    #[test]
    fn all_delivered_once_is_a_result() {
        let slice = checked_slice(64, Mode::Acked, &SENT, &received()).unwrap();
        assert_eq!((slice.sent, slice.delivered, slice.lost()), (100, 100, 0));
    }

    #[test]
    fn loss_and_duplicates_are_for_best_effort_only() {
        for wrong in
            [SinkCounts { delivered: 99, ..received() }, SinkCounts { duplicated: 1, ..received() }]
        {
            assert!(is_void(Mode::Acked, wrong), "{wrong:?}");
            assert!(!is_void(Mode::BestEffort, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn invented_messages_void_every_slice() {
        for wrong in [
            SinkCounts { delivered: 101, ..received() },
            SinkCounts { next_message: 101, ..received() },
            SinkCounts { missized: 1, ..received() },
        ] {
            assert!(is_void(Mode::Acked, wrong) && is_void(Mode::BestEffort, wrong), "{wrong:?}");
        }
    }
}
