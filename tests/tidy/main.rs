//! What the compiler does not check about the source: headers, who imports whom, where `unsafe` and
//! clocks may be, what must not be left behind, and how long things get.
//!
//! Every rule names its remedy. The rules and their reasons are in `docs/STYLE.md`.

mod blank;
mod imports;
mod lengths;
mod listed;
mod ratchet;
mod source;
mod words;

use std::fmt::Write as _;

use source::sources;

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

/// Fails with every fault, if there are any.
fn report(faults: &[String]) {
    let listed = faults.iter().fold(String::new(), |mut text, fault| {
        let _ = writeln!(text, "  {fault}");
        text
    });
    assert!(faults.is_empty(), "{} faults:\n{listed}", faults.len());
}
