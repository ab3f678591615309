//! Goal: peers come and go at run time, on every shard and from any thread, and what is known of them costs nobody's traffic.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cubed::{
    Identity, Node, NodeBuilder, Outcome, Policy, PublicKey, ResolveError, SendError, Shard,
    Shards, WaitError, block_on,
};
use support::{PATIENCE, builder, eventually, receiver, send_numbered, stop};

/// A node of four shards that knows nobody.
fn lonely() -> Node {
    sharded(builder()).start(async |_: Shard| ()).expect("the node starts")
}

fn sharded(builder: NodeBuilder) -> NodeBuilder {
    builder.shards(Shards::Unpinned(4))
}

fn sink() -> Node {
    receiver(|shard| shard.flow("f").handler(|_, _| ()).expect("a new flow"))
}

/// Keys of nobody.
fn strangers(count: usize) -> impl Iterator<Item = PublicKey> {
    (0..count as u64).map(|number| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey::from_bytes(bytes)
    })
}

#[test]
fn a_peer_added_at_run_time_is_dialled_by_whichever_shard_sends() {
    let alice = lonely();
    for shard in 0..4 {
        let bob = sink();
        let (key, at) = (bob.public_key(), bob.local_addr());
        let flow = alice.resolve(key, "f").unwrap();
        let unknown = block_on(flow.send("x"));
        assert_eq!(unknown, Err(WaitError::Send(SendError::NoAddress)));
        let add = {
            let alice = alice.clone();
            thread::spawn(move || alice.add_peer(key, &[at]))
        };
        add.join().unwrap().unwrap();
        let sent = block_on(alice.on_shard(shard, async move |shard| {
            let to = shard.resolve(key, "f").expect("a valid name");
            to.send(b"x").acknowledged().await
        }));
        assert_eq!(sent.unwrap(), Ok(Outcome::Delivered));
        stop(&[&bob]);
    }
    stop(&[&alice]);
}

#[test]
fn a_new_address_and_the_next_one_are_tried() {
    // Nobody answers there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = silent.local_addr().unwrap();
    let bob = sink();
    let (key, at) = (bob.public_key(), bob.local_addr());
    let start = || {
        let alice = sharded(builder()).dial_timeout(Duration::from_millis(300));
        alice.start(async |_: Shard| ()).unwrap()
    };
    // Both are given at once, the wrong one first.
    let alice = start();
    alice.add_peer(key, &[nowhere, at]).unwrap();
    let flow = alice.resolve(key, "f").unwrap();
    assert_eq!(block_on(flow.send("x")), Ok(Outcome::Delivered));
    stop(&[&alice]);
    // The right one is given while the wrong one is dialled.
    let alice = start();
    alice.add_peer(key, &[nowhere]).unwrap();
    let flow = alice.resolve(key, "f").unwrap();
    let waiting = thread::spawn(move || block_on(flow.send("x")));
    eventually("a dial begins", || {
        let stats = block_on(alice.stats()).unwrap();
        stats.counter("dials_begun") > Some(0)
    });
    alice.add_peer(key, &[at]).unwrap();
    assert_eq!(waiting.join().unwrap(), Ok(Outcome::Delivered));
    stop(&[&alice, &bob]);
}

#[test]
fn a_forgotten_peer_loses_its_session_and_may_not_come_again() {
    let alice = Identity::generate().unwrap();
    let key = alice.public_key();
    let bob = sharded(builder().policy(Policy::deny())).start(async |_: Shard| ()).unwrap();
    bob.add_peer(key, &[]).unwrap();
    let alice = support::node().identity(alice).listen("127.0.0.1:0");
    let alice = alice.peer(bob.public_key(), bob.local_addr());
    let alice = alice.dial_timeout(Duration::from_millis(300)).start(async |_: Shard| ()).unwrap();
    let flow = alice.resolve(bob.public_key(), "f").unwrap();
    block_on(flow.connect()).unwrap();
    assert!(bob.forget_peer(key) && !bob.forget_peer(key));
    eventually("the session ends", || block_on(flow.peer_info()).unwrap().is_none());
    assert!(block_on(flow.connect()).is_err());
    stop(&[&alice, &bob]);
}

#[test]
fn a_hundred_thousand_peers_and_churn_beside_traffic_lose_nothing() {
    let (alice, bob) = (lonely(), sink());
    let nowhere = SocketAddr::from(([192, 0, 2, 7], 9));
    alice.add_peer(bob.public_key(), &[bob.local_addr()]).unwrap();
    let known: Vec<_> = strangers(100_000).collect();
    for key in &known {
        alice.add_peer(*key, &[nowhere]).unwrap();
    }
    let is_over = AtomicBool::new(false);
    let churned = thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut churned = 0;
            while !is_over.load(Ordering::Relaxed) {
                // A thousand a second, ten at a time.
                for key in known.iter().cycle().skip(churned).take(10) {
                    assert!(alice.forget_peer(*key));
                    alice.add_peer(*key, &[nowhere]).unwrap();
                }
                churned += 10;
                thread::sleep(Duration::from_millis(10));
            }
            churned
        });
        for _ in 0..20 {
            send_numbered(&alice, &bob, "f", 5_000, 100);
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        churn.join().unwrap()
    });
    assert!(churned > 0);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered), (100_000, 100_000), "{report:?}");
    assert!(alice.forget_peer(known[99_999]) && !alice.forget_peer(known[99_999]));
    stop(&[&alice, &bob]);
}

#[test]
fn a_channel_has_peers_of_its_own() {
    let node = sharded(builder()).channel(cubed::Channel::new("garden"));
    let node = node.start(async |_: Shard| ()).unwrap();
    let key = strangers(1).next().unwrap();
    node.add_peer_on("garden", key, &[]).unwrap();
    assert!(!node.forget_peer(key), "not on the default one");
    assert_eq!(node.forget_peer_on("garden", key), Ok(true));
    let unknown = ResolveError::UnknownChannel("shed".to_owned());
    assert_eq!(node.add_peer_on("shed", key, &[]), Err(unknown));
    stop(&[&node]);
}
