//! `cubed keygen` and `cubed key`: identities as files.
//!
//! Shows public halves only.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use cubed::{Identity, PublicKey};

/// Creates an identity file and shows its public key.
pub(crate) fn generate(path: &Path) -> Result<(), Box<dyn Error>> {
    let identity = Identity::create(path)?;
    print(&identity.public_key())?;
    Ok(())
}

/// Shows the public key of an identity file.
pub(crate) fn show(path: &Path) -> Result<(), Box<dyn Error>> {
    let identity = Identity::load(path)?;
    print(&identity.public_key())?;
    Ok(())
}

fn print(key: &PublicKey) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "public key   {key}")?;
    writeln!(out, "fingerprint  {}", key.fingerprint())
}
