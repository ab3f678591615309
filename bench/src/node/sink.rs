//! The counting end of a throughput slice, in the serving node.
//!
//! Messages are checked where they arrive, in the inline handler, one after the other. Rates are
//! from the receiver's clock: from the turn of the first message to the turn of the last one.

use std::{cell::RefCell, rc::Rc};

use cubed::{Context, FlowError, Instant, Message, Shard, runtime::clock::Clock};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{SHARDS_FLOW, bodies::read_stamp, owned::OwnedFlows};
use crate::{
    control::{Answer, Order},
    preempted::{Preempted, PreemptionWatch},
    stats::{HistogramCounts, latency_histogram, record_latency},
    tag::TagChecker,
};

/// What the sink must know of a slice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SinkOrder {
    /// Body bytes of each message; `None` when they differ.
    pub size_bytes: Option<usize>,
    /// Bodies may carry stamps.
    pub stamped: bool,
    /// Our clock less the sender's, in ns: 0 on one machine.
    #[serde(default)]
    pub offset_nanos: i64,
}

/// What the sink counted in a slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkCounts {
    /// From the turn of the first message to that of the last one.
    pub seconds: f64,
    /// Distinct messages.
    pub delivered: u64,
    /// Messages met more than once.
    pub duplicated: u64,
    /// Messages that came after one with a higher number.
    pub disordered: u64,
    /// Messages of another length than the slice's.
    pub missized: u64,
    /// One more than the highest message number met.
    pub next_message: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Messages to each flow, up to the last that had one.
    pub flows: Vec<u64>,
    /// Times of the stamped messages from when they were due to their handler, in ns.
    pub latencies: HistogramCounts,
    /// Stamped messages that by the clocks came before they were due: not among the times. The clocks are wrong by more than
    /// their times then.
    #[serde(default)]
    pub before_due: u64,
    /// What the shard waited for its core since the slice began.
    #[serde(default)]
    pub preempted: Preempted,
}

/// The state of the slice that runs.
#[derive(Debug)]
pub(crate) struct Sink {
    order: SinkOrder,
    checker: TagChecker,
    missized: u64,
    bytes: u64,
    flows: Vec<u64>,
    latencies: Histogram<u64>,
    before_due: u64,
    times: Option<(Instant, Instant)>,
    clock: Clock,
    preemption: PreemptionWatch,
}

impl Sink {
    /// A sink of so many flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self {
            order: SinkOrder { size_bytes: None, stamped: false, offset_nanos: 0 },
            checker: TagChecker::new(),
            missized: 0,
            bytes: 0,
            flows: vec![0; flows],
            latencies: latency_histogram(),
            before_due: 0,
            times: None,
            clock: Clock::new(),
            preemption: PreemptionWatch::begin(),
        }
    }

    /// Counts from nothing.
    pub(crate) fn begin(&mut self, order: SinkOrder) {
        *self = Self { order, ..Self::new(self.flows.len()) };
    }

    #[inline]
    pub(crate) fn handle(&mut self, flow: usize, body: &[u8], now: Instant) {
        if self.order.size_bytes.is_none_or(|size| size == body.len()) {
            self.checker.check(body);
        } else {
            self.missized += 1;
        }
        self.flows[flow] += 1;
        self.bytes += body.len() as u64;
        if self.order.stamped {
            self.record(body);
        }
        let (_, last) = self.times.get_or_insert((now, now));
        *last = now;
    }

    /// The time of the turn would leave out what came before this message in it, so the clock is read.
    fn record(&mut self, body: &[u8]) {
        if let Some(due_nanos) = read_stamp(body) {
            let due_nanos = due_nanos.saturating_add_signed(self.order.offset_nanos);
            match self.clock.now_nanos().checked_sub(due_nanos) {
                Some(nanos) => record_latency(&mut self.latencies, nanos),
                None => self.before_due += 1,
            }
        }
    }

    /// Adds the times so far to `latencies`; how many messages came.
    pub(crate) fn add_to(&self, latencies: &mut Histogram<u64>) -> u64 {
        // All histograms of latencies have the same bounds.
        let _ = latencies.add(&self.latencies);
        self.checker.delivered()
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> SinkCounts {
        let seconds = self
            .times
            .map_or(0.0, |(first, last)| last.saturating_duration_since(first).as_secs_f64());
        let used = self.flows.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        SinkCounts {
            seconds,
            delivered: self.checker.delivered(),
            duplicated: self.checker.duplicated(),
            disordered: self.checker.late(),
            missized: self.missized,
            next_message: self.checker.next(),
            bytes: self.bytes,
            flows: self.flows[..used].to_vec(),
            latencies: HistogramCounts::of(&self.latencies),
            before_due: self.before_due,
            preempted: self.preemption.so_far(),
        }
    }
}

/// Registers the sinks, the control flow and the echo of `shard`, and the flow that tells of those of all shards: so each name is at
/// the shard that owns it, and nothing is handed from shard to shard.
///
/// # Errors
///
/// Those of the flows, when one of their names is taken.
pub fn register(shard: &Shard, flows: usize) -> Result<(), FlowError> {
    let sink = Rc::new(RefCell::new(Sink::new(flows)));
    let counted = Rc::clone(&sink);
    let all: Vec<_> =
        (0..shard.count()).map(|index| OwnedFlows::choose(shard, index, flows)).collect();
    let own = all[usize::from(shard.index())].clone();
    let told = serde_json::to_vec(&all).unwrap_or_default();
    shard.flow(SHARDS_FLOW).handler(move |_, context| {
        // Without room for the reply, the asker's deadline tells.
        let _ = context.reply(&told);
    })?;
    shard
        .flow(&own.control())
        .handler(move |message, context| control(&counted, message, context))?;
    shard.flow(&own.echo()).handler(|message, context| {
        // Without room for the reply, the asker counts a loss.
        let _ = context.reply(message.body());
    })?;
    own.sinks().enumerate().try_for_each(|(flow, name)| {
        let sink = Rc::clone(&sink);
        shard.flow(&name).takes_requests(false).handler(move |message, context| {
            sink.borrow_mut().handle(flow, message.body(), context.now());
        })
    })
}

/// Answers one request to begin or end a slice.
fn control(sink: &RefCell<Sink>, message: &Message<'_>, context: &mut Context<'_>) {
    let answer = match serde_json::from_slice(message.body()) {
        Ok(Order::Begin(order)) => {
            sink.borrow_mut().begin(order);
            Answer::Begun
        }
        Ok(Order::End) => Answer::Report(sink.borrow().counts()),
        Err(error) => Answer::Failed(format!("order not understood: {error}")),
    };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    // Without room for the reply, or when this is no request, the asker's deadline tells.
    let _ = context.reply(&text);
}

#[cfg(test)]
mod tests {
    //! Goal: counts and seconds are those of the slice that runs.
    use super::*;
    use crate::tag::write_tag;

    fn order() -> SinkOrder {
        SinkOrder { size_bytes: Some(16), stamped: false, offset_nanos: 0 }
    }

    #[test]
    fn a_new_slice_forgets_the_last_one() {
        let mut sink = Sink::new(3);
        let mut body = [0; 16];
        sink.begin(order());
        for (number, nanos) in [(0, 100), (1, 100), (3, 2_000), (2, 3_100), (2, 3_100)] {
            write_tag(&mut body, number);
            sink.handle(1, &body, Instant::from_nanos(nanos));
        }
        sink.handle(0, &body[..9], Instant::from_nanos(3_100));
        let counts = sink.counts();
        assert!((counts.seconds - 3e-6).abs() < 1e-12);
        assert_eq!((counts.delivered, counts.duplicated, counts.next_message), (4, 1, 4));
        assert_eq!((counts.disordered, counts.missized, counts.bytes), (1, 1, 89));
        assert_eq!(counts.flows, [1, 5]);
        sink.begin(order());
        let counts = sink.counts();
        assert_eq!(counts, SinkCounts { preempted: counts.preempted, ..SinkCounts::default() });
        sink.handle(2, &body, Instant::from_nanos(4_000));
        assert_eq!(sink.counts().flows, [0, 0, 1]);
    }

    #[test]
    fn stamped_messages_alone_are_timed_and_only_when_asked_for() {
        let mut sink = Sink::new(1);
        let mut body = [0; 16];
        for (stamped, wanted) in [(true, 1), (false, 0)] {
            sink.begin(SinkOrder { stamped, ..order() });
            for stamp in [0, 1_u64] {
                body[8..].copy_from_slice(&stamp.to_le_bytes());
                sink.handle(0, &body, Instant::from_nanos(5));
            }
            assert_eq!(sink.counts().latencies.histogram().len(), wanted);
        }
    }

    #[test]
    fn a_message_before_its_time_is_counted_and_not_timed() {
        let mut sink = Sink::new(1);
        let mut body = [0; 16];
        // Our clock is said to be an hour ahead of the sender's, which it is not.
        sink.begin(SinkOrder { stamped: true, offset_nanos: 3_600_000_000_000, ..order() });
        body[8..].copy_from_slice(&Clock::new().now_nanos().to_le_bytes());
        sink.handle(0, &body, Instant::from_nanos(5));
        let counts = sink.counts();
        assert_eq!((counts.before_due, counts.latencies.histogram().len()), (1, 0));
    }
}
