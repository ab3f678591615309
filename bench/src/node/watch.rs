//! What a measuring shard's counters add to a meter: looked at every few milliseconds by the task that measures.
//!
//! No other thread asks the shard for them, as that would wake a node that is measured asleep.

use std::time::Duration;

use cubed::{Instant, Shard, ShardStats};

use super::bodies::Mode;
use crate::meter::Meter;

/// Time between two looks: a look costs about a microsecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Counters of one shard, as last looked at.
#[derive(Debug)]
pub struct CounterWatch {
    meter: Meter,
    counts: Counts,
    seen: Seen,
    next_look: Instant,
}

/// What counts as a message.
#[derive(Debug, Clone, Copy)]
enum Counts {
    /// One that has a good outcome.
    Delivered,
    /// One that left.
    Sent,
    /// None: whoever measures counts them himself.
    Nothing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    messages: u64,
    retransmissions: u64,
}

impl CounterWatch {
    /// Watches messages sent by `mode`, and retransmissions; without a mode, those alone.
    pub fn new(shard: &Shard, meter: Meter, mode: Option<Mode>) -> Self {
        let counts = match mode {
            None => Counts::Nothing,
            Some(Mode::BestEffort) => Counts::Sent,
            Some(_) => Counts::Delivered,
        };
        let seen = shard.stats().map_or_else(Seen::default, |stats| counts.of(&stats));
        Self { meter, counts, seen, next_look: shard.now() + LOOK_INTERVAL }
    }

    /// Adds what happened since the last look, if that was a while ago.
    #[inline]
    pub fn look(&mut self, shard: &Shard, now: Instant) {
        if now >= self.next_look {
            self.look_at_once(shard);
            self.next_look = now + LOOK_INTERVAL;
        }
    }

    /// Adds what happened since the last look.
    pub fn look_at_once(&mut self, shard: &Shard) {
        // Statistics in use are looked at the next time: counters only grow.
        let Some(stats) = shard.stats() else { return };
        let seen = self.counts.of(&stats);
        self.meter.add_messages(seen.messages - self.seen.messages);
        self.meter.add_retransmissions(seen.retransmissions - self.seen.retransmissions);
        self.seen = seen;
    }
}

impl Counts {
    fn of(self, stats: &ShardStats) -> Seen {
        let messages = match self {
            Self::Delivered => stats.tally.delivered,
            Self::Sent => stats.counters.best_effort_sent,
            Self::Nothing => 0,
        };
        Seen { messages, retransmissions: stats.counters.blocks_resent }
    }
}
