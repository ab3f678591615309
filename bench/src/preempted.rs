//! How long a thread that could run did not, because something else of this machine had its core.
//!
//! By `/proc/thread-self/schedstat` (kernel, sched-stats.rst), which counts each wait in nanoseconds. What a hypervisor or an interrupt takes while the
//! thread has the core is not in it. Kernels without it tell nothing, which is no part of the time.

use std::fs;

use cubed::runtime::clock::Clock;
use serde::{Deserialize, Serialize};

/// What a thread waited for its core, in a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preempted {
    /// Time that it waited, in ns.
    pub nanos: u64,
    /// Time that it was looked at for, in ns; 0 where the kernel does not tell.
    pub watched_nanos: u64,
}

/// Looks at the calling thread from one moment on.
#[derive(Debug)]
pub struct PreemptionWatch {
    begun_nanos: u64,
    waited_nanos: Option<u64>,
    clock: Clock,
}

impl PreemptionWatch {
    /// From now on.
    pub fn begin() -> Self {
        let clock = Clock::new();
        Self { begun_nanos: clock.now_nanos(), waited_nanos: waited_nanos(), clock }
    }

    /// What happened since; on the thread that began it.
    pub fn so_far(&self) -> Preempted {
        let Some((before, after)) = self.waited_nanos.zip(waited_nanos()) else {
            return Preempted::default();
        };
        Preempted {
            nanos: after.saturating_sub(before),
            watched_nanos: self.clock.now_nanos() - self.begun_nanos,
        }
    }
}

impl Preempted {
    /// Of both threads or times.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos + other.nanos,
            watched_nanos: self.watched_nanos + other.watched_nanos,
        }
    }

    /// Part of the time, 0 to 1; `None` when nothing was looked at.
    pub fn part(&self) -> Option<f64> {
        (self.watched_nanos > 0).then(|| self.nanos as f64 / self.watched_nanos as f64)
    }
}

/// What the calling thread has waited since it began.
fn waited_nanos() -> Option<u64> {
    parsed(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Time on a core, time waiting for one, turns on a core.
fn parsed(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    //! Goal: the kernel's second number is what a thread waited, and whoever shares a core waits.
    use std::thread;

    use super::*;
    use crate::machine::{self, Cores};

    #[test]
    fn the_second_number_is_the_time_waited() {
        assert_eq!(parsed("700 41 9\n"), Some(41));
        assert_eq!((parsed("700"), parsed("a b c")), (None, None));
    }

    #[test]
    fn two_threads_that_poll_on_one_core_wait_for_each_other() {
        let core = Cores::choose().unwrap().sender;
        let poll = move || {
            machine::pin(core).unwrap();
            let (watch, clock) = (PreemptionWatch::begin(), Clock::new());
            let begun = clock.now_nanos();
            // Long enough for both to be there at once, whatever else runs.
            while clock.now_nanos() - begun < 10_000_000_000 {
                let preempted = watch.so_far();
                if preempted.nanos > 0 || preempted.watched_nanos == 0 {
                    break;
                }
            }
            watch.so_far()
        };
        let threads = [0, 1].map(|_| thread::spawn(poll));
        let [one, other] = threads.map(|thread| thread.join().unwrap());
        let both = one.plus(other);
        if both.watched_nanos > 0 {
            assert!(both.nanos > 0 && both.part().unwrap() > 0.0, "{both:?}");
        }
        assert_eq!(Preempted::default().part(), None);
    }
}
