//! Owns how long files and functions may get.

use std::collections::BTreeMap;

use crate::ratchet::ratchet;
use crate::report;
use crate::source::{is_test, sources, words};

/// Most lines of a file before its tests.
const FILE_LINES_MAX: usize = 500;
/// Most lines of a function, signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;

/// Files known to be longer, with their lines before the tests.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions known to be longer, with their lines: file, name, lines.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

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
fn the_checks_measure_functions() {
    let code = "fn one() {}\nimpl A {\n    fn two(\n        a: [u8; 3],\n    ) -> B {\n        if c {\n        \
                }\n    }\n    fn declared(&self) -> u8;\n}\ntype F = fn(u8) -> u8;\n";
    let measured: Vec<_> = functions(code).collect();
    assert_eq!(measured, [("one".to_owned(), 1), ("two".to_owned(), 6)]);
}

fn lines_before_tests(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
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
