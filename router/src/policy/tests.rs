//! Goal: nothing is allowed that no rule allows, and a wrong file is never half a policy.

use super::*;

/// A valid public key that depends only on `byte`.
pub(crate) fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn text_for(keys: &[(u8, &str, &str)]) -> String {
    keys.iter().fold(String::new(), |text, (byte, flow, verbs)| {
        format!("{text}[[rule]]\nkey = \"{}\"\nflow = \"{flow}\"\nverbs = {verbs}\n", key(*byte))
    })
}

#[test]
fn the_default_denies_and_open_allows() {
    let deny = Policy::default();
    let open = Policy::open();
    assert!(!deny.is_open() && open.is_open());
    assert!(!deny.admits(&key(1)) && open.admits(&key(1)));
    for verb in Verb::ALL {
        assert!(!deny.allows(&key(1), verb, "a"));
        assert!(open.allows(&key(1), verb, "a"));
    }
}

#[test]
fn a_rule_allows_its_key_its_flows_and_its_verbs_only() {
    let text =
        text_for(&[(1, "orders.*", "[\"send\", \"observe\"]"), (2, "prices", "[\"request\"]")]);
    let policy = Policy::from_toml(&text).unwrap();
    assert!(policy.admits(&key(1)) && policy.admits(&key(2)) && !policy.admits(&key(3)));
    assert_eq!(policy.rules_count(), 2);

    let allowed = |byte, verb, flow| policy.allows(&key(byte), verb, flow);
    assert!(allowed(1, Verb::Send, "orders.new"));
    assert!(allowed(1, Verb::Observe, "orders.new.eu"));
    assert!(!allowed(1, Verb::Request, "orders.new"));
    assert!(!allowed(1, Verb::Send, "orders"));
    assert!(!allowed(1, Verb::Send, "ordersx.new"));
    assert!(!allowed(1, Verb::Request, "prices"));
    assert!(allowed(2, Verb::Request, "prices"));
    assert!(!allowed(2, Verb::Request, "prices.eu"));
    assert!(!allowed(3, Verb::Send, "orders.new"));
}

#[test]
fn rules_for_accepted_keys_admit_nobody_by_themselves() {
    let text = "[[rule]]\nkey = \"accepted\"\nflow = \"news.*\"\nverbs = [\"send\"]\n";
    let policy = Policy::from_toml(text).unwrap();
    assert_eq!((policy.rules_count(), policy.keys().count()), (1, 0));
    assert!(!policy.admits(&key(1)) && !policy.allows(&key(1), Verb::Send, "news.local"));
    assert!(policy.allows_accepted(Verb::Send, "news.local"));
    assert!(!policy.allows_accepted(Verb::Request, "news.local"));
    assert!(!policy.allows_accepted(Verb::Send, "orders"));
    assert!(!Policy::deny().allows_accepted(Verb::Send, "news.local"));
    let before = Policy::deny();
    let after = before.clone().with_accepted_rule(FlowPattern::All, &[Verb::Send]);
    assert!(after.allows_accepted(Verb::Send, "a") && after.generation() != before.generation());
}

#[test]
fn rules_of_one_key_add_up() {
    let text = text_for(&[(1, "a", "[\"send\"]"), (1, "*", "[\"observe\"]")]);
    let policy = Policy::from_toml(&text).unwrap();
    assert!(policy.allows(&key(1), Verb::Send, "a"));
    assert!(policy.allows(&key(1), Verb::Observe, "b.c"));
    assert!(!policy.allows(&key(1), Verb::Send, "b.c"));
    assert_eq!(policy.keys().collect::<Vec<_>>(), [&key(1)]);
}

#[test]
fn patterns_cover_whole_segments() {
    let cases = [
        ("*", "a", true),
        ("a.*", "a.b", true),
        ("a.*", "a.b.c", true),
        ("a.*", "a", false),
        ("a.*", "a.", false),
        ("a.*", "ab.c", false),
        ("a.b", "a.b", true),
        ("a.b", "a.b.c", false),
    ];
    for (pattern, flow, expected) in cases {
        let parsed: FlowPattern = pattern.parse().unwrap();
        assert_eq!(parsed.covers(flow), expected, "{pattern} covers {flow}");
        assert_eq!(parsed.to_string(), pattern);
    }
    for wrong in ["", "*.a", "a*", "a.*.b", ".*", "**"] {
        assert!(wrong.parse::<FlowPattern>().is_err(), "{wrong:?}");
    }
}

#[test]
fn errors_name_the_line() {
    let good = text_for(&[(1, "a", "[\"send\"]")]);
    let cases = [
        (
            text_for(&[(1, "a", "[\"send\"]"), (2, "a", "[\"snd\"]")]),
            8,
            "\"snd\" is not a verb; use one of send, request, publish, subscribe, observe",
        ),
        (text_for(&[(1, "a.*.b", "[\"send\"]")]), 3, "'*' may only be the last segment"),
        (text_for(&[(1, "a", "[]")]), 4, "verbs is empty"),
        (
            format!("{good}[[rule]]\nkey = \"nonsense\"\nflow = \"a\"\nverbs = [\"send\"]\n"),
            6,
            "key: ",
        ),
        (format!("{good}verb = [\"send\"]\n"), 5, "unknown field `verb`"),
        (format!("{good}[[rule]]\nkey = 7\n"), 6, "invalid type"),
        (format!("{good}[[rule\n"), 5, ""),
        (format!("{good}[[rule]]\nflow = \"a\"\nverbs = [\"send\"]\n"), 5, "missing field `key`"),
    ];
    for (text, line, words) in cases {
        let error = Policy::from_toml(&text).unwrap_err();
        assert_eq!(error.line(), Some(line), "{error}\n{text}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("policy:{line}: ")), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let missing = Policy::load(&path).unwrap_err();
    assert!(matches!(missing.fault(), PolicyFault::Unreadable(_)));
    assert!(missing.to_string().starts_with(path.to_str().unwrap()), "{missing}");

    std::fs::write(&path, "\n\nrules = 3\n").unwrap();
    let wrong = Policy::load(&path).unwrap_err();
    assert_eq!((wrong.file(), wrong.line()), (Some(path.as_path()), Some(3)));
    assert!(wrong.to_string().contains("policy.toml:3: unknown field"), "{wrong}");

    std::fs::write(&path, text_for(&[(1, "*", "[\"send\"]")])).unwrap();
    assert!(Policy::load(&path).unwrap().allows(&key(1), Verb::Send, "any.flow"));
}

#[test]
fn a_file_without_end_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::File::create(&path).unwrap().set_len(POLICY_BYTES_MAX + 1).unwrap();
    let error = Policy::load(&path).unwrap_err();
    assert!(
        matches!(error.fault(), PolicyFault::TooLong { bytes } if *bytes == POLICY_BYTES_MAX + 1)
    );
}

#[test]
fn every_change_has_its_own_generation() {
    let first = Policy::deny();
    let second = Policy::deny();
    assert_ne!(first.generation(), second.generation());
    assert_eq!(first.generation(), first.clone().generation());
    let changed = first.clone().with_rule(key(1), FlowPattern::All, &[Verb::Send]);
    assert_ne!(first.generation(), changed.generation());
    assert!(
        changed.allows(&key(1), Verb::Send, "a") && !changed.allows(&key(1), Verb::Publish, "a")
    );
}
