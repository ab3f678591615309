//! Goal: a watched peer's life is told as it is, in time and once, whatever the phase; a dead peer costs the others nothing.

use cubed_sim::scenario;
use cubed_sim::seeds::check;

#[test]
fn a_pulled_cable_is_told_in_time() {
    check(("presence", "a_pulled_cable_is_told_in_time"), scenario::cable, 1_000);
}

#[test]
fn a_killed_process_is_told_in_time() {
    check(("presence", "a_killed_process_is_told_in_time"), scenario::process, 1_000);
}

#[test]
fn the_log_of_a_churn_is_its_script() {
    check(("presence", "the_log_of_a_churn_is_its_script"), scenario::churn, 3);
}

#[test]
fn a_black_hole_does_not_delay_the_others() {
    check(("presence", "a_black_hole_does_not_delay_the_others"), scenario::black_hole, 20);
}
