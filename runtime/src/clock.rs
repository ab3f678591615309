//! The one clock of the workspace: `CLOCK_MONOTONIC` as whole nanoseconds.
//!
//! Everything above this crate takes the time as an argument, so that a simulation can supply it.
//! Always holds: readings never go back, and two processes of one machine (sharing a time
//! namespace) read the same clock, so their readings may be subtracted.

use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A handle to the machine's monotonic clock; has no state, costs nothing to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock;

impl Clock {
    /// The machine's monotonic clock.
    pub const fn new() -> Self {
        Self
    }

    /// Nanoseconds since some fixed point (boot, on Linux), never less than any earlier reading.
    ///
    /// Comparable between threads and between processes of one machine. Costs about 20 ns: it is
    /// answered in user space by the vDSO.
    ///
    /// # Panics
    /// If the kernel has no monotonic clock, which no Linux that this crate runs on lacks.
    #[inline]
    pub fn now_nanos(&self) -> u64 {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: `time` is a live, writable timespec for the length of the call; nothing keeps it.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
        assert!(result == 0, "the kernel has no CLOCK_MONOTONIC");
        // SAFETY: clock_gettime returned 0, and then it has filled the whole structure.
        let time = unsafe { time.assume_init() };
        time.tv_sec as u64 * NANOS_PER_SECOND + time.tv_nsec as u64
    }

    /// Blocks the thread for `duration`, but not beyond `deadline_nanos`.
    pub(crate) fn pause(self, deadline_nanos: Option<u64>, duration: Duration) {
        let left =
            deadline_nanos.map_or(u64::MAX, |deadline| deadline.saturating_sub(self.now_nanos()));
        thread::sleep(duration.min(Duration::from_nanos(left)));
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn readings_advance_and_never_go_back() {
        let clock = Clock::new();
        let mut last = clock.now_nanos();
        let first = last;
        while last - first < 100_000 {
            let now = clock.now_nanos();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn two_threads_read_the_same_clock() {
        let before = Clock::new().now_nanos();
        let other = std::thread::spawn(|| Clock::new().now_nanos()).join().expect("no panic");
        let after = Clock::new().now_nanos();
        assert!(before <= other && other <= after);
    }
}
