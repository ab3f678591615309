//! Goal: a flow is reached on whichever shard of its node registered it, from the other shards and from peers, with outcomes,
//! order, replies and back-pressure as on one shard.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cubed::{
    Capacity, Destination, FlowError, LocalStats, Node, NodeStats, Outcome, Policy, Queue, Refusal,
    RequestError, SendError, Shard, Shards, block_on,
};
use support::{PATIENCE, builder, eventually, sender_to, stop};

const SHARDS: u8 = 3;
/// Of one sender to one flow.
const MESSAGES: u32 = 2_000;

/// What each flow got: sender's number and message's number.
type Log = Arc<Mutex<Vec<Vec<u32>>>>;

/// A node of three shards, each with a flow of its own that counts per sender and answers, and with one that all have.
fn three(log: &Log) -> Node {
    let log = Arc::clone(log);
    let start = move |shard: Shard| {
        let (log, index) = (Arc::clone(&log), shard.index());
        let handler = move |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
            if message.is_request() {
                return context.reply(&[index]).expect("room");
            }
            let number =
                |at| u32::from_le_bytes(message.body()[at..at + 4].try_into().expect("4 bytes"));
            let slot = usize::from(index) * 8 + number(0) as usize;
            log.lock().expect("no panic")[slot].push(number(4));
        };
        shard.flow(&format!("on.{index}")).handler(handler).expect("new");
        shard.flow("everywhere").handler(|_, _| {}).expect("new");
        async move { drop(shard) }
    };
    let builder = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    builder.start(start).expect("starts")
}

fn log() -> Log {
    Arc::new(Mutex::new(vec![Vec::new(); 64]))
}

/// Sends all, in order, and one request at the end, whose answer is the shard's number.
async fn send_all(to: Destination, sender: u32, on: u8) {
    for number in 0..MESSAGES {
        let body = [sender.to_le_bytes(), number.to_le_bytes()].concat();
        while let Err(error) = to.message(&body).ordered().send() {
            assert_eq!(error, SendError::Full);
            to.ready().await.expect("runs");
        }
    }
    let body = [sender.to_le_bytes(), MESSAGES.to_le_bytes()].concat();
    assert_eq!(to.message(&body).ordered().await, Ok(Outcome::Delivered));
    assert_eq!(to.request(b"who", PATIENCE).await.expect("an answer"), [on][..]);
}

fn check(log: &Log, slot: usize) {
    let seen = &log.lock().expect("no panic")[slot];
    assert!(seen.iter().copied().eq(0..=MESSAGES), "slot {slot}: {} messages", seen.len());
}

#[test]
fn every_shard_reaches_the_flows_of_all_shards() {
    let log = log();
    let node = three(&log);
    let run = async |shard: Shard| {
        for on in 0..SHARDS {
            let to = shard.resolve(shard.public_key(), &format!("on.{on}")).expect("ours");
            send_all(to, u32::from(shard.index()), on).await;
        }
    };
    // All three at once, so that each sends while it takes.
    let calls = (0..usize::from(SHARDS)).map(|shard| {
        let node = node.clone();
        std::thread::spawn(move || block_on(node.on_shard(shard, run)).expect("runs"))
    });
    for call in calls.collect::<Vec<_>>() {
        call.join().expect("no panic");
    }
    for on in 0..usize::from(SHARDS) {
        for sender in 0..usize::from(SHARDS) {
            check(&log, on * 8 + sender);
        }
    }
    let stats = block_on(node.stats()).expect("runs");
    let sent: u64 = stats.shards.iter().map(|shard| shard.local.sent).sum();
    let taken: u64 = stats.shards.iter().map(|shard| shard.local.taken).sum();
    assert_eq!((sent, taken), (9 * u64::from(MESSAGES + 2), 9 * u64::from(MESSAGES + 2)));
    assert!(stats.shards.iter().all(|shard| shard.local.pending == 0 && shard.waits_open == 0));
    assert_eq!(stats.tally().pending, 0);
    stop(&[&node]);
}

#[test]
fn of_several_shards_with_a_name_the_owner_gets_its_messages() {
    let log = log();
    let node = three(&log);
    let run = async |shard: Shard| {
        let to = shard.resolve(shard.public_key(), "everywhere").expect("ours");
        for _ in 0..10 {
            assert_eq!(to.send(b"x").acknowledged().await, Ok(Outcome::Delivered));
        }
        shard.owner("everywhere")
    };
    let mut owner = 0;
    for shard in 0..usize::from(SHARDS) {
        owner = block_on(node.on_shard(shard, run)).expect("runs");
    }
    for shard in block_on(node.stats()).expect("runs").shards {
        let flow = shard
            .flows
            .iter()
            .find(|flow| flow.name.as_str() == "everywhere")
            .expect("all have it");
        assert_eq!(flow.accepted, if shard.index == owner { 30 } else { 0 });
    }
    stop(&[&node]);
}

#[test]
fn peers_reach_flows_of_every_shard_and_get_their_answers() {
    let log = log();
    let node = three(&log);
    let peer = sender_to(&node);
    let key = node.public_key();
    let send = async move |shard: Shard| {
        for on in 0..SHARDS {
            let to = shard.resolve(key, &format!("on.{on}")).expect("a name");
            send_all(to, 7, on).await;
        }
        let nowhere = shard.resolve(key, "nowhere").expect("a name");
        let refused = Ok(Outcome::Refused(Refusal::NoSuchFlow));
        assert_eq!(nowhere.send(b"x").acknowledged().await, refused);
    };
    block_on(peer.on_shard(0, send)).expect("runs");
    for on in 0..usize::from(SHARDS) {
        check(&log, on * 8 + 7);
    }
    let stats = block_on(node.stats()).expect("runs");
    let forwarded: u64 = stats.shards.iter().map(|shard| shard.local.forwarded).sum();
    let taken: u64 = stats.shards.iter().map(|shard| shard.local.taken).sum();
    // A peer sends to the computed owner, which forwards what it has not.
    let owners = async |shard: Shard| [0, 1, 2].map(|on| shard.owner(&format!("on.{on}")));
    let owners = block_on(node.on_shard(0, owners)).expect("runs");
    let pinned = owners.iter().zip(0..).filter(|(owner, on)| *owner != on).count() as u64;
    // The first ones may reach another shard, before the peer knows who owns what.
    assert!(forwarded >= pinned * u64::from(MESSAGES) / 2, "{forwarded} of {pinned} flows");
    assert_eq!(forwarded, taken);
    assert!(stats.shards.iter().all(|shard| shard.local.forwarded_refused == 0));
    stop(&[&peer, &node]);
}

#[test]
fn a_pinned_queue_slows_its_peers_and_gives_their_credit_back() {
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    let node = node.start(async |_: Shard| ()).expect("starts");
    let (peer, key) = (sender_to(&node), node.public_key());
    // Not told which shard the session comes to: one queue on each.
    for on in 0..SHARDS {
        let name = format!("slow.{on}");
        let (registered, go) = (name.clone(), Arc::new(Mutex::new(false)));
        let may_read = Arc::clone(&go);
        let reader_node = node.clone();
        let (told, hears) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let read = async move |shard: Shard| {
                let capacity = Capacity::bytes(64 << 10);
                let mut queue =
                    shard.flow(&registered).takes_requests(false).queue(capacity).expect("new");
                told.send(()).expect("the test waits");
                while !*may_read.lock().expect("no panic") {
                    shard.sleep(std::time::Duration::from_millis(1)).await;
                }
                let mut seen = 0;
                while seen < 500 {
                    let batch = queue.next_batch().await.expect("runs");
                    assert!(batch.iter().all(|message| message.body() == [on; 1_000]));
                    seen += batch.len();
                }
            };
            block_on(reader_node.on_shard(usize::from(on), read)).expect("runs");
        });
        hears.recv().expect("registered");
        let fill = async move |shard: Shard| {
            let to = shard.resolve(key, &name).expect("a name");
            // A first one binds the name, so that the window below is the flow's.
            assert_eq!(to.send(&[on; 1_000]).acknowledged().await, Ok(Outcome::Delivered));
            let refused = to.request(b"x", PATIENCE).await;
            assert_eq!(refused, Err(RequestError::Refused(Refusal::NotAServer)));
            let mut sent = 1;
            while to.try_send_acknowledged(&[on; 1_000]).is_ok() {
                sent += 1;
            }
            while shard.stats().expect("no handler").tally.pending > 0 {
                shard.sleep(std::time::Duration::from_millis(1)).await;
            }
            // Everything within the window is accepted, and no more until somebody reads.
            assert!(to.try_send_acknowledged(&[on; 1_000]).is_err() || sent < 62);
            *go.lock().expect("no panic") = true;
            while sent < 500 {
                match to.try_send_acknowledged(&[on; 1_000]) {
                    Ok(()) => sent += 1,
                    Err(_) => to.ready().await.expect("runs"),
                }
            }
        };
        block_on(peer.on_shard(0, fill)).expect("runs");
        reader.join().expect("no panic");
    }
    eventually("all settled", || block_on(peer.stats()).expect("runs").tally().pending == 0);
    let tally = block_on(peer.stats()).expect("runs").tally();
    assert_eq!(tally.delivered, 3 * 500, "{tally:?}");
    stop(&[&peer, &node]);
}

#[test]
fn best_effort_of_peers_stays_within_a_pinned_queue_that_nobody_reads() {
    const TOTAL_BYTES: u64 = 64 << 10;
    let start = |shard: Shard| async move {
        // Another shard owns the name, so what a peer sends comes by that one.
        if shard.index() == (shard.owner("unread") + 1) % SHARDS {
            let capacity = Capacity::bytes(TOTAL_BYTES).total(TOTAL_BYTES);
            let queue = shard.flow("unread").pinned().queue(capacity).expect("new");
            let own = shard.clone();
            shard.spawn_local(async move {
                own.sleep(PATIENCE * 10).await;
                drop(queue);
            });
        }
    };
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    let node = node.start(start).expect("starts");
    let (peer, key) = (sender_to(&node), node.public_key());
    let stream = async move |shard: Shard| {
        let to = shard.resolve(key, "unread").expect("a name");
        assert_eq!(to.send(b"bind").acknowledged().await, Ok(Outcome::Delivered));
        for _ in 0..20 {
            while to.try_send(&[1; 1_000]).is_ok() {}
            to.ready().await.expect("runs");
        }
    };
    block_on(peer.on_shard(0, stream)).expect("runs");
    let sum = |stats: &NodeStats, count: fn(&LocalStats) -> u64| {
        stats.shards.iter().map(|shard| count(&shard.local)).sum::<u64>()
    };
    let mut stats = block_on(node.stats()).expect("runs");
    eventually("more came than fits", || {
        stats = block_on(node.stats()).expect("runs");
        sum(&stats, |local| local.dropped) > 0
    });
    let flows: Vec<_> = stats.shards.iter().flat_map(|shard| &shard.flows).collect();
    let [unread] = flows[..] else { panic!("one flow of {flows:?}") };
    assert!(unread.queued_bytes <= TOTAL_BYTES, "{unread:?}");
    let (taken, dropped) = (sum(&stats, |local| local.taken), sum(&stats, |local| local.dropped));
    assert_eq!(dropped + unread.queued, taken, "each is held or counted");
    assert_eq!(sum(&stats, |local| local.forwarded_refused), 0, "nobody was told of best effort");
    stop(&[&peer, &node]);
}

/// A node that knows who owns what at `node`, so that it sends to the owner from the first message on.
fn peer_that_met(node: &Node) -> Node {
    let (peer, key) = (sender_to(node), node.public_key());
    let meet = async move |shard: Shard| {
        shard.resolve(key, "any").expect("a name").connect().await.expect("met");
    };
    block_on(peer.on_shard(0, meet)).expect("runs");
    peer
}

/// A name that this shard owns, of many that begin so.
async fn name_on(node: &Node, shard: usize, begin: &'static str) -> String {
    let find = async move |shard: Shard| {
        let mut names = (0..).map(|number: u32| format!("{begin}.{number}"));
        names.find(|name| shard.owns(name)).expect("names without end")
    };
    node.on_shard(shard, find).await.expect("runs")
}

/// Keeps what the queue gets, drops the queue after the message `last`, and goes on keeping the rest.
async fn keep_all(shard: Shard, mut queue: Queue, gone: Sender<()>) {
    let mut kept = Vec::new();
    let mut is_last = false;
    while !is_last {
        let batch = queue.next_batch().await.expect("runs");
        is_last = batch.iter().any(|message| message.body() == b"last");
        kept.push(batch);
    }
    drop(queue);
    gone.send(()).expect("the test waits");
    shard.sleep(PATIENCE * 10).await;
    drop(kept);
}

/// A queue that messages of its own shard have filled takes no more of peers through another shard either; who sent them is told.
#[test]
fn a_queue_holds_its_total_whichever_shard_messages_came_to() {
    const TOTAL_BYTES: u64 = 64 << 10;
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    let node = node.start(async |_: Shard| ()).expect("starts");
    let (peer, key) = (peer_that_met(&node), node.public_key());
    let name = block_on(name_on(&node, 0, "crowded"));
    let here = name.clone();
    let fill = async move |shard: Shard| {
        let capacity = Capacity::bytes(TOTAL_BYTES).total(TOTAL_BYTES);
        let queue = shard.flow(&here).queue(capacity).expect("new");
        let to = shard.resolve(key, &here).expect("a name");
        while to.try_send_acknowledged(&[0; 1_000]).is_ok() {}
        shard.yield_now().await;
        // Nobody reads it.
        shard.spawn_local(async move {
            std::future::pending::<()>().await;
            drop(queue);
        });
    };
    block_on(node.on_shard(1, fill)).expect("runs");
    let queued = || {
        let stats = block_on(node.stats()).expect("runs");
        let mut flows = stats.shards.iter().flat_map(|shard| &shard.flows);
        flows.next().expect("one flow").queued_bytes
    };
    eventually("the queue is full", || queued() + 1_064 > TOTAL_BYTES);
    let send = async move |shard: Shard| {
        let to = shard.resolve(key, &name).expect("a name");
        to.send(&[1; 1_000]).acknowledged().await
    };
    let told = block_on(peer.on_shard(0, send)).expect("runs");
    assert_eq!(told, Ok(Outcome::Refused(Refusal::QueueFull)));
    assert!(queued() <= TOTAL_BYTES);
    stop(&[&peer, &node]);
}

#[test]
fn a_flow_that_moved_is_found_again_though_messages_of_it_are_under_way() {
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    let node = node.start(async |_: Shard| ()).expect("starts");
    let (peer, key) = (peer_that_met(&node), node.public_key());
    let ways = [("local", &node, false), ("passed", &peer, false), ("told", &peer, true)];
    for (begin, from, is_acknowledged) in ways {
        // The first shard owns the name, passes on what peers send, and sends itself.
        let name = block_on(name_on(&node, 0, begin));
        let ((told, hears), flow) = (mpsc::channel(), name.clone());
        let register = async move |shard: Shard| {
            let queue = shard.flow(&flow).queue(Capacity::bytes(1 << 20)).expect("new");
            shard.spawn_local(keep_all(shard.clone(), queue, told));
        };
        block_on(node.on_shard(1, register)).expect("runs");
        let to = name.clone();
        let first = async move |shard: Shard| {
            let to = shard.resolve(key, &to).expect("a name");
            for body in [b"one ", b"more", b"last"] {
                assert_eq!(to.send(body).acknowledged().await, Ok(Outcome::Delivered));
            }
        };
        block_on(from.on_shard(0, first)).expect("runs");
        hears.recv_timeout(PATIENCE).expect("the last one came");
        let (count, flow) = (Arc::new(AtomicU32::new(0)), name.clone());
        let seen = Arc::clone(&count);
        let register = async move |shard: Shard| {
            let handler = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
                seen.fetch_add(1, Ordering::Relaxed);
            };
            shard.flow(&flow).handler(handler).expect("new");
        };
        block_on(node.on_shard(2, register)).expect("runs");
        eventually("its messages come to where it is", || {
            let to = name.clone();
            let send = async move |shard: Shard| {
                let to = shard.resolve(key, &to).expect("a name");
                if is_acknowledged { to.try_send_acknowledged(b"x") } else { to.try_send(b"x") }
            };
            let taken = block_on(from.on_shard(0, send)).expect("runs");
            assert!(matches!(taken, Ok(()) | Err(SendError::Full)), "{taken:?}");
            count.load(Ordering::Relaxed) > 0
        });
    }
    stop(&[&peer, &node]);
}

#[test]
fn a_sender_is_told_of_room_though_nothing_else_comes_back() {
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
    let node = node.start(async |_: Shard| ()).expect("starts");
    let (peer, key) = (peer_that_met(&node), node.public_key());
    let name = block_on(name_on(&node, 0, "busy"));
    let flow = name.clone();
    let register = async move |shard: Shard| shard.flow(&flow).handler(|_, _| {}).expect("new");
    block_on(node.on_shard(1, register)).expect("runs");
    for from in [&peer, &node] {
        let to = name.clone();
        let send = async move |shard: Shard| {
            let to = shard.resolve(key, &to).expect("a name");
            for _ in 0..3 {
                assert_eq!(to.send(b"x").acknowledged().await, Ok(Outcome::Delivered));
            }
        };
        block_on(from.on_shard(0, send)).expect("runs");
    }
    // The flow's shard stands still, and the peer's best effort fills the way to it. Nothing comes back for that.
    let ((stands, hears), (go, waits)) = (mpsc::channel(), mpsc::channel());
    let standing = node.clone();
    let standing = thread::spawn(move || {
        let stand = async move |_: Shard| {
            stands.send(()).expect("the test waits");
            waits.recv_timeout(PATIENCE).expect("let go");
        };
        block_on(standing.on_shard(1, stand)).expect("runs");
    });
    hears.recv_timeout(PATIENCE).expect("it stands");
    eventually("the way is full", || {
        let to = name.clone();
        let send = async move |shard: Shard| {
            let to = shard.resolve(key, &to).expect("a name");
            for _ in 0..100 {
                let _ = to.try_send(b"x");
            }
        };
        block_on(peer.on_shard(0, send)).expect("runs");
        let stats = async |shard: Shard| shard.stats().expect("no handler").counters;
        block_on(node.on_shard(0, stats)).expect("runs").best_effort_refused > 0
    });
    let ((full, hears_full), (ready, hears_ready)) = (mpsc::channel(), mpsc::channel());
    let own = name.clone();
    let wait = async move |shard: Shard| {
        let to = shard.resolve(shard.public_key(), &own).expect("a name");
        let result = to.try_send(b"x");
        let waiting = shard.clone();
        shard.spawn_local(async move {
            full.send(result).expect("the test waits");
            to.ready().await.expect("runs");
            drop(waiting);
            let _ = ready.send(());
        });
    };
    block_on(node.on_shard(0, wait)).expect("runs");
    assert_eq!(hears_full.recv_timeout(PATIENCE), Ok(Err(SendError::Full)));
    // Long enough for the first shard to fall asleep, which is what made this fail; it holds however long it takes.
    thread::sleep(Duration::from_millis(200));
    go.send(()).expect("it stands");
    standing.join().expect("no panic");
    // After 10 s a timer of the handshake's ends that sleep in any case.
    hears_ready.recv_timeout(PATIENCE / 2).expect("told of room");
    stop(&[&peer, &node]);
}

#[test]
fn a_flow_is_pinned_to_the_shard_that_says_so_and_to_no_other() {
    for on in 0..SHARDS {
        let start = move |shard: Shard| async move {
            if shard.index() == on {
                let index = shard.index();
                let answer = move |_: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
                    context.reply(&[index]).expect("room");
                };
                shard.flow("here").pinned().handler(answer)?;
            }
            Ok::<(), FlowError>(())
        };
        let builder =
            builder().policy(Policy::open()).shards(Shards::Unpinned(usize::from(SHARDS)));
        let node = builder.start(start).expect("starts");
        let (peer, key) = (sender_to(&node), node.public_key());
        let ask = async move |shard: Shard| {
            let to = shard.resolve(key, "here").expect("a name");
            to.request(b"who", PATIENCE).await.expect("an answer").to_vec()
        };
        for from in [&peer, &node] {
            for shard in 0..from.shards() {
                let answer = block_on(from.on_shard(shard, ask)).expect("runs");
                assert_eq!(answer, [on], "asked by shard {shard}");
            }
        }
        let again = async move |shard: Shard| {
            [shard.flow("here").handler(|_, _| {}), shard.flow("here").pinned().handler(|_, _| {})]
        };
        for shard in (0..SHARDS).filter(|shard| *shard != on) {
            let refused = block_on(node.on_shard(usize::from(shard), again)).expect("runs");
            let pinned = Err(FlowError::Pinned { name: "here".to_owned(), shard: on });
            assert_eq!(refused, [pinned.clone(), pinned]);
        }
        // Free again once it is removed there.
        let remove = async |shard: Shard| shard.remove_flow("here");
        let removed = block_on(node.on_shard(usize::from(on), remove)).expect("runs");
        assert_eq!(removed, Ok(true));
        let other = usize::from((on + 1) % SHARDS);
        assert_eq!(block_on(node.on_shard(other, again)).expect("runs")[0], Ok(()));
        stop(&[&peer, &node]);
    }
}
