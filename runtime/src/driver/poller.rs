//! An epoll instance: sleeping until one of a few descriptors is readable, with timeouts in nanoseconds.
//!
//! Always holds: a descriptor added for its *level* is named by every wait while it is readable; one added for its *edge*
//! is named once per signal.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::socket::timespec;

/// Most descriptors that one wait names: a driver has three sockets and an eventfd.
const READY_MAX: usize = 4;

/// What makes a descriptor count as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// There is something to read.
    Level,
    /// Something came since the last wait; nobody has to read it.
    Edge,
}

/// Descriptors to sleep on, each with a tag of the caller's.
#[derive(Debug)]
pub(super) struct Poller {
    fd: OwnedFd,
    /// The kernel has `epoll_pwait2`; older ones (before 5.11) and seccomp profiles older than it refuse it.
    has_pwait2: Cell<bool>,
}

/// The tags of what was ready.
#[derive(Debug)]
pub(super) struct Ready {
    events: [libc::epoll_event; READY_MAX],
    count: usize,
}

impl Ready {
    pub(super) fn tags(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.count].iter().map(|event| event.u64)
    }
}

impl Poller {
    /// # Errors
    /// The kernel's: no descriptor is left (`EMFILE`, `ENFILE`), or no memory.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes an integer and touches no memory of ours.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, is valid, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, has_pwait2: Cell::new(true) })
    }

    /// Adds a descriptor, which leaves by being closed.
    ///
    /// # Errors
    /// The kernel's: `ENOSPC` when the user watches too much (`fs.epoll.max_user_watches`).
    pub(super) fn add(&self, fd: RawFd, tag: u64, trigger: Trigger) -> io::Result<()> {
        let edge = if trigger == Trigger::Edge { libc::EPOLLET } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | edge) as u32, u64: tag };
        // SAFETY: `event` is live and only read during the call; a descriptor that is none is an error (`EBADF`).
        let result = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Blocks until something is ready, at most `timeout_nanos` (`None`: for ever).
    ///
    /// # Errors
    /// The kernel's: `EINTR` when a signal handler cut it short, `ENOMEM` when there is no memory for it just now.
    pub(super) fn wait(&self, timeout_nanos: Option<u64>) -> io::Result<Ready> {
        let timeout = timeout_nanos.map(timespec);
        if self.has_pwait2.get() {
            match self.pwait2(timeout.as_ref()) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.has_pwait2.set(false);
                }
                outcome => return outcome,
            }
        }
        self.ppoll(timeout.as_ref())
    }

    fn pwait2(&self, timeout: Option<&libc::timespec>) -> io::Result<Ready> {
        collect(|events| {
            // SAFETY: `events` is room for as many events as stated, `timeout` is null or live, and both are used during
            // the call only; a null signal mask leaves the thread's own in force, whatever its size is said to be.
            unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd.as_raw_fd(),
                    events.as_mut_ptr(),
                    READY_MAX,
                    timeout.map_or(ptr::null(), ptr::from_ref),
                    ptr::null::<libc::sigset_t>(),
                    0_usize,
                )
            }
        })
    }

    /// As long as the kernel knows no finer timeout for epoll: the instance is itself something to be polled.
    #[cold]
    fn ppoll(&self, timeout: Option<&libc::timespec>) -> io::Result<Ready> {
        let mut wanted = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        collect(|events| {
            let timeout = timeout.map_or(ptr::null(), ptr::from_ref);
            // SAFETY: `wanted` is one live pollfd and `timeout` null or live; a null signal mask leaves the thread's own.
            let polled = unsafe { libc::ppoll(&raw mut wanted, 1, timeout, ptr::null()) };
            if polled <= 0 {
                return polled.into();
            }
            // SAFETY: `events` is room for as many events as stated, used during the call only.
            let ready = unsafe {
                libc::epoll_wait(
                    self.fd.as_raw_fd(),
                    events.as_mut_ptr(),
                    READY_MAX as libc::c_int,
                    0,
                )
            };
            ready.into()
        })
    }
}

/// Runs a call that fills events and returns how many, or -1.
fn collect(
    call: impl FnOnce(&mut [libc::epoll_event; READY_MAX]) -> libc::c_long,
) -> io::Result<Ready> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
    let result = call(&mut events);
    if let Ok(count) = usize::try_from(result) {
        return Ok(Ready { events, count: count.min(READY_MAX) });
    }
    Err(io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    //! Goal: both ways to sleep name what is ready and keep their timeouts.
    use super::{Poller, Trigger};
    use crate::clock::Clock;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn pollers() -> [Poller; 2] {
        let [new, old] = [Poller::new().expect("epoll"), Poller::new().expect("epoll")];
        old.has_pwait2.set(false);
        [new, old]
    }

    fn tags(poller: &Poller, timeout_nanos: u64) -> Vec<u64> {
        poller.wait(Some(timeout_nanos)).expect("wait").tags().collect()
    }

    #[test]
    fn a_level_is_named_while_it_lasts_and_an_edge_once() {
        for poller in pollers() {
            let (mut near, far) = UnixStream::pair().expect("a pair");
            let (mut other, edge) = UnixStream::pair().expect("a pair");
            poller.add(far.as_raw_fd(), 7, Trigger::Level).expect("add");
            poller.add(edge.as_raw_fd(), 8, Trigger::Edge).expect("add");
            assert_eq!(tags(&poller, 0), []);
            near.write_all(b"x").expect("write");
            other.write_all(b"x").expect("write");
            let mut both = tags(&poller, 1_000_000_000);
            both.sort_unstable();
            assert_eq!(both, [7, 8]);
            assert_eq!(tags(&poller, 0), [7]);
            drop(far);
            assert_eq!(tags(&poller, 0), []);
        }
    }

    #[test]
    fn a_timeout_below_a_millisecond_is_kept() {
        for poller in pollers() {
            let clock = Clock::new();
            let begun = clock.now_nanos();
            assert_eq!(tags(&poller, 300_000), []);
            let slept = clock.now_nanos() - begun;
            assert!(slept >= 300_000, "ended after {slept} ns");
        }
    }
}
