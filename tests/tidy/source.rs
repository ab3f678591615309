//! Owns the Rust files of the repository, as text and as code alone.
//!
//! What always holds: a file's text and code have the same lines.

use std::fs;
use std::path::{Path, PathBuf};

use crate::blank::blank;

/// One source file, with a copy in which comments and literals are blank.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
}

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the repository, in order of path.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort();
    assert!(found.len() > 10, "the sources were not found below {}", root().display());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("sources are readable UTF-8");
        let relative = path.strip_prefix(root()).expect("found below the root");
        let path = relative.to_str().expect("paths are UTF-8").replace('\\', "/");
        Source { path, code: blank(&text), text }
    };
    found.into_iter().map(read).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folders of the repository are readable") {
        let path = entry.expect("entries are readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether the file holds tests alone.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// Lines of code with their numbers, from 1.
pub(crate) fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The words of a line of code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
}
