//! Named worlds: each draws links and messages from its seed, runs, and judges the end.
//!
//! Owns the list of scenarios. Each returns a [`Report`] or the first [`Fault`]; neither depends on
//! anything but the seed.

use std::time::Duration;

use cubed_router::policy::{FlowPattern, Policy, Verb};
use cubed_transport::endpoint::{DownCause, EndCause, Limits, Outcome, Refusal, Service};
use cubed_transport::random::{Entropy, SeededEntropy};

use crate::ledger::{NodeIndex, Sums};
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::recorder::FlowSetup;
use crate::script::{Action, Fault, Seen};
use crate::world::World;

/// A scenario: a seed in, a report or the first breach out.
pub type Scenario = fn(u64) -> Result<Report, Fault>;

/// All scenarios by name.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("exactly_once", exactly_once),
    ("restart", restart),
    ("kill", kill),
    ("simultaneous_dial", simultaneous_dial),
    ("partition", partition),
    ("refusals", refusals),
    ("corruption", corruption),
];

/// What a world came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The hash of all that happened; the same for the same seed.
    pub trace: u64,
    /// How the messages ended.
    pub sums: Sums,
    /// Virtual time it took.
    pub took: Duration,
    /// Datagrams given to links.
    pub datagrams: u64,
}

const PLAIN: &str = "plain";
const SLOW: &str = "slow.queue";
const OTHER: &str = "other.flow";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Flows as an application has them: one that consumes at once, one that queues, one more.
fn flows() -> Vec<FlowSetup> {
    let slow = FlowSetup {
        window_bytes: 512 << 10,
        hold: Some(ms(7)),
        ..FlowSetup::new(SLOW)
    };
    vec![FlowSetup::new(PLAIN), slow, FlowSetup::new(OTHER)]
}

/// Two nodes that know each other over this link, and the seed's generator for the plan.
fn pair(seed: u64, link: &LinkConfig, limits: &Limits) -> Result<(World, SeededEntropy), Fault> {
    let mut world = World::new(seed);
    for _ in 0..2 {
        let setup = NodeSetup {
            limits: limits.clone(),
            flows: flows(),
            ..NodeSetup::default()
        };
        world.add_node(setup)?;
    }
    world.join(0, 1, link)?;
    Ok((world, SeededEntropy::new(seed ^ 0x9_1a4)))
}

/// The link: 10 % loss, duplicates and reordering, both ways, from the first datagram.
fn bad_link(plan: &mut impl Entropy) -> LinkConfig {
    LinkConfig {
        loss: 100_000,
        duplicate: 50_000,
        corrupt: 5_000,
        reorder: 100_000,
        reorder_delay: ms(10),
        delay: Duration::from_micros(100) + up_to(ms(15), plan),
        jitter: up_to(ms(2), plan),
        rate: (plan.below(3) == 0).then(|| 2_000_000 + plan.below(50_000_000)),
        queue_bytes_max: 256 << 10,
        ..LinkConfig::default()
    }
}

/// A length: often tiny, sometimes a few datagrams, now and then large.
fn length(plan: &mut impl Entropy) -> usize {
    let bound = match plan.below(20) {
        0 | 1 => return 0,
        2..=8 => 64,
        9..=14 => 1_500,
        15..=18 => 20_000,
        _ => 100_000,
    };
    plan.below(bound + 1) as usize
}

fn flow(plan: &mut impl Entropy) -> &'static str {
    [PLAIN, PLAIN, SLOW, OTHER][plan.below(4) as usize]
}

/// Plans `count` messages of one service from one node to another, spread over `span` from `start`.
fn plan_messages(
    world: &mut World,
    plan: &mut SeededEntropy,
    (from, to): (NodeIndex, NodeIndex),
    service: Service,
    count: u64,
    (start, span): (Duration, Duration),
) {
    for _ in 0..count {
        let (flow, bytes) = (flow(plan), length(plan));
        let at = start + up_to(span, plan);
        world.at(
            at,
            Action::Send {
                from,
                to,
                flow,
                bytes,
                service,
            },
        );
    }
}

fn finish(mut world: World) -> Result<Report, Fault> {
    // Late copies and stale retransmissions must find everything closed for them.
    world.run_until(world.age() + ms(3_000))?;
    world.verify()?;
    let offered = |from, to| {
        world
            .link_counters(from, to)
            .map_or(0, |counters| counters.offered)
    };
    Ok(Report {
        trace: world.trace.hash(),
        sums: world.ledger.sums(),
        took: world.age(),
        datagrams: offered(0, 1) + offered(1, 0),
    })
}

fn expect(world: &World, holds: bool, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds {
        Ok(())
    } else {
        Err(Fault {
            at: world.age(),
            what: what(),
        })
    }
}

/// Every acknowledged message and request ends as delivered, whatever else happened.
fn expect_all_delivered(world: &World) -> Result<(), Fault> {
    for (number, entry) in world.ledger.entries().iter().enumerate() {
        let ended = entry.outcome == Some(Outcome::Delivered);
        let best_effort = entry.kind == crate::ledger::Kind::BestEffort;
        expect(world, ended || best_effort, || {
            format!("entry {number} is not delivered: {entry:?}")
        })?;
    }
    Ok(())
}

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
            world.at(
                at,
                Action::Request {
                    from,
                    to,
                    flow,
                    bytes,
                    deadline,
                },
            );
        }
        let bytes = 100_000 + plan.below(200_000) as usize;
        let (flow, service) = (flow(&mut plan), Service::Acknowledged);
        world.at(
            up_to(span.1, &mut plan),
            Action::Send {
                from,
                to,
                flow,
                bytes,
                service,
            },
        );
    }
    world.run_until_settled(ms(400), ms(120_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}

/// The receiver's process is killed under load and comes back as a new incarnation.
///
/// # Errors
///
/// A breach, or messages after the restart that are not delivered.
pub fn restart(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig {
        loss: 20_000,
        delay: ms(5),
        ..LinkConfig::default()
    };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    let acknowledged = Service::Acknowledged;
    plan_messages(
        &mut world,
        &mut plan,
        (0, 1),
        acknowledged,
        60,
        (Duration::ZERO, ms(1_000)),
    );
    plan_messages(
        &mut world,
        &mut plan,
        (1, 0),
        acknowledged,
        20,
        (Duration::ZERO, ms(300)),
    );
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
    let delivered = late
        .iter()
        .all(|entry| entry.outcome == Some(Outcome::Delivered));
    expect(&world, delivered, || format!("after the restart: {late:?}"))?;
    let ended = |seen: &Seen| matches!(seen, Seen::SessionEnded(EndCause::NewIncarnation));
    let at = world.first_seen(killed, 0, 1, ended);
    expect(&world, at.is_some(), || {
        format!("the old session never ended: {:?}", world.seen)
    })?;
    finish(world)
}

/// The receiver dies for good.
///
/// # Errors
///
/// A breach; no `Down` within 3.5 s; messages that do not end as lost after `give_up`.
pub fn kill(seed: u64) -> Result<Report, Fault> {
    let give_up = ms(10_000);
    let link = LinkConfig {
        loss: 10_000,
        delay: ms(3),
        ..LinkConfig::default()
    };
    let limits = Limits {
        give_up,
        ..Limits::default()
    };
    let (mut world, mut plan) = pair(seed, &link, &limits)?;
    let acknowledged = Service::Acknowledged;
    let killed = ms(500) + up_to(ms(400), &mut plan);
    plan_messages(
        &mut world,
        &mut plan,
        (0, 1),
        acknowledged,
        40,
        (Duration::ZERO, ms(1_500)),
    );
    world.at(killed, Action::Kill(1));
    world.run_until_settled(ms(1_500), killed + give_up + ms(10_000))?;

    let down = |seen: &Seen| *seen == Seen::Down(DownCause::Silence);
    let after = world
        .first_seen(killed, 0, 1, down)
        .map(|at| at.saturating_sub(killed));
    let in_time = after.is_some_and(|after| (ms(2_000)..=ms(3_500)).contains(&after));
    expect(&world, in_time, || {
        format!("down came {after:?} after the kill: {:?}", world.seen)
    })?;
    let sums = world.ledger.sums();
    expect(&world, sums.peer_lost > 0, || {
        format!("nobody was lost: {sums:?}")
    })?;
    expect(&world, sums.delivered + sums.peer_lost == 40, || {
        format!("other ends: {sums:?}")
    })?;
    let lost_after = world.age().saturating_sub(killed);
    let patient = lost_after >= give_up.mul_f64(0.9) && lost_after <= give_up + ms(5_000);
    expect(&world, patient, || format!("given up after {lost_after:?}"))?;
    finish(world)
}

/// Both nodes dial each other at once, again and again, and send meanwhile.
///
/// # Errors
///
/// A breach, or any message that is not delivered.
pub fn simultaneous_dial(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x2_1a4);
    let loss = [0, 50_000, 200_000][plan.below(3) as usize];
    let link = LinkConfig {
        loss,
        duplicate: 50_000,
        delay: ms(20),
        ..LinkConfig::default()
    };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
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
    expect(&world, resumed, || {
        format!("no traffic 3 s after the cut: {before:?}, {after:?}")
    })?;
    world.run_until_settled(healed + ms(3_000), healed + ms(30_000))?;
    expect_all_delivered(&world)?;
    let down = world.first_seen(cut, 0, 1, |seen| *seen == Seen::Down(DownCause::Silence));
    expect(&world, down.is_some_and(|at| at < healed), || {
        format!("no down: {:?}", world.seen)
    })?;
    let up = world.first_seen(healed, 0, 1, |seen| *seen == Seen::Up);
    expect(&world, up.is_some(), || format!("no up: {:?}", world.seen))?;
    finish(world)
}

/// Messages in bulk to flows that do not exist or are denied, among good ones.
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
    world.add_node(NodeSetup {
        flows: flows(),
        ..NodeSetup::default()
    })?;
    let sender = world.key(0);
    let pattern: FlowPattern = PLAIN.parse().expect("a flow name");
    let policy = Policy::deny().with_rule(sender, pattern, &[Verb::Send, Verb::Request]);
    world.add_node(NodeSetup {
        policy,
        flows: flows(),
        ..NodeSetup::default()
    })?;
    world.join(0, 1, &bad_link(&mut plan))?;
    let flows = [
        (PLAIN, Ok(())),
        ("nowhere", Err(Refusal::NoSuchFlow)),
        (OTHER, Err(Refusal::Denied)),
    ];
    for number in 0..600_u64 {
        let (flow, _) = flows[number as usize % 3];
        let (bytes, service) = (plan.below(300) as usize, Service::Acknowledged);
        let at = up_to(ms(300), &mut plan);
        world.at(
            at,
            Action::Send {
                from: 0,
                to: 1,
                flow,
                bytes,
                service,
            },
        );
    }
    world.run_until_settled(ms(300), ms(60_000))?;
    for (number, entry) in world.ledger.entries().iter().enumerate() {
        let (_, end) = flows
            .iter()
            .find(|(flow, _)| *flow == entry.flow)
            .expect("one of them");
        let expected = end.map_or_else(Outcome::Refused, |()| Outcome::Delivered);
        let right = entry.outcome == Some(expected);
        expect(&world, right, || {
            format!("entry {number} should end as {expected:?}: {entry:?}")
        })?;
    }
    let binds = world.binds(1).unwrap_or_default();
    expect(&world, binds < 100, || {
        format!("{binds} bindings asked for 3 names")
    })?;
    finish(world)
}

/// A fifth of all datagrams arrives damaged.
///
/// # Errors
///
/// A breach, or any message that is not delivered.
pub fn corruption(seed: u64) -> Result<Report, Fault> {
    let link = LinkConfig {
        corrupt: 200_000,
        delay: ms(5),
        ..LinkConfig::default()
    };
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    for way in [(0, 1), (1, 0)] {
        let span = (Duration::ZERO, ms(300));
        plan_messages(&mut world, &mut plan, way, Service::Acknowledged, 30, span);
    }
    world.run_until_settled(ms(300), ms(120_000))?;
    expect_all_delivered(&world)?;
    finish(world)
}
