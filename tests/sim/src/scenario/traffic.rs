//! Scenarios of traffic: all kinds of messages over links from perfect to very bad.
//!
//! Nodes stay up and paths stay open; whatever a link does to datagrams, every message must end as
//! documented.

use std::time::Duration;

use cubed_router::policy::{FlowPattern, Policy, Verb};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Refusal, SendError, Service};

use super::{
    OTHER, PLAIN, Report, SMALL, SMALL_BYTES_MAX, bad_link, expect, expect_all_delivered, finish,
    flow, flows, length, ms, pair, plan_messages, single_pair,
};
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::script::{Action, Fault};
use crate::world::World;

/// Messages of all sizes, services and flows both ways, and requests, over bad links.
///
/// # Errors
///
/// The first breach of exactly once, of the sums, or of progress within 120 s.
pub fn exactly_once(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x1_1a4);
    let link = bad_link(&mut plan);
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(400));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 30, span);
        plan_messages(&mut world, &mut plan, way, Service::BestEffort, 20, span);
        let (from, to) = way;
        for _ in 0..5 {
            let (flow, bytes, deadline) = (flow(&mut plan), length(&mut plan), ms(60_000));
            let at = up_to(span.1, &mut plan);
            world.at(at, Action::Request { from, to, flow, bytes, deadline });
        }
        let bytes = 100_000 + plan.below(200_000) as usize;
        let (flow, service) = (flow(&mut plan), Service::Acknowledged);
        world.at(up_to(span.1, &mut plan), Action::Send { from, to, flow, bytes, service });
    }
    world.run_until_settled(ms(400), ms(120_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}

/// A perfect link: nothing may be lost, best effort included, and nothing may take long.
///
/// # Errors
///
/// A breach, a message that does not arrive, or one that takes more than a second.
pub fn clean(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig::default();
    let (mut world, mut plan) = single_pair(seed, &link, &Limits::default())?;
    world.at(Duration::ZERO, Action::Connect { from: 0, to: 1 });
    for way in [(0, 1), (1, 0)] {
        let span = (ms(100), ms(400));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 50, span);
        plan_messages(&mut world, &mut plan, way, Service::BestEffort, 50, span);
    }
    world.run_until_settled(ms(600), ms(1_500))?;
    expect_all_delivered(&world)?;
    let sums = world.ledger.sums();
    expect(&world, sums.arrived == sums.taken && sums.rejected == 0, || format!("lost: {sums:?}"))?;
    finish(world)
}

/// Four nodes, everybody to everybody, each way over its own bad link.
///
/// # Errors
///
/// A breach, or any message that is not delivered.
pub fn mesh(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x4_1a4);
    let mut world = World::new(seed);
    for node in 0..4 {
        world.add_node(NodeSetup { flows: flows(), ..NodeSetup::default() })?;
        for other in 0..node {
            world.join(other, node, &bad_link(&mut plan))?;
        }
    }
    for (from, to) in (0..16).map(|pair| (pair / 4, pair % 4)).filter(|(from, to)| from != to) {
        let span = (Duration::ZERO, ms(200));
        plan_messages(&mut world, &mut plan, (from, to), Service::Acknowledged, 8, span);
        plan_messages(&mut world, &mut plan, (from, to), Service::BestEffort, 4, span);
    }
    world.run_until_settled(ms(200), ms(120_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}

/// A fifth of all datagrams arrives damaged.
///
/// # Errors
///
/// A breach, or any message that is not delivered.
pub fn corruption(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig { corrupt: 200_000, delay: ms(5), ..LinkConfig::default() };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(300));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 30, span);
    }
    world.run_until_settled(ms(300), ms(120_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}

/// Messages in bulk that must be refused, each kind for its reason, among good ones.
///
/// # Errors
///
/// A breach, a wrong reason, or a good message that suffered for the bad.
///
/// # Panics
///
/// Never: the names in it are valid.
pub fn refusals(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x3_1a4);
    let mut world = World::new(seed);
    world.add_node(NodeSetup { flows: flows(), ..NodeSetup::default() })?;
    let sender = world.key(0);
    let policy = [PLAIN, SMALL, "nowhere"].iter().fold(Policy::deny(), |policy, flow| {
        let pattern: FlowPattern = flow.parse().expect("a flow name");
        policy.with_rule(sender, pattern, &[Verb::Send, Verb::Request])
    });
    world.add_node(NodeSetup { policy, flows: flows(), ..NodeSetup::default() })?;
    world.join(0, 1, &bad_link(&mut plan))?;
    let ends = [
        (PLAIN, Outcome::Delivered),
        (SMALL, Outcome::Delivered),
        ("nowhere", Outcome::Refused(Refusal::NoSuchFlow)),
        (OTHER, Outcome::Refused(Refusal::Denied)),
    ];
    for number in 0..600 {
        let (flow, _) = ends[number % ends.len()];
        let (bytes, service) = (plan.below(300) as usize, Service::Acknowledged);
        world.at(up_to(ms(300), &mut plan), Action::Send { from: 0, to: 1, flow, bytes, service });
    }
    for _ in 0..10 {
        let bytes = (SMALL_BYTES_MAX + 1 + plan.below(20_000)) as usize;
        let (flow, service) = (SMALL, Service::Acknowledged);
        world.at(up_to(ms(300), &mut plan), Action::Send { from: 0, to: 1, flow, bytes, service });
    }
    world.run_until_settled(ms(300), ms(60_000))?;
    for (number, entry) in world.ledger.entries().iter().enumerate() {
        let (_, end) = ends.iter().find(|(flow, _)| *flow == entry.flow).expect("one of them");
        let too_large = entry.flow == SMALL && entry.bytes as u64 > SMALL_BYTES_MAX;
        let expected = if too_large { Outcome::Refused(Refusal::TooLarge) } else { *end };
        // Once the receiver told, the sender is refused before it sends.
        let ended = match entry.rejected {
            Some(SendError::Refused(refusal)) => Some(Outcome::Refused(refusal)),
            Some(SendError::TooLarge { .. }) => Some(Outcome::Refused(Refusal::TooLarge)),
            _ => entry.outcome,
        };
        let right = ended == Some(expected);
        expect(&world, right, || format!("entry {number} should end as {expected:?}: {entry:?}"))?;
    }
    let binds = world.binds(1).unwrap_or_default();
    expect(&world, binds < 100, || format!("{binds} bindings asked for {} names", ends.len()))?;
    finish(world)
}
