//! The places that results are to go to, looked at before anything is measured: a run whose figures nobody can keep is for nothing.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use crate::error::{BenchError, Result};

/// Makes `folder` and those above it, if need be.
///
/// # Errors
///
/// `Argument` when it cannot be made, or is a file.
pub fn folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| wrong(folder, &error))
}

/// Whether `path` can be written: what is there stays as it is.
///
/// # Errors
///
/// `Argument` when it cannot.
pub fn file(path: &Path) -> Result<()> {
    let existed = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| wrong(path, &error))?;
    // An empty file would look like a result.
    if existed { Ok(()) } else { fs::remove_file(path).map_err(|error| wrong(path, &error)) }
}

fn wrong(path: &Path, error: &io::Error) -> BenchError {
    BenchError::Argument(format!(
        "cannot write {} ({error}): give a path whose folder exists and is yours to write",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    //! Goal: places that can be written leave no trace and keep what they have, others are named.
    use super::*;

    #[test]
    fn places_are_tried() {
        let above = tempfile::tempdir().unwrap();
        let (new, old) = (above.path().join("new.json"), above.path().join("old.json"));
        fs::write(&old, "kept").unwrap();
        file(&new).unwrap();
        file(&old).unwrap();
        assert!(!new.exists() && fs::read_to_string(&old).unwrap() == "kept");
        folder(&above.path().join("a/b")).unwrap();
        for place in [file(&above.path().join("none/x")), file(above.path()), folder(&old)] {
            let error = place.unwrap_err();
            assert_eq!(error.exit_status(), 2);
            assert!(error.to_string().contains("cannot write"), "{error}");
        }
    }
}
