//! Goal: a node of several shards is one node to everybody: it starts, serves on all of them, accounts for every message,
//! and stops as a whole, whatever ends it.

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cubed::{
    Identity, Node, NodeBuilder, NodeError, Outcome, Policy, Shard, Shards, StartError, Steering,
    Stopped, Verb, block_on,
};
use support::{PATIENCE, builder, eventually, send_numbered, sender_to, stop};

/// A node of so many shards that anybody may use; threads go where the system likes.
fn sharded(count: usize) -> NodeBuilder {
    builder().policy(Policy::open()).shards(Shards::Unpinned(count))
}

/// A node whose shards count what reaches the flow `f`, each by itself.
fn counting(builder: NodeBuilder, counts: &Arc<Vec<AtomicU64>>) -> Node {
    let counts = Arc::clone(counts);
    let start = move |shard: Shard| {
        let (counts, index) = (Arc::clone(&counts), usize::from(shard.index()));
        let count = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        };
        shard.flow("f").handler(count).expect("a new flow");
        async move { drop(shard) }
    };
    builder.start(start).expect("the node starts")
}

fn counters(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

fn sum(counts: &[AtomicU64]) -> u64 {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

#[test]
fn the_start_function_runs_on_every_shard_and_each_knows_itself() {
    let seen: Arc<Mutex<Vec<(u8, u8)>>> = Arc::default();
    for count in [1, 2, 3, 8] {
        let told = Arc::clone(&seen);
        let node = sharded(count).start(move |shard: Shard| {
            told.lock().unwrap().push((shard.index(), shard.count()));
            async move { drop(shard) }
        });
        let node = node.unwrap();
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        let all = (0..count as u8).map(|index| (index, count as u8));
        assert_eq!(seen, all.collect::<Vec<_>>());
        assert_eq!(node.shards(), count);
        let threads: HashSet<_> = (0..count)
            .map(|shard| block_on(node.on_shard(shard, async |_| thread::current().id())).unwrap())
            .collect();
        assert_eq!(threads.len(), count, "each has a thread of its own");
        stop(&[&node]);
    }
}

#[test]
fn every_name_has_one_owner_and_all_shards_agree() {
    let node = sharded(4).start(async |_: Shard| ()).unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("flow.{number}")).collect();
    let owned = |shard: usize| {
        let names = names.clone();
        let owns = move |shard: Shard| async move {
            let owned = names.iter().filter(|name| shard.owns(name)).cloned();
            owned.collect::<Vec<_>>()
        };
        block_on(node.on_shard(shard, owns)).unwrap()
    };
    let owned: Vec<_> = (0..4).map(owned).collect();
    assert!(owned.iter().all(|names| names.len() > 20), "they spread");
    let mut all = owned.concat();
    all.sort_unstable();
    let mut expected = names.clone();
    expected.sort_unstable();
    assert_eq!(all, expected);
    stop(&[&node]);
}

#[test]
fn a_sender_of_one_shard_reaches_a_node_of_many() {
    for count in [1, 2, 4, 8] {
        let counts = counters(count);
        let bob = counting(sharded(count), &counts);
        let alice = sender_to(&bob);
        send_numbered(&alice, &bob, "f", 2_000, 100);
        let report = block_on(alice.drain(PATIENCE)).unwrap();
        assert_eq!((report.offered, report.delivered), (2_000, 2_000), "{report:?}");
        assert_eq!(sum(&counts), 2_000);
        let stats = block_on(bob.stats()).unwrap();
        assert_eq!(stats.shards.len(), count);
        assert_eq!(stats.flow("f").unwrap().accepted, 2_000);
        assert_eq!(stats.counter("dropped_misdelivered"), Some(0));
        stop(&[&alice, &bob]);
    }
}

#[test]
fn pinned_shards_run_where_they_were_put_and_more_than_there_are_cores_take_turns() {
    for shards in [Shards::All, Shards::from(1), Shards::from(5)] {
        let counts = counters(cubed::runtime::cores().len().max(5));
        let bob = counting(builder().policy(Policy::open()).shards(shards), &counts);
        let alice = sender_to(&bob);
        let sent = block_on(alice.resolve(bob.public_key(), "f").unwrap().send("x"));
        assert_eq!(sent, Ok(Outcome::Delivered));
        stop(&[&alice, &bob]);
    }
    let nowhere = builder().shards([9_999]).start(async |_: Shard| ()).unwrap_err();
    assert!(nowhere.to_string().contains("core 9999 is not available"), "{nowhere}");
}

#[test]
fn a_start_that_fails_on_one_shard_leaves_nothing_running() {
    let bob = sharded(1).start(async |_: Shard| ()).unwrap();
    let address = bob.local_addr();
    stop(&[&bob]);
    let failing = |end: fn() -> Result<(), String>| {
        let start =
            move |shard: Shard| async move { if shard.index() == 2 { end() } else { Ok(()) } };
        sharded(4).listen(address).start(start).unwrap_err()
    };
    let error = failing(|| Err("no such table".to_owned()));
    assert!(matches!(error, StartError::Application(text) if text == "no such table"));
    let error = failing(|| panic!("no such luck"));
    assert!(matches!(error, StartError::Panicked(text) if text == "no such luck"));
    // The port is free, so every thread has ended.
    stop(&[&sharded(4).listen(address).start(async |_: Shard| ()).unwrap()]);
}

#[test]
fn a_panic_on_one_shard_stops_the_node_and_peers_are_told() {
    let bob = sharded(4).start(|shard: Shard| {
        let index = shard.index();
        let trap = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            panic!("caught on {index}");
        };
        shard.flow("trap").handler(trap).expect("a new flow");
        shard.flow("f").handler(|_, _| ()).expect("a new flow");
        async move { drop(shard) }
    });
    let bob = bob.unwrap();
    let waiting = thread::spawn({
        let bob = bob.clone();
        move || {
            let forever = |shard: Shard| async move { shard.sleep(PATIENCE * 10).await };
            block_on(bob.on_shard(3, forever))
        }
    });
    let alice = sender_to(&bob);
    let f = alice.resolve(bob.public_key(), "f").unwrap();
    assert_eq!(block_on(f.send("x")), Ok(Outcome::Delivered));
    let trap = alice.resolve(bob.public_key(), "trap").unwrap();
    let trapped = thread::spawn(move || block_on(trap.send("x")));
    let NodeError::Panicked { shard, message } = bob.join().unwrap_err() else {
        panic!("another reason")
    };
    assert_eq!(message, format!("caught on {shard}"));
    assert_eq!(waiting.join().unwrap(), Err(Stopped));
    assert_eq!(block_on(bob.stats()).unwrap_err(), Stopped);
    // By a CLOSE: silence would end it as lost.
    assert_eq!(trapped.join().unwrap(), Ok(Outcome::Unknown));
    eventually("the session ends", || block_on(f.peer_info()).unwrap().is_none());
    stop(&[&alice]);
}

#[test]
fn any_shard_stops_all_and_the_port_is_free_at_once() {
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for count in [4, 2, 8, 1, 3] {
        let node = sharded(count).listen(address).start(async |_: Shard| ()).unwrap();
        address = node.local_addr();
        let last = count - 1;
        block_on(node.on_shard(last, async |shard| shard.shutdown())).ok();
        assert_eq!(node.join(), Ok(()));
    }
}

#[test]
fn a_busy_port_is_an_error_however_many_shards_are_asked_for() {
    let bob = sharded(2).start(async |_: Shard| ()).unwrap();
    for count in [1, 2, 3] {
        let error = sharded(count).listen(bob.local_addr()).start(async |_: Shard| ());
        let error = error.unwrap_err();
        assert!(matches!(error, StartError::Bind(_)), "{error:?}");
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }
    stop(&[&bob]);
}

#[test]
fn a_policy_is_obeyed_by_every_shard_once_it_is_set() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let bob = sharded(4).policy(Policy::deny()).start(|shard: Shard| {
        for name in NAMES {
            shard.flow(name).handler(|_, _| ()).expect("a new flow");
        }
        async move { drop(shard) }
    });
    let bob = bob.unwrap();
    let alice = Identity::generate().unwrap();
    let may_send =
        Policy::deny().with_rule(alice.public_key(), "*".parse().unwrap(), &[Verb::Send]);
    let alice = support::node().identity(alice).listen("127.0.0.1:0");
    let alice = alice.peer(bob.public_key(), bob.local_addr()).shards(Shards::Unpinned(4));
    let alice = alice.start(async |_: Shard| ()).unwrap();
    block_on(bob.set_policy(may_send)).unwrap();
    let flows = NAMES.map(|name| alice.resolve(bob.public_key(), name).unwrap());
    for flow in &flows {
        assert_eq!(block_on(flow.send("x")), Ok(Outcome::Delivered));
    }
    // Set on a shard, it reaches the others as well.
    block_on(bob.on_shard(3, async |shard| shard.set_policy(Policy::deny()))).unwrap().unwrap();
    for flow in &flows {
        eventually("the session ends", || block_on(flow.peer_info()).unwrap().is_none());
    }
    stop(&[&alice, &bob]);
}

#[test]
fn without_steering_datagrams_are_handed_over_and_nothing_is_lost() {
    let counts = counters(4);
    let bob = counting(sharded(4).steering(Steering::Off), &counts);
    let senders: Vec<_> = (0..12).map(|_| sender_to(&bob)).collect();
    thread::scope(|scope| {
        for alice in &senders {
            scope.spawn(|| send_numbered(alice, &bob, "f", 500, 300));
        }
    });
    for alice in &senders {
        let report = block_on(alice.drain(PATIENCE)).unwrap();
        assert_eq!((report.offered, report.delivered), (500, 500), "{report:?}");
    }
    assert_eq!(sum(&counts), 12 * 500);
    let senders: Vec<&Node> = senders.iter().collect();
    stop(&senders);
    eventually("what was handed over is taken", || {
        let stats = block_on(bob.stats()).unwrap();
        assert_eq!(stats.counter("dropped_misdelivered"), Some(0));
        let handed: u64 = stats.shards.iter().map(|shard| shard.strays_handed).sum();
        let taken: u64 = stats.shards.iter().map(|shard| shard.strays_taken).sum();
        // Each of twelve addresses is hashed to the shard that it talks to with a chance of a quarter.
        handed > 0 && handed == taken
    });
    stop(&[&bob]);
}
