//! Waking a parked driver from any thread, at one system call per sleep and none otherwise.
//!
//! Whether it sleeps is one word, which `parking` owns; an eventfd ends the sleep. Always holds: work published before
//! `wake` is seen by the driver after its current or next `wait` returns.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::parking::ParkWord;

#[derive(Debug)]
struct Shared {
    word: ParkWord,
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
    /// Costs a fence and a load while the driver has a wake before it, an atomic swap for the first one, and a system
    /// call for the first one of each sleep.
    pub fn wake(&self) {
        if self.shared.word.wake() {
            self.end_sleep();
        }
    }

    /// As `wake`, after a sequentially consistent fence of the caller's; whether it ended a sleep.
    pub(crate) fn wake_fenced(&self) -> bool {
        let is_asleep = self.shared.word.wake_fenced();
        if is_asleep {
            self.end_sleep();
        }
        is_asleep
    }

    #[cold]
    fn end_sleep(&self) {
        if let Some(event) = &self.shared.event {
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
        Self { shared: Arc::new(Shared { word: ParkWord::new(), event }) }
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
        self.shared.word.park()
    }

    /// Takes back the announcement, and any wake; says whether there was one.
    pub(crate) fn unpark(&self) -> bool {
        self.shared.word.unpark()
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
