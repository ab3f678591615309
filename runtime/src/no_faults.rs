//! What stands in for the module `faults` where the feature is off: nothing ever fails by plan, and asking costs nothing.

use std::io;

/// What could fail.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Recv,
    Send,
    Sleep,
}

/// Whether this call fails by plan: never.
#[inline]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature is that of the module it stands in for"
)]
pub(crate) fn check(_: Call) -> io::Result<()> {
    Ok(())
}

/// The result of a completion, as it is.
#[inline]
pub(crate) fn completed(result: i32) -> i32 {
    result
}
