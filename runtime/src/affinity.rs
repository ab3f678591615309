//! Which cores this process may use, and pinning a thread to one of them.
//!
//! Always holds: `cores` lists only cores that the process's affinity mask allows (containers and
//! `taskset` shrink it), so pinning to a listed core succeeds unless the mask changed since.

use std::fmt;

use core_affinity::CoreId;

/// Pinning failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityError {
    /// The caller asked for a core outside the process's affinity mask.
    NotAllowed {
        /// The core asked for.
        core: usize,
        /// The cores that could be had.
        allowed: Vec<usize>,
    },
    /// The system refused although the core is in the mask.
    Refused {
        /// The core asked for.
        core: usize,
    },
}

impl fmt::Display for AffinityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { core, allowed } => write!(
                f,
                "core {core} is not available to this process: choose one of {allowed:?}, or \
                 widen its affinity mask (taskset, the container's cpuset)"
            ),
            Self::Refused { core } => write!(
                f,
                "the system refused to pin a thread to core {core}: check that the core is \
                 online and that sched_setaffinity is permitted"
            ),
        }
    }
}

impl std::error::Error for AffinityError {}

/// The cores that this thread may run on, ascending; empty if the system does not say.
///
/// Call it before pinning: a pinned thread is told its own core only.
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Pins the calling thread to `core`.
///
/// The thread may have been pinned before: what counts is what the system allows, so moving from
/// one core to another works.
///
/// # Errors
/// [`AffinityError`] when the core does not exist, is outside the process's mask, or is refused.
pub fn pin_current_thread(core: usize) -> Result<(), AffinityError> {
    // The mask type ends at CPU_SETSIZE and indexing past it panics, so such cores never reach it.
    if core < libc::CPU_SETSIZE as usize && core_affinity::set_for_current(CoreId { id: core }) {
        return Ok(());
    }
    let allowed = cores();
    if allowed.contains(&core) {
        Err(AffinityError::Refused { core })
    } else {
        Err(AffinityError::NotAllowed { core, allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::{AffinityError, cores, pin_current_thread};

    #[test]
    fn a_thread_can_be_pinned_to_each_listed_core() {
        let all = cores();
        assert!(!all.is_empty());
        std::thread::spawn(move || {
            for core in all {
                pin_current_thread(core).expect("a listed core");
                assert_eq!(cores(), vec![core]);
            }
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_core_that_does_not_exist_is_named_in_the_error() {
        for core in [1_000, usize::MAX] {
            let error = pin_current_thread(core).expect_err("no machine of ours has 1,001 cores");
            assert_eq!(error, AffinityError::NotAllowed { core, allowed: cores() });
            assert!(error.to_string().starts_with(&format!("core {core} is not available")));
        }
    }
}
