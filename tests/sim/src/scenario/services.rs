//! Messages of all services and with all options, over links that lose, repeat, reorder and are cut.
//!
//! What is asked of one message must not change what becomes of another; nothing that ends as expired was delivered.

use std::time::Duration;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Limits, Outcome, Priority, Refusal, SendOptions, Service};

use super::{Report, bad_link, expect, finish, flow, length, ms, pair};
use crate::link::up_to;
use crate::script::{Action, Asked, Fault};
use crate::world::World;

/// Messages of each direction.
const MESSAGES: u64 = 80;

/// All services and options at once.
///
/// # Errors
///
/// A breach of exactly once, of order, of the sums; an end that nobody asked for; a block repeated when none may be; or no
/// progress within 120 s.
pub fn services(seed: u64) -> Result<Report, Fault> {
    let mut plan = SeededEntropy::new(seed ^ 0x5_1a4);
    let mut link = bad_link(&mut plan);
    if plan.below(3) == 0 {
        let cut = ms(150) + up_to(ms(200), &mut plan);
        link.partitions = vec![(cut, cut + up_to(ms(1_500), &mut plan))];
    }
    // In some worlds nothing may ever be sent again, so that one repetition shows.
    let is_once_only = plan.below(6) == 0;
    let (mut world, mut plan) = pair(seed, &link, &Limits::default())?;
    for (from, to) in [(0, 1), (1, 0)] {
        for _ in 0..MESSAGES {
            let mut asked = ask(&mut plan);
            if is_once_only {
                asked.options.retries = Some(0);
            }
            let (flow, bytes) = (flow(&mut plan), length(&mut plan).max(8));
            let at = up_to(ms(500), &mut plan);
            world.at(at, Action::Offer { from, to, flow, bytes, asked });
        }
    }
    world.run_until_settled(ms(500), ms(120_000))?;
    check_ends(&world)?;
    for node in 0..2 {
        let counters = world.counters(node).unwrap_or_default();
        expect(&world, !is_once_only || counters.blocks_resent == 0, || {
            format!("node {node} sent {} blocks again", counters.blocks_resent)
        })?;
        expect(&world, counters.violations == 0, || format!("node {node} was wronged"))?;
    }
    finish(world)
}

fn ask(plan: &mut SeededEntropy) -> Asked {
    let service = [Service::Acknowledged, Service::Ordered, Service::Ordered, Service::LatestValue];
    let priority = [Priority::High, Priority::Normal, Priority::Normal, Priority::Low];
    let options = SendOptions {
        service: service[plan.below(4) as usize],
        deadline: None,
        retries: (plan.below(4) == 0).then(|| plan.below(3) as u16),
        priority: priority[plan.below(4) as usize],
        burst: if plan.below(4) == 0 { 1 + plan.below(6) as u16 } else { 0 },
    };
    let deadline = (plan.below(3) == 0).then(|| up_to(ms(400), plan) + Duration::from_micros(50));
    Asked { options, deadline }
}

/// Each end is one that was asked for.
fn check_ends(world: &World) -> Result<(), Fault> {
    for (number, entry) in world.ledger.entries().iter().enumerate() {
        let Some(Asked { options, deadline }) = entry.asked else { continue };
        let is_value = options.service == Service::LatestValue;
        let may_expire = is_value || deadline.is_some() || options.retries.is_some();
        let is_right = match entry.outcome {
            Some(Outcome::Delivered) => true,
            Some(Outcome::Expired) => may_expire,
            Some(Outcome::Refused(Refusal::Superseded)) => is_value,
            _ => false,
        };
        expect(world, is_right, || format!("entry {number} has a wrong end: {entry:?}"))?;
    }
    Ok(())
}
