//! Goal: whatever links, clocks and processes do, nothing arrives twice or from nowhere, all sums hold, and who lives is
//! reachable again soon after the faults end. Seeds that once failed stay by name.

use cubed_sim::scenario::{chaos, forgetting};
use cubed_sim::seeds::{check, run_one};

#[test]
fn everything_at_once() {
    check(("chaos", "everything_at_once"), chaos, 400);
}

/// Whoever forgets a peer and adds it again meets it as for the first time: nothing of before is taken for what comes after.
#[test]
fn peers_forgotten_and_added_again() {
    check(("chaos", "peers_forgotten_and_added_again"), forgetting, 400);
}

/// One side had thrown keys away that the other sent under. It heard that side under older keys, so it never fell silent and never
/// dialled; its messages waited for ever.
#[test]
fn keys_that_one_side_alone_kept() {
    for seed in [110, 232, 679, 736, 851] {
        run_one(chaos, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

/// Violations by peers that told nothing but the truth: the two sides numbered blocks for different sessions.
#[test]
fn sessions_that_one_side_alone_ended() {
    for seed in [1, 2] {
        run_one(chaos, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

/// A clock that jumped, or a FINISH that came late, passed for a round trip of seconds: then little was sent in seconds.
#[test]
fn recoveries_that_took_long() {
    for seed in [608, 683, 741, 6952, 8553, 8566, 10367, 11448] {
        run_one(chaos, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

/// One seed, one trace: in another thread, and beside others, as by itself.
#[test]
fn a_seed_gives_one_trace_in_any_thread() {
    let alone = run_one(chaos, 7).unwrap_or_else(|failure| panic!("{failure:?}"));
    let again = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| run_one(chaos, 7))).collect();
        runs.into_iter().map(|run| run.join().expect("panics are caught")).collect::<Vec<_>>()
    });
    for run in again {
        assert_eq!(run.as_ref(), Ok(&alone));
    }
    let other = run_one(chaos, 8).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_ne!(alone.trace, other.trace);
}
