//! CPU time of a node that has nothing to do: of each shard, with nobody watched and with many peers watched.

use std::{
    thread,
    time::{Duration, Instant},
};

use cubed::{PresenceEvents, block_on};
use serde_json::json;

use super::{
    args::WatchArgs,
    guest,
    host::{Guests, Host},
    sheet::Sheet,
    usage::shard_times,
};
use crate::{
    error::{BenchError, Result},
    pairs::checked_seconds,
};

/// Time for adaptive spinning to end before the CPU is looked at.
const CALM: Duration = Duration::from_millis(500);

/// Runs the command.
///
/// # Errors
///
/// Those of host and crowd.
pub fn run(args: &WatchArgs) -> Result<Sheet> {
    checked_seconds(args.seconds)?;
    let mut sheet = Sheet::new("scale watch");
    let host = Host::start(&args.machine, args.peers)?;
    look(args, &host, 0, &mut sheet)?;
    let mut guests = Guests::start(&host, 0, args.peers, 1)?;
    guests.come(0)?;
    host.await_guests(args.peers as u64, 0)?;
    let watch = |number: usize| {
        let key = guest::identity(number as u64).public_key();
        block_on(host.node().watch(key)).map_err(|error| BenchError::Peer(error.to_string()))
    };
    let watched = (0..args.peers).map(watch).collect::<Result<Vec<PresenceEvents>>>()?;
    look(args, &host, watched.len(), &mut sheet)?;
    drop(watched);
    guests.rest()?;
    Ok(sheet)
}

/// One row for each shard.
fn look(args: &WatchArgs, host: &Host, watched: usize, sheet: &mut Sheet) -> Result<()> {
    thread::sleep(CALM);
    let heartbeats = || Ok::<_, BenchError>(host.stats()?.counter("heartbeats_sent").unwrap_or(0));
    let asked = heartbeats()?;
    let (before, begun) = (shard_times()?, Instant::now());
    thread::sleep(Duration::from_secs_f64(args.seconds));
    let (after, seconds) = (shard_times()?, begun.elapsed().as_secs_f64());
    let asked = heartbeats()? - asked;
    for (shard, after) in after {
        let before = before.get(&shard).copied().unwrap_or_default();
        let used = after.saturating_sub(before).as_secs_f64();
        sheet.add(vec![
            ("shard", json!(shard)),
            ("watched_by_node", json!(watched)),
            ("seconds", json!(seconds)),
            ("heartbeats_of_node", json!(asked)),
            ("cpu_ms", json!(used * 1e3)),
            ("cpu_percent", json!(used / seconds * 100.0)),
        ]);
    }
    Ok(())
}
