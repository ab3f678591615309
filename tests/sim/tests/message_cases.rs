//! Goal: messages in many blocks survive each pattern of loss with nothing resent but what is missing; a mesh of 3 by 5 nodes
//! delivers everything once through every combination of five impairments.

use std::time::Duration;

use cubed_sim::link::LinkConfig;
use cubed_sim::node::NodeSetup;
use cubed_sim::recorder::FlowSetup;
use cubed_sim::script::Action;
use cubed_sim::world::{Deed, Rule, World};
use cubed_transport::{Counters, Limits, Service};

const FLOW: &str = "plain";
/// What every path must carry.
const DATAGRAM_BYTES_MIN: u16 = 1_200;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn nodes(seed: u64, count: usize, limits: &Limits) -> World {
    let mut world = World::new(seed);
    for _ in 0..count {
        let (limits, flows) = (limits.clone(), vec![FlowSetup::new(FLOW)]);
        world.add_node(NodeSetup { limits, flows, ..NodeSetup::default() }).unwrap();
    }
    world
}

fn send(world: &mut World, way: (usize, usize), bytes: usize, at: Duration) {
    let (from, to) = way;
    world.at(at, Action::Send { from, to, flow: FLOW, bytes, service: Service::Acknowledged });
}

/// A pair that is connected, its flow bound, with nothing on the way.
fn quiet_pair(limits: &Limits) -> World {
    let mut world = nodes(1, 2, limits);
    world.join(0, 1, &LinkConfig { delay: ms(10), ..LinkConfig::default() }).unwrap();
    send(&mut world, (0, 1), 10, ms(0));
    world.run_until_settled(ms(0), ms(1_000)).unwrap();
    world.run_until(ms(2_000)).unwrap();
    world
}

/// One message in nine blocks; `deeds` for its datagrams. Returns the world after it and what was counted of its sending.
fn nine_blocks(datagram_bytes: u16, deeds: Vec<Deed>) -> (World, Counters) {
    let mut world = quiet_pair(&Limits { datagram_bytes, ..Limits::default() });
    let before = world.counters(0).unwrap();
    world.tamper(Rule::pattern((0, 1), 1_000, deeds));
    send(&mut world, (0, 1), 9 * (usize::from(datagram_bytes) - 62), ms(2_000));
    world.run_until_settled(ms(2_000), ms(6_000)).unwrap();
    world.run_until(ms(8_000)).unwrap();
    world.verify().unwrap();
    assert_eq!(world.ledger.sums().delivered, 2);
    (world, before)
}

/// On a path that carries no more than every path must, which no loss can shorten: blocks resent and blocks that came twice.
fn nine_short_blocks(deeds: Vec<Deed>) -> (u64, u64) {
    let (world, before) = nine_blocks(DATAGRAM_BYTES_MIN, deeds);
    let after = world.counters(0).unwrap();
    let resent = after.blocks_resent - before.blocks_resent;
    assert_eq!(world.tampered()[0] as u64, 9 + resent, "nine blocks, and those sent again");
    assert_eq!((after.size_fell, after.parts_sent), (0, 0));
    (resent, world.counters(1).unwrap().dropped_duplicate_block)
}

fn pattern(text: &str) -> Vec<Deed> {
    text.split(',').map(|bit| if bit == "1" { Deed::Drop } else { Deed::Pass }).collect()
}

#[test]
fn only_missing_blocks_are_resent() {
    assert_eq!(nine_short_blocks(vec![]), (0, 0));
    assert_eq!(nine_short_blocks(pattern("0,1,1,0,0,0,0,0,1")), (3, 0));
    assert_eq!(nine_short_blocks(pattern("0,1,0,0,0,0,0,0,0")), (1, 0));
    assert_eq!(nine_short_blocks(pattern("1,1,1,0,0,0,0,0,0")), (3, 0));
}

#[test]
fn all_blocks_and_the_first_resent_ones_are_lost() {
    let (resent, twice) = nine_short_blocks(vec![Deed::Drop; 12]);
    assert!((12..=16).contains(&resent), "{resent} resent");
    assert!(twice <= 2, "{twice} came twice");
}

/// Of a flight of the longest datagrams nothing arrives. If what the probe timeout repeats does, only the flight was lost. Else the
/// PING beside it says that long datagrams get lost: the blocks go again in two parts each, until a probe finds the length again. Where
/// the first does, two blocks that waited for the window go whole.
#[test]
fn a_lost_flight_of_long_datagrams_goes_again_in_parts() {
    for (lost, resent, parts, probes) in [(9, 9, 0, 0), (10, 1 + 9, 14, 1), (12, 1 + 9, 18, 3)] {
        let (world, before) = nine_blocks(1_440, vec![Deed::Drop; lost]);
        let (sender, receiver) = (world.counters(0).unwrap(), world.counters(1).unwrap());
        assert_eq!(sender.blocks_resent - before.blocks_resent, resent, "{lost} lost");
        assert_eq!((sender.parts_sent, receiver.parts_received), (parts, parts), "{lost} lost");
        assert_eq!(sender.size_probes_sent - before.size_probes_sent, probes, "{lost} lost");
        assert_eq!(sender.size_fell, u64::from(parts > 0), "{lost} lost");
        assert_eq!(world.path_limit(0, 1), Some(1_440), "{lost} lost");
        assert_eq!(receiver.dropped_duplicate_block, 0, "{lost} lost");
        // What is as long as a block: those sent whole, and the probes.
        let whole = 9 + resent - parts / 2;
        assert_eq!(world.tampered()[0] as u64, whole + probes, "{lost} lost");
    }
}

/// The path lets so many datagrams through at once and makes the others wait for the next turn; 0 is all at once.
#[test]
fn blocks_come_in_bursts() {
    for burst in [0, 1, 4, 7, 11] {
        let turn = |index: usize| ms(15 * index.checked_div(burst).unwrap_or(0) as u64);
        let deeds = (0..40).map(|index| Deed::Delay(turn(index))).collect();
        let mut world = quiet_pair(&Limits::default());
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
    let mut world = nodes(u64::from(by), masters + others, &Limits::default());
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
