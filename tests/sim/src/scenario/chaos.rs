//! Everything at once: every fault of links, cuts of one or both ways, crashes, clocks that jump ahead, sessions closed and dialled
//! under load, all drawn from the seed.
//!
//! While faults last, messages may end in any way that the rules permit, but never twice, and nothing is invented. When they end,
//! whoever lives must be reachable again in [`RECOVERY`], and everything sent after that arrives.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Service};

use super::{FLOWS, Report, expect, finish, flow, flows, length, ms, plan_messages, shards};
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::script::{Action, Fault};
use crate::world::World;

/// From the end of all faults until two nodes that live must have spoken: `down_after`, when an old session is doubted at the
/// latest.
const RECOVERY: Duration = ms(3_000);
/// How long the messages after that may take: probes come at most a second apart.
const SETTLED: Duration = ms(3_000);

/// Nodes, traffic and faults without rhyme; then peace.
///
/// # Errors
///
/// A breach, or no recovery in time.
pub fn chaos(seed: u64) -> Result<Report, Fault> {
    run(seed, 0)
}

/// The same, and all the time nodes forget each other and add each other again.
///
/// # Errors
///
/// As there.
pub fn forgetting(seed: u64) -> Result<Report, Fault> {
    run(seed, 12)
}

/// `forgets`: how often at most a node forgets another.
fn run(seed: u64, forgets: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x5_1a4);
    let mut world = World::new(seed);
    let nodes = 2 + plan.below(2) as usize;
    let give_up = ms([5_000, 20_000, 120_000][plan.below(3) as usize]);
    let limits = Limits { give_up, ..Limits::default() };
    let mut draws = SeededEntropy::new(seed ^ 0xc_1a4);
    if draws.below(4) == 0 {
        world.steer_no_more();
    }
    for node in 0..nodes {
        let (limits, shards) = (limits.clone(), shards(&mut draws));
        let setup = NodeSetup { limits, flows: flows(), shards, ..NodeSetup::default() };
        world.add_node(setup)?;
        for other in 0..node {
            world.join(other, node, &LinkConfig::default())?;
        }
    }
    let ways: Vec<_> = (0..nodes * nodes)
        .map(|pair| (pair / nodes, pair % nodes))
        .filter(|(from, to)| from != to)
        .collect();
    let peace = ms(6_000) + up_to(ms(10_000), &mut plan);
    for &(from, to) in &ways {
        let config = wild_link(&mut plan, peace);
        world.at(Duration::ZERO, Action::SetLink { from, to, config });
        plan_traffic(&mut world, &mut plan, (from, to), peace);
    }
    for _ in 0..plan.below(6) {
        plan_fault(&mut world, &mut plan, nodes, peace);
    }
    let mut draws = SeededEntropy::new(seed ^ 0xf0_49e7);
    for _ in 0..draws.below(forgets + 1) {
        let (at, whom) = ways[draws.below(ways.len() as u64) as usize];
        world.at(up_to(peace, &mut draws), Action::Forget { at, whom });
    }
    world.run_until(peace)?;
    for &(from, to) in &ways {
        let config = LinkConfig { delay: up_to(ms(50), &mut plan), ..LinkConfig::default() };
        world.at(peace, Action::SetLink { from, to, config });
        // Messages that may still end badly, but end: they meet what is left of old sessions, on every lane.
        for message in 0..4 * FLOWS.len() {
            let (flow, bytes, service) =
                (FLOWS[message / 4], length(&mut plan), Service::Acknowledged);
            world.at(peace, Action::Send { from, to, flow, bytes, service });
        }
    }
    world.run_until(peace + RECOVERY)?;
    let first_late = world.ledger.entries().len();
    for way in &ways {
        let span = (peace + RECOVERY, ms(200));
        plan_messages(&mut world, &mut plan, *way, Service::Acknowledged, 5, span);
    }
    world.run_until_settled(peace + RECOVERY + ms(200), peace + RECOVERY + SETTLED)?;
    let late = &world.ledger.entries()[first_late..];
    let lost = late.iter().find(|entry| entry.outcome != Some(Outcome::Delivered));
    expect(&world, lost.is_none(), || {
        format!("sent after the recovery and not delivered: {lost:?}. {}", world.describe())
    })?;
    let broken = (0..nodes).find(|node| world.counters(*node).is_some_and(|c| c.violations > 0));
    expect(&world, broken.is_none(), || format!("violation: {}", world.describe()))?;
    finish(world)
}

/// A link from fair to hopeless, with cuts of its own way only.
fn wild_link(plan: &mut impl Entropy, peace: Duration) -> LinkConfig {
    let mut often = |most: u64| if plan.below(3) == 0 { 0 } else { plan.below(most) as u32 };
    let (loss, duplicate, reorder) = (often(500_000), often(200_000), often(300_000));
    let (corrupt, truncate) = (often(100_000), often(50_000));
    let mut partitions = Vec::new();
    for _ in 0..plan.below(3) {
        let from = up_to(peace, plan);
        partitions.push((from, (from + up_to(ms(7_000), plan)).min(peace)));
    }
    LinkConfig {
        loss,
        duplicate,
        copy_delay: up_to(ms(2_000), plan),
        corrupt,
        truncate,
        reorder,
        reorder_delay: up_to(ms(100), plan),
        delay: up_to(ms(150), plan),
        jitter: up_to(ms(20), plan),
        rate: (plan.below(4) == 0).then(|| 8 * (500_000 + plan.below(20_000_000))),
        queue_bytes_max: Some(128 << 10),
        partitions,
        ..LinkConfig::default()
    }
}

fn plan_traffic(
    world: &mut World,
    plan: &mut SeededEntropy,
    (from, to): (usize, usize),
    peace: Duration,
) {
    for _ in 0..2 {
        let (count, start) = (plan.below(12), up_to(peace, plan));
        let span = (start, peace.saturating_sub(start).min(up_to(ms(3_000), plan)));
        plan_messages(world, plan, (from, to), Service::Acknowledged, count, span);
        plan_messages(world, plan, (from, to), Service::BestEffort, count / 2, span);
    }
    for _ in 0..plan.below(4) {
        let (flow, bytes) = (flow(plan), length(plan));
        let (at, deadline) = (up_to(peace, plan), up_to(ms(20_000), plan));
        world.at(at, Action::Request { from, to, flow, bytes, deadline });
    }
}

fn plan_fault(world: &mut World, plan: &mut SeededEntropy, nodes: usize, peace: Duration) {
    let node = plan.below(nodes as u64) as usize;
    let to = (node + 1 + plan.below(nodes as u64 - 1) as usize) % nodes;
    let at = up_to(peace, plan);
    match plan.below(5) {
        0 | 1 => {
            world.at(at, Action::Kill(node));
            world.at((at + up_to(ms(4_000), plan)).min(peace), Action::Restart(node));
        }
        2 | 3 => {
            let longest = [ms(5_000), ms(200_000), ms(3_600_000)][plan.below(3) as usize];
            world.at(at, Action::Jump { node, by: up_to(longest, plan) });
        }
        _ => world.at(at, Action::Connect { from: node, to }),
    }
}
