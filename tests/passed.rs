//! Goal: what is told delivered was handled, exactly once, though another shard received it: under load, while the flow's shard
//! stands still, while the flow moves from shard to shard, and when the node drains and stops.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubed::{
    Backend, Context, Destination, Message, Node, Outcome, Policy, Refusal, SendError, Shard,
    Shards, Steering, WaitError, block_on,
};
use support::{PATIENCE, builder, eventually, stop};

/// Room for the numbers of one test's messages.
const NUMBERS: usize = 400_000;
/// Tasks of one sender that send one message after the other, each waiting for its outcome.
const CAREFUL: usize = 8;

/// How often each message was handled.
#[derive(Clone)]
struct Handled(Arc<Vec<AtomicU8>>);

impl Handled {
    fn new() -> Self {
        Self(Arc::new((0..NUMBERS).map(|_| AtomicU8::new(0)).collect()))
    }

    fn handler(&self) -> impl FnMut(&Message<'_>, &mut Context<'_>) + 'static {
        let counts = Arc::clone(&self.0);
        move |message, _| {
            let number = u32::from_le_bytes(message.body()[..4].try_into().expect("4 bytes"));
            counts[number as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn times(&self, number: u32) -> u8 {
        self.0[number as usize].load(Ordering::SeqCst)
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(count.load(Ordering::SeqCst))).sum()
    }

    fn check_none_twice(&self) {
        let twice = (0..NUMBERS as u32).find(|number| self.times(*number) > 1);
        assert_eq!(twice, None, "a message that was handled twice");
    }
}

/// The numbers of a test, each given to one message.
#[derive(Clone, Default)]
struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn next(&self) -> Option<u32> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        (number < NUMBERS as u64).then_some(number as u32)
    }
}

/// What the backend under test leaves to choose from.
fn backends() -> Vec<Backend> {
    match support::backend() {
        Backend::Auto => vec![Backend::Auto, Backend::Epoll],
        chosen => vec![chosen],
    }
}

/// A name that begins with `on` and that shard `on` does not own.
fn foreign(shard: &Shard, on: u8) -> String {
    let mut names = (0..).map(|number: u32| format!("on.{on}.{number}"));
    names.find(|name| shard.owner(name) != on).expect("names without end")
}

/// A node with shards that have a pinned flow each under a name that another shard owns, and the names.
fn pinned(
    shards: usize,
    steering: Steering,
    backend: Backend,
    handled: &Handled,
) -> (Node, Vec<String>) {
    let (handled, names) = (handled.clone(), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&names);
    let start = move |shard: Shard| {
        let name = foreign(&shard, shard.index());
        shard.flow(&name).pinned().handler(handled.handler()).expect("one shard's alone");
        told.lock().expect("no panic").push(name);
        async move { drop(shard) }
    };
    let builder = builder().backend(backend).policy(Policy::open()).steering(steering);
    let node = builder.shards(Shards::Unpinned(shards)).start(start).expect("starts");
    let names = std::mem::take(&mut *names.lock().expect("no panic"));
    assert_eq!(names.len(), shards);
    (node, names)
}

/// A node of as many shards that knows `peer`.
fn sender(shards: usize, backend: Backend, peer: &Node) -> Node {
    let builder = builder().backend(backend).peer(peer.public_key(), peer.local_addr());
    builder.shards(Shards::Unpinned(shards)).start(async |_: Shard| ()).expect("starts")
}

/// A message of this number.
fn body(number: u32) -> [u8; 64] {
    let mut body = [0; 64];
    body[..4].copy_from_slice(&number.to_le_bytes());
    body
}

/// Sends `count` messages, waiting for room only; stops when the node takes no more. How many were taken.
async fn flood(shard: &Shard, to: &[Destination], numbers: &Numbers, count: u32) -> u32 {
    let mut taken = 0;
    for to in to.iter().cycle() {
        let Some(number) = numbers.next().filter(|_| taken < count) else { break };
        while let Err(error) = to.try_send_acknowledged(&body(number)) {
            match error {
                SendError::Full if to.ready().await.is_ok() => {}
                SendError::Full | SendError::Closing => return taken,
                // It moves, and was nowhere when it was asked for.
                SendError::Refused(Refusal::NoSuchFlow) => shard.yield_now().await,
                error => panic!("{error}"),
            }
        }
        taken += 1;
        if taken % 64 == 0 {
            shard.yield_now().await;
        }
    }
    taken
}

/// Sends one message after the other until the flood is over; each that is told delivered must have been handled by then.
async fn send_with_care(
    shard: Shard,
    to: Destination,
    numbers: Numbers,
    handled: Handled,
    over: Arc<AtomicBool>,
) {
    while !over.load(Ordering::Relaxed) {
        let Some(number) = numbers.next() else { return };
        match to.send(&body(number)).acknowledged().await {
            Ok(Outcome::Delivered) => assert_eq!(handled.times(number), 1, "told delivered"),
            Ok(Outcome::Unknown | Outcome::PeerLost | Outcome::Refused(_)) => {}
            Err(WaitError::Send(SendError::Closing) | WaitError::Stopped) => return,
            Err(WaitError::Send(SendError::Refused(Refusal::NoSuchFlow))) => {
                shard.yield_now().await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Both ways to send, from every shard of `from` to each of these flows of the node with this key, until `count` messages of
/// each shard were taken or `from` ends.
fn load(
    from: &Node,
    to: &Node,
    names: &[String],
    count: u32,
    numbers: &Numbers,
    handled: &Handled,
) -> Vec<std::thread::JoinHandle<()>> {
    let key = to.public_key();
    let one = |on: usize| {
        let (from, names) = (from.clone(), names.to_vec());
        let (numbers, handled) = (numbers.clone(), handled.clone());
        std::thread::spawn(move || {
            let run = async move |shard: Shard| {
                let resolve = |name: &String| shard.resolve(key, name).expect("a name");
                let to: Vec<_> = names.iter().map(resolve).collect();
                let over = Arc::new(AtomicBool::new(false));
                let careful = to.iter().cycle().take(CAREFUL).map(|to| {
                    let (numbers, handled) = (numbers.clone(), handled.clone());
                    shard.spawn_local(send_with_care(
                        shard.clone(),
                        to.clone(),
                        numbers,
                        handled,
                        Arc::clone(&over),
                    ))
                });
                let careful: Vec<_> = careful.collect();
                flood(&shard, &to, &numbers, count).await;
                over.store(true, Ordering::Relaxed);
                for task in careful {
                    task.await.expect("no panic");
                }
            };
            // A node that ends takes the call with it.
            let _ = block_on(from.on_shard(on, run));
        })
    };
    (0..from.shards()).map(one).collect()
}

fn join(threads: Vec<std::thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn sum(node: &Node, counter: impl Fn(&cubed::LocalStats) -> u64) -> u64 {
    let stats = block_on(node.stats()).expect("runs");
    stats.shards.iter().map(|shard| counter(&shard.local)).sum()
}

/// One load, and all of it handled when it is over.
fn check_delivered_is_handled(
    shards: usize,
    steering: Steering,
    backend: Backend,
    from_peer: bool,
) {
    let (handled, numbers) = (Handled::new(), Numbers::default());
    let (bob, names) = pinned(shards, steering, backend, &handled);
    let alice = if from_peer { sender(2, backend, &bob) } else { bob.clone() };
    join(load(&alice, &bob, &names, 20_000, &numbers, &handled));
    eventually("all have ended", || block_on(alice.stats()).expect("runs").tally().pending == 0);
    // Nothing more is waited for: whatever was told delivered has been handled.
    let (total, tally) = (handled.total(), block_on(alice.stats()).expect("runs").tally());
    assert_eq!((tally.delivered, tally.offered), (total, total), "{tally:?}");
    handled.check_none_twice();
    let unanswered = sum(&bob, |local| local.forwarded_unanswered);
    assert_eq!((sum(&bob, |local| local.forwarded_refused), unanswered), (0, 0));
    if from_peer {
        assert!(sum(&bob, |local| local.forwarded) > total / 2, "most went by another shard");
        stop(&[&alice]);
    }
    stop(&[&bob]);
}

#[test]
fn what_a_peer_is_told_delivered_was_handled_once() {
    for backend in backends() {
        for steering in [Steering::On, Steering::Off] {
            for shards in [2, 4] {
                check_delivered_is_handled(shards, steering, backend, true);
            }
        }
    }
}

#[test]
fn what_a_shard_of_the_node_is_told_delivered_was_handled_once() {
    for backend in backends() {
        for shards in [2, 4] {
            check_delivered_is_handled(shards, Steering::On, backend, false);
        }
    }
}

/// More than the ring between two shards holds, less than a flow's window.
const BEYOND_RING: u32 = 20_000;

/// The flow's shard stands still in a handler; what comes meanwhile waits, then all of it arrives.
fn check_full_ring(backend: Backend, from_peer: bool) {
    let (handled, numbers) = (Handled::new(), Numbers::default());
    let gate = Arc::new(Mutex::new(()));
    let (bob, _) = pinned(2, Steering::On, backend, &handled);
    let (mut handle, entered) = (handled.handler(), Arc::new(AtomicBool::new(false)));
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&gate));
    let set_up = async move |shard: Shard| {
        let name = (0..).map(|number| format!("slow.{number}"));
        let name = name.into_iter().find(|name| !shard.owns(name)).expect("without end");
        let slow = move |message: &Message<'_>, context: &mut Context<'_>| {
            enter.store(true, Ordering::SeqCst);
            drop(wait.lock().expect("no panic"));
            handle(message, context);
        };
        shard.flow(&name).pinned().handler(slow).expect("new");
        name
    };
    let name = block_on(bob.on_shard(1, set_up)).expect("runs");
    let alice = if from_peer { sender(1, backend, &bob) } else { bob.clone() };
    let (key, closed) = (bob.public_key(), gate.lock().expect("no panic"));
    let own = numbers.clone();
    let flooding = {
        let (alice, name) = (alice.clone(), name);
        std::thread::spawn(move || {
            let run = async move |shard: Shard| {
                let to = shard.resolve(key, &name).expect("a name");
                flood(&shard, &[to], &own, BEYOND_RING).await
            };
            block_on(alice.on_shard(0, run)).expect("runs")
        })
    };
    eventually("the handler stands still", || entered.load(Ordering::SeqCst));
    let of_sender = move |read: fn(&cubed::ShardStats) -> u64| {
        let run = async move |shard: Shard| read(&shard.stats().expect("no handler"));
        block_on(alice.on_shard(0, run)).expect("runs")
    };
    if from_peer {
        // Bob's other shard passes on what it is sent, far beyond what the ring holds.
        let run = async |shard: Shard| shard.stats().expect("no handler").local;
        let passed = || block_on(bob.on_shard(0, run)).expect("runs");
        eventually("the ring is full", || passed().forwarded_unanswered > 2_048);
        assert_eq!(passed().forwarded_refused, 0);
    } else {
        eventually("the sender is told", || of_sender(|stats| stats.local.full) > 0);
    }
    assert_eq!((of_sender(|stats| stats.tally.delivered), handled.total()), (0, 0));
    drop(closed);
    assert_eq!(flooding.join().expect("no panic"), BEYOND_RING);
    eventually("all have ended", || of_sender(|stats| stats.tally.pending) == 0);
    let total = u64::from(BEYOND_RING);
    assert_eq!((of_sender(|stats| stats.tally.delivered), handled.total()), (total, total));
    handled.check_none_twice();
    drop(of_sender);
    stop(&[&bob]);
}

#[test]
fn a_shard_that_stands_still_loses_nothing_and_is_waited_for() {
    for backend in backends() {
        check_full_ring(backend, true);
        check_full_ring(backend, false);
    }
}

#[test]
fn a_flow_that_moves_from_shard_to_shard_tells_the_truth_of_every_message() {
    const SHARDS: usize = 4;
    for backend in backends() {
        let (handled, numbers) = (Handled::new(), Numbers::default());
        let (bob, _) = pinned(SHARDS, Steering::On, backend, &handled);
        let names = ["moves.1", "moves.2", "moves.3"].map(str::to_owned);
        let alice = sender(2, backend, &bob);
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, mover, all, counts) =
            (Arc::clone(&over), bob.clone(), names.clone(), handled.clone());
        let moving = std::thread::spawn(move || {
            let mut times = 0;
            for on in (0..SHARDS).cycle() {
                let (names, counts) = (all.clone(), counts.clone());
                let run = async move |shard: Shard| {
                    for name in &names {
                        shard.flow(name).pinned().handler(counts.handler()).expect("nobody's");
                    }
                    shard.sleep(Duration::from_millis(20)).await;
                    names
                };
                let names = block_on(mover.on_shard(on, run)).expect("runs");
                times += 1;
                if is_over.load(Ordering::Relaxed) && times > 2 * SHARDS {
                    // It stays here.
                    return times;
                }
                let remove = async move |shard: Shard| {
                    names.iter().all(|name| shard.remove_flow(name) == Ok(true))
                };
                assert_eq!(block_on(mover.on_shard(on, remove)), Ok(true));
            }
            times
        });
        join(load(&alice, &bob, &names, 60_000, &numbers, &handled));
        over.store(true, Ordering::Relaxed);
        let times = moving.join().expect("no panic");
        eventually("all have ended", || {
            block_on(alice.stats()).expect("runs").tally().pending == 0
        });
        let tally = block_on(alice.stats()).expect("runs").tally();
        assert_eq!(tally.delivered, handled.total(), "{times} moves: {tally:?}");
        assert_eq!(tally.delivered + tally.refused, tally.offered, "{times} moves: {tally:?}");
        handled.check_none_twice();
        // Where it is, it is reached.
        for name in &names {
            let to = alice.resolve(bob.public_key(), name).expect("a name");
            let number = numbers.next().expect("numbers are left");
            let outcome = block_on(to.send(body(number).to_vec()));
            assert_eq!((outcome, handled.times(number)), (Ok(Outcome::Delivered), 1));
        }
        stop(&[&alice, &bob]);
    }
}

#[test]
fn a_node_that_drains_or_stops_takes_nothing_with_it_that_was_told_delivered() {
    for backend in backends() {
        for (shards, drains) in [(2, true), (2, false), (4, true), (4, false)] {
            let (handled, numbers) = (Handled::new(), Numbers::default());
            let (bob, names) = pinned(shards, Steering::On, backend, &handled);
            let alice = sender(2, backend, &bob);
            let load = load(&alice, &bob, &names, u32::MAX, &numbers, &handled);
            eventually("the load flows", || handled.total() > 5_000);
            if drains {
                block_on(bob.drain(PATIENCE)).expect("runs");
            }
            stop(&[&bob]);
            // What Alice still has for Bob has nowhere to go.
            let report = block_on(alice.drain(Duration::from_millis(200))).expect("runs");
            let total = handled.total();
            assert!(report.delivered <= total, "{total} handled of {report:?}");
            assert!(
                total <= report.delivered + report.uncertain(),
                "{total} handled of {report:?}"
            );
            handled.check_none_twice();
            stop(&[&alice]);
            join(load);
        }
    }
}

#[test]
fn a_drain_tells_what_became_of_messages_that_were_passed_on_before_it() {
    const MESSAGES: u64 = 20;
    for backend in backends() {
        let (free, name) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
        let (gate, told) = (Arc::clone(&free), Arc::clone(&name));
        let start = move |shard: Shard| {
            let gate = Arc::clone(&gate);
            if shard.index() == 1 {
                let name = foreign(&shard, 1);
                let handler = move |_: &Message<'_>, _: &mut Context<'_>| {
                    while !gate.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                };
                shard.flow(&name).pinned().handler(handler).expect("one shard's alone");
                *told.lock().expect("no panic") = name;
            }
            async move { drop(shard) }
        };
        let bob = builder().backend(backend).policy(Policy::open()).shards(Shards::Unpinned(2));
        let bob = bob.start(start).expect("starts");
        let alice = sender(1, backend, &bob);
        let (key, name) = (bob.public_key(), name.lock().expect("no panic").clone());
        let sent = alice.on_shard(0, move |shard| async move {
            let to = shard.resolve(key, &name).expect("a valid name");
            let send = |number| {
                let to = to.clone();
                shard.spawn_local(async move { to.message(&body(number)).await })
            };
            let tasks: Vec<_> = (0..MESSAGES as u32).map(send).collect();
            let mut outcomes = Vec::new();
            for task in tasks {
                outcomes.push(task.await);
            }
            outcomes
        });
        let passed_on = || {
            let unanswered =
                async |shard: Shard| shard.stats().map(|s| s.local.forwarded_unanswered);
            block_on(bob.on_shard(0, unanswered)).expect("runs") == Some(MESSAGES)
        };
        let outcomes = std::thread::scope(|scope| {
            let sent = scope.spawn(|| block_on(sent));
            eventually("all are passed on", passed_on);
            let drained = scope.spawn(|| block_on(bob.drain(PATIENCE)));
            // Long enough for a drain that does not wait.
            std::thread::sleep(Duration::from_millis(50));
            free.store(true, Ordering::SeqCst);
            drained.join().expect("no panic").expect("runs");
            sent.join().expect("no panic").expect("runs")
        });
        for outcome in outcomes {
            let outcome = outcome.expect("the task ends");
            assert_eq!(outcome, Ok(Outcome::Delivered));
        }
        stop(&[&bob, &alice]);
    }
}
