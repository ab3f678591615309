//! Goal: over links that lose 10 %, duplicate and reorder, each acknowledged message arrives exactly
//! once, best effort at most once, and the same seed gives the same run.

use cubed_sim::scenario::exactly_once;
use cubed_sim::seeds::{check, check_repeats};

#[test]
fn bad_links() {
    check(("exactly_once", "bad_links"), exactly_once, 1_000);
}

#[test]
fn a_seed_repeats() {
    check_repeats(exactly_once, 10);
}
