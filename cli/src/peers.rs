//! `cubed peers`: whom a node's keep knows, and the operator's word on it, while the node is stopped.
//!
//! A running node decides through its own calls; its file can be listed, and is not changed from here.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use cubed::{Entry, KeepFile, KeyState, PublicKey};

/// What to do with a key.
#[derive(Clone, Copy)]
pub(crate) enum Decision {
    Accept,
    Reject,
    Forget,
}

/// Lists the keys of a keep: those decided about, then those that wait, oldest first.
pub(crate) fn list(file: &Path) -> Result<(), Box<dyn Error>> {
    let keep = KeepFile::read(file)?;
    let mut out = io::stdout().lock();
    let pending = keep.pending().count();
    let count = keep.entries().count();
    writeln!(out, "{}: keys: {count}, waiting: {pending}", file.display())?;
    for entry in keep.entries() {
        write_entry(&mut out, entry)?;
    }
    Ok(())
}

/// Does what the operator says of one key.
pub(crate) fn decide(file: &Path, key: &str, decision: Decision) -> Result<(), Box<dyn Error>> {
    let key: PublicKey = key.parse()?;
    let mut keep = KeepFile::open_existing(file)?;
    let word = match decision {
        Decision::Accept => {
            keep.accept(&key)?;
            KeyState::Accepted.as_str()
        }
        Decision::Reject => {
            keep.reject(&key)?;
            KeyState::Rejected.as_str()
        }
        Decision::Forget => {
            keep.forget(&key)?;
            "forgotten"
        }
    };
    keep.save()?;
    writeln!(io::stdout().lock(), "{word}  {key}  {}", key.fingerprint())?;
    Ok(())
}

/// One line. What a stranger said of itself is quoted, so that it cannot move a terminal's cursor.
fn write_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let Entry { key, state, portrait, address } = entry;
    write!(out, "{state:<8}  {key}  {}", key.fingerprint())?;
    if let Some(portrait) = portrait {
        let (name, role) = (&portrait.name, &portrait.role);
        let (mode, kind) = (portrait.mode, portrait.kind);
        write!(out, "  name {name:?} role {role:?} mode {mode} kind {kind}")?;
    }
    if let Some(address) = address {
        write!(out, "  at {address}")?;
    }
    writeln!(out)
}
