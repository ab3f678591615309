//! Who sleeps and who waits for room: the two flags between threads that hand work to each other.
//!
//! Both answer the same question. One thread says "I sleep" and then looks whether there is work; another one publishes
//! work and then looks whether the first sleeps. A store followed by a load of something else may be swapped by the
//! processor, on x86 too, and then each side misses the other: a lost wake. So each side has a sequentially
//! consistent fence between its store and its load. Of two such fences one is first; whoever's is second sees what
//! the other one stored. `tests/parking.rs` tries every order of these steps on this very file, with loom.
//!
//! Always holds: work published before a wake is seen after the sleeper's current or next sleep.

use crate::sync::{AtomicBool, AtomicU32, Ordering, fence};

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const WOKEN: u32 = 2;

/// Whether a thread sleeps, in one word. Wakers may be any number of threads.
///
/// | from | the thread parks | the thread goes on | someone wakes it |
/// | --- | --- | --- | --- |
/// | running | parked | - | woken |
/// | parked | - | running | woken, and its sleep is ended |
/// | woken | running, does not sleep | running | woken |
///
/// A waker that finds *woken* changes nothing: a thread that is busy and never sleeps keeps the word in every
/// core's cache, so that waking it costs a fence and a load.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct ParkWord {
    state: AtomicU32,
}

impl ParkWord {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU32::new(RUNNING) }
    }

    /// Announces work published before. True: the thread sleeps, and the caller ends its sleep, once for all wakers.
    pub(crate) fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.wake_fenced()
    }

    /// As `wake`, where a sequentially consistent fence came after the work was published.
    ///
    /// The load may find an old *woken* only if `unpark` is later in the word's order, and then the fence in there is
    /// later than ours: what the thread reads after it, it reads after our work.
    pub(crate) fn wake_fenced(&self) -> bool {
        self.state.load(Ordering::Relaxed) != WOKEN
            && self.state.swap(WOKEN, Ordering::AcqRel) == PARKED
    }

    /// Announces sleep. False: a wake came since the last sleep, is taken, and there is to be no sleep.
    ///
    /// No look at the work is needed in between: a wake that came first is found here, one that comes later finds *parked*.
    pub(crate) fn park(&self) -> bool {
        let state = &self.state;
        if state.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return true;
        }
        self.unpark();
        false
    }

    /// Takes back the announcement, and any wake; says whether there was one. Look at the work after this.
    pub(crate) fn unpark(&self) -> bool {
        let was_woken = self.state.swap(RUNNING, Ordering::AcqRel) == WOKEN;
        fence(Ordering::SeqCst);
        was_woken
    }
}

/// Whether a producer waits for something to come back, in one word. One producer, one consumer.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Starved {
    is_set: AtomicBool,
}

impl Starved {
    pub(crate) fn new() -> Self {
        Self { is_set: AtomicBool::new(false) }
    }

    /// The producer says that it waits; it looks once more after this, and waits only if there is still nothing.
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The producer found something after all.
    pub(crate) fn clear(&self) {
        self.is_set.store(false, Ordering::Relaxed);
    }

    /// Whether the producer waits and is to be woken. A sequentially consistent fence came after the return.
    pub(crate) fn take_fenced(&self) -> bool {
        self.is_set.load(Ordering::Relaxed) && self.is_set.swap(false, Ordering::Relaxed)
    }
}
