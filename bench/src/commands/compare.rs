//! Compares two runs that were kept.

use super::say;
use crate::{
    cli::CompareArgs,
    error::{BenchError, Result},
    report::{compare, output::write_object, place},
};

/// Compares them; an error when the second is worse.
pub(super) fn run(args: &CompareArgs) -> Result<()> {
    if let Some(path) = &args.json {
        place::file(path)?;
    }
    let (first, second) = (compare::read(&args.first)?, compare::read(&args.second)?);
    let comparison = compare::compare(&first, &second)?;
    say(comparison.table().trim_end());
    if let Some(path) = &args.json {
        write_object(path, &comparison)?;
    }
    if comparison.is_worse() {
        let (first, second) = (args.first.display(), args.second.display());
        return Err(BenchError::Limit(format!("{second} is worse than {first}")));
    }
    Ok(())
}
