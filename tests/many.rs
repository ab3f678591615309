//! Goal: a node has as many shards as it may, and all of them are reached.

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex};

use cubed::{
    Backend, DrainReport, Executor, Identity, Node, Policy, SendError, Shard, Shards, SpinPolicy,
    block_on,
};
use support::{PATIENCE, builder, stop};

const FLOWS: usize = 512;

/// Resident memory of this process, KiB, its threads and its descriptors.
fn costs() -> (u64, usize, usize) {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    let count = |folder| fs::read_dir(folder).expect("Linux").count();
    (resident.unwrap_or(0), count("/proc/self/task"), count("/proc/self/fd"))
}

/// A node of so many shards on epoll and the portable executor, each with every flow; who got something is noted.
fn start(shards: usize, heard: &Arc<Mutex<HashSet<u8>>>) -> Node {
    let heard = Arc::clone(heard);
    let builder = Node::builder().identity(Identity::generate().expect("random numbers"));
    let builder = builder.listen("127.0.0.1:0").policy(Policy::open()).spin(SpinPolicy::Never);
    let builder = builder.backend(Backend::Epoll).executor(Executor::Portable);
    let start = move |shard: Shard| {
        for flow in 0..FLOWS {
            let (heard, index) = (Arc::clone(&heard), shard.index());
            let hear = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
                heard.lock().expect("no panic").insert(index);
            };
            shard.flow(&format!("flow.{flow}")).handler(hear).expect("a new flow");
        }
        async move { drop(shard) }
    };
    builder.shards(Shards::Unpinned(shards)).start(start).expect("the node starts")
}

/// Sends to flows of many shards from outside, and from shard to shard within; drains both nodes.
fn run(shards: usize) {
    let heard = Arc::default();
    let before = costs();
    let node = start(shards, &heard);
    let started = costs();
    let alice = builder().peer(node.public_key(), node.local_addr());
    let alice = alice.start(async |_: Shard| ()).expect("the sender starts");
    let key = node.public_key();
    let send = async move |shard: Shard| {
        for flow in 0..FLOWS {
            let to = shard.resolve(key, &format!("flow.{flow}")).expect("a valid name");
            while let Err(error) = to.try_send_acknowledged(b"hello") {
                assert_eq!(error, SendError::Full);
                to.ready().await.expect("the node runs");
            }
        }
    };
    block_on(alice.on_shard(0, send)).expect("the node runs");
    let all = |report: DrainReport| (report.offered, report.delivered);
    let report = block_on(alice.drain(6 * PATIENCE)).expect("it drains");
    assert_eq!(all(report), (FLOWS as u64, FLOWS as u64), "{report:?}");
    let owners = async |shard: Shard| {
        let names = (0..FLOWS).map(|flow| format!("flow.{flow}"));
        names.map(|name| shard.owner(&name)).collect::<HashSet<u8>>()
    };
    let owners = block_on(node.on_shard(0, owners)).expect("the node runs");
    assert_eq!(*heard.lock().expect("no panic"), owners);
    assert!(owners.len() > shards / 2, "{} of {shards}", owners.len());
    heard.lock().expect("no panic").clear();
    for from in [0, shards / 2, shards - 1] {
        block_on(node.on_shard(from, send)).expect("the node runs");
    }
    let after = costs();
    println!("{shards} shards: KiB, threads, descriptors: {before:?}, {started:?}, {after:?}");
    let report = block_on(node.drain(6 * PATIENCE)).expect("it drains");
    assert_eq!(all(report), (3 * FLOWS as u64, 3 * FLOWS as u64), "{report:?}");
    assert_eq!(*heard.lock().expect("no panic"), owners);
    stop(&[&alice, &node]);
}

#[test]
fn a_node_of_64_shards_reaches_all_of_them() {
    run(64);
}

#[test]
#[ignore = "some 1,550 descriptors, where `ulimit -n` is often 1,024; 225 MB"]
fn a_node_of_255_shards_reaches_all_of_them() {
    run(255);
}
