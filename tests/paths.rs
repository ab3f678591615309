//! Goal: over real sockets, a path that silently drops long datagrams still delivers, and a sender whose address changes is
//! followed.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use cubed::{Node, Shard, block_on};
use support::{PATIENCE, builder, eventually, number, receiver, send_numbered, stop};

/// How long the relay waits for a datagram before it looks at its orders.
const GLANCE: Duration = Duration::from_millis(1);

/// What a relay is told to do.
#[derive(Default)]
struct Orders {
    /// Longer datagrams vanish; zero drops none.
    datagram_bytes_max: AtomicUsize,
    /// Towards the receiver, datagrams leave by the second socket.
    has_moved: AtomicBool,
    ends: AtomicBool,
}

/// A NAT with a narrow path behind it: one thread, one socket towards the sender, two towards the receiver.
struct Relay {
    address: SocketAddr,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn to(receiver: SocketAddr) -> Self {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.set_read_timeout(Some(GLANCE)).expect("a timeout");
            socket
        };
        let (near, far) = (bind(), [bind(), bind()]);
        let address = near.local_addr().expect("bound");
        let orders = Arc::new(Orders::default());
        let told = Arc::clone(&orders);
        let thread = std::thread::spawn(move || relay(&near, &far, receiver, &told));
        Self { address, orders, thread: Some(thread) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.orders.ends.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()));
    }
}

fn relay(near: &UdpSocket, far: &[UdpSocket; 2], receiver: SocketAddr, orders: &Orders) {
    let mut sender = None;
    let mut buffer = vec![0; 65_536];
    for socket in far {
        socket.set_nonblocking(true).expect("non-blocking");
    }
    while !orders.ends.load(Ordering::Relaxed) {
        let limit = orders.datagram_bytes_max.load(Ordering::Relaxed);
        let passes = |bytes: usize| limit == 0 || bytes <= limit;
        let index = usize::from(orders.has_moved.load(Ordering::Relaxed));
        if let Ok((bytes, from)) = near.recv_from(&mut buffer) {
            sender = Some(from);
            if passes(bytes) {
                let _ = far[index].send_to(&buffer[..bytes], receiver);
            }
        }
        // What comes to a mapping that is forgotten is dropped.
        while let Ok((bytes, _)) = far[index].recv_from(&mut buffer) {
            if let Some(sender) = sender
                && passes(bytes)
            {
                let _ = near.send_to(&buffer[..bytes], sender);
            }
        }
    }
}

/// A receiver that tells the numbers of what it gets, a relay to it, and a sender that knows only the relay.
fn behind_a_relay() -> (Node, Relay, Node, mpsc::Receiver<u64>) {
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = numbers.send(number(message.body()));
        };
        shard.flow("numbers").handler(handler).expect("a new flow");
    });
    let relay = Relay::to(bob.local_addr());
    let alice = builder().peer(bob.public_key(), relay.address);
    let alice = alice.start(async |_: Shard| ()).expect("the sender starts");
    (bob, relay, alice, received)
}

fn counter(node: &Node, name: &str) -> u64 {
    block_on(node.stats()).expect("the node runs").counter(name).expect("a counter")
}

fn check_received(received: &mpsc::Receiver<u64>, rounds: u64, count: u64) {
    let mut numbers: Vec<_> = received.try_iter().collect();
    numbers.sort_unstable();
    let expected: Vec<_> = (0..count).flat_map(|n| (0..rounds).map(move |_| n)).collect();
    assert_eq!(numbers.len(), expected.len());
    assert_eq!(numbers, expected);
}

#[test]
fn a_path_that_drops_what_is_longer_than_1300_bytes_delivers() {
    let (bob, relay, alice, received) = behind_a_relay();
    relay.orders.datagram_bytes_max.store(1_300, Ordering::Relaxed);
    send_numbered(&alice, &bob, "numbers", 500, 5_000);
    assert_eq!(block_on(alice.drain(PATIENCE)).unwrap().delivered, 500);
    assert!(counter(&alice, "size_probes_sent") > 0);
    check_received(&received, 1, 500);
    stop(&[&alice, &bob]);
}

#[test]
fn a_path_that_shrinks_mid_stream_delivers() {
    let (bob, relay, alice, received) = behind_a_relay();
    send_numbered(&alice, &bob, "numbers", 100, 5_000);
    eventually("the path's length is found", || counter(&alice, "size_raised") > 0);
    relay.orders.datagram_bytes_max.store(1_300, Ordering::Relaxed);
    send_numbered(&alice, &bob, "numbers", 100, 5_000);
    assert_eq!(block_on(alice.drain(PATIENCE)).unwrap().delivered, 200);
    assert!(counter(&alice, "size_fell") > 0 && counter(&alice, "parts_sent") > 0);
    check_received(&received, 2, 100);
    stop(&[&alice, &bob]);
}

#[test]
fn a_sender_whose_address_changes_is_followed() {
    let (bob, relay, alice, received) = behind_a_relay();
    send_numbered(&alice, &bob, "numbers", 100, 5_000);
    eventually("the first arrive", || counter(&bob, "acknowledged_accepted") == 100);
    relay.orders.has_moved.store(true, Ordering::Relaxed);
    send_numbered(&alice, &bob, "numbers", 100, 5_000);
    assert_eq!(block_on(alice.drain(PATIENCE)).unwrap().delivered, 200);
    assert!(counter(&bob, "paths_validated") > 0);
    assert_eq!(counter(&alice, "sessions_begun"), 1);
    check_received(&received, 2, 100);
    stop(&[&alice, &bob]);
}
