//! Goal: real nodes pend, are accepted while they wait, talk again after both were killed, and keep their channels apart;
//! the keep's file is whole at any moment.

mod support;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubed::{
    Channel, ConnectError, DialFailure, Identity, KeepFile, KeepSettings, KeyState, Node,
    NodeBuilder, NodeKeepError, NodeMode, Outcome, Policy, PublicKey, Remote, ResolveError, Shard,
    StartError, Trust, Verb, block_on,
};
use support::{builder, eventually, own_address, start_again, stop};

/// Everything to whoever the keep has accepted, and nothing to anybody else.
fn accepted_may_send() -> Policy {
    Policy::deny().with_accepted_rule("*".parse().expect("a pattern"), &[Verb::Send])
}

fn with_keep(builder: NodeBuilder, file: &Path, trust: Trust) -> NodeBuilder {
    builder.policy(accepted_may_send()).keep(KeepSettings::file(file).trust(trust))
}

/// Which channel each message came on, and what it was.
type Heard = Arc<Mutex<Vec<String>>>;

/// A node that writes down what it hears on these channels.
fn listener(builder: NodeBuilder, channels: &[&'static str]) -> (Node, Heard) {
    let heard = Heard::default();
    (listen(builder, channels, &heard).expect("the listener starts"), heard)
}

fn listen(
    builder: NodeBuilder,
    channels: &[&'static str],
    heard: &Heard,
) -> Result<Node, StartError> {
    let (told, channels) = (Arc::clone(heard), channels.to_vec());
    builder.start(move |shard: Shard| {
        for channel in &channels {
            let (told, channel) = (Arc::clone(&told), *channel);
            let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
                let body = String::from_utf8_lossy(message.body()).into_owned();
                told.lock().expect("no panic").push(format!("{channel}:{body}"));
            };
            shard.flow("orders").channel(channel).handler(handler).expect("a free name");
        }
        async move { drop(shard) }
    })
}

#[test]
fn a_stranger_waits_for_the_operator_and_gets_in_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.toml");
    let (bob, heard) = listener(with_keep(builder(), &file, Trust::Never), &[""]);
    let alice = builder().name("alice").role("sensor").kind(7).mode(NodeMode::MAIN);
    let alice = alice.peer(bob.public_key(), bob.local_addr());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let orders = alice.resolve(bob.public_key(), "orders").unwrap();

    let failed = block_on(orders.connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Pending { .. })), "{failed:?}");
    let waiting = block_on(bob.keep().pending()).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].key, waiting[0].state), (alice.public_key(), KeyState::Pending));
    let portrait = waiting[0].portrait.clone().unwrap();
    assert_eq!((&*portrait.name, &*portrait.role, portrait.kind), ("alice", "sensor", 7));

    block_on(bob.keep().accept(alice.public_key())).unwrap();
    let stored = KeepFile::read(&file).unwrap().state(&alice.public_key());
    assert_eq!(stored, Some(KeyState::Accepted), "told only when the disk has it");
    assert_eq!(block_on(orders.send("at last")), Ok(Outcome::Delivered));
    assert_eq!(*heard.lock().unwrap(), [":at last"]);
    let info = block_on(orders.peer_info()).unwrap().expect("a session");
    assert_eq!((&*info.name, &*info.channel, info.shards), ("", "", 1));

    block_on(bob.keep().reject(alice.public_key())).unwrap();
    let is_connected = || block_on(orders.peer_info()).unwrap().is_some();
    eventually("the session ends", || !is_connected());
    let failed = block_on(orders.connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Rejected { .. })), "{failed:?}");
    assert_eq!(
        block_on(bob.keep().forget(bob.public_key())).unwrap_err().to_string(),
        "nothing is known of this key; list what is"
    );
    assert_eq!(block_on(alice.keep().list()), Err(NodeKeepError::NoKeep));
    stop(&[&alice, &bob]);
    KeepFile::open(&file, "").expect("free again once the node has stopped");
}

#[test]
fn a_dialled_node_that_has_changed_its_name_is_not_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.toml");
    let identity_file = folder.path().join("bob.key");
    let key = Identity::create(&identity_file).unwrap().public_key();
    let bob = |name: &str, at: SocketAddr| {
        start_again(|| {
            let identity = Identity::load(&identity_file).unwrap();
            let bob = support::node().identity(identity).listen(at).name(name);
            let bob = bob.policy(Policy::open());
            bob.start(async |shard: Shard| shard.flow("orders").handler(|_, _| {}))
        })
    };
    let before = bob("bob", own_address());
    let at = before.local_addr();
    let alice = with_keep(builder(), &file, Trust::Never).peer(key, at);
    let alice = alice.dial_timeout(Duration::from_secs(2)).start(async |_: Shard| ()).unwrap();
    let orders = alice.resolve(key, "orders").unwrap();
    assert_eq!(block_on(orders.send("hello")), Ok(Outcome::Delivered));
    let known = block_on(alice.keep().list()).unwrap();
    assert_eq!((known[0].key, known[0].state), (key, KeyState::Accepted), "dialled, so vouched");
    stop(&[&before]);
    let after = bob("mallory", at);
    let failed = loop {
        // Until the new node is there, nobody answers.
        match block_on(orders.connect()) {
            Err(ConnectError::Dial(DialFailure::Timeout { .. })) | Ok(()) => {}
            Err(failed) => break failed.to_string(),
        }
    };
    assert!(failed.contains("its name has changed"), "{failed}");
    block_on(alice.keep().forget(key)).unwrap();
    eventually("it is taken as new", || block_on(orders.connect()).is_ok());
    stop(&[&alice, &after]);
}

/// A node that knows this one; whether it still has its session, and where it sends.
fn sensor(bob: &Node) -> (Node, Remote) {
    let node = builder().role("sensor").peer(bob.public_key(), bob.local_addr());
    let node = node.start(async |_: Shard| ()).unwrap();
    let orders = node.resolve(bob.public_key(), "orders").unwrap();
    (node, orders)
}

fn has_session(orders: &Remote) -> bool {
    block_on(orders.peer_info()).unwrap().is_some()
}

#[test]
fn whoever_loses_its_role_to_another_key_loses_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let settings = KeepSettings::file(folder.path().join("keep.toml"));
    let bob = builder().policy(accepted_may_send());
    let bob = bob.keep(settings.trust(Trust::Always).mutable(true));
    let (bob, heard) = listener(bob, &[""]);
    let (old, from_old) = sensor(&bob);
    assert_eq!(block_on(from_old.send("old")), Ok(Outcome::Delivered));
    let (new, from_new) = sensor(&bob);
    assert_eq!(block_on(from_new.send("new")), Ok(Outcome::Delivered));
    // It does nothing, and is told.
    eventually("the session of the old key ends", || !has_session(&from_old));
    assert!(has_session(&from_new));
    let known = block_on(bob.keep().list()).unwrap();
    assert_eq!(known.iter().map(|entry| entry.key).collect::<Vec<_>>(), [new.public_key()]);
    assert_eq!(*heard.lock().unwrap(), [":old", ":new"]);
    stop(&[&old, &new, &bob]);
}

#[test]
fn whoever_is_forgotten_loses_its_session_and_waits_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.toml");
    let (bob, _) = listener(with_keep(builder(), &file, Trust::Never), &[""]);
    let (alice, orders) = sensor(&bob);
    block_on(bob.keep().accept(alice.public_key())).unwrap();
    assert_eq!(block_on(orders.send("hello")), Ok(Outcome::Delivered));
    block_on(bob.keep().forget(alice.public_key())).unwrap();
    eventually("the session ends", || !has_session(&orders));
    let failed = block_on(orders.connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Pending { .. })), "{failed:?}");
    stop(&[&alice, &bob]);
}

#[test]
fn a_policy_that_no_longer_names_a_key_ends_its_session_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let keep = KeepSettings::file(folder.path().join("keep.toml"));
    let nodes: Vec<_> = (0..3).map(|_| Identity::generate().unwrap()).collect();
    let keys: Vec<_> = nodes.iter().map(Identity::public_key).collect();
    let rule = |policy: Policy, key| policy.with_rule(key, "*".parse().unwrap(), &[Verb::Send]);
    let both = rule(rule(accepted_may_send(), keys[0]), keys[1]);
    let one = rule(accepted_may_send(), keys[1]);
    let (bob, _) = listener(builder().policy(both).keep(keep), &[""]);
    block_on(bob.keep().accept(keys[2])).unwrap();
    let started = nodes.into_iter().map(|identity| {
        let node = builder().identity(identity).peer(bob.public_key(), bob.local_addr());
        let node = node.start(async |_: Shard| ()).unwrap();
        let orders = node.resolve(bob.public_key(), "orders").unwrap();
        assert_eq!(block_on(orders.send("hello")), Ok(Outcome::Delivered));
        (node, orders)
    });
    let started: Vec<_> = started.collect();
    block_on(bob.set_policy(one)).unwrap();
    eventually("the session of the key left out ends", || !has_session(&started[0].1));
    // The rule that is left names one, the keep has accepted the other: both sessions are the ones they had.
    for (node, orders) in &started[1..] {
        assert!(has_session(orders), "{}", node.public_key());
        assert_eq!(block_on(orders.send("again")), Ok(Outcome::Delivered));
        let begun = block_on(node.stats()).unwrap().shards[0].counters.sessions_begun;
        assert_eq!(begun, 1);
    }
    let failed = block_on(started[0].1.connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Pending { .. })), "{failed:?}");
    for (node, _) in &started {
        stop(&[node]);
    }
    stop(&[&bob]);
}

#[test]
fn channels_of_one_node_do_not_open_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let garden_id = Identity::generate().unwrap();
    let garden_key = garden_id.public_key();
    let garden = Channel::new("garden").identity(garden_id).policy(accepted_may_send());
    let garden = garden.keep(KeepSettings::file(file("garden.toml")).trust(Trust::Once));
    let harbour = Channel::new("harbour").policy(accepted_may_send());
    let harbour = harbour.keep(KeepSettings::file(file("harbour.toml")));
    let (bob, heard) = listener(builder().channel(garden).channel(harbour), &["garden", "harbour"]);
    let at = bob.local_addr();
    let alice = builder().channel(Channel::new("garden")).channel(Channel::new("harbour"));
    let alice = alice.peer(bob.public_key(), at).peer_on("garden", "bob", garden_key, at);
    let alice = alice.peer_on("harbour", "bob", bob.public_key(), at);
    let alice = alice.dial_timeout(Duration::from_millis(700));
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let to = |address: &str| alice.resolve_address(address).unwrap();

    assert_eq!(block_on(to("garden/bob//orders").send("roses")), Ok(Outcome::Delivered));
    let failed = block_on(to("harbour/bob//orders").connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Pending { .. })), "{failed:?}");
    let failed = block_on(alice.resolve(bob.public_key(), "orders").unwrap().connect());
    assert!(
        matches!(failed, Err(ConnectError::Dial(DialFailure::NotAdmitted { .. }))),
        "{failed:?}"
    );
    let info = block_on(to("garden/bob//orders").peer_info()).unwrap().unwrap();
    assert_eq!(info.channel, "garden");
    // The right address and the key of another channel: nobody answers.
    let wrong = alice.resolve_on("harbour", garden_key, "orders").unwrap();
    alice_meets(&alice, "harbour", garden_key, at);
    let failed = block_on(wrong.connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Timeout { .. })), "{failed:?}");

    block_on(bob.keep_on("harbour").unwrap().accept(alice.public_key())).unwrap();
    assert_eq!(block_on(to("harbour/bob//orders").send("ships")), Ok(Outcome::Delivered));
    assert_eq!(*heard.lock().unwrap(), ["garden:roses", "harbour:ships"]);
    let unknown = alice.resolve_address("orchard/bob//orders").unwrap_err();
    assert_eq!(unknown, ResolveError::UnknownChannel("orchard".into()));
    assert!(matches!(block_on(bob.keep().list()), Err(NodeKeepError::NoKeep)));
    stop(&[&alice, &bob]);
}

fn alice_meets(alice: &Node, channel: &'static str, key: PublicKey, at: SocketAddr) {
    let met = alice.on_shard(0, async move |shard: Shard| shard.add_peer_on(channel, key, at));
    block_on(met).unwrap().unwrap();
}

#[test]
fn a_damaged_keep_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.toml");
    let mut keep = KeepFile::open(&file, "").unwrap();
    keep.accept(&Identity::generate().unwrap().public_key()).unwrap();
    keep.save().unwrap();
    drop(keep);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 20]).unwrap();
    let start = with_keep(builder(), &file, Trust::Never).start(async |_: Shard| ());
    let words = start.unwrap_err().to_string();
    assert!(words.contains("keep.toml:"), "{words}");
    let wrong = |builder: NodeBuilder| builder.start(async |_: Shard| ()).unwrap_err().to_string();
    assert!(wrong(builder().channel(Channel::new("a b"))).contains("channel's name"));
    let twice = builder().channel(Channel::new("a")).channel(Channel::new("a"));
    assert!(wrong(twice).contains("named twice"));
    assert!(wrong(builder().role("r".repeat(65))).contains("role"));
    let key = Identity::generate().unwrap().public_key();
    assert!(wrong(builder().peer_on("b", "n", key, "127.0.0.1:1")).contains("no channel \"b\""));
}

// -- real processes

/// Set in a child process: the folder with its files.
const FOLDER: &str = "CUBED_TRUST_FOLDER";
/// Where it listens; any port at first.
const LISTEN: &str = "CUBED_TRUST_LISTEN";

/// A node in a process of its own: tells key and address, then dials whom standard input names and tells how that went.
#[test]
fn node_process() {
    let (Some(folder), Ok(at)) = (env::var_os(FOLDER), env::var(LISTEN)) else { return };
    let folder = Path::new(&folder);
    let key_file = folder.join("node.key");
    let node = start_again(|| {
        let identity = Identity::load(&key_file).or_else(|_| Identity::create(&key_file)).unwrap();
        let node = support::node().identity(identity).listen(&*at).name("same");
        let node = with_keep(node, &folder.join("keep.toml"), Trust::Never);
        listen(node, &[""], &Heard::default())
    });
    println!("child {} {}", node.public_key(), node.local_addr());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (key, at) = line.split_once(' ').unwrap();
        let (key, at): (PublicKey, SocketAddr) = (key.parse().unwrap(), at.parse().unwrap());
        let sent = block_on(node.on_shard(0, async move |shard: Shard| {
            shard.add_peer(key, at).unwrap();
            let to = shard.resolve(key, "orders").unwrap();
            match to.connect().await {
                Ok(()) => format!("{:?}", to.send(b"hello").acknowledged().await),
                Err(error) => format!("{error:?}"),
            }
        }));
        println!("child {}", sent.unwrap().replace('\n', " "));
    }
}

struct Process {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
    address: String,
}

impl Process {
    fn start(folder: &Path, listen: &str) -> Self {
        let mut child = start_child("node_process", folder, listen);
        let mut lines = lines_of(&mut child);
        let address = lines.next().expect("the child tells key and address");
        Self { child, lines, address }
    }

    /// Has it dial and send; what came of it.
    fn send_to(&mut self, other: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{other}").expect("the child lives");
        self.lines.next().expect("the child reports")
    }

    fn kill(mut self) {
        self.child.kill().expect("the child lives");
        self.child.wait().expect("the child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_child(test: &str, folder: &Path, listen: &str) -> Child {
    Command::new(env::current_exe().expect("the test binary"))
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(LISTEN, listen)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts again")
}

/// What the child tells, without what the test harness prints between.
fn lines_of(child: &mut Child) -> Box<dyn Iterator<Item = String>> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let words = |line: String| line.split_once("child ").map(|(_, rest)| rest.to_owned());
    Box::new(lines.map_while(Result::ok).filter_map(words))
}

#[test]
fn killed_nodes_talk_again_without_being_accepted_again() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |side: usize, listen: &str| Process::start(folders[side].path(), listen);
    let new = |side: usize| start(side, &own_address().to_string());
    let (mut alice, mut bob) = (new(0), new(1));
    let delivered = "Ok(Delivered)";
    let refused = alice.send_to(&bob.address);
    assert!(refused.contains("Pending"), "{refused}");
    // The operator accepts at the stopped node, by the same calls as the command line.
    let key = alice.address.split_once(' ').unwrap().0.parse().unwrap();
    let at = |process: &Process| process.address.split_once(' ').unwrap().1.to_owned();
    let (alice_at, bob_at) = (at(&alice), at(&bob));
    // The disk follows in its own time.
    let kept = folders[1].path().join("keep.toml");
    let is_kept = || KeepFile::read(&kept).is_ok_and(|keep| keep.state(&key).is_some());
    eventually("her key is stored", is_kept);
    bob.kill();
    let mut keep = KeepFile::open_existing(folders[1].path().join("keep.toml")).unwrap();
    assert_eq!(keep.keep().state(&key), Some(KeyState::Pending), "it is known after the kill");
    keep.accept(&key).unwrap();
    keep.save().unwrap();
    drop(keep);
    bob = start(1, &bob_at);
    let mut told = String::new();
    eventually("accepted at last", || {
        told = alice.send_to(&bob.address);
        told == delivered
    });
    // Either, then both.
    for (kill_alice, kill_bob) in [(true, false), (false, true), (true, true)] {
        if kill_alice {
            alice.kill();
            alice = start(0, &alice_at);
        }
        if kill_bob {
            bob.kill();
            bob = start(1, &bob_at);
        }
        eventually("they talk again", || {
            told = alice.send_to(&bob.address);
            assert!(!told.contains("Pending") && !told.contains("Rejected"), "{told}");
            told == delivered
        });
    }
    // Bob knows Alice by his keep alone, and she said nothing new of herself.
    let keep = KeepFile::read(folders[1].path().join("keep.toml")).unwrap();
    assert_eq!(keep.state(&key), Some(KeyState::Accepted));
}

/// In a process of its own: replaces the keep's file as fast as it can, and tells once it has begun.
#[test]
fn writer_process() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let file = Path::new(&folder).join("storm.toml");
    let mut keep = KeepFile::open(&file, "").unwrap();
    let begun = keep.keep().entries().count();
    for number in 0u64.. {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number % 300).to_le_bytes());
        let key = PublicKey::from_bytes(key);
        if number % 3 == 0 {
            keep.reject(&key).unwrap();
        } else {
            keep.accept(&key).unwrap();
        }
        keep.save().unwrap();
        if number == 0 {
            println!("child {begun}");
        }
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_keep() {
    let folder = tempfile::tempdir().unwrap();
    let mut entropy = 0x9e37_79b9_7f4a_7c15_u64;
    let mut last = 0;
    for round in 0..50 {
        let mut child = start_child("writer_process", folder.path(), "");
        let begun = lines_of(&mut child).next().expect("the child writes");
        assert_eq!(begun, last.to_string(), "round {round}: it begins with what was left");
        entropy = entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(entropy >> 50));
        child.kill().expect("the child lives");
        child.wait().expect("the child ends");
        let keep = KeepFile::read(folder.path().join("storm.toml"));
        last = keep.expect("a whole keep").entries().count();
        assert!(last > 0, "round {round}");
    }
}
