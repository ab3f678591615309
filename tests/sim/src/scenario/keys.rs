//! Keys that wear out fast over bad links, and peers that restart unseen.
//!
//! Owns the bounds on how long a change of keys may hold traffic up, and on how soon a restart is noticed.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{EndCause, Limits, Outcome, Service};

use super::{PLAIN, Report, expect, expect_all_delivered, finish, ms, plan_messages, single_pair};
use crate::link::{LinkConfig, up_to};
use crate::script::{Action, Fault, Seen};

/// Keys change each second and each 2^10 packets, whichever comes first, under load both ways over a link that loses,
/// repeats, damages, reorders and, in every other seed, is cut for a second.
///
/// # Errors
///
/// A breach, a message that is not delivered, no change of keys, or traffic that stands still for 5 probe timeouts.
pub fn rekey(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x7_1a4);
    let delay = Duration::from_micros(100) + up_to(ms(10), &mut plan);
    let (jitter, reorder_delay) = (up_to(ms(2), &mut plan), ms(5));
    let cut = (ms(2_000), ms(3_000));
    let link = LinkConfig {
        loss: 20_000,
        duplicate: 50_000,
        corrupt: 5_000,
        reorder: 50_000,
        reorder_delay,
        delay,
        jitter,
        partitions: if seed.is_multiple_of(2) { vec![cut] } else { Vec::new() },
        ..LinkConfig::default()
    };
    let limits = Limits {
        packets_per_key: 1 << 10,
        packets_per_key_stop: 1 << 11,
        rekey_after: ms(1_000),
        ..Limits::default()
    };
    let (mut world, mut plan) = single_pair(seed, &link, &limits)?;
    let load = ms(5_000);
    for (from, to) in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, (from, to), Service::BestEffort, 50, (ms(0), load));
        for _ in 0..1_000 {
            let (bytes, service) = (plan.below(4_000) as usize, Service::Acknowledged);
            let at = up_to(load, &mut plan);
            world.at(at, Action::Send { from, to, flow: PLAIN, bytes, service });
        }
    }
    // A probe timeout is at most a round trip with all its delays, four times as much of variation, and 1 ms.
    let probe_timeout = 5 * 2 * (delay + jitter + reorder_delay) + ms(1);
    let (step, mut arrived, mut still) = (ms(5), 0, Duration::ZERO);
    world.run_until(ms(200))?;
    while world.age() < load {
        world.run_until(world.age() + step)?;
        // After a cut the next probe may be a second away.
        let is_cut = seed.is_multiple_of(2) && (cut.0..cut.1 + ms(1_200)).contains(&world.age());
        let now = world.ledger.sums().arrived;
        still = if now > arrived || is_cut { Duration::ZERO } else { still + step };
        arrived = now;
        expect(&world, still < 5 * probe_timeout, || {
            format!("nothing arrived for {still:?}. {}", world.describe())
        })?;
    }
    world.run_until_settled(load, ms(60_000))?;
    expect_all_delivered(&world)?;
    // Whatever handshakes were under way end, and old keys go.
    world.run_until(world.age() + ms(10_000))?;
    for node in 0..2 {
        let counters = world.counters(node).unwrap_or_default();
        expect(&world, counters.rekeys >= 3, || format!("few rekeys: {}", world.describe()))?;
        let left = counters.associations_established - counters.associations_erased;
        expect(&world, left == 1, || format!("{left} keys are left: {}", world.describe()))?;
        expect(&world, counters.sessions_begun == 1, || world.describe())?;
    }
    finish(world)
}

/// A node restarts while nobody speaks, and somebody sends forged notices of restarts all the time.
///
/// # Errors
///
/// A breach; a session that is not replaced within two round trips and a handshake of the next datagram; a forged notice
/// that makes anybody dial.
pub fn restart_noticed(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x8_1a4);
    let delay = Duration::from_micros(100) + up_to(ms(40), &mut plan);
    let link = LinkConfig { delay, duplicate: 50_000, ..LinkConfig::default() };
    let (mut world, mut plan) = single_pair(seed, &link, &Limits::default())?;
    let acknowledged = Service::Acknowledged;
    for way in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, way, acknowledged, 20, (Duration::ZERO, ms(300)));
    }
    for _ in 0..100 {
        let mut forged = vec![5, 0, 0, 0, 0, 0, 0, 1];
        plan.fill(&mut forged[2..6]);
        forged.extend_from_slice(&plan.next_u64().to_le_bytes());
        world.inject(up_to(ms(3_000), &mut plan), (1, 0), forged);
    }
    world.run_until_settled(ms(300), ms(5_000))?;
    let dials = world.counters(0).unwrap_or_default().dials_begun;
    let killed = world.age() + up_to(ms(1_000), &mut plan);
    let spoken = killed + ms(100) + up_to(ms(2_000), &mut plan);
    world.at(killed, Action::Kill(1));
    world.at(killed + up_to(ms(100), &mut plan), Action::Restart(1));
    let message =
        |bytes| Action::Send { from: 0, to: 1, flow: PLAIN, bytes, service: acknowledged };
    world.at(spoken, message(100));
    world.run_until(spoken)?;
    let counters = world.counters(0).unwrap_or_default();
    let unmoved = counters.dials_begun == dials && counters.restarts_heard == 0;
    expect(&world, unmoved, || format!("forged notices moved it: {}", world.describe()))?;

    let handshake = 4 * delay;
    world.run_until(spoken + 4 * delay + handshake + ms(1))?;
    let ended = |seen: &Seen| *seen == Seen::SessionEnded(EndCause::NewIncarnation);
    let at = world.first_seen(spoken, 0, 1, ended);
    expect(&world, at.is_some(), || format!("not noticed in time: {}", world.describe()))?;
    world.at(world.age(), message(200));
    let planned = world.age().max(ms(3_100));
    world.run_until_settled(planned, ms(30_000))?;
    let last = world.ledger.entries().last().and_then(|entry| entry.outcome);
    expect(&world, last == Some(Outcome::Delivered), || world.describe())?;
    let counters = world.counters(0).unwrap_or_default();
    let counts = (counters.restarts_heard, counters.dropped_restarted >= 100);
    expect(&world, counts == (1, true), || world.describe())?;
    finish(world)
}
