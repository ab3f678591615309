//! Goal: a future dropped at any await point leaves nothing behind: no wait, no task, no call, no buffer, no message without an end.
//!
//! `CUBED_DROPS=1000000 cargo test --release --test dropped` for more of them.

mod support;

use std::env;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use cubed::{
    Capacity, Destination, Node, Policy, PresenceEvents, Queue, Remote, RemoteQueue, Shard, Shards,
    block_on,
};
use support::{PATIENCE, builder, eventually, stop};

/// How many futures are dropped, over all kinds.
fn drops() -> u64 {
    let text = env::var("CUBED_DROPS").unwrap_or_else(|_| "100000".to_owned());
    text.parse().expect("CUBED_DROPS is a number")
}

/// A node of two shards: `f` takes and answers, `mute` never answers, each on one shard; `slow` is read by nobody.
fn node() -> Node {
    let set_up = async |shard: Shard| {
        if shard.index() == 0 {
            shard.flow("f").handler(|message, context| {
                if message.is_request() {
                    // Without room the asker's request expires, if it is not dropped before.
                    let _ = context.reply(b"yes");
                }
            })?;
            shard.flow("mute").handler(|_, _| {})?;
            let slow = shard.flow("slow").queue(Capacity::bytes(64 << 10))?;
            shard.spawn_local(async move {
                let _slow = slow;
                std::future::pending::<()>().await;
            });
        }
        Ok::<_, cubed::FlowError>(())
    };
    let builder = builder().policy(Policy::open()).shards(Shards::Unpinned(2));
    builder.start(set_up).expect("starts")
}

/// Polls a future so often, then drops it.
fn poll<F: Future>(future: F, times: u64) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
}

/// Kinds of futures that a shard makes.
const SHARD_KINDS: u64 = 13;

/// Kinds of futures that other threads make.
const OUTSIDE_KINDS: u64 = 12;

/// One future of each kind that a shard makes, dropped after `polls` polls.
fn drop_on_shard(shard: &Shard, to: &[Destination; 3], here: &mut Here, number: u64) {
    let (polls, body) = (number / SHARD_KINDS % 3, [7; 300]);
    let [taken, mute, slow] = to;
    match number % SHARD_KINDS {
        0 => poll(std::future::IntoFuture::into_future(taken.send(&body)), polls),
        1 => poll(std::future::IntoFuture::into_future(taken.send(&body).acknowledged()), polls),
        2 => poll(taken.request(&body, PATIENCE), polls),
        3 => poll(mute.request(&body, PATIENCE), polls),
        4 => poll(std::future::IntoFuture::into_future(slow.message(&body).ordered()), polls),
        5 => poll(slow.ready(), polls),
        6 => poll(taken.connect(), polls),
        7 => poll(here.queue.next_batch(), polls),
        8 => poll(shard.sleep(PATIENCE), polls),
        9 => poll(shard.yield_now(), polls),
        10 => poll(here.presence.next(), polls),
        // The task itself ends by its own.
        11 => poll(shard.spawn_local(std::future::ready(())), polls),
        _ => poll(std::future::IntoFuture::into_future(slow.message(&body).latest_value()), polls),
    }
}

/// What a shard reads from.
struct Here {
    queue: Queue,
    presence: PresenceEvents,
}

/// What other threads read from.
struct There {
    queue: RemoteQueue,
    presence: PresenceEvents,
}

/// One future of each kind that other threads make.
fn drop_outside(node: &Node, to: &[Remote; 3], there: &mut There, number: u64) {
    let (polls, body) = (number / OUTSIDE_KINDS % 3, vec![7; 300]);
    let [taken, mute, slow] = to;
    match number % OUTSIDE_KINDS {
        0 => poll(taken.send(body), polls),
        1 => poll(taken.send_best_effort(body), polls),
        2 => poll(taken.request(body, PATIENCE), polls),
        3 => poll(mute.request(body, PATIENCE), polls),
        4 => poll(std::future::IntoFuture::into_future(slow.message(body).ordered()), polls),
        5 => poll(taken.connect(), polls),
        6 => poll(node.stats(), polls),
        7 => poll(node.presence(), polls),
        8 => poll(there.presence.next(), polls),
        9 => poll(there.queue.next_batch(), polls),
        10 => poll(node.watch(there.presence.key()), polls),
        _ => {
            let sleep = async |shard: Shard| shard.sleep(PATIENCE).await;
            poll(node.on_shard(number as usize % 2, sleep), polls);
        }
    }
}

/// Whether nothing is left but what the nodes are made of. `slow` holds what it was sent: that is nobody's future.
fn is_clean(node: &Node) -> bool {
    let stats = block_on(node.stats()).expect("runs");
    stats.shards.iter().all(|shard| {
        // This very call is a task, on shard 0 the one that holds the slow queue is another.
        let tasks = if shard.index == 0 { 2 } else { 1 };
        shard.waits_open == 0
            && shard.local.pending == 0
            && shard.tasks_open == tasks
            && shard.driver.buffers_lent == shard.driver.buffers_returned
    })
}

/// Requests that nobody answers, of one node to another or to itself, from a shard and from this thread.
fn check(from: &Node, to: &Node) {
    let key = to.public_key();
    let each = drops() / 4;
    // Somebody who is never there: nobody knows its address.
    let watched = cubed::Identity::from_seed(&[9; 32]).public_key();
    for on in 0..2 {
        let body = async move |shard: Shard| {
            let names = ["f", "mute", "slow"];
            let to = names.map(|name| shard.resolve(key, name).expect("a name"));
            to[0].connect().await.expect("reachable");
            let queue = shard.flow(&format!("own.{on}")).queue(Capacity::bytes(64 << 10));
            let presence = shard.watch(watched).expect("there is room for a peer");
            let mut here = Here { queue: queue.expect("a new name"), presence };
            for number in 0..each / 2 {
                drop_on_shard(&shard, &to, &mut here, number);
                if number % 64 == 0 {
                    shard.yield_now().await;
                }
            }
        };
        block_on(from.on_shard(on, body)).expect("runs");
    }
    let remotes = ["f", "mute", "slow"].map(|name| from.resolve(key, name).expect("a name"));
    let queue = block_on(from.subscribe("read.outside", Capacity::bytes(64 << 10)));
    let presence = block_on(from.watch(watched)).expect("there is room for a peer");
    let mut there = There { queue: queue.expect("a new name"), presence };
    for number in 0..each {
        drop_outside(from, &remotes, &mut there, number);
    }
    drop(there);
    eventually("nothing is left at the sender", || is_clean(from));
    eventually("nothing is left at the receiver", || is_clean(to));
    // And both still work.
    let [taken, ..] = &remotes;
    assert_eq!(block_on(taken.request(&b"?"[..], PATIENCE)).expect("an answer"), b"yes"[..]);
}

#[test]
fn dropped_futures_leave_nothing_behind_here() {
    let node = node();
    check(&node, &node);
    stop(&[&node]);
}

#[test]
fn dropped_futures_leave_nothing_behind_towards_a_peer() {
    let receiver = node();
    let set_up = builder().peer(receiver.public_key(), receiver.local_addr());
    let sender = set_up.shards(Shards::Unpinned(2)).policy(Policy::open());
    let sender = sender.start(async |shard: Shard| {
        if shard.index() == 0 {
            shard.spawn_local(std::future::pending::<()>());
        }
    });
    let sender = sender.expect("starts");
    check(&sender, &receiver);
    let report = block_on(sender.drain(Duration::from_millis(1))).expect("runs");
    let ended = report.delivered + report.undelivered() + report.uncertain();
    assert_eq!(report.offered, ended, "every message is in one sum: {report:?}");
    stop(&[&sender, &receiver]);
}
