//! Goal: two processes on real sockets: mixed sizes up to 64 MiB arrive whole and once, and a killed receiver is noticed as
//! down, then lost.

mod support;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cubed::{Bytes, Node, Outcome, PublicKey, Shard, block_on};

/// Set in the child: it is a receiver, not a test.
const CHILD: &str = "CUBED_TEST_CHILD";

/// The child's side: a node that hashes what it gets; a line on standard input asks for a report.
#[test]
fn child_process() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let hashes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&hashes);
    let node = support::receiver(move |shard| {
        let seen = Arc::clone(&seen);
        let add = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            seen.lock().expect("no panic").push(*blake3::hash(message.body()).as_bytes());
        };
        shard.flow("mixed").handler(add).expect("a free name");
    });
    println!("child {} {}", node.public_key(), node.local_addr());
    for _ in std::io::stdin().lock().lines() {
        let hashes = hashes.lock().expect("no panic");
        println!("child {} {}", hashes.len(), digest(hashes.clone()));
    }
}

/// One hash of many, whatever their order.
fn digest(mut hashes: Vec<[u8; 32]>) -> String {
    hashes.sort_unstable();
    blake3::hash(&hashes.concat()).to_string()
}

struct Receiver {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
    key: PublicKey,
    address: SocketAddr,
}

impl Receiver {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(["child_process", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts again");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // The test harness prints too, on lines of its own or in front of ours.
        let words = |line: String| line.split_once("child ").map(|(_, rest)| rest.to_owned());
        let mut lines = Box::new(lines.map_while(Result::ok).filter_map(words));
        let hello = lines.next().expect("the child tells key and address");
        let (key, address) = hello.split_once(' ').expect("two words");
        let key = key.parse().expect("a public key");
        let address = address.parse().expect("an address");
        Self { child, lines, key, address }
    }

    fn report(&mut self) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"report\n").expect("the child lives");
        self.lines.next().expect("the child reports")
    }

    fn sender(&self, give_up: Duration) -> Node {
        let builder = support::builder().peer(self.key, self.address).give_up(give_up);
        builder.start(async |_: Shard| ()).expect("the sender starts")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sizes around every boundary: empty, short, a datagram, the copy limit, and the longest.
fn size(number: usize) -> usize {
    const SIZES: [usize; 16] = [
        0, 1, 8, 64, 387, 1_024, 1_400, 1_452, 3_000, 16_383, 16_384, 16_385, 65_536, 200_000, 9,
        100,
    ];
    if number == 500 { 64 << 20 } else { SIZES[number % SIZES.len()] }
}

#[test]
fn a_thousand_messages_of_mixed_sizes_reach_another_process() {
    let mut receiver = Receiver::start();
    let sender = receiver.sender(support::PATIENCE);
    let key = receiver.key;
    let sending = sender.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "mixed").expect("a valid name");
        let mut hashes = Vec::new();
        for number in 0..1_000usize {
            let body: Vec<u8> = (0..size(number)).map(|i| (i * 31 + number * 7) as u8).collect();
            let body = Bytes::from(body);
            hashes.push(*blake3::hash(&body).as_bytes());
            while let Err(error) = to.try_send_owned(body.clone()) {
                assert_eq!(error, cubed::SendError::Full);
                to.ready().await.expect("the node runs");
            }
        }
        digest(hashes)
    });
    let sent = block_on(sending).expect("the node runs");
    let report = block_on(sender.drain(Duration::from_mins(1))).expect("the node runs");
    assert_eq!((report.offered, report.delivered), (1_000, 1_000), "{report:?}");
    assert_eq!(receiver.report(), format!("1000 {sent}"));
}

#[test]
fn a_killed_receiver_is_down_within_3_5_s_and_lost_after_give_up() {
    let mut receiver = Receiver::start();
    let give_up = Duration::from_secs(5);
    let sender = receiver.sender(give_up);
    let key = receiver.key;
    let remote = sender.resolve(key, "mixed").expect("a valid name");
    assert_eq!(block_on(remote.send("alive?")), Ok(Outcome::Delivered));
    let streaming = sender.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "mixed").expect("a valid name");
        let mut sent = 0u64;
        while to.try_send_acknowledged(&[7; 64]).is_ok() {
            sent += 1;
        }
        sent
    });
    receiver.child.kill().expect("the child lives");
    receiver.child.wait().expect("the child ends");
    let killed = Instant::now();
    assert!(block_on(streaming).expect("the node runs") > 1_000);
    let is_down = || {
        let asked = sender.on_shard(0, move |shard| async move {
            shard.resolve(key, "mixed").expect("a valid name").is_down()
        });
        block_on(asked).expect("the node runs")
    };
    assert!(!is_down());
    support::eventually("the peer counts as down", is_down);
    assert!(killed.elapsed() < Duration::from_millis(3_500), "{:?}", killed.elapsed());
    let tally = || block_on(sender.stats()).expect("the node runs").tally();
    support::eventually("its messages have ended", || tally().pending == 0);
    let tally = tally();
    assert_eq!(tally.offered, tally.delivered + tally.peer_lost, "{tally:?}");
    assert!(tally.peer_lost > 0);
    assert!(killed.elapsed() < give_up + Duration::from_secs(1), "{:?}", killed.elapsed());
}
