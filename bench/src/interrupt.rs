//! Ctrl-C and the signal that asks to end: what a process says that is ended early, and with which status.
//!
//! Always holds: the first signal ends the work, by its own end if it has one and else at once; the second ends the process at once.

use std::{
    process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// Set by the signal itself, before any thread takes note of it.
static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Somebody has told the user.
static IS_SAID: AtomicBool = AtomicBool::new(false);

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
    let came = CAME.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        let caught = signal_hook::flag::register(signal, Arc::clone(came));
        caught.map_err(BenchError::system("catch signals"))?;
    }
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(BenchError::system("catch signals"))?;
    let answer = move || signals.forever().for_each(end_early);
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(answer).map_err(BenchError::system("start a thread"))?;
    Ok(())
}

/// What to tell of `error`, with which the work ended: Ctrl-C may have met a peer process that was being started, before it was a
/// process group of its own, and that is no failure of the peer's. `None` when the user was told already.
pub fn told(error: BenchError) -> Option<BenchError> {
    let came = CAME.get().is_some_and(|came| came.load(Ordering::Relaxed));
    match error {
        BenchError::Peer(_) | BenchError::Interrupted if came => {
            (!IS_SAID.swap(true, Ordering::Relaxed)).then_some(BenchError::Interrupted)
        }
        error => Some(error),
    }
}

fn end_early(signal: i32) {
    let end = END.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(end) = end {
        return end();
    }
    if IS_SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    progress::leave();
    eprintln!("cubed-bench: {}", BenchError::Interrupted);
    process::exit(STATUS_BASE + signal);
}
