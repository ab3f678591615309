//! Datagrams that reached another shard than the one they name, counted on both sides of a measurement.

use cubed::{Capacity, FlowError, Shard, ShardStats};
use serde::{Deserialize, Serialize};

use super::{STRAYS_FLOW, owned::owned_name};

/// Room for requests that wait for their answer; one comes at a time.
const QUEUE_BYTES: u64 = 64 << 10;

/// What some shards counted since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strays {
    /// Datagrams handed over to the shard that they name.
    pub handed: u64,
    /// Those that found no room on the way there.
    pub dropped: u64,
    /// Datagrams that an endpoint refused because they name another shard.
    pub misdelivered: u64,
}

impl Strays {
    /// One shard's.
    pub fn of(stats: &ShardStats) -> Self {
        Self {
            handed: stats.strays_handed,
            dropped: stats.strays_dropped,
            misdelivered: stats.counters.dropped_misdelivered,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            handed: self.handed + other.handed,
            dropped: self.dropped + other.dropped,
            misdelivered: self.misdelivered + other.misdelivered,
        }
    }
}

/// Registers the flow by which `shard` tells its counts: that of its index.
///
/// A queue and a task, since an inline handler runs while the shard's statistics are in use.
///
/// # Errors
///
/// Those of the flow, when its name is taken.
pub fn register(shard: &Shard) -> Result<(), FlowError> {
    let name = owned_name(STRAYS_FLOW, shard.index().into());
    let mut queue = shard.flow(&name).queue(Capacity::bytes(QUEUE_BYTES))?;
    let here = shard.clone();
    shard.spawn_local(async move {
        while let Some(batch) = queue.next_batch().await {
            let counts = here.stats().map(|stats| Strays::of(&stats)).unwrap_or_default();
            let text = serde_json::to_vec(&counts).unwrap_or_default();
            for message in &batch {
                // Without room for the reply, the asker's deadline tells.
                let _ = message.reply(&text);
            }
        }
    });
    Ok(())
}
