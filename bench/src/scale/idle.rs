//! Resident memory per idle association: of an endpoint alone, and of a node with real sockets.

use serde_json::json;

use super::{args::IdleArgs, memory_network::MemoryNetwork, sheet::Sheet, usage::resident_bytes};
use crate::{commands::say, error::Result};

/// Bytes per idle peer that are aimed at.
const GOAL_BYTES: f64 = 2_048.0;

/// Guests that come before memory is first read, so that what the host allocates once is there already.
const WARM_UP: usize = 10;

/// Runs the command.
///
/// # Errors
///
/// Those of the host and its guests.
pub fn run(args: &IdleArgs) -> Result<Sheet> {
    let mut sheet = Sheet::new("scale idle");
    let mut counts = args.peers.clone();
    counts.sort_unstable();
    in_memory(args, &counts, &mut sheet)?;
    Ok(sheet)
}

/// One host in memory, looked at each time that it has so many sessions.
fn in_memory(args: &IdleArgs, counts: &[usize], sheet: &mut Sheet) -> Result<()> {
    let most = counts.last().copied().unwrap_or_default();
    let mut network = MemoryNetwork::new(most + WARM_UP)?;
    for _ in 0..WARM_UP {
        network.welcome(args.messages)?;
    }
    let before = resident_bytes()?;
    let mut here = 0;
    for &count in counts {
        while here < count {
            network.welcome(args.messages)?;
            here += 1;
        }
        let bytes = resident_bytes()?.saturating_sub(before);
        add(sheet, "endpoint in memory", count, bytes);
    }
    say(&format!("the endpoint in memory has {} sessions", network.sessions()));
    Ok(())
}

fn add(sheet: &mut Sheet, what: &'static str, peers: usize, bytes: u64) {
    let each = bytes as f64 / peers.max(1) as f64;
    sheet.add(vec![
        ("host", json!(what)),
        ("peers", json!(peers)),
        ("resident_bytes", json!(bytes)),
        ("bytes_per_peer", json!(each)),
        ("over_goal", json!(each / GOAL_BYTES)),
    ]);
}
