//! Goal: each datagram of a handshake may be lost, late, doubled or damaged: there is one session all the same, or a clear end at
//! the dial timeout. Handshakes also end well over links that lose or damage nearly a third of everything, or are very long.

use std::time::Duration;

use cubed_sim::link::LinkConfig;
use cubed_sim::node::NodeSetup;
use cubed_sim::recorder::FlowSetup;
use cubed_sim::script::{Action, Seen};
use cubed_sim::world::{Deed, Rule, World};
use cubed_transport::{Limits, Outcome, Service};

const FLOW: &str = "plain";
const LANE: u8 = 0x40;

/// A step of the handshake: its name, byte 0 of its datagram, whether the dialler sends it.
type Step = (&'static str, u8, bool);

/// The first lane datagram each way is that side's greeting.
const STEPS: [Step; 6] = [
    ("HELLO", 1, true),
    ("COOKIE", 4, false),
    ("REPLY", 2, false),
    ("FINISH", 3, true),
    ("dialler's greeting", LANE, true),
    ("responder's greeting", LANE, false),
];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two nodes 20 ms apart, and a third that uses up the responder's allowance, so that it asks for a cookie.
fn nodes(seed: u64, dialler: usize) -> World {
    let mut world = World::new(seed);
    let limits = Limits { hellos_per_second: 1, ..Limits::default() };
    for _ in 0..3 {
        let flows = vec![FlowSetup::new(FLOW)];
        let setup = NodeSetup { limits: limits.clone(), flows, ..NodeSetup::default() };
        world.add_node(setup).unwrap();
    }
    let link = LinkConfig { delay: ms(20), ..LinkConfig::default() };
    let responder = 1 - dialler;
    world.join(dialler, responder, &link).unwrap();
    world.join(2, responder, &LinkConfig::default()).unwrap();
    world.at(ms(0), Action::Connect { from: 2, to: responder });
    world.run_until(ms(100)).unwrap();
    world
}

fn way(dialler: usize, (_, _, by_dialler): Step) -> (usize, usize) {
    if by_dialler { (dialler, 1 - dialler) } else { (1 - dialler, dialler) }
}

fn send(world: &mut World, from: usize, at: Duration) {
    let (to, service) = (1 - from, Service::Acknowledged);
    world.at(at, Action::Send { from, to, flow: FLOW, bytes: 100, service });
}

fn sessions(world: &World, node: usize, other: usize) -> usize {
    let of = |(_, seer, about, seen): &&(_, usize, usize, Seen)| {
        *seer == node && *about == other && *seen == Seen::Connected
    };
    world.seen.iter().filter(of).count()
}

/// The handshake ends in one session with its messages, `deed` or not.
fn completes(deed: Deed, within: Duration) {
    for step in STEPS {
        for dialler in [0, 1] {
            let mut world = nodes(3, dialler);
            world.tamper(Rule::first(way(dialler, step), step.1, deed));
            send(&mut world, dialler, ms(150));
            world.run_until_settled(ms(150), ms(150) + within).unwrap_or_else(|fault| {
                panic!("{} {deed:?}, {dialler} dials: {fault}", step.0);
            });
            let planned = world.age();
            send(&mut world, 1 - dialler, planned);
            world.run_until_settled(planned, planned + ms(1_000)).unwrap();
            // What was late or doubled finds everything closed for it.
            world.run_until(world.age() + ms(25_000)).unwrap();
            world.verify().unwrap();
            assert_eq!(world.tampered(), [world.tampered()[0].max(1)], "{} was sent", step.0);
            for (node, other) in [(0, 1), (1, 0)] {
                let what = format!("{} {deed:?}, {dialler} dials: {}", step.0, world.describe());
                assert_eq!(sessions(&world, node, other), 1, "{what}");
                assert_eq!(world.counters(node).unwrap().violations, 0, "{what}");
                assert_eq!(world.half_open(node), Some(0), "{what}");
            }
            let sums = world.ledger.sums();
            assert_eq!((sums.delivered, sums.arrived), (2, 2), "{}", step.0);
        }
    }
}

#[test]
fn the_first_is_dropped() {
    completes(Deed::Drop, ms(2_500));
}

#[test]
fn the_first_is_damaged() {
    completes(Deed::Damage, ms(2_500));
}

#[test]
fn the_first_is_late() {
    for late in [ms(90), ms(700), ms(6_000)] {
        completes(Deed::Delay(late), ms(2_500));
    }
}

#[test]
fn the_first_comes_twice() {
    for later in [ms(0), ms(30), ms(2_000), ms(11_000)] {
        completes(Deed::Repeat(later), ms(500));
    }
}

/// Nothing of one kind ever arrives: the dial fails at its timeout, to the instant, also where all but the dialler's greeting came,
/// for it is judged by that and told nothing before. When the path is whole again, a dial ends well.
#[test]
fn all_are_dropped() {
    for step in STEPS {
        for dialler in [0, 1] {
            let mut world = nodes(5, dialler);
            world.tamper(Rule::all(way(dialler, step), step.1, Deed::Drop));
            send(&mut world, dialler, ms(150));
            world.run_until(ms(150 + 5_000 + 4_000)).unwrap();
            let responder = 1 - dialler;
            let dial_failed = |seen: &Seen| matches!(seen, Seen::DialFailed(_));
            let failed = world.first_seen(ms(0), dialler, responder, dial_failed);
            let what = format!("{}, {dialler} dials: {}", step.0, world.describe());
            if step == STEPS[1] {
                // The load passes within the dial, and the hello is answered without a cookie.
                assert_eq!(world.ledger.sums().delivered, 1, "{what}");
                assert!(world.tampered()[0] >= 3, "cookies were sent: {what}");
                continue;
            }
            let failed = failed.expect(&what);
            assert_eq!(failed, ms(150) + Limits::default().dial_timeout, "{what}");
            assert!(!world.is_connected(dialler, responder), "{what}");
            assert_eq!(world.ledger.sums().delivered, 0, "{what}");
            world.tamper_no_more();
            let healed = world.age();
            world.run_until_settled(healed, healed + ms(9_000)).unwrap();
            assert_eq!(world.ledger.sums().delivered, 1, "{what}");
            world.run_until(world.age() + ms(11_000)).unwrap();
            world.verify().unwrap();
        }
    }
}

/// Handshakes over one link each until a message came through; returns how many dials that took in all.
fn fifty(link: &LinkConfig, within: Duration) -> u64 {
    let mut dials = 0;
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..2 {
            let flows = vec![FlowSetup::new(FLOW)];
            world.add_node(NodeSetup { flows, ..NodeSetup::default() }).unwrap();
        }
        world.join(0, 1, link).unwrap();
        send(&mut world, 0, ms(0));
        world.run_until_settled(ms(0), within).unwrap_or_else(|fault| panic!("{seed}: {fault}"));
        assert_eq!(world.ledger.entries()[0].outcome, Some(Outcome::Delivered));
        dials += world.counters(0).unwrap().dials_begun;
        world.run_until(world.age() + ms(20_000)).unwrap();
        world.verify().unwrap();
        assert_eq!((sessions(&world, 0, 1), sessions(&world, 1, 0)), (1, 1), "seed {seed}");
    }
    dials
}

#[test]
fn fifty_of_fifty_at_30_percent_loss() {
    let link = LinkConfig { loss: 300_000, delay: ms(20), ..LinkConfig::default() };
    let dials = fifty(&link, ms(60_000));
    println!("30 % loss: {dials} dials for 50 sessions");
    assert!(dials <= 75, "{dials} dials");
}

#[test]
fn fifty_of_fifty_at_30_percent_corruption() {
    let link = LinkConfig { corrupt: 300_000, delay: ms(20), ..LinkConfig::default() };
    let dials = fifty(&link, ms(60_000));
    println!("30 % corruption: {dials} dials for 50 sessions");
    assert!(dials <= 75, "{dials} dials");
}

#[test]
fn one_dial_and_one_session_at_a_round_trip_of_1500_ms() {
    let link = LinkConfig { delay: ms(750), ..LinkConfig::default() };
    assert_eq!(fifty(&link, ms(10_000)), 50);
}
