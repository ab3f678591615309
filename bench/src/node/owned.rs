//! The flows of the serving node that one shard has for itself: names that placement puts on it, so that what a measuring shard sends
//! reaches that shard and is not handed on to another.
//!
//! Placement is random per start, so numbers are tried until a name falls on the shard, and the serving node tells which they are.

use cubed::Shard;
use serde::{Deserialize, Serialize};

use super::{CONTROL_FLOW, ECHO_FLOW, SINK_FLOW};

/// Numbers tried: with 255 shards one in 255 is right.
const NUMBERS_MAX: u32 = 1_000_000;

/// The name of a shard's own flow of a kind, for the number that the serving node chose.
pub fn owned_name(kind: &str, number: u32) -> String {
    format!("{kind}.{number}")
}

/// The numbers in the names of one shard's own flows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedFlows {
    /// That of its control flow.
    control: u32,
    /// That of its echo.
    echo: u32,
    /// Those of its sinks.
    sinks: Vec<u32>,
}

impl OwnedFlows {
    /// Those of shard `index` of the node that `shard` is of, with so many sinks.
    pub fn choose(shard: &Shard, index: u8, sinks: usize) -> Self {
        let owned = |kind| {
            let owns = move |number: &u32| shard.owner(&owned_name(kind, *number)) == index;
            (0..NUMBERS_MAX).filter(owns)
        };
        let first = |kind| owned(kind).next().unwrap_or_default();
        let sinks = owned(SINK_FLOW).take(sinks).collect();
        Self { control: first(CONTROL_FLOW), echo: first(ECHO_FLOW), sinks }
    }

    /// Name of the flow that begins and ends slices.
    pub fn control(&self) -> String {
        owned_name(CONTROL_FLOW, self.control)
    }

    /// Name of the flow that answers with what it was asked.
    pub fn echo(&self) -> String {
        owned_name(ECHO_FLOW, self.echo)
    }

    /// Names of the flows that count.
    pub fn sinks(&self) -> impl ExactSizeIterator<Item = String> {
        self.sinks.iter().map(|number| owned_name(SINK_FLOW, *number))
    }
}
