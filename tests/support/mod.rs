//! Helpers of the tests with real nodes: two of them on loopback, and time limits for what may hang.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses the part that it needs")]

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cubed::runtime::BindError;
use cubed::{Backend, Identity, Node, NodeBuilder, Policy, Shard, StartError, block_on};

/// Longer than anything here takes, shorter than anybody's patience.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A node on a free port of loopback, with a fresh identity.
pub fn builder() -> NodeBuilder {
    node().identity(Identity::generate().expect("random numbers")).listen("127.0.0.1:0")
}

/// A node on the backend under test, with nothing else set.
pub fn node() -> NodeBuilder {
    Node::builder().backend(backend())
}

/// The backend that `CUBED_BACKEND` names (auto, uring or epoll); the library's own choice without it.
pub fn backend() -> Backend {
    match env::var("CUBED_BACKEND") {
        Ok(name) => name.parse().expect("CUBED_BACKEND names a backend"),
        Err(_) => Backend::Auto,
    }
}

/// Any port of a loopback address that is this call's alone, so that nobody takes the port while its node is away.
pub fn own_address() -> SocketAddr {
    static CALLS: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    // The last byte is odd, so the address is neither that of the network nor its broadcast.
    let host = Ipv4Addr::new(127, high, low, call.checked_mul(2).expect("few calls") + 1);
    SocketAddr::from((host, 0))
}

/// Starts a node where another listened that has ended. The system frees the port of a node a moment after its end, when its
/// ring is gone.
pub fn start_again(mut start: impl FnMut() -> Result<Node, StartError>) -> Node {
    let mut node = None;
    eventually("the port is free again", || match start() {
        Err(StartError::Bind(BindError::AddressInUse { .. })) => false,
        started => {
            node = Some(started.expect("the node starts"));
            true
        }
    });
    node.expect("it has started")
}

/// A node that only sends, and knows `peer`.
pub fn sender_to(peer: &Node) -> Node {
    let builder = builder().peer(peer.public_key(), peer.local_addr());
    builder.start(async |_: Shard| ()).expect("the sender starts")
}

/// A node with an open policy whose shard does what `set_up` says.
pub fn receiver(set_up: impl Fn(&Shard) + Send + Clone + 'static) -> Node {
    let start = move |shard: Shard| {
        set_up(&shard);
        async move { drop(shard) }
    };
    builder().policy(Policy::open()).start(start).expect("the receiver starts")
}

/// Polls `condition` until it holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let pause = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    while !condition() {
        assert!(waited < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(pause);
        waited += pause;
    }
}

/// Stops nodes in order and checks that they end well.
pub fn stop(nodes: &[&Node]) {
    for node in nodes {
        node.shutdown();
        assert_eq!(node.join(), Ok(()));
    }
}

/// Sends `count` numbered messages of `bytes` each, acknowledged and in order, waiting for room only.
pub fn send_numbered(from: &Node, to: &Node, flow: &'static str, count: u64, bytes: usize) {
    let key = to.public_key();
    let sent = from.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, flow).expect("a valid flow name");
        let mut body = vec![0; bytes];
        for number in 0..count {
            body[..8].copy_from_slice(&number.to_le_bytes());
            while let Err(error) = to.try_send_acknowledged(&body) {
                assert_eq!(error, cubed::SendError::Full);
                to.ready().await.expect("the node runs");
            }
        }
    });
    block_on(sent).expect("the node runs");
}

/// The number in front of a body of [`send_numbered`].
pub fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("8 bytes"))
}
