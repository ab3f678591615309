//! Many seeds of one scenario, on all cores, and what a failing one prints.
//!
//! Owns the environment variables `CUBED_SEED` (run this seed only) and `CUBED_SEEDS` (run so many).
//! Seeds share nothing, so spreading them over threads changes no result.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scenario::{Report, Scenario};

/// More failures than this are not listed.
const FAILURES_MAX: usize = 10;

/// One failing seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
}

/// Runs one seed. Panics of the code under test become failures.
///
/// # Errors
///
/// The breach, or the panic's words.
pub fn run_one(scenario: Scenario, seed: u64) -> Result<Report, Failure> {
    let result = catch_unwind(AssertUnwindSafe(|| scenario(seed)));
    let what = match result {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(fault)) => fault.to_string(),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", words.unwrap_or("no words"))
        }
    };
    Err(Failure { seed, what })
}

/// Runs `count` seeds from `first`, one at a time on each core; `progress` is told after each seed.
/// Stops early after some failures; returns them in order of seed.
///
/// # Panics
///
/// When `progress` does.
pub fn run_many(
    scenario: Scenario,
    first: u64,
    count: u64,
    progress: &(dyn Fn(u64, &Report) + Sync),
) -> Vec<Failure> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            match run_one(scenario, first + index) {
                Ok(report) => progress(first + index, &report),
                Err(failure) => {
                    let mut failures = failures.lock().expect("no thread panics with the lock");
                    failures.push(failure);
                    if failures.len() >= FAILURES_MAX {
                        next.store(count, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics with the lock");
    failures.sort_by_key(|failure| failure.seed);
    failures
}

/// For tests: runs `count` seeds, or what the environment says, and panics with the failing seeds and
/// the commands that repeat them. `test` is `file test_name`, as in `exactly_once bad_links`.
///
/// # Panics
///
/// When a seed fails.
pub fn check(test: (&str, &str), scenario: Scenario, count: u64) {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let (first, count) = match number("CUBED_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CUBED_SEEDS").unwrap_or(count)),
    };
    let failures = run_many(scenario, first, count, &|_, _| {});
    let mut words = String::new();
    for Failure { seed, what } in &failures {
        let (file, name) = test;
        let _ = write!(
            words,
            "\nseed {seed}: {what}\n  repeat: CUBED_SEED={seed} cargo test -p cubed-sim --test {file} {name}"
        );
    }
    assert!(failures.is_empty(), "{} of {count} seeds failed{words}", failures.len());
}

/// For tests: runs seeds twice and panics when two runs of one seed differ.
///
/// # Panics
///
/// When a seed fails or its runs differ.
pub fn check_repeats(scenario: Scenario, count: u64) {
    for seed in 0..count {
        let run = || run_one(scenario, seed).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(run(), run(), "seed {seed} ran twice and differed");
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every failing seed is found, named, and nothing else is.
    use std::time::Duration;

    use super::*;
    use crate::ledger::Sums;
    use crate::script::Fault;

    fn report(seed: u64) -> Report {
        Report { trace: seed, sums: Sums::default(), took: Duration::ZERO, datagrams: 0 }
    }

    fn seventh_fails(seed: u64) -> Result<Report, Fault> {
        match seed % 7 {
            3 => Err(Fault { at: Duration::from_millis(5), what: "bad".into() }),
            _ => Ok(report(seed)),
        }
    }

    #[test]
    fn failing_seeds_are_listed_in_order() {
        let seeds = AtomicU64::new(0);
        let count = |_, _: &Report| {
            seeds.fetch_add(1, Ordering::Relaxed);
        };
        let failures = run_many(seventh_fails, 0, 21, &count);
        assert_eq!(failures.iter().map(|failure| failure.seed).collect::<Vec<_>>(), [3, 10, 17]);
        assert_eq!(failures[0].what, "at 0.005000 s: bad");
        assert_eq!(seeds.into_inner(), 18);
    }

    #[test]
    #[should_panic(expected = "CUBED_SEED=3 cargo test -p cubed-sim --test file name")]
    fn a_failing_seed_prints_how_to_repeat_it() {
        check(("file", "name"), seventh_fails, 5);
    }

    #[test]
    fn a_panic_is_a_failure_of_its_seed() {
        let failure = run_one(|seed| panic!("seed {seed} broke"), 4).unwrap_err();
        assert_eq!(failure, Failure { seed: 4, what: "panicked: seed 4 broke".into() });
    }

    #[test]
    #[should_panic(expected = "ran twice and differed")]
    fn runs_that_differ_are_seen() {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        check_repeats(|_| Ok(report(RUNS.fetch_add(1, Ordering::Relaxed))), 1);
    }
}
