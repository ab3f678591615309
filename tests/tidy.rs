//! What the compiler does not check about the source: headers, who imports whom, where `unsafe` and
//! clocks may be, what must not be left behind, and how long things get.
//!
//! Every rule names its remedy. The two lists of known exceptions are ratchets: an entry may
//! shrink or go, never grow, and one that is larger than the truth fails as well. The rules and
//! their reasons are in `docs/STYLE.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file before its tests.
const FILE_LINES_MAX: usize = 500;
/// Most lines of a function, signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;

/// Files known to be longer, with their lines before the tests.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions known to be longer, with their lines: file, name, lines.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

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

/// Text that must not occur in code, where it may, and what to use instead.
const BANS: &[Ban] = &[
    Ban {
        text: "Instant::now",
        allowed: &[
            "runtime/src/clock",
            "bench/",
            "transport/benches/",
            "router/benches/",
            "tests/*.rs",
            "tests/sockets/",
            "shards/tests/",
            "runtime/tests/",
        ],
        instead: "pass time in as an argument; only cubed_runtime::clock reads it",
    },
    Ban {
        text: "SystemTime",
        allowed: &["runtime/src/clock", "bench/"],
        instead: "use the monotonic cubed_runtime::clock; wall clocks jump",
    },
    Ban { text: "todo!(", allowed: &[], instead: "finish it, or return an error that says so" },
    Ban {
        text: "unimplemented!(",
        allowed: &[],
        instead: "leave the function out until it exists",
    },
    Ban { text: "dbg!(", allowed: &[], instead: "use a tracing event, or nothing" },
];

struct Ban {
    text: &'static str,
    /// Prefixes of paths; `folder/*.rs` means files directly in the folder.
    allowed: &'static [&'static str],
    instead: &'static str,
}

/// One source file, with a copy in which comments and literals are blank.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
    code: String,
}

#[test]
fn every_file_opens_with_its_purpose() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| {
            format!("{}: begin with `//!`: what the file owns, what always holds", source.path)
        })
        .collect();
    report(&faults);
}

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

const DIRECTION: &str = "imports go transport <- router <- shards <- facade <- bench, cli, \
                         and runtime <- shards only";

#[test]
fn unsafe_stays_in_runtime() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("runtime/")) {
        for (line, code) in numbered(&source.code) {
            if words(code).any(|word| word == "unsafe") {
                let remedy = "move the unsafe code behind a safe type of cubed-runtime";
                faults.push(format!("{}:{line}: {remedy}", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn banned_text_does_not_occur() {
    let mut faults = Vec::new();
    for source in sources() {
        for ban in BANS.iter().filter(|ban| !ban.allows(&source.path)) {
            for (line, code) in numbered(&source.code).filter(|(_, code)| code.contains(ban.text)) {
                let code = code.trim();
                faults.push(format!("{}:{line}: `{code}`: {}", source.path, ban.instead));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_but_one_script_takes_the_encryption_away() {
    let mut setting = Vec::new();
    let files = ["perf-scripts", ".ci", ".cargo", "."].map(|folder| root().join(folder));
    let entries = files.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    for path in entries.map(|entry| entry.expect("entries are readable").path()) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains("cfg cubed_clear") {
            setting.push(path.file_name().expect("it has a name").to_owned());
        }
    }
    assert_eq!(setting, ["clear"], "only perf-scripts/clear builds without the AEAD");
    // These tests are for builds that encrypt: take cubed_clear out of RUSTFLAGS.
    const { assert!(!cfg!(cubed_clear)) };
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
fn files_stay_readable_in_one_sitting() {
    let mut lengths = BTreeMap::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        let lines = lines_before_tests(&source.text);
        if lines > FILE_LINES_MAX {
            lengths.insert(source.path.clone(), lines);
        }
    }
    let known = LONG_FILES.iter().map(|(path, lines)| ((*path).to_owned(), *lines)).collect();
    report(&ratchet(&lengths, &known, "split it by noun", "LONG_FILES"));
}

#[test]
fn functions_fit_a_screen() {
    let mut lengths = BTreeMap::new();
    for source in sources() {
        for (name, lines) in functions(&source.code) {
            if lines > FUNCTION_LINES_MAX {
                let longest: &mut usize =
                    lengths.entry(format!("{}: fn {name}", source.path)).or_default();
                *longest = lines.max(*longest);
            }
        }
    }
    let entry = |(path, name, lines): &(&str, &str, usize)| (format!("{path}: fn {name}"), *lines);
    let known = LONG_FUNCTIONS.iter().map(entry).collect();
    report(&ratchet(&lengths, &known, "name its parts", "LONG_FUNCTIONS"));
}

#[test]
fn the_checks_see_through_comments_and_literals() {
    let text = r##"let a = "unsafe \" {"; // dbg!(
/* todo!( /* nested */ { */ let b = br#"{ "unsafe" "#; let c: &'static str = x; let d = '{'; let e = '\'';
"##;
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for absent in ["unsafe", "dbg!", "todo!", "{", "nested"] {
        assert!(!code.contains(absent), "{absent} in {code}");
    }
    for present in ["let a =", "let b =", "&'static str = x;", "let d =", "let e ="] {
        assert!(code.contains(present), "{present} not in {code}");
    }
}

#[test]
fn the_checks_measure_functions() {
    let code = "fn one() {}\nimpl A {\n    fn two(\n        a: [u8; 3],\n    ) -> B {\n        if c {\n        \
                }\n    }\n    fn declared(&self) -> u8;\n}\ntype F = fn(u8) -> u8;\n";
    let measured: Vec<_> = functions(code).collect();
    assert_eq!(measured, [("one".to_owned(), 1), ("two".to_owned(), 6)]);
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

#[test]
fn a_ratchet_only_tightens() {
    let lengths = |entries: &[(&str, usize)]| -> BTreeMap<String, usize> {
        entries.iter().map(|(name, lines)| ((*name).to_owned(), *lines)).collect()
    };
    let faults = |found, known| ratchet(&lengths(found), &lengths(known), "", "LIST").len();
    assert_eq!(faults(&[("a", 90)], &[("a", 90)]), 0);
    assert_eq!(faults(&[("a", 91)], &[("a", 90)]), 1, "grown");
    assert_eq!(faults(&[("a", 89)], &[("a", 90)]), 1, "shrunk: lower the entry");
    assert_eq!(faults(&[("a", 90)], &[]), 1, "new");
    assert_eq!(faults(&[], &[("a", 90)]), 1, "gone: remove the entry");
}

impl Ban {
    fn allows(&self, path: &str) -> bool {
        self.allowed.iter().any(|allowed| match allowed.strip_suffix("*.rs") {
            Some(folder) => path.strip_prefix(folder).is_some_and(|rest| !rest.contains('/')),
            None => path.starts_with(allowed),
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn report(faults: &[String]) {
    let listed = faults.iter().fold(String::new(), |mut text, fault| {
        let _ = writeln!(text, "  {fault}");
        text
    });
    assert!(faults.is_empty(), "{} faults:\n{listed}", faults.len());
}

/// All Rust files of the repository, in order of path.
fn sources() -> Vec<Source> {
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

/// Index in [`IMPORTS`] of the package that owns the file; the root's matches everything else.
fn package_of(path: &str) -> usize {
    let owns = |folder: &str| {
        !folder.is_empty() && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let root = IMPORTS.iter().position(|(folder, _)| folder.is_empty());
    let package = IMPORTS.iter().position(|(folder, _)| owns(folder));
    package.or(root).expect("the root package is listed")
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

fn lines_before_tests(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
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

/// Name and lines of each function with a body.
fn functions(code: &str) -> impl Iterator<Item = (String, usize)> {
    code.match_indices("fn ").filter_map(|(at, _)| {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
            return None;
        }
        let name = words(&code[at + 3..]).next().filter(|name| !name.is_empty())?;
        let body = body_of(&code[at..])?;
        Some((name.to_owned(), body.lines().count()))
    })
}

/// From a `fn` to the brace that closes its body; `None` when it has none.
fn body_of(code: &str) -> Option<&str> {
    let (mut braces, mut others) = (0_u32, 0_u32);
    for (at, character) in code.char_indices() {
        match character {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && others == 0 {
                    return Some(&code[..=at]);
                }
            }
            _ => {}
        }
    }
    None
}

fn ratchet(
    found: &BTreeMap<String, usize>,
    known: &BTreeMap<String, usize>,
    remedy: &str,
    list: &str,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, lines) in found {
        match known.get(name) {
            None => faults.push(format!("{name}: {lines} lines; {remedy}")),
            Some(limit) if lines > limit => {
                faults.push(format!("{name}: grew from {limit} to {lines} lines; {remedy}"));
            }
            Some(limit) if lines < limit => {
                faults.push(format!("{name}: shrank to {lines} lines; lower its entry in {list}"));
            }
            Some(_) => {}
        }
    }
    let gone = known.keys().filter(|name| !found.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: is short now; remove it from {list}")));
    faults
}

/// The text with comments, strings and character literals replaced by spaces, line by line the same.
fn blank(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = literal_end(&characters, at);
        if end == at {
            code.push(characters[at]);
            at += 1;
        } else {
            let kept = |character: &char| if *character == '\n' { '\n' } else { ' ' };
            code.extend(characters[at..end].iter().map(kept));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins `at` ends; `at` itself when none begins there.
fn literal_end(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => find(text, at, &['\n']),
        '/' if next == Some('*') => comment_end(text, at),
        '"' => string_end(text, at + 1, '"'),
        '\'' if next == Some('\\') || text.get(at + 2) == Some(&'\'') => {
            string_end(text, at + 1, '\'')
        }
        'r' if begins_word(text, at) => {
            let hashes = text[at + 1..].iter().take_while(|character| **character == '#').count();
            if text.get(at + 1 + hashes) != Some(&'"') {
                return at;
            }
            let mut close = vec!['"'];
            close.resize(1 + hashes, '#');
            (find(text, at + 2 + hashes, &close) + close.len()).min(text.len())
        }
        _ => at,
    }
}

/// Whether an `r` begins a raw literal's prefix rather than ending a word: `r"` and `br"` do.
fn begins_word(text: &[char], at: usize) -> bool {
    let word_before = |at: usize| {
        at.checked_sub(1)
            .is_some_and(|before| text[before].is_alphanumeric() || text[before] == '_')
    };
    !word_before(at) || (text[at - 1] == 'b' && !word_before(at - 1))
}

fn comment_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], start: usize, close: char) -> usize {
    let mut at = start;
    while at < text.len() && text[at] != close {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn find(text: &[char], start: usize, wanted: &[char]) -> usize {
    let found = text[start..].windows(wanted.len()).position(|window| window == wanted);
    found.map_or(text.len(), |offset| start + offset)
}
