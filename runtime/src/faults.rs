//! Faults for tests: system calls and completions of this thread that fail on demand. Only with the feature `faults`;
//! otherwise `no_faults` stands in.
//!
//! Always holds: a plan is its thread's own, so a test plans on the very shard that is to suffer; a call that fails by plan
//! did not happen, so nothing but the call is lost, as when the kernel refuses it.

use std::cell::{Cell, RefCell};
use std::io;

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Reading from a socket.
    Recv,
    /// Sending.
    Send,
    /// Going to sleep: `io_uring_enter`, `epoll_pwait2`.
    Sleep,
    /// What a ring received: the datagrams of a failed completion are lost.
    Completion,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With this error.
    Errno(i32),
    /// A completion that carries at most so many bytes of what came, the kernel's header included.
    Short(i32),
}

/// One way to fail, again and again until [`clear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub call: Call,
    /// How.
    pub failure: Failure,
    /// One in so many; 1 is every one.
    pub one_in: u32,
}

thread_local! {
    static PLAN: RefCell<Vec<(Fault, u32)>> = const { RefCell::new(Vec::new()) };
    static INJECTED: Cell<u64> = const { Cell::new(0) };
}

/// Adds to the plan of this thread; of several faults of one call the first counts.
pub fn inject(fault: Fault) {
    PLAN.with_borrow_mut(|plan| plan.push((fault, 0)));
}

/// Ends the plan of this thread; how many faults there were since the last time.
pub fn clear() -> u64 {
    PLAN.with_borrow_mut(Vec::clear);
    INJECTED.take()
}

/// How this call fails, if it does.
fn next(call: Call) -> Option<Failure> {
    PLAN.with_borrow_mut(|plan| {
        let (fault, calls) = plan.iter_mut().find(|(fault, _)| fault.call == call)?;
        *calls += 1;
        if !calls.is_multiple_of(fault.one_in.max(1)) {
            return None;
        }
        INJECTED.set(INJECTED.get() + 1);
        Some(fault.failure)
    })
}

/// Whether this call fails by plan.
///
/// # Errors
/// What was planned.
pub(crate) fn check(call: Call) -> io::Result<()> {
    match next(call) {
        Some(Failure::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok(()),
    }
}

/// The result of a completion, as the plan wants it.
pub(crate) fn completed(result: i32) -> i32 {
    match next(Call::Completion) {
        Some(Failure::Errno(errno)) => -errno,
        Some(Failure::Short(bytes)) => result.min(bytes),
        None => result,
    }
}
