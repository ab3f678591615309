//! Goal: messages in many blocks survive each pattern of loss with nothing resent but what is missing; a mesh of 3 by 5 nodes
//! delivers everything once through every combination of five impairments.

use std::time::Duration;

use cubed_sim::link::LinkConfig;
use cubed_sim::node::NodeSetup;
use cubed_sim::recorder::FlowSetup;
use cubed_sim::script::Action;
use cubed_sim::world::{Deed, Rule, World};
use cubed_transport::Service;

const FLOW: &str = "plain";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn nodes(seed: u64, count: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..count {
        let flows = vec![FlowSetup::new(FLOW)];
        world.add_node(NodeSetup { flows, ..NodeSetup::default() }).unwrap();
    }
    world
}

fn send(world: &mut World, way: (usize, usize), bytes: usize, at: Duration) {
    let (from, to) = way;
    world.at(at, Action::Send { from, to, flow: FLOW, bytes, service: Service::Acknowledged });
}

/// A pair that is connected, its flow bound, with nothing on the way.
fn quiet_pair() -> World {
    let mut world = nodes(1, 2);
    world.join(0, 1, &LinkConfig { delay: ms(10), ..LinkConfig::default() }).unwrap();
    send(&mut world, (0, 1), 10, ms(0));
    world.run_until_settled(ms(0), ms(1_000)).unwrap();
    world.run_until(ms(2_000)).unwrap();
    world
}

/// One message in nine blocks; `deeds` for its datagrams. Returns blocks resent and blocks that came twice.
fn nine_blocks(deeds: Vec<Deed>) -> (u64, u64) {
    let mut world = quiet_pair();
    let before = world.counters(0).unwrap();
    world.tamper(Rule::pattern((0, 1), 1_000, deeds));
    send(&mut world, (0, 1), 9 * 1_390, ms(2_000));
    world.run_until_settled(ms(2_000), ms(6_000)).unwrap();
    world.run_until(ms(8_000)).unwrap();
    world.verify().unwrap();
    assert_eq!(world.ledger.sums().delivered, 2);
    let after = world.counters(0).unwrap();
    let resent = after.blocks_resent - before.blocks_resent;
    if after.parts_sent == 0 {
        assert_eq!(world.tampered()[0] as u64, 9 + resent, "nine blocks, and those sent again");
    }
    (resent, world.counters(1).unwrap().dropped_duplicate_block)
}

fn pattern(text: &str) -> Vec<Deed> {
    text.split(',').map(|bit| if bit == "1" { Deed::Drop } else { Deed::Pass }).collect()
}

#[test]
fn only_missing_blocks_are_resent() {
    assert_eq!(nine_blocks(vec![]), (0, 0));
    assert_eq!(nine_blocks(pattern("0,1,1,0,0,0,0,0,1")), (3, 0));
    assert_eq!(nine_blocks(pattern("0,1,0,0,0,0,0,0,0")), (1, 0));
    assert_eq!(nine_blocks(pattern("1,1,1,0,0,0,0,0,0")), (3, 0));
}

#[test]
fn all_blocks_and_the_first_resent_ones_are_lost() {
    let (resent, twice) = nine_blocks(vec![Deed::Drop; 12]);
    // The path looks like one that swallows long datagrams, so some go again in parts.
    assert!((9..=24).contains(&resent), "{resent} resent");
    assert!(twice <= 2, "{twice} came twice");
}

/// The path lets so many datagrams through at once and makes the others wait for the next turn; 0 is all at once.
#[test]
fn blocks_come_in_bursts() {
    for burst in [0, 1, 4, 7, 11] {
        let turn = |index: usize| ms(15 * index.checked_div(burst).unwrap_or(0) as u64);
        let deeds = (0..40).map(|index| Deed::Delay(turn(index))).collect();
        let mut world = quiet_pair();
        world.tamper(Rule::pattern((0, 1), 1_000, deeds));
        send(&mut world, (0, 1), 40_000, ms(2_000));
        world.run_until_settled(ms(2_000), ms(6_000)).unwrap();
        world.verify().unwrap();
        assert!(world.tampered()[0] >= 28, "40,000 bytes in blocks");
        assert_eq!(world.ledger.sums().delivered, 2, "burst {burst}");
    }
}

const DELAY: u32 = 1;
const LOSS: u32 = 2;
const DUPLICATE: u32 = 4;
const REORDER: u32 = 8;
const CORRUPT: u32 = 16;
const ALL: u32 = 31;

/// Each impairment as hard as in the system test that this is taken from.
fn impaired(by: u32) -> LinkConfig {
    let if_set = |bit: u32, millionths: u32| if by & bit == 0 { 0 } else { millionths };
    let (delay, jitter) = if by & DELAY == 0 { (1, 0) } else { (100, 200) };
    LinkConfig {
        delay: ms(delay),
        jitter: ms(jitter),
        loss: if_set(LOSS, 300_000),
        duplicate: if_set(DUPLICATE, 500_000),
        reorder: if_set(REORDER, 300_000),
        reorder_delay: ms(100),
        corrupt: if_set(CORRUPT, 200_000),
        ..LinkConfig::default()
    }
}

/// `masters` by `others` nodes, each pair `count` messages of 1 KiB each way. Returns the time it took.
fn load(by: u32, masters: usize, others: usize, count: usize) -> Duration {
    let mut world = nodes(u64::from(by), masters + others);
    let pairs = (0..masters).flat_map(|master| (0..others).map(move |i| (master, masters + i)));
    let pairs: Vec<_> = pairs.collect();
    for &(master, other) in &pairs {
        world.join(master, other, &impaired(by)).unwrap();
        for _ in 0..count {
            send(&mut world, (master, other), 1_024, ms(0));
            send(&mut world, (other, master), 1_024, ms(0));
        }
    }
    world.run_until_settled(ms(0), ms(100_000)).unwrap_or_else(|fault| panic!("{by:#b}: {fault}"));
    let took = world.age();
    world.run_until(took + ms(3_000)).unwrap();
    world.verify().unwrap();
    let (sums, messages) = (world.ledger.sums(), (2 * count * pairs.len()) as u64);
    assert_eq!((sums.delivered, sums.arrived), (messages, messages), "{by:#b}");
    took
}

#[test]
fn the_system_load_is_delivered_once() {
    let took = load(ALL, 3, 5, 100);
    println!("3,000 messages between 3 and 5 nodes: {took:?} of virtual time");
}

/// All 32 combinations: none, each alone, all pairs, and so on.
#[test]
fn every_combination_of_impairments_delivers_once() {
    for by in 0..=ALL {
        load(by, 1, 2, 50);
    }
}
