//! Goal: every service and option is kept over bad links, whatever is asked of the messages beside.

use cubed_sim::scenario::services;
use cubed_sim::seeds::{check, check_repeats};

#[test]
fn all_at_once() {
    check(("services", "all_at_once"), services, 200);
}

#[test]
fn a_seed_repeats() {
    check_repeats(services, 5);
}
