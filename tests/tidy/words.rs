//! Owns which words may stand where: `unsafe`, clocks, what must not be left behind, the setting that takes the encryption away.

use std::fs;

use crate::report;
use crate::source::{numbered, root, sources, words};

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

impl Ban {
    fn allows(&self, path: &str) -> bool {
        self.allowed.iter().any(|allowed| match allowed.strip_suffix("*.rs") {
            Some(folder) => path.strip_prefix(folder).is_some_and(|rest| !rest.contains('/')),
            None => path.starts_with(allowed),
        })
    }
}
