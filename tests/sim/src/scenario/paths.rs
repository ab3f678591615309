//! Scenarios of paths that change: what they carry shrinks and grows again, and a peer's address moves while somebody copies
//! datagrams and sends them from elsewhere.
//!
//! Nothing may be lost or doubled; nobody but the peer itself moves it.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Service};

use super::{PLAIN, Report, expect, expect_all_delivered, finish, ms, plan_messages, single_pair};
use crate::ledger::Kind;
use crate::link::{LinkConfig, up_to};
use crate::script::{Action, Fault};
use crate::world::World;

/// How long a node may take to notice that the path carries less.
const ADAPTED: Duration = ms(3_000);
/// Bytes of the flow during which a peer moves.
const FLOW_BYTES: u64 = 10_000_000;

fn set_limit(world: &mut World, at: Duration, ways: &[(usize, usize)], config: &LinkConfig) {
    for &(from, to) in ways {
        world.at(at, Action::SetLink { from, to, config: config.clone() });
    }
}

/// The longest datagram that passes falls mid-stream, one way or both, to somewhere from 1,200 to 1,451 bytes, and rises again
/// later. Nobody is told.
///
/// # Errors
///
/// A breach; messages sent before the fall that are not delivered 3 s after it; a sender that still sends longer
/// datagrams then; one that does not use the longer ones again after ten minutes.
pub fn path_limit(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x3_1a4);
    let open = LinkConfig {
        loss: [0, 0, 10_000][plan.below(3) as usize],
        reorder: [0, 20_000][plan.below(2) as usize],
        reorder_delay: ms(3),
        delay: ms(1) + up_to(ms(40), &mut plan),
        datagram_bytes_max: 1_472,
        ..LinkConfig::default()
    };
    let limit = 1_200 + plan.below(252) as usize;
    let narrow = LinkConfig { datagram_bytes_max: limit, ..open.clone() };
    let both = [(0, 1), (1, 0)];
    let narrowed = [&both[..], &both[..1]][plan.below(2) as usize];
    let (mut world, mut plan) = single_pair(seed, &open, &Limits::default())?;
    for way in both {
        let span = (Duration::ZERO, ms(6_000));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 120, span);
        plan_messages(&mut world, &mut plan, way, Service::BestEffort, 20, span);
    }
    let fell = ms(1_000) + up_to(ms(1_000), &mut plan);
    set_limit(&mut world, fell, narrowed, &narrow);
    world.run_until(fell)?;
    let sent = world.ledger.entries().len();
    world.run_until(fell + ADAPTED)?;
    for entry in &world.ledger.entries()[..sent] {
        let arrived = entry.outcome == Some(Outcome::Delivered);
        expect(&world, arrived || entry.kind == Kind::BestEffort, || {
            format!("not delivered 3 s after the path shrank to {limit}: {entry:?}")
        })?;
    }
    world.run_until_settled(ms(6_000), ms(60_000))?;
    expect_all_delivered(&world)?;
    for &(from, to) in narrowed {
        let found = world.path_limit(from, to).map_or(0, usize::from);
        expect(&world, found <= limit && found >= 1_200, || format!("{found} of {limit}"))?;
    }

    let risen = fell + Duration::from_mins(11);
    set_limit(&mut world, risen, narrowed, &open);
    let later = risen + Duration::from_mins(1);
    for way in both {
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 20, (later, ms(2_000)));
    }
    world.run_until_settled(later + ms(3_000), later + ms(60_000))?;
    expect_all_delivered(&world)?;
    for (from, to) in both {
        let found = world.path_limit(from, to);
        expect(&world, found == Some(1_440), || format!("{from} to {to} is still at {found:?}"))?;
    }
    finish(world)
}

/// A node's address changes at 1 s and then every 5 s during a flow of 10 MB, from it or to it; somebody copies datagrams.
///
/// # Errors
///
/// A breach; a message not delivered; a move not followed, or a session given up for it.
pub fn rebinding(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x4_1a4);
    let rate = 800_000 + plan.below(700_000);
    let link = LinkConfig {
        loss: [0, 2_000][plan.below(2) as usize],
        delay: ms(2) + up_to(ms(40), &mut plan),
        rate: Some(8 * rate),
        queue_bytes_max: Some(128 << 10),
        ..LinkConfig::default()
    };
    let spoofed = LinkConfig { spoof: 5_000 + plan.below(20_000) as u32, ..link.clone() };
    let (mut world, _) = single_pair(seed, &link, &Limits::default())?;
    let service = Service::Acknowledged;
    let bulk = [(0, 1), (1, 0)][plan.below(2) as usize];
    let bytes = 20_000;
    let span = Duration::from_secs_f64(FLOW_BYTES as f64 / rate as f64);
    for _ in 0..FLOW_BYTES / bytes as u64 {
        let (from, to) = bulk;
        let at = up_to(span, &mut plan);
        world.at(at, Action::Send { from, to, flow: PLAIN, bytes, service });
    }
    // Whoever moves says a word now and then: nobody else can know where it is.
    let moves = 1 + (span.as_secs().saturating_sub(1)) / 5;
    let until = ms(1_000 + 5_000 * moves);
    for n in 0..until.as_millis() as u64 / 200 {
        for (from, to) in [(0, 1), (1, 0)] {
            world.at(ms(200 * n), Action::Send { from, to, flow: PLAIN, bytes: 40, service });
        }
    }
    for n in 0..moves {
        let host = [10, 0, 0, 0];
        let host = if plan.below(2) == 0 { host } else { [192, 0, 2, 1 + n as u8] };
        let address = (host, 40_000 + n as u16).into();
        world.at(ms(1_000 + 5_000 * n), Action::Move { node: 0, address });
    }
    // The handshake is not what is tested here.
    set_limit(&mut world, ms(500), &[(0, 1), (1, 0)], &spoofed);
    world.run_until_settled(until, until + ms(60_000))?;
    expect_all_delivered(&world)?;
    let counters = world.counters(1).unwrap_or_default();
    expect(&world, counters.paths_validated == moves && counters.sessions_begun == 1, || {
        format!("{moves} moves: {}", world.describe())
    })?;
    let believed = world.peer_address(1, 0);
    expect(&world, believed == Some(world.address(0)), || format!("at {believed:?}"))?;
    let copies = world.link_counters(0, 1).map_or(0, |link| link.spoofed);
    expect(&world, copies > 0 && counters.dropped_replayed > 0, || "no spoofer".into())?;
    finish(world)
}
