//! Goal: a path that silently carries less, and a peer whose address moves under the eyes of a spoofer, cost neither a message
//! nor three seconds, for every seed.

use cubed_sim::scenario;
use cubed_sim::seeds::check;

#[test]
fn path_limit() {
    check(("paths", "path_limit"), scenario::path_limit, 30);
}

#[test]
fn rebinding() {
    check(("paths", "rebinding"), scenario::rebinding, 4);
}
