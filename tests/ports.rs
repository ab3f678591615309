//! Goal: shards that send from ports of their own reach every shard of a peer and are reached by it, whatever ports that peer
//! sends from, whoever dials, through restarts.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cubed::{
    Identity, Node, NodeBuilder, NodeStats, Policy, PublicKey, SendError, Shard, ShardStats,
    Shards, SourcePorts, block_on,
};
use support::{builder, eventually, node, own_address, start_again, stop};

const FLOWS: usize = 16;
const SHARDS: usize = 2;

/// A node that counts what comes to any of its flows.
fn listener(builder: NodeBuilder, ports: SourcePorts, heard: &Arc<AtomicU64>) -> Node {
    try_listener(builder, ports, heard).expect("the node starts")
}

fn try_listener(
    builder: NodeBuilder,
    ports: SourcePorts,
    heard: &Arc<AtomicU64>,
) -> Result<Node, cubed::StartError> {
    let heard = Arc::clone(heard);
    let start = move |shard: Shard| {
        for flow in 0..FLOWS {
            let heard = Arc::clone(&heard);
            let hear = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
                heard.fetch_add(1, Ordering::Relaxed);
            };
            shard.flow(&format!("flow.{flow}")).handler(hear).expect("a new flow");
        }
        async move { drop(shard) }
    };
    let builder = builder.policy(Policy::open()).shards(Shards::Unpinned(SHARDS));
    builder.source_ports(ports).start(start)
}

/// One shard sends `count` messages to each flow; how many it sent, none if it does not know where the peer is.
fn send_from(node: &Node, shard: usize, to: PublicKey, count: u64) -> u64 {
    let sent = node.on_shard(shard, move |shard: Shard| async move {
        let mut sent = 0;
        for _ in 0..count {
            for flow in 0..FLOWS {
                let to = shard.resolve(to, &format!("flow.{flow}")).expect("a valid name");
                loop {
                    match to.try_send_acknowledged(b"hello") {
                        Ok(()) => break,
                        Err(SendError::NoAddress) => return sent,
                        Err(error) => assert_eq!(error, SendError::Full),
                    }
                    to.ready().await.expect("the node runs");
                }
                sent += 1;
            }
        }
        sent
    });
    block_on(sent).expect("the node runs")
}

fn send_from_all(node: &Node, to: PublicKey, count: u64) -> u64 {
    (0..node.shards()).map(|shard| send_from(node, shard, to, count)).sum()
}

fn stats(node: &Node) -> NodeStats {
    block_on(node.stats()).expect("the node runs")
}

fn total(node: &Node, of: impl Fn(&ShardStats) -> u64) -> u64 {
    stats(node).shards.iter().map(of).sum()
}

fn settled(node: &Node) {
    eventually("all is settled", || stats(node).tally().pending == 0);
    let tally = stats(node).tally();
    assert_eq!(tally.offered, tally.delivered, "{tally:?}");
}

/// Where each shard sends from.
fn sources(node: &Node) -> Vec<SocketAddr> {
    stats(node).shards.iter().map(|shard| shard.source_addr.expect("a port of its own")).collect()
}

fn list(node: &Node, other: &Node) {
    node.add_peer(other.public_key(), &[other.local_addr()]).expect("a new peer");
}

#[test]
fn whoever_sends_from_whatever_port_everything_arrives_once() {
    use SourcePorts::{Node as Shared, PerShard};
    for (alices, bobs) in [(PerShard, PerShard), (PerShard, Shared), (Shared, PerShard)] {
        let (to_alice, to_bob) = (Arc::default(), Arc::default());
        let bob = listener(builder(), bobs, &to_bob);
        let alice = listener(builder(), alices, &to_alice);
        list(&alice, &bob);
        list(&bob, &alice);
        let sent = send_from_all(&alice, bob.public_key(), 100);
        assert_eq!(sent, (100 * FLOWS * SHARDS) as u64);
        settled(&alice);
        // Alice has dialled every lane, and bob answers where it was asked.
        if alices == PerShard {
            for shard in stats(&alice).shards {
                assert!(shard.driver.own_datagrams > 0, "{:?}", shard.driver);
                assert_eq!(shard.driver.own_datagrams, shard.driver.recv_datagrams);
            }
            let [first, second] = sources(&alice)[..] else { panic!("two shards") };
            assert!(first != second && first != alice.local_addr() && second != alice.local_addr());
        }
        let back = send_from_all(&bob, alice.public_key(), 100);
        assert_eq!(back, sent);
        settled(&bob);
        for node in [&alice, &bob] {
            assert_eq!(stats(node).counter("paths_challenged"), Some(0), "every lane stays");
            assert_eq!(total(node, |shard| shard.strays_handed), 0);
        }
        let heard =
            [&to_alice, &to_bob].map(|heard: &Arc<AtomicU64>| heard.load(Ordering::Relaxed));
        assert_eq!(heard, [back, sent], "{alices:?} {bobs:?}");
        stop(&[&alice, &bob]);
    }
}

#[test]
fn a_peer_that_is_known_by_a_shards_port_only_is_reached_on_its_other_shards() {
    let (to_alice, to_bob) = (Arc::default(), Arc::default());
    let bob = listener(builder(), SourcePorts::PerShard, &to_bob);
    let alice = listener(builder(), SourcePorts::PerShard, &to_alice);
    list(&alice, &bob);
    let sent = send_from(&alice, 0, bob.public_key(), 1);
    settled(&alice);
    assert_eq!(sent, FLOWS as u64);
    // Only shard 0 of alice has lanes. Bob dials the other at the one port that it knows, which is shard 0's.
    let back = send_from_all(&bob, alice.public_key(), 100);
    assert!(back >= (100 * FLOWS) as u64, "a shard that alice reached knows where she is");
    settled(&bob);
    assert_eq!(to_alice.load(Ordering::Relaxed), back);
    assert!(stats(&alice).shards[1].strays_taken > 0, "by way of shard 0");
    for node in [&alice, &bob] {
        assert_eq!(stats(node).counter("paths_challenged"), Some(0), "answered from that port");
    }
    stop(&[&alice, &bob]);
}

#[test]
fn a_restarted_node_is_found_again_on_new_ports_and_on_the_same() {
    for keeps_ports in [false, true] {
        let seed = [if keeps_ports { 71 } else { 72 }; 32];
        let (to_alice, to_bob) = (Arc::default(), Arc::default());
        let alice = listener(builder(), SourcePorts::PerShard, &to_alice);
        let again = |listen: SocketAddr, ports| {
            let builder = node().identity(Identity::from_seed(&seed)).listen(listen);
            try_listener(builder.peer(alice.public_key(), alice.local_addr()), ports, &to_bob)
        };
        let bob = again(own_address(), SourcePorts::PerShard).expect("the node starts");
        let listen = bob.local_addr();
        let ports = match sources(&bob)[0].port() {
            first if keeps_ports && first < u16::MAX => SourcePorts::PerShardFrom(first),
            _ => SourcePorts::PerShard,
        };
        stop(&[&bob]);
        list(&alice, &bob);
        let mut before = None;
        for _ in 0..3 {
            let bob = start_again(|| again(listen, ports));
            if keeps_ports {
                let first = before.get_or_insert_with(|| sources(&bob));
                assert_eq!(&sources(&bob), first);
            }
            send_from_all(&alice, bob.public_key(), 10);
            let sent = send_from_all(&bob, alice.public_key(), 10);
            assert_eq!(sent, (10 * FLOWS * SHARDS) as u64);
            settled(&bob);
            eventually("alice's are settled", || stats(&alice).tally().pending == 0);
            stop(&[&bob]);
        }
        let tally = stats(&alice).tally();
        let heard = to_bob.load(Ordering::Relaxed);
        assert_eq!(tally.delivered, heard, "{tally:?}");
        assert_eq!(tally.delivered + tally.unknown, tally.offered, "{tally:?}");
        assert!(heard >= (2 * 10 * FLOWS * SHARDS) as u64, "{tally:?}");
        stop(&[&alice]);
    }
}
