//! Resident memory per idle association: of a node with real sockets, and of the protocol engine alone.
//!
//! Peers come in waves, and before each next one all are dormant. What a peer takes while it speaks is then the memory that an
//! earlier one gave back, and the first wave is not counted: an allocator keeps what it was given back.

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

/// Guests that come before memory is first read, beside a wave: what a host allocates once is there already.
const WARM_UP: usize = 10;

/// Guests that come at once in memory, where silence costs no time, and on sockets.
const WAVE_IN_MEMORY: usize = 100;
const WAVE_ON_SOCKETS: usize = 1_000;

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
    let host =
        sockets.last().map(|most| Host::start(&args.machine, 2 * most + WARM_UP)).transpose()?;
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
    let mut here = 0;
    let mut come = |until: usize| -> Result<()> {
        while here < until {
            let wave = WAVE_ON_SOCKETS.min(until - here);
            let mut guests = Guests::start(host, here, wave, 1)?;
            guests.come(args.messages)?;
            here += wave;
            let here = here as u64;
            host.await_guests(here, here * args.messages)?;
            host.await_rest(here)?;
            crowds.push(guests);
        }
        Ok(())
    };
    let warm_up = WARM_UP + WAVE_ON_SOCKETS.min(counts.last().copied().unwrap_or_default());
    come(warm_up)?;
    let before = resident_bytes()?;
    for &count in counts {
        come(warm_up + count)?;
        add(sheet, "node on sockets", count, resident_bytes()?.saturating_sub(before));
    }
    crowds.iter_mut().try_for_each(|guests| guests.rest().map(|_| ()))
}

/// One endpoint in memory, looked at in the same way.
fn in_memory(args: &IdleArgs, counts: &[usize], sheet: &mut Sheet) -> Result<()> {
    let most = counts.last().copied().unwrap_or_default();
    let warm_up = WARM_UP + WAVE_IN_MEMORY.min(most);
    let mut network = MemoryNetwork::new(warm_up + most)?;
    let mut come = |until: usize| -> Result<()> {
        for here in network.sessions() as usize..until {
            network.welcome(args.messages)?;
            if here % WAVE_IN_MEMORY == 0 {
                network.rest()?;
            }
        }
        network.rest()
    };
    come(warm_up)?;
    let before = resident_bytes()?;
    for &count in counts {
        come(warm_up + count)?;
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
