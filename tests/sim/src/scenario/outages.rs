//! Scenarios of outages: nodes that die, restart or dial at once, paths that are cut, and somebody who
//! repeats what was sent.
//!
//! Messages may end as unknown or lost here, but never twice, and always in time.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{DownCause, EndCause, Limits, Outcome, Service};

use super::{Report, expect, expect_all_delivered, finish, ms, pair, plan_messages, single_pair};
use crate::link::{LinkConfig, up_to};
use crate::script::{Action, Fault, Seen};

/// The receiver's process is killed under load and comes back as a new incarnation.
///
/// # Errors
///
/// A breach, or messages after the restart that are not delivered.
pub fn restart(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig { loss: 20_000, delay: ms(5), ..LinkConfig::default() };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    let acknowledged = Service::Acknowledged;
    plan_messages(&mut world, &mut plan, (0, 1), acknowledged, 60, (Duration::ZERO, ms(1_000)));
    plan_messages(&mut world, &mut plan, (1, 0), acknowledged, 20, (Duration::ZERO, ms(300)));
    let killed = ms(400) + up_to(ms(300), &mut plan);
    let back = killed + up_to(ms(2_000), &mut plan);
    world.at(killed, Action::Kill(1));
    world.at(back, Action::Restart(1));
    let later = back + ms(8_000);
    world.run_until_settled(later, ms(60_000))?;

    let first_late = world.ledger.entries().len();
    let now = world.age();
    for way in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, way, acknowledged, 10, (now, ms(100)));
    }
    let (planned, limit) = (world.age() + ms(100), world.age() + ms(30_000));
    world.run_until_settled(planned, limit)?;
    let late = &world.ledger.entries()[first_late..];
    let delivered = late.iter().all(|entry| entry.outcome == Some(Outcome::Delivered));
    expect(&world, delivered, || format!("after the restart: {late:?}"))?;
    let ended = |seen: &Seen| matches!(seen, Seen::SessionEnded(EndCause::NewIncarnation));
    let at = world.first_seen(killed, 0, 1, ended);
    expect(&world, at.is_some(), || format!("the old session never ended: {:?}", world.seen))?;
    finish(world)
}

/// The receiver dies for good.
///
/// # Errors
///
/// A breach; no `Down` within 3.5 s; messages that do not end as lost after `give_up`.
pub fn kill(seed: u64) -> Result<Report, Fault> {
    let give_up = ms(10_000);
    let link = LinkConfig { loss: 10_000, delay: ms(3), ..LinkConfig::default() };
    let limits = Limits { give_up, ..Limits::default() };
    let (mut world, mut plan) = pair(seed, &link, &limits)?;
    let acknowledged = Service::Acknowledged;
    let killed = ms(500) + up_to(ms(400), &mut plan);
    plan_messages(&mut world, &mut plan, (0, 1), acknowledged, 40, (Duration::ZERO, ms(1_500)));
    world.at(killed, Action::Kill(1));
    world.run_until_settled(ms(1_500), killed + 2 * give_up + ms(5_000))?;

    let down = |seen: &Seen| *seen == Seen::Down(DownCause::Silence);
    let after = world.first_seen(killed, 0, 1, down).map(|at| at.saturating_sub(killed));
    let in_time = after.is_some_and(|after| (ms(2_000)..=ms(3_500)).contains(&after));
    expect(&world, in_time, || format!("down came {after:?} after the kill: {:?}", world.seen))?;
    let sums = world.ledger.sums();
    expect(&world, sums.peer_lost > 0, || format!("nobody was lost: {sums:?}"))?;
    expect(&world, sums.delivered + sums.peer_lost == 40, || format!("other ends: {sums:?}"))?;
    let ended = |seen: &Seen| *seen == Seen::SessionEnded(EndCause::GaveUp);
    let after = world.first_seen(killed, 0, 1, ended).map(|at| at.saturating_sub(killed));
    let bounds = give_up.mul_f64(0.9)..=give_up + ms(5_000);
    let in_time = after.is_some_and(|after| bounds.contains(&after));
    expect(&world, in_time, || format!("given up after {after:?}: {:?}", world.seen))?;
    finish(world)
}

/// One side gives the other up during a cut, while the other, which waits for nothing, keeps its session; then they
/// speak again. What was numbered in the ended session must not be taken for what is numbered in the next.
///
/// # Errors
///
/// A breach, or messages after the cut that are not delivered.
pub fn give_up(seed: u64) -> Result<Report, Fault> {
    let (give_up, loss) = (ms(6_000), [0, 0, 100_000][(seed % 3) as usize]);
    let link = LinkConfig { loss, delay: ms(5), ..LinkConfig::default() };
    let limits = Limits { give_up, ..Limits::default() };
    let (mut world, mut plan) = pair(seed, &link, &limits)?;
    let acknowledged = Service::Acknowledged;
    for way in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, way, acknowledged, 20, (Duration::ZERO, ms(500)));
    }
    let cut = ms(4_000);
    world.run_until_settled(ms(500), cut)?;
    expect_all_delivered(&world)?;
    let healed = cut + ms(7_000) + up_to(ms(8_000), &mut plan);
    let partitions = vec![(cut, healed)];
    for (from, to) in [(0, 1), (1, 0)] {
        let config = LinkConfig { partitions: partitions.clone(), ..link.clone() };
        world.at(cut, Action::SetLink { from, to, config });
    }
    plan_messages(&mut world, &mut plan, (0, 1), acknowledged, 3, (cut, ms(100)));
    world.run_until(healed)?;
    let ended = |seen: &Seen| *seen == Seen::SessionEnded(EndCause::GaveUp);
    let at = world.first_seen(cut, 0, 1, ended);
    expect(&world, at.is_some(), || format!("nobody was given up: {:?}", world.seen))?;
    let first_late = world.ledger.entries().len();
    for way in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, way, acknowledged, 40, (healed, ms(500)));
    }
    // What the other side sends in its old session before it learns of the new one ends as unknown.
    world.run_until_settled(healed + ms(500), healed + ms(30_000))?;
    let late = &world.ledger.entries()[first_late..];
    let right = late.iter().all(|entry| {
        let unknown = entry.from == 1 && entry.outcome == Some(Outcome::Unknown);
        unknown || entry.outcome == Some(Outcome::Delivered)
    });
    expect(&world, right, || format!("after the cut: {late:?} {}", world.describe()))?;
    let violations = [0, 1].map(|node| world.counters(node).map_or(0, |c| c.violations));
    expect(&world, violations == [0, 0], || format!("violations: {violations:?}"))?;
    finish(world)
}

/// Both nodes dial each other at once, again and again, and send meanwhile.
///
/// # Errors
///
/// A breach, any message that is not delivered, more than one session, or ends that send under different keys.
pub fn simultaneous_dial(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x2_1a4);
    let loss = [0, 50_000, 200_000][plan.below(3) as usize];
    let link = LinkConfig { loss, duplicate: 50_000, delay: ms(20), ..LinkConfig::default() };
    let (mut world, mut plan) = single_pair(seed, &link, &Limits::default())?;
    let apart = up_to(ms(60), &mut plan);
    world.at(Duration::ZERO, Action::Connect { from: 0, to: 1 });
    world.at(apart, Action::Connect { from: 1, to: 0 });
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(300));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 20, span);
    }
    world.run_until_settled(ms(300), ms(60_000))?;
    expect_all_delivered(&world)?;
    let both = world.is_connected(0, 1) && world.is_connected(1, 0);
    expect(&world, both, || format!("not connected: {:?}", world.seen))?;
    for node in 0..2 {
        let sessions = world.counters(node).map(|counters| counters.sessions_begun);
        expect(&world, sessions == Some(1), || format!("node {node} began {sessions:?}"))?;
    }
    // A word each way under the chosen keys, and both sides have chosen the same ones.
    for way in [(0, 1), (1, 0)] {
        let span = (world.age(), ms(100));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 3, span);
    }
    let (planned, limit) = (world.age() + ms(5_000), world.age() + ms(60_000));
    world.run_until_settled(planned, limit)?;
    let ends = [world.association(0, 1), world.association(1, 0)];
    let crossed = ends[1].map(|(own, other)| (other, own));
    expect(&world, ends[0].is_some() && ends[0] == crossed, || format!("keys differ: {ends:?}"))?;
    finish(world)
}

/// The path is cut for 5 s under load and heals.
///
/// # Errors
///
/// A breach, a message not delivered, or none delivered within 3 s of the path's return.
pub fn partition(seed: u64) -> Result<Report, Fault> {
    let (cut, healed) = (ms(1_000), ms(6_000));
    let link = LinkConfig {
        delay: ms(10),
        jitter: ms(1),
        partitions: vec![(cut, healed)],
        ..LinkConfig::default()
    };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    for way in [(0, 1), (1, 0)] {
        let span = (ms(500), ms(1_500));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 40, span);
    }
    world.run_until(healed)?;
    let before = world.ledger.sums();
    world.run_until(healed + ms(3_000))?;
    let after = world.ledger.sums();
    let resumed = before.open > 0 && after.delivered > before.delivered;
    expect(&world, resumed, || format!("no traffic 3 s after the cut: {before:?}, {after:?}"))?;
    world.run_until_settled(healed + ms(3_000), healed + ms(30_000))?;
    expect_all_delivered(&world)?;
    let down = world.first_seen(cut, 0, 1, |seen| *seen == Seen::Down(DownCause::Silence));
    expect(&world, down.is_some_and(|at| at < healed), || format!("no down: {:?}", world.seen))?;
    let up = world.first_seen(healed, 0, 1, |seen| *seen == Seen::Up);
    expect(&world, up.is_some(), || format!("no up: {:?}", world.seen))?;
    finish(world)
}

/// Somebody records every datagram and repeats it up to 20 s later, also into the next incarnation.
///
/// # Errors
///
/// A breach, or messages that are not delivered although nothing was lost or restarted yet.
pub fn replay(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig {
        duplicate: 1_000_000,
        copy_delay: ms(20_000),
        delay: ms(5),
        ..LinkConfig::default()
    };
    let (mut world, mut plan) = single_pair(seed, &link, &Limits::default())?;
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(1_000));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 30, span);
        plan_messages(&mut world, &mut plan, way, Service::BestEffort, 30, span);
    }
    world.run_until_settled(ms(1_000), ms(30_000))?;
    expect_all_delivered(&world)?;
    let now = world.age();
    world.at(now, Action::Kill(1));
    world.at(now + ms(100), Action::Restart(1));
    // Else the other would learn of it by its first message, which would be unknown for that.
    world.at(now + ms(100), Action::Connect { from: 1, to: 0 });
    let span = (now + ms(10_000), ms(1_000));
    for way in [(0, 1), (1, 0)] {
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 10, span);
    }
    world.run_until_settled(now + ms(30_000), now + ms(60_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}

/// The receiver closes its sessions in order, under load.
///
/// # Errors
///
/// A breach, no word of the close at the sender within a second, or messages that end as lost.
pub fn close(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig { delay: ms(5), jitter: ms(1), ..LinkConfig::default() };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    let closed = ms(500) + up_to(ms(200), &mut plan);
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(500));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 40, span);
    }
    world.at(closed, Action::Close(1));
    world.run_until_settled(closed + ms(1_000), ms(30_000))?;
    let sums = world.ledger.sums();
    let ends = sums.delivered + sums.unknown;
    expect(&world, ends == 80, || format!("other ends: {sums:?}"))?;
    let down = |seen: &Seen| *seen == Seen::Down(DownCause::Closed);
    let ended = |seen: &Seen| *seen == Seen::SessionEnded(EndCause::ClosedByPeer);
    let told = world.first_seen(closed, 0, 1, down).and(world.first_seen(closed, 0, 1, ended));
    let in_time = told.is_some_and(|at| at < closed + ms(1_000));
    expect(&world, in_time, || format!("the close was not told: {:?}", world.seen))?;
    finish(world)
}
