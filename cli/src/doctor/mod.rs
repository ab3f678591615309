//! `cubed doctor`: whether this machine can run a node, and what about it costs speed.
//!
//! Always holds: nothing is changed and nothing leaves the machine; each finding that is not good says what it costs and
//! how to mend it. The status is a fault only if a node could not run.

mod facts;
mod verdicts;

use std::error::Error;
use std::io::{self, Write};

use facts::Facts;
use verdicts::{Finding, Level, judge};

/// Looks at the machine and says what it found.
pub(crate) fn examine() -> Result<(), Box<dyn Error>> {
    let findings = judge(&Facts::gather());
    print(&findings)?;
    match findings.iter().filter(|finding| finding.level() == Level::Fails).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} checks fail: see above", findings.len()).into()),
    }
}

fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in findings {
        writeln!(out, "{:<6}{:<16}{}", finding.level().word(), finding.check, finding.found)?;
        if let Some(trouble) = &finding.trouble {
            writeln!(out, "{:22}costs: {}", "", trouble.costs)?;
            writeln!(out, "{:22}mend:  {}", "", trouble.mend)?;
        }
    }
    Ok(())
}
