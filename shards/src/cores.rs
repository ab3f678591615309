//! How many shards a node has, and on which cores they run.
//!
//! Always holds: a plan has 1 to [`SHARDS_MAX`] shards, and names only cores that somebody named or the system allows.

use cubed_runtime::{GROUP_MEMBERS_MAX, cores};

use crate::error::StartError;

/// Most shards of one node: a datagram names one by a byte, and all but one of its values are used.
pub(crate) const SHARDS_MAX: u64 = GROUP_MEMBERS_MAX as u64;

/// How many shards a node has, and where: what [`crate::NodeBuilder::shards`] takes.
///
/// Numbers and lists of cores turn into it: `.shards(4)`, `.shards([2, 3])`, `.shards(Shards::All)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One for each core that this process may use, pinned to it.
    All,
    /// So many, pinned to the first cores that this process may use; more than there are cores share them.
    Count(usize),
    /// One for each of these cores, pinned to it, in this order.
    Cores(Vec<usize>),
    /// So many, which the system moves as it likes. For tests, and for hosts that others use as well.
    Unpinned(usize),
}

impl From<usize> for Shards {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<Vec<usize>> for Shards {
    fn from(cores: Vec<usize>) -> Self {
        Self::Cores(cores)
    }
}

impl<const N: usize> From<[usize; N]> for Shards {
    fn from(cores: [usize; N]) -> Self {
        Self::Cores(cores.into())
    }
}

impl Shards {
    /// The core of each shard, in order.
    pub(crate) fn plan(&self) -> Result<Vec<Option<usize>>, StartError> {
        let allowed = cores();
        let plan = match self {
            Self::All => allowed.iter().copied().map(Some).collect(),
            Self::Count(count) => spread(*count, &allowed)?,
            Self::Cores(cores) => cores.iter().copied().map(Some).collect(),
            Self::Unpinned(count) => vec![None; checked(*count)?],
        };
        checked(plan.len())?;
        let mut used: Vec<usize> = plan.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let cores = if used.is_empty() { allowed.len() } else { used.len() };
        if cores < plan.len() && cores > 0 {
            let shards = plan.len();
            tracing::warn!(shards, cores, "fewer cores than shards: they take turns on them");
        }
        Ok(plan)
    }
}

/// The first `count` cores, from the first again when there are too few; unpinned if the system names none.
fn spread(count: usize, allowed: &[usize]) -> Result<Vec<Option<usize>>, StartError> {
    let count = checked(count)?;
    if allowed.is_empty() {
        return Ok(vec![None; count]);
    }
    Ok(allowed.iter().copied().map(Some).cycle().take(count).collect())
}

fn checked(count: usize) -> Result<usize, StartError> {
    let value = count as u64;
    if (1..=SHARDS_MAX).contains(&value) {
        return Ok(count);
    }
    Err(StartError::Setting { name: "the number of shards", value, min: 1, max: SHARDS_MAX })
}

#[cfg(test)]
mod tests {
    //! Goal: a plan has as many places as asked for, on cores that there are.
    use super::*;

    #[test]
    fn each_way_of_asking_gives_its_plan() {
        let all: Vec<_> = cores().into_iter().map(Some).collect();
        assert_eq!(Shards::All.plan().unwrap(), all);
        assert_eq!(Shards::from(1).plan().unwrap(), all[..1]);
        assert_eq!(Shards::from([7, 3]).plan().unwrap(), [Some(7), Some(3)]);
        assert_eq!(Shards::Unpinned(3).plan().unwrap(), [None; 3]);
        let many = Shards::from(255).plan().unwrap();
        assert_eq!(many.len(), 255);
        assert!(many.iter().all(|core| all.contains(core)));
    }

    #[test]
    fn no_shards_and_too_many_are_refused_with_the_limits() {
        for shards in
            [Shards::from(0), Shards::from(256), Shards::from(vec![]), vec![0; 256].into()]
        {
            let error = shards.plan().unwrap_err().to_string();
            assert!(error.contains("from 1 to 255"), "{error}");
        }
    }
}
