//! The counting end of a throughput slice, in the serving node.
//!
//! Messages are checked where they arrive, in the inline handler, one after the other. Rates are
//! from the receiver's clock: from the turn of the first message to the turn of the last one.

use std::{cell::RefCell, rc::Rc};

use cubed::{Context, FlowError, Instant, Message, Shard};
use serde::{Deserialize, Serialize};

use super::{CONTROL_FLOW, SHARDS_FLOW, SINK_FLOW, owned_name};
use crate::{
    control::{Answer, Order},
    tag::TagChecker,
};

/// What the sink must know of a slice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SinkOrder {
    /// Body bytes of each message.
    pub size_bytes: usize,
}

/// What the sink counted in a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
}

/// The state of the slice that runs.
#[derive(Debug, Default)]
struct Sink {
    size_bytes: usize,
    checker: TagChecker,
    missized: u64,
    times: Option<(Instant, Instant)>,
}

impl Sink {
    fn begin(&mut self, order: SinkOrder) {
        *self = Self { size_bytes: order.size_bytes, ..Self::default() };
    }

    #[inline]
    fn handle(&mut self, body: &[u8], now: Instant) {
        if body.len() == self.size_bytes {
            self.checker.check(body);
        } else {
            self.missized += 1;
        }
        let (_, last) = self.times.get_or_insert((now, now));
        *last = now;
    }

    fn counts(&self) -> SinkCounts {
        let seconds = self
            .times
            .map_or(0.0, |(first, last)| last.saturating_duration_since(first).as_secs_f64());
        SinkCounts {
            seconds,
            delivered: self.checker.delivered(),
            duplicated: self.checker.duplicated(),
            disordered: self.checker.late(),
            missized: self.missized,
            next_message: self.checker.next(),
        }
    }
}

/// The number of the names that `shard` owns, both of them: see [`owned_name`].
fn owned_number(shard: &Shard, index: u8) -> Option<u32> {
    let owns = |kind, number| shard.owner(&owned_name(kind, number)) == index;
    // A number is right with a chance of 1 in shards squared.
    (0..NUMBERS_MAX).find(|number| owns(SINK_FLOW, *number) && owns(CONTROL_FLOW, *number))
}

/// Numbers tried: enough for 64 shards with a chance of failure below 10^-10 each.
const NUMBERS_MAX: u32 = 100_000;

/// Registers sink and control flow on `shard`, and the flow that tells of them.
///
/// # Errors
///
/// Those of the flows, when one of their names is taken.
pub fn register(shard: &Shard) -> Result<(), FlowError> {
    let sink = Rc::new(RefCell::new(Sink::default()));
    let counted = Rc::clone(&sink);
    let numbers: Vec<_> =
        (0..shard.count()).filter_map(|index| owned_number(shard, index)).collect();
    let number = numbers.get(usize::from(shard.index())).copied().unwrap_or_default();
    let told = serde_json::to_vec(&numbers).unwrap_or_default();
    shard.flow(SHARDS_FLOW).handler(move |_, context| {
        // Without room for the reply, the asker's deadline tells.
        let _ = context.reply(&told);
    })?;
    shard
        .flow(&owned_name(CONTROL_FLOW, number))
        .handler(move |message, context| control(&counted, message, context))?;
    shard.flow(&owned_name(SINK_FLOW, number)).takes_requests(false).handler(
        move |message, context| {
            sink.borrow_mut().handle(message.body(), context.now());
        },
    )
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

    #[test]
    fn a_new_slice_forgets_the_last_one() {
        let mut sink = Sink::default();
        let mut body = [0; 16];
        sink.begin(SinkOrder { size_bytes: 16 });
        for (number, nanos) in [(0, 100), (1, 100), (3, 2_000), (2, 3_100), (2, 3_100)] {
            write_tag(&mut body, number);
            sink.handle(&body, Instant::from_nanos(nanos));
        }
        sink.handle(&body[..9], Instant::from_nanos(3_100));
        let counts = sink.counts();
        assert!((counts.seconds - 3e-6).abs() < 1e-12);
        assert_eq!((counts.delivered, counts.duplicated, counts.next_message), (4, 1, 4));
        assert_eq!((counts.disordered, counts.missized), (1, 1));
        sink.begin(SinkOrder { size_bytes: 16 });
        assert_eq!(sink.counts(), SinkCounts::default());
    }
}
