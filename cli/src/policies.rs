//! `cubed policy check`: whether a policy can be used, before a node is told to use it.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use cubed::{Policy, PublicKey};

/// Reads a policy and lists the keys that it names.
pub(crate) fn check(file: &Path) -> Result<(), Box<dyn Error>> {
    let policy = Policy::load(file)?;
    let mut keys: Vec<&PublicKey> = policy.keys().collect();
    keys.sort();
    let mut out = io::stdout().lock();
    let (rules, count) = (policy.rules_count(), keys.len());
    writeln!(out, "{}: ok; rules: {rules}, keys: {count}", file.display())?;
    if count == 0 {
        writeln!(out, "this policy denies everybody everything")?;
    }
    for key in keys {
        writeln!(out, "{key}  {}", key.fingerprint())?;
    }
    Ok(())
}
