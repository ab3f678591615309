//! Loads a peer's sinks slice by slice, and compares what both sides counted.
//!
//! A slice of acknowledged messages ends when every message has an outcome; then all of them must have been counted, once each,
//! on the flow they were sent to, or the measurement is void.

use std::time::Duration;

use cubed::{Outcome, Shard};
use hdrhistogram::Histogram;

use super::{
    bodies::{Mode, STAMPED_BYTES_MIN},
    client::{Client, ClientSettings},
    load::{Load, SendCounts},
    server::checked_flows,
    sink::{SinkCounts, SinkOrder},
};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    preempted::Preempted,
    stats::latency_histogram,
    subject::ThroughputSlice,
    workload::SIZE_BYTES_MAX,
};

/// Sent before each slice and left out of it: windows grow, caches fill, sleepers wake.
const WARM_UP: Duration = Duration::from_millis(50);

/// What one slice gave.
#[derive(Debug, Clone)]
pub struct LoadSlice {
    /// Counts and times.
    pub throughput: ThroughputSlice,
    /// Times of the stamped messages from when they were due to the peer's handler, in ns.
    pub latencies: Histogram<u64>,
    /// What the sending shards waited for their cores.
    pub sender_preempted: Preempted,
    /// What the receiving ones did.
    pub receiver_preempted: Preempted,
}

/// A node that sends, and a serving node whose sinks count.
#[derive(Debug)]
pub struct Loader {
    client: Client,
}

impl Loader {
    /// Starts the nodes, connects them and makes every flow known.
    ///
    /// # Errors
    ///
    /// `Argument` outside the limits of flows; `Peer` when it lacks one; else those of [`Client::start`].
    pub fn start(settings: &ClientSettings<'_>) -> Result<Self> {
        checked_flows(settings.flows)?;
        let loader = Self { client: Client::start(settings)? };
        loader.open_flows()?;
        Ok(loader)
    }

    /// The measuring node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// One message to each flow, so that no slice begins with names.
    fn open_flows(&self) -> Result<()> {
        let client = &self.client;
        let opened = client.on_each_shard(|shard| {
            let (peer, sinks) = (client.peer_key(), client.sinks(shard).to_vec());
            async move |shard: Shard| {
                for sink in &sinks {
                    let to = shard.resolve(peer, sink);
                    let to = to.map_err(|error| BenchError::Peer(error.to_string()))?;
                    let outcome = to.send(b"").acknowledged().await;
                    match outcome.map_err(|error| BenchError::Peer(error.to_string()))? {
                        Outcome::Delivered => {}
                        other => return Err(BenchError::Peer(format!("flow {sink}: {other}"))),
                    }
                }
                Ok(())
            }
        });
        opened.map(drop)
    }

    /// Warms up, then measures `load` for `duration` and tells `meter` of it.
    ///
    /// # Errors
    ///
    /// `Argument` when bodies are too long, or too short for their stamps; `Corrupt` when what was counted is not what was sent;
    /// else those of the two nodes.
    ///
    /// # Panics
    ///
    /// Never: all histograms of latencies share their bounds.
    pub fn run(&self, load: &Load, duration: Duration, meter: Option<&Meter>) -> Result<LoadSlice> {
        check_sizes(load)?;
        self.send(load, WARM_UP, None)?;
        self.client.begin(&SinkOrder {
            size_bytes: load.sizes.fixed(),
            stamped: load.stamp_every.is_some(),
            offset_nanos: 0,
        })?;
        let open = meter.map(Meter::open);
        let sent = self.send(load, duration, meter)?;
        drop(open);
        let received: Vec<SinkCounts> = self.client.end()?;
        let mut slice = LoadSlice {
            throughput: ThroughputSlice::default(),
            latencies: latency_histogram(),
            sender_preempted: Preempted::default(),
            receiver_preempted: Preempted::default(),
        };
        for (sent, received) in sent.iter().zip(&received) {
            let part = checked_slice(load, sent, received)?;
            slice.throughput = together(&slice.throughput, &part);
            let latencies = received.latencies.histogram();
            slice.latencies.add(latencies).expect("histograms share their bounds");
            slice.sender_preempted = slice.sender_preempted.plus(sent.preempted);
            slice.receiver_preempted = slice.receiver_preempted.plus(received.preempted);
        }
        Ok(slice)
    }

    /// Sends from every shard, each its part of the rate.
    fn send(
        &self,
        load: &Load,
        duration: Duration,
        meter: Option<&Meter>,
    ) -> Result<Vec<SendCounts>> {
        let client = &self.client;
        let load = load.divided(client.shards());
        client.on_each_shard(|shard| {
            let (peer, sinks) = (client.peer_key(), client.sinks(shard).to_vec());
            let (load, meter) = (load.clone(), meter.cloned());
            async move |shard: Shard| load.run(&shard, (peer, &sinks), duration, meter).await
        })
    }
}

fn check_sizes(load: &Load) -> Result<()> {
    let largest = load.sizes.largest();
    if largest > SIZE_BYTES_MAX {
        return Err(BenchError::Argument(format!(
            "--size {largest}: at most {SIZE_BYTES_MAX} bytes"
        )));
    }
    let smallest = load.sizes.smallest();
    if load.stamp_every.is_some() && smallest < STAMPED_BYTES_MIN {
        return Err(BenchError::Argument(format!(
            "bodies of {smallest} bytes carry no time stamp: at least {STAMPED_BYTES_MIN}"
        )));
    }
    Ok(())
}

/// Two shards' slices as one: they ran at the same time, and the longer one says for how long.
fn together(one: &ThroughputSlice, other: &ThroughputSlice) -> ThroughputSlice {
    ThroughputSlice {
        seconds: one.seconds.max(other.seconds),
        sent: one.sent + other.sent,
        delivered: one.delivered + other.delivered,
        duplicated: one.duplicated + other.duplicated,
        size_bytes: other.size_bytes,
        datagrams: one.datagrams + other.datagrams,
        sends: one.sends + other.sends,
    }
}

/// Joins the two sides' counts; an error when they cannot both be true, or when an acknowledged
/// message was not counted exactly once. Order is no promise of the service, so it is none here.
fn checked_slice(load: &Load, sent: &SendCounts, received: &SinkCounts) -> Result<ThroughputSlice> {
    let invented = received.next_message > sent.messages
        || received.delivered > sent.messages
        || received.bytes > sent.bytes + received.duplicated * load.sizes.largest() as u64
        || received.flows.len() > sent.flows.len()
        // Both read one clock.
        || received.before_due > 0
        || received.missized > 0
        || (load.mode == Mode::BestEffort && sent.best_effort_offered != sent.messages);
    let broken = load.mode == Mode::Acked
        && (received.delivered != sent.messages
            || received.duplicated > 0
            || received.bytes != sent.bytes
            || !is_same(&sent.flows, &received.flows));
    if invented || broken {
        return Err(BenchError::Corrupt(format!("sent {sent:?}, but received {received:?}")));
    }
    Ok(ThroughputSlice {
        seconds: received.seconds,
        sent: sent.messages,
        delivered: received.delivered,
        duplicated: received.duplicated,
        size_bytes: mean_bytes(load, sent),
        datagrams: sent.datagrams,
        sends: sent.sends,
    })
}

fn mean_bytes(load: &Load, sent: &SendCounts) -> u64 {
    let fixed = load.sizes.fixed().map(|size| size as u64);
    fixed.unwrap_or_else(|| (sent.bytes + sent.messages / 2) / sent.messages.max(1))
}

/// Equal counts; the receiver leaves out flows behind the last that got something.
fn is_same(sent: &[u64], received: &[u64]) -> bool {
    let (first, rest) = sent.split_at(received.len().min(sent.len()));
    first == received && rest.iter().all(|count| *count == 0)
}

#[cfg(test)]
mod tests {
    //! Goal: an acknowledged message that was not counted exactly once, where it was sent to, voids the slice.
    use super::*;
    use crate::stats::HistogramCounts;

    fn sent() -> SendCounts {
        SendCounts {
            messages: 100,
            bytes: 6_400,
            flows: vec![50, 50, 0],
            datagrams: 10,
            sends: 1,
            best_effort_offered: 100,
            ..SendCounts::default()
        }
    }

    fn received() -> SinkCounts {
        SinkCounts {
            seconds: 1.0,
            delivered: 100,
            next_message: 100,
            bytes: 6_400,
            flows: vec![50, 50],
            latencies: HistogramCounts::default(),
            ..SinkCounts::default()
        }
    }

    fn is_void(mode: Mode, received: &SinkCounts) -> bool {
        let result = checked_slice(&Load::fixed(64, mode), &sent(), received);
        matches!(result, Err(BenchError::Corrupt(_)))
    }

    #[test]
    fn all_delivered_once_is_a_result() {
        let load = Load::fixed(64, Mode::Acked);
        let slice = checked_slice(&load, &sent(), &received()).unwrap();
        assert_eq!((slice.sent, slice.delivered, slice.lost()), (100, 100, 0));
    }

    #[test]
    fn loss_and_duplicates_are_for_best_effort_only() {
        for wrong in [
            SinkCounts { delivered: 99, bytes: 6_336, flows: vec![49, 50], ..received() },
            SinkCounts { duplicated: 1, bytes: 6_464, flows: vec![51, 50], ..received() },
        ] {
            assert!(is_void(Mode::Acked, &wrong), "{wrong:?}");
            assert!(!is_void(Mode::BestEffort, &wrong), "{wrong:?}");
        }
    }

    #[test]
    fn invented_messages_void_every_slice() {
        for wrong in [
            SinkCounts { delivered: 101, ..received() },
            SinkCounts { next_message: 101, ..received() },
            SinkCounts { missized: 1, ..received() },
            SinkCounts { before_due: 1, ..received() },
            SinkCounts { bytes: 6_401, ..received() },
            SinkCounts { flows: vec![50, 49, 0, 1], ..received() },
        ] {
            assert!(is_void(Mode::Acked, &wrong) && is_void(Mode::BestEffort, &wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_the_node_was_never_offered_was_not_sent() {
        let load = Load::fixed(64, Mode::BestEffort);
        let sent = SendCounts { best_effort_offered: 99, ..sent() };
        assert!(checked_slice(&load, &sent, &received()).is_err());
    }

    #[test]
    fn a_message_on_another_flow_voids_an_acknowledged_slice() {
        assert!(is_void(Mode::Acked, &SinkCounts { flows: vec![51, 49], ..received() }));
    }
}
