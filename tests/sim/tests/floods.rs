//! Goal: whoever can seal hellos for a node, from any address, cannot keep honest diallers out, make it work without bound, or make
//! it send to strangers more than they sent. Public-key work is counted, not timed.

use std::net::SocketAddr;
use std::time::Duration;

use cubed_sim::link::LinkConfig;
use cubed_sim::node::NodeSetup;
use cubed_sim::script::{Action, Seen};
use cubed_sim::world::{Deed, Rule, World};
use cubed_transport::handshake::{Credentials, Dial, Kind};
use cubed_transport::identity::Identity;
use cubed_transport::{Counters, Limits};

const VICTIM: usize = 0;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A victim with these limits, and honest nodes 20 ms away.
fn nodes(honest: usize, limits: &Limits) -> World {
    let mut world = World::new(11);
    world.add_node(NodeSetup { limits: limits.clone(), ..NodeSetup::default() }).unwrap();
    for _ in 0..honest {
        let node = world.add_node(NodeSetup::default()).unwrap();
        let link = LinkConfig { delay: ms(20), ..LinkConfig::default() };
        world.join(node, VICTIM, &link).unwrap();
    }
    world
}

/// Somebody who knows the victim's key and has one of his own.
struct Attacker {
    dial: Dial,
    hello: Vec<u8>,
}

impl Attacker {
    fn new(world: &World, number: u8) -> Self {
        let credentials = Credentials::new(&Identity::from_seed(&[number; 32])).unwrap();
        let victim = world.key(VICTIM);
        let dial = Dial::new(&credentials, victim, "", 77, [number; 8], 0).unwrap();
        let mut hello = Vec::new();
        dial.hello(None, &mut hello);
        Self { dial, hello }
    }

    /// The hello with a cookie that the victim sent.
    fn with_cookie(&self, cookie: &mut [u8]) -> Vec<u8> {
        let cookie = self.dial.handle_cookie(cookie).unwrap();
        let mut hello = Vec::new();
        self.dial.hello(Some(&cookie), &mut hello);
        hello
    }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([203, 0, (number >> 8) as u8, number as u8], 4_000))
}

fn counters(world: &World) -> Counters {
    world.counters(VICTIM).unwrap()
}

/// Injects, lets the victim answer, and returns what it answered.
fn ask(world: &mut World, from: SocketAddr, hello: &[u8]) -> Vec<Vec<u8>> {
    world.inject_from(from, VICTIM, hello);
    world.run_until(world.age()).unwrap();
    let strays = world.take_strays();
    assert!(strays.iter().all(|(to, _)| *to == from));
    strays.into_iter().map(|(_, datagram)| datagram).collect()
}

fn is(datagrams: &[Vec<u8>], kind: Kind) -> bool {
    datagrams.len() == 1 && datagrams[0][0] == kind as u8
}

/// How long each honest node took from its dial to its session.
fn waits(world: &World, dials: &[(usize, Duration)]) -> Vec<Option<Duration>> {
    let connected = |seen: &Seen| *seen == Seen::Connected;
    let wait = |&(node, at): &(usize, Duration)| {
        world.first_seen(at, node, VICTIM, connected).map(|then| then.saturating_sub(at))
    };
    dials.iter().map(wait).collect()
}

#[test]
fn a_hello_repeated_10_000_times_is_one_entry_and_few_replies() {
    let mut world = nodes(0, &Limits::default());
    let attacker = Attacker::new(&world, 9);
    let mut replies = 0;
    for _ in 0..10_000 {
        replies += ask(&mut world, address(1), &attacker.hello).len();
        world.run_until(world.age() + Duration::from_micros(900)).unwrap();
    }
    let counters = counters(&world);
    assert_eq!((world.half_open(VICTIM), counters.hellos_answered), (Some(1), 1));
    assert_eq!(replies, 32);
    assert_eq!(counters.dropped_handshake_repeated, 10_000 - 32);
    world.run_until(world.age() + ms(10_000)).unwrap();
    assert_eq!(world.half_open(VICTIM), Some(0));
}

/// The hello of an honest dial, repeated while its session lives, makes neither a session nor more than one entry in ten seconds.
#[test]
fn the_hello_of_a_session_repeated_begins_no_other() {
    let mut world = nodes(1, &Limits::default());
    world.capture();
    world.at(ms(0), Action::Connect { from: 1, to: VICTIM });
    world.run_until(ms(1_000)).unwrap();
    assert_eq!(counters(&world).sessions_begun, 1);
    let hello = world.captured().iter().find(|(from, bytes)| *from == 1 && bytes[0] == 1);
    let (from, hello) = (world.address(1), hello.unwrap().1.clone());
    for _ in 0..10_000 {
        world.inject_from(from, VICTIM, &hello);
        world.run_until(world.age() + ms(3)).unwrap();
    }
    let counters = counters(&world);
    assert_eq!(counters.sessions_begun, 1);
    assert!(counters.hellos_answered <= 5, "{} in 30 s", counters.hellos_answered);
    assert!(world.half_open(VICTIM) <= Some(1));
    assert!(world.is_connected(1, VICTIM) && world.is_connected(VICTIM, 1));
}

#[test]
fn a_cookie_holds_for_its_address_port_and_flight_through_two_epochs() {
    let limits = Limits { hellos_per_second: 1, ..Limits::default() };
    let mut world = nodes(0, &limits);
    let (attacker, other) = (Attacker::new(&world, 9), Attacker::new(&world, 8));
    // Uses the allowance up; what follows at this time must bring a cookie.
    let load = |world: &mut World| {
        world.run_until(world.age() + ms(1_100)).unwrap();
        assert!(is(&ask(world, address(9_000), &Attacker::new(world, 7).hello), Kind::Reply));
    };
    // The world begins 10 s after the clock's zero: this cookie is of epoch 0, which ends at 120 s of the clock.
    load(&mut world);
    let mut asked = ask(&mut world, address(1), &attacker.hello);
    assert!(is(&asked, Kind::Cookie) && asked[0].len() < attacker.hello.len());
    let good = attacker.with_cookie(&mut asked[0]);
    let mut grafted = other.hello.clone();
    grafted[16..48].copy_from_slice(&good[16..48]);
    let before = counters(&world);
    let elsewhere = SocketAddr::from(([203, 0, 0, 1], 4_001));
    assert!(ask(&mut world, address(2), &good).is_empty(), "another address");
    assert!(ask(&mut world, elsewhere, &good).is_empty(), "another port");
    let mut asked_other = ask(&mut world, address(1), &other.hello);
    assert!(is(&asked_other, Kind::Cookie));
    let others = other.with_cookie(&mut asked_other[0]);
    let mut swapped = Vec::new();
    let stolen: [u8; 32] = others[16..48].try_into().unwrap();
    attacker.dial.hello(Some(&stolen), &mut swapped);
    assert!(ask(&mut world, address(1), &swapped).is_empty(), "another flight");
    assert!(ask(&mut world, address(1), &grafted).is_empty(), "a cookie put into a sealed hello");
    let after = counters(&world);
    assert_eq!(after.dropped_cookie - before.dropped_cookie, 3);
    assert_eq!(after.dropped_handshake - before.dropped_handshake, 1);
    assert_eq!(after.hellos_answered, before.hellos_answered, "no public-key work for any");
    assert!(is(&ask(&mut world, address(1), &good), Kind::Reply));
    // In the next epoch, which ends at 230 s of the world, it still holds; then no more.
    for (until, holds) in [(ms(200_000), true), (ms(228_000), true), (ms(229_500), false)] {
        world.run_until(until).unwrap();
        load(&mut world);
        let before = counters(&world).hellos_answered;
        let answered = is(&ask(&mut world, address(1), &good), Kind::Reply);
        assert_eq!(answered, holds, "at {:?}", world.age());
        assert_eq!(counters(&world).hellos_answered - before, u64::from(holds));
    }
}

/// Hellos of a thousand spoofed addresses a second, none of which can answer.
#[test]
fn spoofed_hellos_cost_a_bounded_number_of_operations() {
    let mut world = nodes(5, &Limits::default());
    let attacker = Attacker::new(&world, 9);
    let dials: Vec<_> = (1..=5).map(|node| (node, ms(1_000 + 500 * node as u64))).collect();
    for &(node, at) in &dials {
        world.at(at, Action::Connect { from: node, to: VICTIM });
    }
    for number in 0..5_000 {
        world.inject_from(address(number), VICTIM, &attacker.hello);
        world.run_until(world.age() + ms(1)).unwrap();
    }
    world.run_until(ms(8_000)).unwrap();
    let counters = counters(&world);
    // 100 at once, 100 a second, and the honest ones; half the table is reached before that.
    assert!(counters.hellos_answered <= 605, "{}", counters.hellos_answered);
    assert!(counters.cookies_sent >= 4_000, "{}", counters.cookies_sent);
    for wait in waits(&world, &dials) {
        assert!(wait.is_some_and(|wait| wait <= ms(500)), "{wait:?}");
    }
}

/// Attackers with real addresses take every place of the table and never finish.
fn stalled(attackers: u32) -> World {
    let limits = Limits { half_open_max: 64, hellos_per_second: 20, ..Limits::default() };
    let honest = 50;
    let mut world = nodes(honest, &limits);
    let dials: Vec<_> = (1..=honest).map(|node| (node, ms(5_000 + 200 * node as u64))).collect();
    for &(node, at) in &dials {
        world.at(at, Action::Connect { from: node, to: VICTIM });
    }
    // One dial each 20 ms, each a flight of its own: five times the table in the life of an entry.
    for number in 0..900 {
        let attacker = Attacker::new(&world, number as u8);
        let from = address(number % attackers);
        for mut answer in ask(&mut world, from, &attacker.hello) {
            if answer[0] == Kind::Cookie as u8 {
                ask(&mut world, from, &attacker.with_cookie(&mut answer));
            }
        }
        assert!(world.half_open(VICTIM) <= Some(64));
        world.run_until(world.age() + ms(20)).unwrap();
    }
    let waits = waits(&world, &dials);
    let slow = waits.iter().filter(|wait| wait.is_none_or(|wait| wait > ms(3_000))).count();
    assert_eq!(slow, 0, "{waits:?} {}", world.describe());
    world.run_until(world.age() + ms(10_000)).unwrap();
    assert_eq!(world.half_open(VICTIM), Some(0), "places are free again after 10 s");
    world.verify().unwrap();
    world
}

#[test]
fn a_table_filled_from_many_addresses_makes_room() {
    let counters = counters(&stalled(200));
    assert!(counters.half_open_evicted > 100, "the table was full: {}", counters.half_open_evicted);
}

#[test]
fn one_address_holds_its_share_and_no_more() {
    let counters = counters(&stalled(1));
    assert_eq!(counters.half_open_evicted, 0);
    assert!(counters.dropped_half_open_source > 100, "{}", counters.dropped_half_open_source);
}

/// A FINISH from elsewhere than its hello would point a session at somebody who never asked. The dialler's greeting, which comes
/// all the time, would begin that session.
#[test]
fn a_finish_proves_only_the_address_of_its_hello() {
    let mut world = nodes(1, &Limits::default());
    world.capture();
    world.tamper(Rule::all((1, VICTIM), Kind::Finish as u8, Deed::Drop));
    world.at(ms(0), Action::Connect { from: 1, to: VICTIM });
    world.run_until(ms(300)).unwrap();
    let is_finish =
        |(from, bytes): &&(usize, Vec<u8>)| *from == 1 && bytes[0] == Kind::Finish as u8;
    let finish = world.captured().iter().find(is_finish).unwrap().1.clone();
    let greeted = counters(&world).dropped_before_greeting;
    assert!(ask(&mut world, address(2), &finish).is_empty());
    world.run_until(ms(2_000)).unwrap();
    assert_eq!(world.take_strays(), []);
    let before = counters(&world);
    assert_eq!((before.dropped_finish_address, before.associations_established), (1, 0));
    assert!(before.dropped_before_greeting > greeted, "greetings came and began nothing");
    assert!(!world.is_connected(1, VICTIM));
    world.inject_from(world.address(1), VICTIM, &finish);
    world.run_until(ms(4_000)).unwrap();
    let after = counters(&world);
    assert_eq!((after.dropped_finish_address, after.associations_established), (1, 1));
    assert!(world.is_connected(1, VICTIM) && world.is_connected(VICTIM, 1));
    assert_eq!(world.peer_address(VICTIM, 1), Some(world.address(1)));
}

/// Whoever is not admitted is told so, in no more bytes than it sends, however short its FINISH gets.
#[test]
fn a_short_finish_draws_no_refusal() {
    let mut world = World::new(5);
    let policy = cubed_router::policy::Policy::deny();
    world.add_node(NodeSetup { policy, ..NodeSetup::default() }).unwrap();
    let mut attacker = Attacker::new(&world, 9);
    let mut reply = ask(&mut world, address(1), &attacker.hello);
    attacker.dial.handle_reply(&mut reply[0]).unwrap();
    let mut finish = Vec::new();
    assert!(attacker.dial.finish(&mut finish));
    assert_eq!(ask(&mut world, address(1), &finish).len(), 1);
    assert_eq!(ask(&mut world, address(1), &finish).len(), 1, "told again when asked again");
    assert_eq!(ask(&mut world, address(1), &finish[..16]).len(), 0);
}
