//! Trust: two channels, keys that wait, an operator who decides late, and restarts in between.

use std::time::Duration;

use cubed_router::keep::Trust;
use cubed_router::policy::Policy;
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Service};

use super::{PLAIN, Report, expect, finish, ms, shards};
use crate::ledger::Entry;
use crate::link::{LinkConfig, up_to};
use crate::node::NodeSetup;
use crate::recorder::FlowSetup;
use crate::script::{Action, Fault, Seen};
use crate::world::World;

const GARDEN_FLOW: &str = "garden.news";

/// A node dials another that does not know it, on two channels. In the garden new keys are accepted at once, or never if the
/// seed says so; by default they wait for an operator, who comes late, possibly after either node was killed and started again.
///
/// # Errors
///
/// A breach; a message that came before the operator did, or after a rejection; one that did not come afterwards.
pub fn acceptance(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0xacce);
    let mut draws = SeededEntropy::new(seed ^ 0xc_1a4);
    let mut world = World::new(seed);
    let in_garden = [Trust::Never, Trust::Once, Trust::Always][plan.below(3) as usize];
    let limits = Limits { give_up: ms(300_000), ..Limits::default() };
    for node in 0..2 {
        let flows = vec![FlowSetup::new(PLAIN), FlowSetup::new(GARDEN_FLOW)];
        let keeps = Some([Trust::Never, in_garden]);
        let (limits, policy) = (limits.clone(), Policy::open());
        // The sender's one shard uses the same lanes each time.
        let shards = if node == 0 { vec![1] } else { shards(&mut draws) };
        world.add_node(NodeSetup { limits, policy, flows, keeps, shards })?;
    }
    let loss = [0, 100_000][plan.below(2) as usize];
    let link = LinkConfig { loss, duplicate: 50_000, delay: ms(10), ..LinkConfig::default() };
    world.join(0, 1, &link)?;
    send(&mut world, &mut plan, ms(0), &[PLAIN, GARDEN_FLOW]);
    // Time enough to find out about a kill.
    let killed_until = ms(18_000) + up_to(ms(20_000), &mut plan);
    let decided = killed_until + ms(2_000);
    let killed = (plan.below(2) == 0).then(|| up_to(killed_until, &mut plan));
    if let Some(killed) = killed {
        world.at(killed, Action::Kill(1));
        world.at(killed + ms(500), Action::Restart(1));
    }
    world.run_until(decided)?;
    let by_default = world.ledger.arrived_on(PLAIN);
    expect(&world, by_default == 0, || format!("{by_default} came before the operator"))?;
    expect_in_garden(&world, in_garden, killed)?;

    let garden = in_garden == Trust::Never;
    world.at(decided, Action::Decide { at: 1, about: 0, garden: false, accept: true });
    world.at(decided, Action::Decide { at: 1, about: 0, garden: true, accept: garden });
    let until = decided + ms(60_000);
    world.run_until(until)?;
    let open = |flow| {
        world.ledger.entries().iter().filter(|e| e.flow == flow && e.outcome.is_none()).count()
    };
    expect(&world, open(PLAIN) == 0, || format!("not let in: {}", world.describe()))?;
    expect(&world, !garden || open(GARDEN_FLOW) == 0, || {
        format!("not let in: {}", world.describe())
    })?;

    // Killed nodes talk again, and a rejection outlives a restart too. What finds out about the restart may end as unknown.
    world.at(until, Action::Kill(1));
    world.at(until + ms(300), Action::Restart(1));
    send(&mut world, &mut plan, until + ms(5_000), &[PLAIN, GARDEN_FLOW]);
    let later = until + ms(60_000);
    world.run_until(later)?;
    let first = world.ledger.entries().len();
    send(&mut world, &mut plan, later, &[PLAIN, GARDEN_FLOW]);
    world.run_until(later + ms(60_000))?;
    expect_as_decided(&world, first, garden)?;
    // A message on the wrong channel would have been refused by its flow.
    let refused =
        world.ledger.entries().iter().find(|e| matches!(e.outcome, Some(Outcome::Refused(_))));
    expect(&world, refused.is_none(), || format!("on another channel: {refused:?}"))?;
    let turned_away =
        |seen: &Seen| matches!(seen, Seen::DialFailed(words) if words.contains("Pending"));
    let told = world.first_seen(Duration::ZERO, 0, 1, turned_away);
    expect(&world, told.is_some(), || format!("nobody told it to wait: {:?}", world.seen))?;
    world.run_until_settled(world.age(), world.age() + ms(400_000))?;
    finish(world)
}

/// Who may come to the garden came before the operator did, and nobody else.
fn expect_in_garden(
    world: &World,
    in_garden: Trust,
    killed: Option<Duration>,
) -> Result<(), Fault> {
    let (there, is_open) = (world.ledger.arrived_on(GARDEN_FLOW), in_garden != Trust::Never);
    // A kill in the first moments may take all of them: what was under way to the dead node may end as unknown.
    let is_known = |e: &Entry| e.flow == GARDEN_FLOW && e.outcome != Some(Outcome::Unknown);
    let is_expected = is_open && (killed.is_none() || world.ledger.entries().iter().any(is_known));
    expect(world, there == 0 || is_open, || format!("{there} came to the garden: {in_garden:?}"))?;
    expect(world, there > 0 || !is_expected, || {
        format!("none came to the garden: {in_garden:?}, killed: {killed:?}: {}", world.describe())
    })
}

/// What was sent after the restart arrived where it was allowed, and nowhere else.
fn expect_as_decided(world: &World, first: usize, garden: bool) -> Result<(), Fault> {
    for entry in &world.ledger.entries()[first..] {
        let allowed = entry.flow == PLAIN || garden;
        let came = entry.outcome == Some(Outcome::Delivered);
        expect(world, came == allowed, || {
            format!("after the restart: {entry:?}. {}", world.describe())
        })?;
    }
    Ok(())
}

fn send(world: &mut World, plan: &mut SeededEntropy, from: Duration, flows: &[&'static str]) {
    for number in 0..10 {
        let (flow, bytes) = (flows[number % flows.len()], plan.below(3_000) as usize);
        let service = Service::Acknowledged;
        world
            .at(from + up_to(ms(200), plan), Action::Send { from: 0, to: 1, flow, bytes, service });
    }
}
