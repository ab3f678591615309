//! Goal: lanes of two nodes with several shards, over one real path that loses datagrams, are counted as one flow and hold the
//! windows of about one flow together; a lane that is left alone has one to itself again; nothing is lost or doubled meanwhile.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubed::{
    Context, Identity, Limits, Message, Node, NodeBuilder, PathStats, Policy, PublicKey, SendError,
    Shard, Shards, block_on,
};
use cubed_sockets::nodes::node;
use support::{Relay, time_until, told};

/// Of each node: so many squared lanes.
const SHARDS: usize = 4;
const LANES: usize = SHARDS * SHARDS;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// A full datagram.
const DATAGRAM_BYTES: u64 = 1_440;
/// One datagram in fifty is lost: a flow of its own then has a window of 1.22 / sqrt(0.02) = 8.6 datagrams on average
/// (RFC 9438 section 5.2), sixteen such have 138, and sixteen at their least 16. Coupled ones are found below this.
const SUM_DATAGRAMS_MAX: u64 = 48;
/// What a lane that is alone reaches; the average of coupled ones is a sixteenth of the above.
const ALONE_DATAGRAMS_MIN: u64 = 6;
/// Messages that a lane logs before it looks at its path and lets others have their turn.
const MESSAGES_PER_LOOK: usize = 16;

/// Lane of the sender and number of each message.
type Seen = Arc<Mutex<HashSet<(u8, u64)>>>;

/// What the lanes of the sender say, and how many of them are to send on.
#[derive(Default)]
struct Lanes {
    paths: Mutex<[Option<PathStats>; LANES]>,
    sending: AtomicUsize,
}

impl Lanes {
    /// Windows of the lanes that send, datagrams, once each of them counts as many lanes as there are.
    fn windows(&self) -> Option<u64> {
        let lanes = self.sending.load(Ordering::Relaxed);
        let paths = self.paths.lock().expect("no panic");
        let windows = paths[..lanes].iter().map(|path| {
            let path = path.filter(|path| usize::from(path.lanes) == lanes)?;
            Some(path.window_bytes)
        });
        Some(windows.sum::<Option<u64>>()? / DATAGRAM_BYTES)
    }
}

/// Ends all sending, also when a wait for something is given up.
struct EndsSending<'a>(&'a Lanes);

impl Drop for EndsSending<'_> {
    fn drop(&mut self) {
        self.0.sending.store(0, Ordering::Relaxed);
    }
}

fn builder() -> NodeBuilder {
    // A short log keeps the window the only thing that a lane waits for, and what is left at the end short.
    let limits = Limits { log_bytes_max: 96 << 10, ..Limits::default() };
    let builder = node().identity(Identity::generate().expect("random numbers")).limits(limits);
    builder.listen("127.0.0.1:0").shards(Shards::Unpinned(SHARDS)).policy(Policy::open())
}

fn names() -> impl Iterator<Item = String> {
    (0..64).map(|number| format!("flow.{number}"))
}

/// A node that notes what it hears, on any shard.
fn listener(seen: &Seen) -> Node {
    let seen = Arc::clone(seen);
    let node = builder().start(move |shard: Shard| {
        for name in names() {
            let seen = Arc::clone(&seen);
            let hear = move |message: &Message<'_>, _: &mut Context<'_>| {
                let (lane, number) = message.body().split_at(1);
                let number = u64::from_le_bytes(number[..8].try_into().expect("8 bytes"));
                let is_new = seen.lock().expect("no panic").insert((lane[0], number));
                assert!(is_new, "lane {}: {number} came twice", lane[0]);
            };
            shard.flow(&name).handler(hear).expect("a new flow");
        }
        async move { drop(shard) }
    });
    node.expect("the listener starts")
}

/// A flow on each shard of a node.
fn name_on_each_shard(node: &Node) -> Vec<String> {
    let find = |shard: Shard| async move {
        let owned_by = |owner: usize| {
            names().find(|name| usize::from(shard.owner(name)) == owner).expect("of so many names")
        };
        (0..SHARDS).map(owned_by).collect()
    };
    block_on(node.on_shard(0, find)).expect("the node runs")
}

/// Sends by one lane as fast as its window lets it, while it is among those that are to; how many messages.
async fn send(shard: Shard, key: PublicKey, name: String, lane: usize, lanes: Arc<Lanes>) -> u64 {
    let to = shard.resolve(key, &name).expect("a valid name");
    let (mut sent, mut body) = (0_u64, vec![lane as u8; 1_000]);
    while lane < lanes.sending.load(Ordering::Relaxed) {
        for _ in 0..MESSAGES_PER_LOOK {
            body[1..9].copy_from_slice(&sent.to_le_bytes());
            match to.try_send_acknowledged(&body) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => to.ready().await.expect("the node runs"),
                Err(error) => panic!("{error}"),
            }
        }
        lanes.paths.lock().expect("no panic")[lane] = to.path();
        shard.yield_now().await;
    }
    sent
}

/// Sends by the lanes of one shard, one to each of these flows.
async fn send_all(shard: Shard, key: PublicKey, names: Vec<String>, lanes: Arc<Lanes>) -> u64 {
    let first = usize::from(shard.index()) * SHARDS;
    let tasks: Vec<_> = (first..)
        .zip(names)
        .map(|(lane, name)| {
            shard.spawn_local(send(shard.clone(), key, name, lane, Arc::clone(&lanes)))
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += task.await.expect("no panic");
    }
    sent
}

#[test]
fn lanes_over_one_path_hold_the_windows_of_one_flow() {
    let (seen, lanes) = (Seen::default(), Arc::new(Lanes::default()));
    lanes.sending.store(LANES, Ordering::Relaxed);
    let bob = listener(&seen);
    let relay = Relay::start(bob.local_addr(), "--loss 0.02 --delay-ms 10");
    let alice = builder().peer(bob.public_key(), relay.address);
    let alice = alice.start(async |_: Shard| ()).expect("the sender starts");
    let (key, names) = (bob.public_key(), name_on_each_shard(&bob));
    let sent: u64 = std::thread::scope(|scope| {
        let shards: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let (alice, names, lanes) = (&alice, names.clone(), Arc::clone(&lanes));
                let run = move |shard| send_all(shard, key, names, lanes);
                scope.spawn(move || block_on(alice.on_shard(shard, run)).expect("it runs"))
            })
            .collect();
        let ends_sending = EndsSending(&lanes);
        time_until("all lanes are counted, and coupled", PATIENCE, || {
            lanes.windows().is_some_and(|sum| sum <= SUM_DATAGRAMS_MAX)
        });
        lanes.sending.store(1, Ordering::Relaxed);
        time_until("the one that is left has a flow's window", PATIENCE, || {
            lanes.windows().is_some_and(|window| window >= ALONE_DATAGRAMS_MIN)
        });
        drop(ends_sending);
        shards.into_iter().map(|shard| shard.join().expect("no panic")).sum()
    });
    let report = block_on(alice.drain(PATIENCE)).expect("the node runs");
    println!("{}\n  {:?}", told(&alice), relay.end());
    assert_eq!((report.offered, report.delivered), (sent, sent), "{report:?}");
    assert_eq!(seen.lock().expect("no panic").len() as u64, sent);
    let stats = block_on(alice.stats()).expect("the node runs");
    assert!(stats.counter("sessions_begun") >= Some(LANES as u64), "each lane has its own");
    assert!(stats.counter("packets_lost") > Some(0), "the path lost none");
    for node in [alice, bob] {
        node.shutdown();
        node.join().expect("the node stops");
    }
}
