//! Waking a parked driver from any thread, at one system call per sleep and none otherwise.
//!
//! One atomic word has three values, and every move is a read-modify-write, so there is one order:
//!
//! | from | driver parks | driver wakes up | someone wakes it |
//! | --- | --- | --- | --- |
//! | running | parked | - | woken |
//! | parked | - | running | woken, and writes the eventfd |
//! | woken | running, does not sleep | running | woken |
//!
//! Always holds: work published before `wake` is seen by the driver after its current or next
//! `wait` returns. If the driver's move comes first, the waker finds *parked* and ends the sleep; if
//! the waker's does, the driver finds *woken* and does not sleep. Either way the later of the two reads
//! what the earlier wrote.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const WOKEN: u32 = 2;

#[derive(Debug)]
struct Shared {
    state: AtomicU32,
    /// Absent for drivers that never sleep.
    event: Option<OwnedFd>,
}

/// Ends the wait of one driver; may be cloned and sent to any thread, and may outlive the driver.
#[derive(Debug, Clone)]
pub struct DriverWaker {
    shared: Arc<Shared>,
}

impl DriverWaker {
    /// Makes the driver's current wait return, or else its next one return at once.
    ///
    /// Costs one atomic swap, and a system call only for the first wake of each sleep.
    pub fn wake(&self) {
        if self.shared.state.swap(WOKEN, Ordering::AcqRel) == PARKED
            && let Some(event) = &self.shared.event
        {
            signal(event);
        }
    }
}

/// The driver's end of its waker.
#[derive(Debug)]
pub(crate) struct WakeState {
    shared: Arc<Shared>,
}

impl WakeState {
    /// For a driver that sleeps in a ring on the eventfd made here.
    pub(crate) fn with_event() -> io::Result<Self> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, is valid, and nothing else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self::new(Some(event)))
    }

    /// For a driver that never sleeps.
    pub(crate) fn without_event() -> Self {
        Self::new(None)
    }

    fn new(event: Option<OwnedFd>) -> Self {
        Self { shared: Arc::new(Shared { state: AtomicU32::new(RUNNING), event }) }
    }

    pub(crate) fn waker(&self) -> DriverWaker {
        DriverWaker { shared: Arc::clone(&self.shared) }
    }

    /// The descriptor to sleep on; becomes readable when the first wake of a sleep comes.
    pub(crate) fn event_fd(&self) -> Option<RawFd> {
        self.shared.event.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Announces sleep. False: a wake came since the last wait, is taken, and there is to be no sleep.
    pub(crate) fn park(&self) -> bool {
        let state = &self.shared.state;
        if state.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.unpark();
        false
    }

    /// Takes back the announcement, and any wake; says whether there was one.
    pub(crate) fn unpark(&self) -> bool {
        self.shared.state.swap(RUNNING, Ordering::AcqRel) == WOKEN
    }
}

/// Adds one to the eventfd. It cannot fail: the counter would have to reach 2^64 - 1 first.
fn signal(event: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes for the length of the call, which is what an eventfd takes.
    let written = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    debug_assert_eq!(written, 8, "an eventfd takes a write of one");
}

#[cfg(test)]
mod tests {
    use super::WakeState;
    use std::io::Read;

    /// How often the eventfd was written since it was last asked.
    fn writes(state: &WakeState) -> u64 {
        let event = state.shared.event.as_ref().expect("an event").try_clone().expect("dup");
        let mut count = [0; 8];
        match std::fs::File::from(event).read_exact(&mut count) {
            Ok(()) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    #[test]
    fn a_running_driver_costs_its_wakers_no_system_call() {
        let state = WakeState::with_event().expect("eventfd");
        state.waker().wake();
        state.waker().wake();
        assert_eq!(writes(&state), 0);
        assert!(!state.park(), "the wake is found");
        assert!(state.park(), "and found once");
    }

    #[test]
    fn many_wakes_of_one_sleep_write_once() {
        let state = WakeState::with_event().expect("eventfd");
        assert!(state.park());
        state.waker().wake();
        state.waker().wake();
        assert_eq!(writes(&state), 1);
        assert!(state.unpark());
        assert!(!state.unpark());
    }
}
