//! Owns lists of known exceptions: an entry may shrink or go, never grow, and one that is larger than the truth fails as well.

use std::collections::BTreeMap;

/// What is wrong with `found`, where `known` is allowed.
pub(crate) fn ratchet(
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
