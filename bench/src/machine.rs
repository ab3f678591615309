//! The machine under test: which cores the two processes take.

use cubed::runtime::affinity;

use crate::error::{BenchError, Result};

/// The cores of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Where the measuring process sends.
    pub sender: usize,
    /// Where the peer process receives or answers.
    pub receiver: usize,
}

impl Cores {
    /// The first two cores that this process may use; the only one twice when there is no second.
    ///
    /// # Errors
    ///
    /// When the system names no core.
    pub fn choose() -> Result<Self> {
        Self::from_allowed(&affinity::cores()).ok_or_else(|| {
            BenchError::Machine("the system names no core that this process may use".into())
        })
    }

    /// As [`Cores::choose`], for processes that take so many cores each: their first ones. They share cores as far as
    /// there are too few.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn choose_for(shards: usize) -> Result<Self> {
        let cores = Self::choose()?;
        let allowed = affinity::cores();
        let receiver = allowed.get(shards % allowed.len().max(1)).copied();
        Ok(Self { receiver: receiver.unwrap_or(cores.sender), ..cores })
    }

    fn from_allowed(allowed: &[usize]) -> Option<Self> {
        let sender = *allowed.first()?;
        Some(Self { sender, receiver: *allowed.get(1).unwrap_or(&sender) })
    }

    /// True when both processes share one core: each must give way to the other, so rates and
    /// latencies say little.
    pub fn are_shared(&self) -> bool {
        self.sender == self.receiver
    }
}

/// So many cores that this process may use, from `first` on and around.
pub fn cores_from(first: usize, count: usize) -> Vec<usize> {
    around(&affinity::cores(), first, count)
}

fn around(allowed: &[usize], first: usize, count: usize) -> Vec<usize> {
    let start = allowed.iter().position(|core| *core == first);
    match start {
        Some(start) => allowed.iter().copied().cycle().skip(start).take(count).collect(),
        // Not ours to use: the node's start says so.
        None => vec![first],
    }
}

/// Pins the calling thread to `core`.
///
/// # Errors
///
/// When the system refuses; the text says which core.
pub fn pin(core: usize) -> Result<()> {
    affinity::pin_current_thread(core).map_err(|error| BenchError::Machine(error.to_string()))
}

#[cfg(test)]
mod tests {
    //! Goal: two cores where there are two, and honesty where there is one.
    use super::*;

    #[test]
    fn takes_the_first_two_allowed_cores() {
        let cores = Cores::from_allowed(&[2, 5, 6]).unwrap();
        assert_eq!((cores.sender, cores.receiver, cores.are_shared()), (2, 5, false));
    }

    #[test]
    fn several_shards_take_the_cores_after_the_first_and_share_them_when_there_are_too_few() {
        assert_eq!(around(&[2, 5, 6], 5, 2), [5, 6]);
        assert_eq!(around(&[2, 5, 6], 5, 4), [5, 6, 2, 5]);
        assert_eq!(around(&[2, 5, 6], 9, 4), [9]);
    }

    #[test]
    fn says_so_when_there_is_one_core() {
        let cores = Cores::from_allowed(&[3]).unwrap();
        assert!(cores.are_shared());
        assert_eq!(Cores::from_allowed(&[]), None);
    }
}
