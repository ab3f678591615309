//! Ctrl-C and the signal that asks to end: what a process says that is ended early, and with which status.
//!
//! Always holds: the first signal ends the work, by its own end if it has one and else at once; the second ends the process at once.

use std::{
    process,
    sync::{Mutex, PoisonError},
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    error::{BenchError, Result},
    progress,
};

/// What a shell adds to the number of the signal that ended a process.
const STATUS_BASE: i32 = 128;

/// What ends the work.
type End = Box<dyn FnOnce() + Send>;

static END: Mutex<Option<End>> = Mutex::new(None);

/// From here on the first signal calls `end` on a thread of its own, in place of ending the process: whoever works returns then.
pub fn end_by(end: impl FnOnce() + Send + 'static) {
    *END.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(end));
}

/// From here on signals are answered.
///
/// # Errors
///
/// `System` when they cannot be caught, or there is no thread.
pub fn watch() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(BenchError::system("catch signals"))?;
    let answer = move || signals.forever().for_each(end_early);
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(answer).map_err(BenchError::system("start a thread"))?;
    Ok(())
}

fn end_early(signal: i32) {
    let end = END.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(end) = end {
        return end();
    }
    progress::leave();
    eprintln!("cubed-bench: {}", BenchError::Interrupted);
    process::exit(STATUS_BASE + signal);
}
