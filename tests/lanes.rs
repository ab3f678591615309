//! Goal: between nodes of several shards each message goes to the shard that owns its flow, once, whatever the numbers of
//! shards, through restarts, and without the kernel's help.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cubed::{
    Identity, KeepSettings, Node, NodeBuilder, NodeStats, Outcome, Policy, PublicKey, SendError,
    Shard, Shards, Steering, Trust, Verb, WaitError, block_on,
};
use support::{PATIENCE, builder, eventually, node, stop};

const FLOWS: usize = 16;

fn sharded(builder: NodeBuilder, count: usize) -> NodeBuilder {
    builder.shards(Shards::Unpinned(count))
}

fn name(flow: usize) -> String {
    format!("flow.{flow}")
}

/// What arrived where.
#[derive(Default)]
struct Heard {
    /// Flow and shard of each message's arrival.
    places: HashSet<(usize, u8)>,
    /// Flow, sending shard and number of each message.
    messages: HashSet<(usize, u8, u64)>,
    doubled: u64,
}

impl Heard {
    fn hear(&mut self, flow: usize, shard: u8, body: &[u8]) {
        let number = u64::from_le_bytes(body[1..9].try_into().expect("9 bytes"));
        self.places.insert((flow, shard));
        self.doubled += u64::from(!self.messages.insert((flow, body[0], number)));
    }
}

type Ears = Arc<Mutex<Heard>>;

/// A node that registers all flows on all shards and notes what comes.
fn listener(builder: NodeBuilder, ears: &Ears) -> Node {
    let ears = Arc::clone(ears);
    let start = move |shard: Shard| {
        for flow in 0..FLOWS {
            let (ears, index) = (Arc::clone(&ears), shard.index());
            let hear = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
                ears.lock().expect("no panic").hear(flow, index, message.body());
            };
            shard.flow(&name(flow)).handler(hear).expect("a new flow");
        }
        async move { drop(shard) }
    };
    builder.policy(Policy::open()).start(start).expect("the listener starts")
}

/// Every shard of `from` sends `count` messages to each flow.
fn send_all(from: &Node, to: PublicKey, begin: u64, count: u64) {
    let send = |index: usize| {
        from.on_shard(index, move |shard: Shard| async move {
            for number in begin..begin + count {
                for flow in 0..FLOWS {
                    let to = shard.resolve(to, &name(flow)).expect("a valid name");
                    let mut body = vec![shard.index()];
                    body.extend_from_slice(&number.to_le_bytes());
                    while let Err(error) = to.try_send_acknowledged(&body) {
                        assert_eq!(error, SendError::Full);
                        to.ready().await.expect("the node runs");
                    }
                }
            }
        })
    };
    thread::scope(|scope| {
        for index in 0..from.shards() {
            scope.spawn(move || block_on(send(index)).expect("the node runs"));
        }
    });
}

/// The places that the node's own placement gives to the flows.
fn owners(node: &Node) -> HashSet<(usize, u8)> {
    let owners = node.on_shard(0, async |shard: Shard| {
        (0..FLOWS).map(|flow| (flow, shard.owner(&name(flow)))).collect()
    });
    block_on(owners).expect("the node runs")
}

fn total(stats: &NodeStats, of: impl Fn(&cubed::ShardStats) -> u64) -> u64 {
    stats.shards.iter().map(of).sum()
}

#[test]
fn each_message_reaches_the_owner_of_its_flow_once_for_any_numbers_of_shards() {
    for (senders, receivers) in [(1, 1), (1, 4), (2, 2), (4, 1), (3, 2), (8, 8)] {
        let ears = Ears::default();
        let bob = listener(sharded(builder(), receivers), &ears);
        let alice = sharded(builder(), senders).peer(bob.public_key(), bob.local_addr());
        let alice = alice.start(async |_: Shard| ()).unwrap();
        let count = 800 / senders as u64;
        send_all(&alice, bob.public_key(), 0, count);
        let report = block_on(alice.drain(PATIENCE)).unwrap();
        let all = count * (senders * FLOWS) as u64;
        assert_eq!(
            (report.offered, report.delivered),
            (all, all),
            "{senders}x{receivers}: {report:?}"
        );
        let heard = ears.lock().unwrap();
        assert_eq!((heard.messages.len() as u64, heard.doubled), (all, 0));
        assert_eq!(heard.places, owners(&bob), "{senders}x{receivers}");
        let stats = block_on(bob.stats()).unwrap();
        assert_eq!(stats.counter("dropped_misdelivered"), Some(0));
        assert_eq!(total(&stats, |shard| shard.strays_handed), 0, "the kernel steered all");
        assert_eq!(total(&stats, |shard| shard.driver.kernel_drops), 0);
        stop(&[&alice, &bob]);
    }
}

#[test]
fn both_may_send_at_once_from_all_shards() {
    let (ears, echoes) = (Ears::default(), Ears::default());
    let identity = Identity::generate().unwrap();
    let alice_key = identity.public_key();
    let bob = listener(sharded(builder(), 4), &ears);
    let alice = sharded(node().identity(identity).listen("127.0.0.1:0"), 4);
    let alice = listener(alice.peer(bob.public_key(), bob.local_addr()), &echoes);
    bob.add_peer(alice_key, &[alice.local_addr()]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| send_all(&bob, alice_key, 0, 200));
        send_all(&alice, bob.public_key(), 0, 200);
    });
    let all = (200 * 4 * FLOWS) as u64;
    for (node, ears) in [(&bob, &echoes), (&alice, &ears)] {
        eventually("all have outcomes", || block_on(node.stats()).unwrap().tally().pending == 0);
        let tally = block_on(node.stats()).unwrap().tally();
        assert_eq!((tally.offered, tally.delivered), (all, all), "{tally:?}");
        let heard = ears.lock().unwrap();
        assert_eq!((heard.messages.len() as u64, heard.doubled), (all, 0));
    }
    assert_eq!(ears.lock().unwrap().places, owners(&bob));
    assert_eq!(echoes.lock().unwrap().places, owners(&alice));
    stop(&[&alice, &bob]);
}

#[test]
fn a_peer_that_comes_back_with_another_placement_is_followed() {
    let seed = [9; 32];
    let bob = || node().identity(Identity::from_seed(&seed));
    let ears = Ears::default();
    let mut running = listener(sharded(bob().listen("127.0.0.1:0"), 2), &ears);
    let (key, address) = (running.public_key(), running.local_addr());
    let alice = sharded(builder(), 2).peer(key, address);
    let alice = alice.start(async |_: Shard| ()).unwrap();
    // Each start has another salt, and here another number of shards.
    for (round, count) in [4, 1, 8, 3].into_iter().enumerate() {
        send_all(&alice, key, round as u64 * 100, 50);
        eventually("all have outcomes", || block_on(alice.stats()).unwrap().tally().pending == 0);
        {
            let mut heard = ears.lock().unwrap();
            assert_eq!(std::mem::take(&mut heard.places), owners(&running), "round {round}");
        }
        stop(&[&running]);
        running = listener(sharded(bob().listen(address), count), &ears);
    }
    let tally = block_on(alice.stats()).unwrap().tally();
    let all = (4 * 50 * 2 * FLOWS) as u64;
    assert_eq!((tally.offered, tally.delivered), (all, all), "{tally:?}");
    let heard = ears.lock().unwrap();
    assert_eq!((heard.messages.len() as u64, heard.doubled), (all, 0));
    drop(heard);
    stop(&[&alice, &running]);
}

#[test]
fn a_restart_under_load_loses_no_outcome_and_doubles_nothing() {
    let seed = [8; 32];
    let bob = || node().identity(Identity::from_seed(&seed));
    let ears = Ears::default();
    let running = listener(sharded(bob().listen("127.0.0.1:0"), 4), &ears);
    let (key, address) = (running.public_key(), running.local_addr());
    let alice = sharded(builder(), 4).peer(key, address);
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let is_over = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let running = thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                send_all(&alice, key, round * 20, 20);
            }
        });
        let mut running = running;
        for count in [2, 4] {
            let before = rounds.load(Ordering::Relaxed);
            eventually("the load flows", || rounds.load(Ordering::Relaxed) > before + 3);
            stop(&[&running]);
            running = listener(sharded(bob().listen(address), count), &ears);
        }
        let before = rounds.load(Ordering::Relaxed);
        eventually("the load flows", || rounds.load(Ordering::Relaxed) > before + 3);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap();
        running
    });
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    let sent = rounds.load(Ordering::Relaxed) * 20 * (4 * FLOWS) as u64;
    assert_eq!(report.offered, sent, "{report:?}");
    assert_eq!(report.delivered + report.undelivered() + report.uncertain(), sent, "{report:?}");
    let heard = ears.lock().unwrap();
    let arrived = heard.messages.len() as u64;
    assert!(report.delivered <= arrived && arrived <= report.delivered + report.uncertain());
    assert_eq!(heard.doubled, 0);
    drop(heard);
    stop(&[&alice, &running]);
}

#[test]
fn without_steering_each_message_still_reaches_its_owner() {
    let ears = Ears::default();
    let bob = listener(sharded(builder(), 4).steering(Steering::Off), &ears);
    let alice = sharded(builder(), 4).steering(Steering::Off);
    let alice = alice.peer(bob.public_key(), bob.local_addr());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    send_all(&alice, bob.public_key(), 0, 200);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    let all = (200 * 4 * FLOWS) as u64;
    assert_eq!((report.offered, report.delivered), (all, all), "{report:?}");
    assert_eq!(ears.lock().unwrap().places, owners(&bob));
    stop(&[&alice]);
    // All come from one address, so one shard gets everything and keeps a quarter.
    eventually("what was handed over is taken", || {
        let stats = block_on(bob.stats()).unwrap();
        assert_eq!(stats.counter("dropped_misdelivered"), Some(0));
        let handed = total(&stats, |shard| shard.strays_handed);
        handed > 0 && handed == total(&stats, |shard| shard.strays_taken)
    });
    stop(&[&bob]);
}

#[test]
fn the_operators_word_is_heard_by_every_shard() {
    let folder = tempfile::tempdir().unwrap();
    let policy = Policy::deny().with_accepted_rule("*".parse().unwrap(), &[Verb::Send]);
    let keep = KeepSettings::file(folder.path().join("keep.toml")).trust(Trust::Always);
    let bob = sharded(builder(), 4).policy(policy).keep(keep).start(|shard: Shard| {
        (0..FLOWS).for_each(|flow| shard.flow(&name(flow)).handler(|_, _| ()).expect("a new flow"));
        async move { drop(shard) }
    });
    let bob = bob.unwrap();
    let alice = sharded(builder(), 4).peer(bob.public_key(), bob.local_addr());
    let alice = alice.dial_timeout(Duration::from_millis(500)).start(async |_: Shard| ()).unwrap();
    let flows: Vec<_> =
        (0..FLOWS).map(|flow| alice.resolve(bob.public_key(), &name(flow)).unwrap()).collect();
    for flow in &flows {
        assert_eq!(block_on(flow.send("x")), Ok(Outcome::Delivered));
    }
    let sessions = |node: &Node| {
        let stats = block_on(node.stats()).unwrap();
        stats.counter("sessions_begun").unwrap() - stats.counter("sessions_ended").unwrap()
    };
    assert!(sessions(&bob) > 1);
    block_on(bob.keep().reject(alice.public_key())).unwrap();
    eventually("all sessions end", || sessions(&bob) == 0);
    // What waited is refused or lost; whoever sends on is turned away by each shard.
    for flow in &flows {
        let sent = block_on(async {
            let sent: Result<Outcome, WaitError> =
                flow.message("y").deadline(Duration::from_millis(200)).await;
            sent
        });
        assert_ne!(sent, Ok(Outcome::Delivered));
    }
    stop(&[&alice, &bob]);
}
