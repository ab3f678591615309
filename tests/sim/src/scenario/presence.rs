//! Watched peers: cables pulled, processes killed and started again, churn by script, and a peer that swallows everything.
//!
//! Owns the bounds on how soon *down* and *up* come after the fact.

use std::time::Duration;

use cubed_transport::random::Entropy;
use cubed_transport::{DownCause, Limits, Service};

use super::{PLAIN, Report, expect, finish, flows, ms, pair, plan_messages};
use crate::ledger::NodeIndex;
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::script::{Action, Fault, Seen};
use crate::world::World;

/// *Down* comes at most this long after the fact.
const DOWN_WITHIN: Duration = ms(3_500);
/// *Up* comes at most this long after the path's or the peer's return.
const UP_WITHIN: Duration = ms(1_500);

const CUT: LinkConfig = LinkConfig {
    loss: 1_000_000,
    duplicate: 0,
    copy_delay: Duration::ZERO,
    corrupt: 0,
    truncate: 0,
    reorder: 0,
    reorder_delay: Duration::ZERO,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    rate: None,
    queue_bytes_max: None,
    datagram_bytes_max: 0,
    spoof: 0,
    partitions: Vec::new(),
};

/// Ups and downs that `node` saw of `other`, at or after `from`.
fn lives(
    world: &World,
    node: NodeIndex,
    other: NodeIndex,
    from: Duration,
) -> Vec<(Duration, Seen)> {
    let is_life = |seen: &Seen| matches!(seen, Seen::Up | Seen::Down(_));
    let all = world.seen.iter().filter(|(at, seer, about, seen)| {
        *at >= from && *seer == node && *about == other && is_life(seen)
    });
    all.map(|(at, _, _, seen)| (*at, seen.clone())).collect()
}

fn cut(
    world: &mut World,
    (a, b): (NodeIndex, NodeIndex),
    at: Duration,
    until: Duration,
    link: &LinkConfig,
) {
    for (from, to) in [(a, b), (b, a)] {
        world.at(at, Action::SetLink { from, to, config: CUT });
        world.at(until, Action::SetLink { from, to, config: link.clone() });
    }
}

/// The cable is pulled at any phase of the heartbeat, long enough to count or too short to.
///
/// # Errors
///
/// *Down* or *up* later than their bounds, more than once, or although the gap was short.
pub fn cable(seed: u64) -> Result<Report, Fault> {
    let delay = Duration::from_micros(50) + up_to(ms(40), &mut seeded(seed));
    let link = LinkConfig { delay, jitter: ms(2), ..LinkConfig::default() };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    world.at(ms(0), Action::Watch { from: 0, to: 1 });
    let both = plan.below(2) == 0;
    if both {
        world.at(up_to(ms(900), &mut plan), Action::Watch { from: 1, to: 0 });
    }
    let pulled = ms(5_000) + up_to(ms(3_000), &mut plan);
    let is_short = plan.below(4) == 0;
    let gap = if is_short {
        up_to(ms(1_500), &mut plan)
    } else {
        ms(4_000) + up_to(ms(20_000), &mut plan)
    };
    let back = pulled + gap;
    if plan.below(2) == 0 {
        let span = (pulled.saturating_sub(ms(500)), ms(1_000));
        plan_messages(&mut world, &mut plan, (0, 1), Service::Acknowledged, 20, span);
    }
    cut(&mut world, (0, 1), pulled, back, &link);
    world.run_until_settled(back + ms(5_000), back + ms(60_000))?;
    for (node, other) in [(0, 1), (1, 0)].into_iter().take(1 + usize::from(both)) {
        let lived = lives(&world, node, other, Duration::ZERO);
        let expected: &[Seen] = if is_short {
            &[Seen::Up]
        } else {
            &[Seen::Up, Seen::Down(DownCause::Silence), Seen::Up]
        };
        let kinds: Vec<_> = lived.iter().map(|(_, lived)| lived.clone()).collect();
        expect(&world, kinds == expected, || {
            format!("node {node} saw {lived:?}, cut {pulled:?} to {back:?}")
        })?;
        if !is_short {
            let in_time = lived[1].0 >= pulled && lived[1].0 <= pulled + DOWN_WITHIN;
            expect(&world, in_time, || format!("down at {:?}, cut at {pulled:?}", lived[1].0))?;
            let in_time = lived[2].0 >= back && lived[2].0 <= back + UP_WITHIN;
            expect(&world, in_time, || format!("up at {:?}, back at {back:?}", lived[2].0))?;
        }
    }
    finish(world)
}

/// The watched process is killed at any phase and started again, at once or long after.
///
/// # Errors
///
/// *Down* or *up* later than their bounds, or more than once.
pub fn process(seed: u64) -> Result<Report, Fault> {
    let delay = Duration::from_micros(50) + up_to(ms(40), &mut seeded(seed));
    let link = LinkConfig { delay, jitter: ms(2), ..LinkConfig::default() };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    world.at(ms(0), Action::Watch { from: 0, to: 1 });
    let killed = ms(5_000) + up_to(ms(3_000), &mut plan);
    let gap = [ms(1), ms(1_000), ms(2_500), ms(20_000)][plan.below(4) as usize];
    let back = killed + gap + up_to(gap, &mut plan);
    world.at(killed, Action::Kill(1));
    world.at(back, Action::Restart(1));
    world.run_until_settled(back + ms(5_000), back + ms(60_000))?;
    let lived = lives(&world, 0, 1, Duration::ZERO);
    let is_order = matches!(lived[..], [(_, Seen::Up), (_, Seen::Down(_)), (_, Seen::Up)]);
    expect(&world, is_order, || format!("saw {lived:?}, killed {killed:?}, back {back:?}"))?;
    let in_time = lived[1].0 >= killed && lived[1].0 <= killed + DOWN_WITHIN;
    expect(&world, in_time, || format!("down at {:?}, killed at {killed:?}", lived[1].0))?;
    let in_time = lived[2].0 >= back && lived[2].0 <= back + UP_WITHIN;
    expect(&world, in_time, || format!("up at {:?}, back at {back:?}", lived[2].0))?;
    finish(world)
}

/// Peers of the churn.
const CHURNERS: usize = 50;
/// Steps of its script.
const STEPS: u64 = 150;
/// From one step to the next: longer than any bound, so that events come in the script's order.
const STEP: Duration = ms(6_000);

/// What a peer of the churn does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Up,
    Dead,
    Cut,
}

/// 50 watched peers are killed, closed, cut off, started again and restarted within a moment, as a script says.
///
/// # Errors
///
/// The log of ups and downs differs from the script, or an entry comes too late.
pub fn churn(seed: u64) -> Result<Report, Fault> {
    let mut world = World::new(seed);
    let link = LinkConfig { delay: ms(3), jitter: ms(1), ..LinkConfig::default() };
    for _ in 0..=CHURNERS {
        world.add_node(NodeSetup { flows: flows(), ..NodeSetup::default() })?;
    }
    let mut script = Vec::new();
    for peer in 1..=CHURNERS {
        world.join(0, peer, &link)?;
        let at = ms(100 * peer as u64);
        world.at(at, Action::Watch { from: 0, to: peer });
        script.push((at, peer, Seen::Up));
    }
    plan_churn(&mut world, seed, &link, &mut script);
    world.run_until(ms(10_000) + STEP * (STEPS as u32 + 1))?;
    let is_life = |seen: &Seen| matches!(seen, Seen::Up | Seen::Down(_));
    let log = world.seen.iter().filter(|(_, node, _, seen)| *node == 0 && is_life(seen));
    let log: Vec<_> = log.map(|(at, _, peer, seen)| (*at, *peer, seen.clone())).collect();
    let names = |list: &[(Duration, NodeIndex, Seen)]| -> Vec<_> {
        list.iter().map(|(_, peer, seen)| (*peer, seen.clone())).collect()
    };
    let first = names(&log).iter().zip(names(&script).iter()).position(|(a, b)| a != b);
    expect(&world, log.len() == script.len() && first.is_none(), || {
        let from = first.unwrap_or(0);
        format!("log {:?}\nscript {:?}", log.get(from..), script.get(from..))
    })?;
    for ((at, peer, seen), (planned, ..)) in log.iter().zip(&script) {
        let within = if *seen == Seen::Up { UP_WITHIN } else { DOWN_WITHIN };
        expect(&world, at >= planned && *at <= *planned + within, || {
            format!("{seen:?} of {peer} at {at:?}, planned at {planned:?}")
        })?;
    }
    finish(world)
}

/// Puts the steps of the churn on the agenda, and what is to be seen of them into the script.
fn plan_churn(
    world: &mut World,
    seed: u64,
    link: &LinkConfig,
    script: &mut Vec<(Duration, NodeIndex, Seen)>,
) {
    let mut plan = seeded(seed);
    let mut lives_now = [Life::Up; CHURNERS + 1];
    for step in 0..STEPS {
        let at = ms(10_000) + STEP * step as u32 + up_to(ms(1_000), &mut plan);
        let peer = 1 + plan.below(CHURNERS as u64) as usize;
        let mut set = |config: LinkConfig| {
            world.at(at, Action::SetLink { from: 0, to: peer, config: config.clone() });
            world.at(at, Action::SetLink { from: peer, to: 0, config });
        };
        let (next, events) = match (lives_now[peer], plan.below(4)) {
            (Life::Up, 0) => {
                set(CUT);
                (Life::Cut, vec![Seen::Down(DownCause::Silence)])
            }
            (Life::Up, 1) => {
                world.at(at, Action::Kill(peer));
                (Life::Dead, vec![Seen::Down(DownCause::Silence)])
            }
            (Life::Up, 2) => {
                world.at(at, Action::Close(peer));
                (Life::Dead, vec![Seen::Down(DownCause::Closed)])
            }
            (Life::Up, _) => {
                world.at(at, Action::Kill(peer));
                world.at(at + ms(1), Action::Restart(peer));
                (Life::Up, vec![Seen::Down(DownCause::Restarted), Seen::Up])
            }
            (Life::Cut, _) => {
                set(link.clone());
                (Life::Up, vec![Seen::Up])
            }
            (Life::Dead, _) => {
                world.at(at, Action::Kill(peer));
                world.at(at, Action::Restart(peer));
                (Life::Up, vec![Seen::Up])
            }
        };
        lives_now[peer] = next;
        script.extend(events.into_iter().map(|seen| (at, peer, seen)));
    }
}

/// The other peers' latencies are the same, to the nanosecond, whether one more peer swallows everything or not.
///
/// # Errors
///
/// A latency at the 99th percentile that the black hole raised.
pub fn black_hole(seed: u64) -> Result<Report, Fault> {
    let (_, without) = latencies(seed, false)?;
    let (world, with) = latencies(seed, true)?;
    let p99 = |sorted: &[Duration]| sorted[sorted.len() * 99 / 100];
    expect(&world, with.len() == without.len() && with.len() == 1_200, || {
        format!("{} and {} messages", with.len(), without.len())
    })?;
    expect(&world, p99(&with) <= p99(&without), || {
        format!("p99 {:?} with the black hole, {:?} without", p99(&with), p99(&without))
    })?;
    finish(world)
}

/// Sorted latencies of messages from node 0 to nodes 1 to 4; node 5 swallows what it is sent.
fn latencies(seed: u64, hole: bool) -> Result<(World, Vec<Duration>), Fault> {
    let mut world = World::new(seed);
    let link = LinkConfig { delay: ms(4), ..LinkConfig::default() };
    let limits = Limits { give_up: ms(15_000), queue_bytes_max: 64 << 10, ..Limits::default() };
    for _ in 0..6 {
        let setup = NodeSetup { limits: limits.clone(), flows: flows(), ..NodeSetup::default() };
        world.add_node(setup)?;
    }
    for peer in 1..6 {
        world.join(0, peer, &link)?;
        world.at(ms(0), Action::Watch { from: 0, to: peer });
    }
    if hole {
        world.at(ms(1_900), Action::SetLink { from: 0, to: 5, config: CUT });
        world.at(ms(1_900), Action::SetLink { from: 5, to: 0, config: CUT });
    }
    let mut plan = seeded(seed);
    for round in 0..300 {
        // The dead peer's message first: all are handed over before anything leaves.
        let to = if hole { vec![5, 1, 2, 3, 4] } else { vec![1, 2, 3, 4] };
        let bytes = 200 + plan.below(800) as usize;
        let service = Service::Acknowledged;
        let action = Action::SendToAll { from: 0, to, flow: PLAIN, bytes, service };
        world.at(ms(2_000 + 20 * round) + up_to(ms(20), &mut plan), action);
    }
    world.run_until_settled(ms(9_000), ms(80_000))?;
    let others = world.latencies.iter().filter(|(token, _)| world.ledger.entry(*token).to != 5);
    let mut latencies: Vec<_> = others.map(|(_, latency)| *latency).collect();
    latencies.sort();
    Ok((world, latencies))
}

fn seeded(seed: u64) -> cubed_transport::random::SeededEntropy {
    cubed_transport::random::SeededEntropy::new(seed ^ 0x9e_5e7c)
}
