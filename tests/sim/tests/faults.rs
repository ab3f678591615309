//! Goal: restarts, deaths, cuts, damage and refusals end as documented, for every seed.

use cubed_sim::scenario::{self, SCENARIOS};
use cubed_sim::seeds::{check, check_repeats, run_one};

#[test]
fn restart() {
    check(("faults", "restart"), scenario::restart, 50);
}

#[test]
fn kill() {
    check(("faults", "kill"), scenario::kill, 50);
}

/// The first hello and the first greeting were lost; the greeting came again after half a second, when the peer was dead.
#[test]
fn a_greeting_that_was_repeated_too_late() {
    run_one(scenario::kill, 392).unwrap_or_else(|failure| panic!("{failure:?}"));
}

#[test]
fn simultaneous_dial() {
    check(("faults", "simultaneous_dial"), scenario::simultaneous_dial, 1_000);
}

#[test]
fn partition() {
    check(("faults", "partition"), scenario::partition, 50);
}

#[test]
fn refusals() {
    check(("faults", "refusals"), scenario::refusals, 50);
}

#[test]
fn corruption() {
    check(("faults", "corruption"), scenario::corruption, 50);
}

#[test]
fn replay() {
    check(("faults", "replay"), scenario::replay, 30);
}

#[test]
fn clean() {
    check(("faults", "clean"), scenario::clean, 50);
}

#[test]
fn mesh() {
    check(("faults", "mesh"), scenario::mesh, 50);
}

#[test]
fn close() {
    check(("faults", "close"), scenario::close, 50);
}

/// A session given up on one side only: blocks of two sessions met, and what was never sent was settled.
#[test]
fn give_up() {
    check(("faults", "give_up"), scenario::give_up, 50);
}

#[test]
fn rekey() {
    check(("faults", "rekey"), scenario::rekey, 20);
}

/// Traffic during a handshake for fresh keys asked for the next ones, a second later: without end when keys last for a second.
#[test]
fn fresh_keys_that_were_not_needed() {
    for seed in [1, 38] {
        run_one(scenario::rekey, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

/// Only one side found the older keys worn, so that each sent on others and both were kept.
#[test]
fn sides_that_chose_differently() {
    for seed in [59, 900, 916] {
        run_one(scenario::rekey, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

/// A greeting told before its node gave the session up came after the next session had begun, and ended that on one side only.
#[test]
fn a_greeting_of_the_past() {
    run_one(scenario::chaos, 604).unwrap_or_else(|failure| panic!("{failure:?}"));
}

#[test]
fn restart_noticed() {
    check(("faults", "restart_noticed"), scenario::restart_noticed, 50);
}

#[test]
fn acceptance() {
    check(("faults", "acceptance"), scenario::acceptance, 50);
}

#[test]
fn every_scenario_repeats() {
    for (_, scenario) in SCENARIOS {
        check_repeats(*scenario, 3);
    }
}

#[test]
fn time_does_not_go_back() {
    let mut world = cubed_sim::world::World::new(1);
    let ms = std::time::Duration::from_millis;
    world.run_until(ms(10)).unwrap();
    world.run_until(ms(4)).unwrap();
    assert_eq!(world.age(), ms(10));
}
