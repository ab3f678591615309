//! Owns what `docs/HACKING.md` must name: every scenario of the simulator, and every file of tests or benchmarks that can be run
//! by itself.

use std::fs;

use crate::report;
use crate::source::{root, sources, words};

#[test]
fn hacking_names_every_test_and_scenario() {
    let text = fs::read_to_string(root().join("docs/HACKING.md")).expect("it is there");
    let mut wanted = scenarios();
    wanted.extend(sources().iter().filter_map(|source| target(&source.path)));
    assert!(wanted.len() > 80, "the scenarios and tests were not found");
    let is_missing = |(list, name): &&(String, String)| {
        let head = format!("#   {list} ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&head));
        !lines.any(|line| words(line).any(|word| word == name))
    };
    let fault =
        |(list, name): &(String, String)| format!("docs/HACKING.md: name `{name}` behind `{list}`");
    report(&wanted.iter().filter(is_missing).map(fault).collect::<Vec<_>>());
}

/// The simulator's scenarios, with their list.
fn scenarios() -> Vec<(String, String)> {
    let path = root().join("tests/sim/src/scenario.rs");
    let text = fs::read_to_string(path).expect("the simulator has scenarios");
    let entries = text.lines().filter_map(|line| line.strip_prefix("    (\"")?.split_once('"'));
    entries.map(|(name, _)| ("--scenario".to_owned(), name.to_owned())).collect()
}

/// The package and kind of a file of tests or benchmarks, as they are listed, and the name by which it is run; `None` for other files.
fn target(path: &str) -> Option<(String, String)> {
    let (folder, kind, name) = place(path)?;
    let manifest = root().join(folder).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("every package has a manifest");
    let package = manifest.split("name = \"").nth(1)?.split('"').next()?;
    Some((format!("{package} {kind}"), name.to_owned()))
}

/// The package's folder, the flag that chooses the target, and its name.
fn place(path: &str) -> Option<(&str, &str, &str)> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/main").unwrap_or(path);
    let (path, name) = path.rsplit_once('/')?;
    let (folder, kind) = path.rsplit_once('/').unwrap_or(("", path));
    match kind {
        "tests" => Some((folder, "--test", name)),
        "benches" => Some((folder, "--bench", name)),
        _ => None,
    }
}

#[test]
fn the_checks_tell_targets_from_their_modules() {
    for (path, found) in [
        ("tests/passed.rs", Some(("", "--test", "passed"))),
        ("tests/sim/tests/chaos.rs", Some(("tests/sim", "--test", "chaos"))),
        ("transport/tests/lanes/main.rs", Some(("transport", "--test", "lanes"))),
        ("transport/benches/lane.rs", Some(("transport", "--bench", "lane"))),
        ("transport/tests/lanes/pair.rs", None),
        ("tests/sim/src/lib.rs", None),
        ("bench/src/main.rs", None),
    ] {
        assert_eq!(place(path), found, "{path}");
    }
}
