//! Resident memory per idle association: of a node with real sockets, and of the protocol engine alone.

use serde_json::json;

use super::{
    args::IdleArgs,
    host::{Guests, Host},
    memory_network::MemoryNetwork,
    sheet::Sheet,
    usage::resident_bytes,
};
use crate::error::Result;

/// Bytes per idle peer that are aimed at.
const GOAL_BYTES: f64 = 2_048.0;

/// Guests that come before memory is first read, so that what a host allocates once is there already.
const WARM_UP: usize = 10;

/// Runs the command. The node stays until the end: what it freed would hide what the endpoint takes.
///
/// # Errors
///
/// Those of the hosts and their guests.
pub fn run(args: &IdleArgs) -> Result<Sheet> {
    let mut sheet = Sheet::new("scale idle");
    let sorted = |counts: &[usize]| {
        let mut counts: Vec<_> = counts.iter().copied().filter(|count| *count > 0).collect();
        counts.sort_unstable();
        counts
    };
    let (sockets, peers) = (sorted(&args.sockets), sorted(&args.peers));
    let host = sockets.last().map(|most| Host::start(&args.machine, most + WARM_UP)).transpose()?;
    if let Some(host) = &host {
        on_sockets(args, host, &sockets, &mut sheet)?;
    }
    if !peers.is_empty() {
        in_memory(args, &peers, &mut sheet)?;
    }
    Ok(sheet)
}

/// One node, looked at each time that it has so many sessions more than at the start.
fn on_sockets(args: &IdleArgs, host: &Host, counts: &[usize], sheet: &mut Sheet) -> Result<()> {
    let mut crowds = Vec::new();
    let mut come = |from: usize, until: usize| -> Result<()> {
        let mut guests = Guests::start(host, from, until - from, 1)?;
        guests.come(args.messages)?;
        let until = until as u64;
        host.await_guests(until, until * args.messages)?;
        crowds.push(guests);
        Ok(())
    };
    come(0, WARM_UP)?;
    let before = resident_bytes()?;
    let mut here = 0;
    for &count in counts {
        if count > here {
            come(WARM_UP + here, WARM_UP + count)?;
            here = count;
        }
        add(sheet, "node on sockets", count, resident_bytes()?.saturating_sub(before));
    }
    crowds.iter_mut().try_for_each(|guests| guests.rest().map(|_| ()))
}

/// One endpoint in memory, looked at in the same way.
fn in_memory(args: &IdleArgs, counts: &[usize], sheet: &mut Sheet) -> Result<()> {
    let most = counts.last().copied().unwrap_or_default();
    let mut network = MemoryNetwork::new(most + WARM_UP)?;
    for _ in 0..WARM_UP {
        network.welcome(args.messages)?;
    }
    let before = resident_bytes()?;
    for &count in counts {
        while network.sessions() < (WARM_UP + count) as u64 {
            network.welcome(args.messages)?;
        }
        add(sheet, "endpoint in memory", count, resident_bytes()?.saturating_sub(before));
    }
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
