//! Helpers of the tests between processes: a peer, a relay in front of it, and a sending node of this process.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses the part that it needs")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubed::{
    Bytes, Destination, DrainReport, Identity, Node, NodeBuilder, PublicKey, SendError, Shard,
    block_on,
};
use cubed_sockets::child::Process;
use cubed_sockets::nodes::node;
use cubed_sockets::relay::impairment::Counts;
use cubed_sockets::report::{Hello, Listening, Report};
use cubed_sockets::traffic::Plan;

/// A receiving process.
pub struct Peer {
    pub process: Process,
    pub key: PublicKey,
    pub address: SocketAddr,
}

impl Peer {
    pub fn start(flags: &str) -> Self {
        let words: Vec<&str> = flags.split_whitespace().collect();
        let mut process = Process::start(env!("CARGO_BIN_EXE_cubed-peer"), &words);
        let hello: Hello = process.answer();
        let key = hello.key.parse().expect("a public key");
        Self { process, key, address: hello.address }
    }

    /// A receiver that expects this plan on flow `checked`.
    pub fn expecting(plan: &Plan) -> Self {
        let Plan { seed, short, long, long_bytes } = plan;
        Self::start(&format!(
            "--seed {seed} --short {short} --long {long} --long-bytes {long_bytes}"
        ))
    }

    pub fn report(&mut self) -> Report {
        self.process.ask("report")
    }
}

/// A relay process.
pub struct Relay {
    process: Process,
    pub address: SocketAddr,
}

impl Relay {
    pub fn start(to: SocketAddr, flags: &str) -> Self {
        let to = format!("--to {to} {flags}");
        let words: Vec<&str> = to.split_whitespace().collect();
        let mut process = Process::start(env!("CARGO_BIN_EXE_cubed-relay"), &words);
        let listening: Listening = process.answer();
        Self { process, address: listening.address }
    }

    /// Says `cut`, `open`, `rebind` or `counts`; the counts so far.
    pub fn tell(&mut self, order: &str) -> Counts {
        self.process.ask(order)
    }

    /// Ends it; what it did.
    pub fn end(self) -> Counts {
        self.process.end()
    }
}

/// A node of this process that knows one peer.
pub fn sender(key: PublicKey, address: SocketAddr) -> NodeBuilder {
    let identity = Identity::generate().expect("random numbers");
    node().identity(identity).listen("127.0.0.1:0").peer(key, address)
}

pub fn start(builder: NodeBuilder) -> Node {
    builder.start(async |_: Shard| ()).expect("the sender starts")
}

/// Sends a whole plan to flow `checked`, at most this many bytes a second, and drains.
pub fn send_all(
    node: &Node,
    key: PublicKey,
    plan: Plan,
    bytes_per_second: u64,
    patience: Duration,
) -> DrainReport {
    let sending = node.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "checked").expect("a valid name");
        let (begun, mut bytes) = (shard.now(), 0_u64);
        for number in 0..plan.count() {
            let body = Bytes::from(plan.body(number));
            bytes += body.len() as u64;
            send(&to, &body).await;
            let nanos = bytes.saturating_mul(1_000_000_000) / bytes_per_second;
            let due = begun + Duration::from_nanos(nanos);
            if shard.now() < due {
                shard.sleep_until(due).await;
            }
        }
    });
    block_on(sending).expect("the node runs");
    block_on(node.drain(patience)).expect("the node runs")
}

async fn send(to: &Destination, body: &Bytes) {
    while let Err(error) = to.try_send_owned(body.clone()) {
        assert_eq!(error, SendError::Full);
        to.ready().await.expect("the node runs");
    }
}

/// How long it takes until `condition` holds.
pub fn time_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// The counters of the sending node that tell what a bad path did.
pub fn told(node: &Node) -> String {
    let stats = block_on(node.stats()).expect("the node runs");
    let names = [
        "datagrams_sent",
        "datagrams_received",
        "blocks_resent",
        "packets_lost",
        "packets_lost_spuriously",
        "probe_timeouts",
        "dropped_forged",
        "dropped_replayed",
    ];
    let one = |name: &&str| format!("{name} {}", stats.counter(name).unwrap_or(0));
    names.iter().map(one).collect::<Vec<_>>().join(", ")
}
