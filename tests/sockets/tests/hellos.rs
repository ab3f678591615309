//! Goal: hellos that a sender hides behind another datagram get no more of a shard than others, and an honest one among them
//! is answered.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use cubed::runtime::{SendStatus, SocketOptions, UdpSocket};
use cubed::{Identity, Node, Shard, ShardStats, block_on};
use cubed_transport::handshake::{Credentials, Dial};

use cubed_sockets::nodes::node;

const HELLO_BYTES: usize = 1_200;

/// Sends datagrams of equal length by one call, which loopback brings as one batch.
fn send_batch(sender: &UdpSocket, to: &Node, datagrams: &[Vec<u8>]) {
    let sent = sender.send(to.local_addr(), &datagrams.concat(), HELLO_BYTES).expect("send");
    assert_eq!(sent, SendStatus::Sent);
    assert!(sender.gso_enabled(), "one call");
}

fn sender() -> UdpSocket {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    UdpSocket::bind(any, &SocketOptions::default()).expect("a socket")
}

/// A datagram of a lane that the node does not know.
fn lane_datagram() -> Vec<u8> {
    let mut datagram = vec![7; HELLO_BYTES];
    datagram[..2].copy_from_slice(&[0x40, 0]);
    datagram
}

fn receiver() -> Node {
    let identity = Identity::generate().expect("randomness");
    let builder = node().identity(identity).listen("127.0.0.1:0");
    builder.start(async |_: Shard| ()).expect("the node starts")
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn stop(node: &Node) {
    node.shutdown();
    assert_eq!(node.join(), Ok(()));
}

fn stats(node: &Node) -> ShardStats {
    block_on(node.stats()).expect("the node runs").shards.remove(0)
}

#[test]
fn hellos_behind_another_datagram_wait_for_their_turn_or_are_counted() {
    let (node, sender) = (receiver(), sender());
    let mut hello = vec![9; HELLO_BYTES];
    hello[..8].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 1]);
    let mut datagrams = vec![hello; 40];
    datagrams[0] = lane_datagram();
    send_batch(&sender, &node, &datagrams);
    eventually("all are accounted for", || {
        let stats = stats(&node);
        stats.hellos_queued + stats.hellos_dropped == 39
            && stats.counters.dropped_handshake == stats.hellos_queued
    });
    let stats = stats(&node);
    assert_eq!((stats.hellos_queued, stats.driver.side_datagrams), (4, 0));
    stop(&node);
}

#[test]
fn an_honest_hello_behind_another_datagram_is_answered() {
    let (node, sender) = (receiver(), sender());
    let credentials = Credentials::new(&Identity::generate().expect("randomness"));
    let credentials = credentials.expect("credentials");
    let dial = Dial::new(&credentials, node.public_key(), "", 7, [3; 8], 0).expect("a dial");
    let mut hello = Vec::new();
    dial.hello(None, &mut hello);
    assert_eq!(hello.len(), HELLO_BYTES);
    send_batch(&sender, &node, &[lane_datagram(), hello]);
    // What comes first may be the answer to the lane datagram.
    let mut kinds = Vec::new();
    eventually("a reply comes", || {
        let mut buffer = [0; 2_000];
        while sender.recv(&mut buffer).expect("recv").is_some() {
            kinds.push(buffer[0]);
        }
        kinds.iter().any(|kind| [2, 4].contains(kind))
    });
    assert_eq!(stats(&node).hellos_queued, 1);
    stop(&node);
}
