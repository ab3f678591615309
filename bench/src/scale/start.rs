//! Many peers that start at once against one node: how long until all are connected, and what was lost on the way.

use serde_json::json;

use super::{
    args::StartArgs,
    host::{Arrivals, Guests, Host},
    sheet::Sheet,
};
use crate::{commands::say, error::Result};

/// Guests that come afterwards, for each shard: the kernel tells a socket's drops with the next datagram that it takes.
const LATE_GUESTS: usize = 8;

/// Runs the command.
///
/// # Errors
///
/// Those of host and crowd.
pub fn run(args: &StartArgs) -> Result<Sheet> {
    let mut sheet = Sheet::new("scale start");
    let host = Host::start(&args.machine, args.peers + LATE_GUESTS * args.machine.shards)?;
    let mut guests = Guests::start(&host, 0, args.peers, args.processes)?;
    guests.come(1)?;
    let count = args.peers as u64;
    host.await_guests(count, count)?;
    let crowd = guests.rest()?;
    say(&format!("{} peers are connected", crowd.connected_ns.len()));
    let late = LATE_GUESTS * args.machine.shards;
    let mut late_guests = Guests::start(&host, args.peers, late, 1)?;
    late_guests.come(1)?;
    host.await_guests(count + late as u64, count + late as u64)?;
    let late_crowd = late_guests.rest()?;
    let Arrivals { received, kernel_drops, side_drops } = host.arrivals()?;
    let sent = crowd.datagrams_sent + late_crowd.datagrams_sent;
    let accounted = received + kernel_drops + side_drops;
    let stats = host.stats()?;
    let counted = |name| json!(stats.counter(name).unwrap_or_default());
    let milliseconds = |part: f64| {
        let last = crowd.connected_ns.len().saturating_sub(1);
        let nanos = crowd.connected_ns.get((last as f64 * part) as usize).copied();
        json!(nanos.unwrap_or_default() as f64 / 1e6)
    };
    sheet.add(vec![
        ("peers", json!(args.peers)),
        ("connected", json!(crowd.connected_ns.len())),
        ("half_ms", milliseconds(0.5)),
        ("all_ms", milliseconds(1.0)),
        ("redials", json!(crowd.redials)),
        ("cookies", counted("cookies_sent")),
        ("sent_to_node", json!(sent)),
        ("read", json!(received)),
        ("kernel_drops", json!(kernel_drops)),
        ("side_drops", json!(side_drops)),
        ("uncounted", json!(sent as i64 - accounted as i64)),
    ]);
    Ok(sheet)
}
