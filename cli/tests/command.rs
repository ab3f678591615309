//! Goal: the real binary does what it says, and every fault is one line with a remedy and status 1.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn cubed(folder: &Path, arguments: &[&str]) -> Output {
    let command = env!("CARGO_BIN_EXE_cubed");
    Command::new(command).current_dir(folder).args(arguments).output().expect("the binary runs")
}

fn words(folder: &Path, arguments: &[&str]) -> String {
    let output = cubed(folder, arguments);
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
    text(output.stdout)
}

fn fault(folder: &Path, arguments: &[&str]) -> String {
    let output = cubed(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let text = String::from_utf8(output.stderr).expect("output is UTF-8");
    assert!(text.starts_with("cubed: ") && text.lines().count() == 1, "{text}");
    text
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

#[test]
fn a_new_key_is_private_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let shown = words(folder.path(), &["keygen", "node.key"]);
    assert_eq!(field(&shown, "public key").len(), 56);
    assert!(!field(&shown, "fingerprint").is_empty());
    let mode = fs::metadata(folder.path().join("node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(words(folder.path(), &["key", "node.key"]), shown);
    assert_eq!(words(folder.path(), &["pubkey", "node.key"]), shown);
    assert_ne!(words(folder.path(), &["keygen", "other.key"]), shown);
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("node.key"), "precious").unwrap();
    let words = fault(folder.path(), &["keygen", "node.key"]);
    assert!(words.contains("node.key") && words.contains("not overwritten"), "{words}");
    assert_eq!(fs::read(folder.path().join("node.key")).unwrap(), b"precious");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    words(folder.path(), &["keygen", "node.key"]);
    let path = folder.path().join("node.key");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let words = fault(folder.path(), &["key", "node.key"]);
    assert!(words.contains("0644") && words.contains("chmod 600 node.key"), "{words}");
}

#[test]
fn missing_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = fault(folder.path(), &["key", "no.key"]);
    assert!(missing.contains("no.key"), "{missing}");
    let policy = fault(folder.path(), &["policy", "check", "no.toml"]);
    assert!(
        policy.contains("no.toml") && policy.contains("give the path of a TOML file"),
        "{policy}"
    );
    let keep = fault(folder.path(), &["peers", "list", "--keep", "no.toml"]);
    assert!(keep.contains("no.toml") && keep.contains("give the file that a node"), "{keep}");
    let path = folder.path().join("text.key");
    fs::write(&path, "not a key\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let foreign = fault(folder.path(), &["key", "text.key"]);
    assert!(foreign.contains("text.key") && foreign.contains("PEM"), "{foreign}");
    let nowhere = fault(folder.path(), &["keygen", "no/such/folder/node.key"]);
    assert!(nowhere.contains("no/such/folder/node.key"), "{nowhere}");
}

#[test]
fn a_policy_is_checked_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let key = field(&words(folder.path(), &["keygen", "node.key"]), "public key");
    let path = folder.path().join("policy.toml");
    let rule =
        |verbs: &str| format!("[[rule]]\nkey = \"{key}\"\nflow = \"a.*\"\nverbs = {verbs}\n");

    fs::write(&path, rule("[\"send\"]")).unwrap();
    let good = words(folder.path(), &["policy", "check", "policy.toml"]);
    assert!(
        good.starts_with("policy.toml: ok; rules: 1, keys: 1\n") && good.contains(&key),
        "{good}"
    );

    fs::write(&path, rule("[\"sned\"]")).unwrap();
    let wrong = fault(folder.path(), &["policy", "check", "policy.toml"]);
    assert!(wrong.contains("policy.toml:4: \"sned\" is not a verb"), "{wrong}");

    fs::write(&path, "").unwrap();
    let empty = words(folder.path(), &["policy", "check", "policy.toml"]);
    assert!(empty.contains("denies everybody"), "{empty}");
}

#[test]
fn a_stopped_nodes_keep_is_listed_and_decided() {
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| field(&words(folder.path(), &["keygen", name]), "public key");
    let (alice, bob) = (key("alice.key"), key("bob.key"));
    let peers = |verb, key| words(folder.path(), &["peers", verb, "--keep", "keep.toml", key]);
    let list = || words(folder.path(), &["peers", "list", "--keep", "keep.toml"]);
    let missing = fault(folder.path(), &["peers", "accept", "--keep", "keep.toml", &alice]);
    assert!(missing.contains("keep.toml"), "{missing}");
    let mut file = cubed::KeepFile::open(folder.path().join("keep.toml"), "").unwrap();
    file.reject(&alice.parse().unwrap()).unwrap();
    file.save().unwrap();
    let used = fault(folder.path(), &["peers", "accept", "--keep", "keep.toml", &alice]);
    assert!(used.contains("running node"), "{used}");
    assert!(list().contains("keys: 1, waiting: 0"), "a keep in use can be listed");
    drop(file);

    assert!(peers("accept", &alice).starts_with("accepted"));
    assert!(peers("reject", &bob).starts_with("rejected"));
    let listed = list();
    assert!(listed.contains(&format!("accepted  {alice}")), "{listed}");
    assert!(listed.contains(&format!("rejected  {bob}")), "{listed}");
    assert!(peers("forget", &bob).starts_with("forgotten"));
    assert!(!list().contains(&bob));
    let unknown = fault(folder.path(), &["peers", "forget", "--keep", "keep.toml", &bob]);
    assert!(unknown.contains("nothing is known of this key"), "{unknown}");
    fault(folder.path(), &["peers", "accept", "--keep", "keep.toml", "not-a-key"]);

    let path = folder.path().join("keep.toml");
    let text = fs::read_to_string(&path).unwrap().replace("accepted", "acepted");
    fs::write(&path, text).unwrap();
    let damaged = fault(folder.path(), &["peers", "list", "--keep", "keep.toml"]);
    assert!(damaged.contains("keep.toml:7: \"acepted\" is no state"), "{damaged}");
}

#[test]
fn a_command_line_that_cannot_be_read_has_its_own_status() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["keygen"], &["ping"], &["policy", "mend", "a"]] {
        assert_eq!(cubed(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_doctor_looks_at_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let output = cubed(folder.path(), &["doctor"]);
    let text = String::from_utf8(output.stdout).expect("output is UTF-8");
    let findings: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(findings.len() >= 11, "{text}");
    let fails = findings.iter().filter(|line| line.starts_with("FAILS")).count();
    assert_eq!(output.status.success(), fails == 0, "{text}");
    for check in ["kernel", "io_uring", "locked memory", "steering", "cores", "pinning"] {
        assert!(text.contains(check), "{check}: {text}");
    }
}
