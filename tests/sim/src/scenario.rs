//! Named worlds: each draws links and messages from its seed, runs, and judges the end.
//!
//! Owns the list of scenarios. Each returns a [`Report`] or the first [`Fault`]; neither depends on
//! anything but the seed.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Service};

use crate::ledger::{Kind, NodeIndex, Sums};
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::recorder::FlowSetup;
use crate::script::{Action, Fault};
use crate::world::World;

pub use acceptance::acceptance;
pub use chaos::{chaos, forgetting};
pub use keys::{rekey, restart_noticed};
pub use outages::{close, give_up, kill, partition, replay, restart, simultaneous_dial};
pub use paths::{path_limit, rebinding};
pub use presence::{black_hole, cable, churn, process};
pub use services::services;
pub use traffic::{clean, corruption, exactly_once, mesh, refusals};

mod acceptance;
mod chaos;
mod keys;
mod outages;
mod paths;
mod presence;
mod services;
mod traffic;

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
    ("replay", replay),
    ("clean", clean),
    ("mesh", mesh),
    ("close", close),
    ("rekey", rekey),
    ("restart_noticed", restart_noticed),
    ("acceptance", acceptance),
    ("cable", cable),
    ("process", process),
    ("path_limit", path_limit),
    ("rebinding", rebinding),
    ("give_up", give_up),
    ("chaos", chaos),
    ("forgetting", forgetting),
    ("services", services),
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
const SMALL: &str = "small.messages";
/// Longest message that the flow `SMALL` takes.
const SMALL_BYTES_MAX: u64 = 10_000;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Flows as an application has them: one that consumes at once, one that queues, one more.
fn flows() -> Vec<FlowSetup> {
    let slow = FlowSetup { window_bytes: 512 << 10, hold: Some(ms(7)), ..FlowSetup::new(SLOW) };
    let small = FlowSetup { message_bytes_max: SMALL_BYTES_MAX, ..FlowSetup::new(SMALL) };
    vec![FlowSetup::new(PLAIN), slow, FlowSetup::new(OTHER), small]
}

/// Two nodes that know each other over this link, and the seed's generator for the plan.
fn pair(seed: u64, link: &LinkConfig, limits: &Limits) -> Result<(World, SeededEntropy), Fault> {
    let mut draws = SeededEntropy::new(seed ^ 0xc_1a4);
    let setups = [(); 2].map(|()| shards(&mut draws));
    pair_of(seed, link, limits, setups, draws.below(4) == 0)
}

/// As [`pair`], of nodes with one shard.
fn single_pair(
    seed: u64,
    link: &LinkConfig,
    limits: &Limits,
) -> Result<(World, SeededEntropy), Fault> {
    pair_of(seed, link, limits, [vec![1], vec![1]], false)
}

fn pair_of(
    seed: u64,
    link: &LinkConfig,
    limits: &Limits,
    shards: [Vec<u8>; 2],
    is_unsteered: bool,
) -> Result<(World, SeededEntropy), Fault> {
    let mut world = World::new(seed);
    if is_unsteered {
        world.steer_no_more();
    }
    for shards in shards {
        let limits = limits.clone();
        let setup = NodeSetup { limits, flows: flows(), shards, ..NodeSetup::default() };
        world.add_node(setup)?;
    }
    world.join(0, 1, link)?;
    Ok((world, SeededEntropy::new(seed ^ 0x9_1a4)))
}

/// How many shards a node has at each start: one, two or four.
fn shards(plan: &mut impl Entropy) -> Vec<u8> {
    (0..4).map(|_| [1, 1, 2, 4][plan.below(4) as usize]).collect()
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
        rate: (plan.below(3) == 0).then(|| 8 * (2_000_000 + plan.below(50_000_000))),
        queue_bytes_max: Some(256 << 10),
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

/// The flows of [`flow`].
const FLOWS: [&str; 3] = [PLAIN, SLOW, OTHER];

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
        world.at(at, Action::Send { from, to, flow, bytes, service });
    }
}

fn finish(mut world: World) -> Result<Report, Fault> {
    // Late copies and stale retransmissions must find everything closed for them.
    world.run_until(world.age() + ms(3_000))?;
    world.verify()?;
    let offered = |from, to| world.link_counters(from, to).map_or(0, |counters| counters.offered);
    Ok(Report {
        trace: world.trace.hash(),
        sums: world.ledger.sums(),
        took: world.age(),
        datagrams: offered(0, 1) + offered(1, 0),
    })
}

fn expect(world: &World, holds: bool, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault { at: world.age(), what: what() }) }
}

/// Every acknowledged message and request ends as delivered, whatever else happened.
fn expect_all_delivered(world: &World) -> Result<(), Fault> {
    for (number, entry) in world.ledger.entries().iter().enumerate() {
        let ended = entry.outcome == Some(Outcome::Delivered);
        let best_effort = entry.kind == Kind::BestEffort;
        expect(world, ended || best_effort, || {
            format!("entry {number} is not delivered: {entry:?}")
        })?;
    }
    Ok(())
}
