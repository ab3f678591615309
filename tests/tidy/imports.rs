//! Owns who may import whom among our packages, and where what is foreign to most of them may be.

use std::fs;

use crate::report;
use crate::source::{numbered, root, sources, words};

/// Which of our packages each folder may import, itself in its tests included (`docs/ARCHITECTURE.md`, layout). An empty folder is
/// the root package with its tests and examples.
const IMPORTS: &[(&str, &[&str])] = &[
    ("transport", &["cubed-transport"]),
    ("router", &["cubed-transport", "cubed-router"]),
    ("runtime", &["cubed-runtime"]),
    ("shards", &["cubed-transport", "cubed-router", "cubed-runtime", "cubed-shards"]),
    ("", &["cubed", "cubed-transport", "cubed-router", "cubed-runtime", "cubed-shards"]),
    // Workspaces of their own; they stand before the folder that they are in.
    ("bench/peers/zenoh", &["cubed-peers"]),
    ("bench/peers", &["cubed-peers"]),
    ("bench", &["cubed", "cubed-transport", "cubed-bench"]),
    ("cli", &["cubed"]),
    ("tests/sim", &["cubed-transport", "cubed-router", "cubed-sim"]),
    ("tests/sockets", &["cubed", "cubed-transport", "cubed-sockets"]),
    ("tests/fuzz", &["cubed-transport", "cubed-router", "cubed-fuzz"]),
];

const DIRECTION: &str = "imports go transport <- router <- shards <- facade <- bench, cli, \
                         and runtime <- shards only";

#[test]
fn packages_import_in_one_direction() {
    let mut faults = Vec::new();
    for (folder, allowed) in IMPORTS {
        let manifest = format!("{folder}/Cargo.toml");
        let manifest = manifest.trim_start_matches('/');
        let text = fs::read_to_string(root().join(manifest)).expect("every package has a manifest");
        for package in dependencies(&text) {
            if !allowed.contains(&package.as_str()) {
                faults.push(format!("{manifest}: must not depend on {package}; {DIRECTION}"));
            }
        }
    }
    for source in sources() {
        let (_, allowed) = IMPORTS[package_of(&source.path)];
        for (line, code) in numbered(&source.code) {
            for package in imported(code) {
                if !allowed.contains(&package.as_str()) {
                    faults.push(format!(
                        "{}:{line}: must not use {package}; {DIRECTION}",
                        source.path
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn tokio_is_there_for_an_example_alone() {
    // What is measured beside Cubed is no part of its tree.
    for (folder, _) in IMPORTS.iter().filter(|(folder, _)| !folder.starts_with("bench/peers")) {
        let manifest = format!("{folder}/Cargo.toml");
        let text =
            fs::read_to_string(root().join(manifest.trim_start_matches('/'))).expect("a manifest");
        let depends = |section: &str| {
            let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
            names.filter(|name| matches!(*name, "tokio" | "axum")).count()
        };
        let found: usize = text
            .split("\n[")
            .filter(|section| {
                !section.starts_with("dev-dep") && !section.starts_with("workspace.dep")
            })
            .map(depends)
            .sum();
        assert_eq!(
            found, 0,
            "{manifest}: examples/axum_gateway.rs alone needs it, as a dev-dependency"
        );
        assert!(
            folder.is_empty() || !text.contains("tokio"),
            "{manifest}: tokio has no place here"
        );
    }
}

#[test]
fn the_checks_find_imports_and_dependencies() {
    assert_eq!(imported("use cubed_transport::time; cubed_runtime::x()").count(), 2);
    assert_eq!(imported("use cubed::Node;").collect::<Vec<_>>(), ["cubed"]);
    assert_eq!(imported("let cubed = is_cubed::x; let cubed_y = 2;").count(), 0);
    let manifest = "[package]\nname = \"cubed-x\"\n[dependencies]\ncubed-transport.workspace = true\n\
                    serde = \"1\"\n[dev-dependencies]\ncubed = { path = \".\" }\n[lints]\ncubed-no = 1\n";
    assert_eq!(dependencies(manifest), ["cubed-transport", "cubed"]);
}

/// Index in [`IMPORTS`] of the package that owns the file; the root's matches everything else.
fn package_of(path: &str) -> usize {
    let owns = |folder: &str| {
        !folder.is_empty() && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let root = IMPORTS.iter().position(|(folder, _)| folder.is_empty());
    let package = IMPORTS.iter().position(|(folder, _)| owns(folder));
    package.or(root).expect("the root package is listed")
}

/// Our packages that a line of code names as the head of a path.
fn imported(code: &str) -> impl Iterator<Item = String> {
    let starts = code.match_indices("cubed").map(|(at, _)| at);
    starts.filter_map(move |at| {
        let before = code[..at].chars().next_back();
        let word = words(&code[at..]).next().unwrap_or_default();
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let is_head = !before.is_some_and(|before| is_word(before) || before == ':');
        let is_path = code[at + word.len()..].starts_with("::");
        (is_head && is_path).then(|| word.replace('_', "-"))
    })
}

/// Our packages among all kinds of dependencies of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("workspace");
        } else if inside && line.starts_with("cubed") {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(line[..end].to_owned());
        }
    }
    found
}
