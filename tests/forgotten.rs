//! Goal: what waits for a peer that is forgotten ends at once and says why, on every shard and every backend, and the peer may be
//! added again at any time.

mod support;

use std::net::UdpSocket;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use cubed::{
    Backend, Bytes, ConnectError, Node, NodeBuilder, Outcome, Policy, PublicKey, RequestError,
    SendError, Shard, Shards, Stopped, WaitError, block_on,
};
use support::{PATIENCE, builder, eventually, stop};

const SHARDS: usize = 2;
/// What a test waits for ends by being forgotten, long before this.
const LONG: Duration = Duration::from_mins(10);

/// A builder for each backend that is to be tested.
fn on_each_backend() -> Vec<impl Fn() -> NodeBuilder> {
    let backends = match support::backend() {
        Backend::Epoll => vec![Backend::Epoll],
        _ => vec![Backend::Epoll, Backend::Auto],
    };
    let builder_on = |backend| move || builder().shards(Shards::Unpinned(SHARDS)).backend(backend);
    backends.into_iter().map(builder_on).collect()
}

fn sender(builder: NodeBuilder) -> Node {
    let builder = builder.dial_timeout(LONG).give_up(LONG);
    builder.start(async |_: Shard| ()).expect("the node starts")
}

/// Takes messages on `f`, and keeps who asks on `silent` waiting.
fn answering(builder: NodeBuilder) -> Node {
    let node = builder.policy(Policy::open()).start(async |shard: Shard| {
        shard.flow("f").handler(|_, _| ())?;
        let mut asked = Vec::new();
        shard.flow("silent").handler(move |_, context| asked.extend(context.responder()))
    });
    node.expect("the node starts")
}

fn counter(node: &Node, name: &str) -> u64 {
    block_on(node.stats()).unwrap().counter(name).expect("a counter of this name")
}

/// How waits ended: a message, a request, a dial, a watch, a message without room, and who waited for room; and a send afterwards.
#[derive(Debug)]
struct Ends {
    sent: Result<Outcome, WaitError>,
    asked: Result<Bytes, RequestError>,
    dialled: Result<(), ConnectError>,
    is_watch_over: bool,
    crowded: Result<Outcome, WaitError>,
    ready: Result<(), Stopped>,
    afterwards: Result<(), SendError>,
}

/// Waits in every way, each in a task of its own, and says so once all do.
async fn wait_in_every_way(shard: Shard, key: PublicKey, waits: Sender<()>) -> Ends {
    let to = shard.resolve(key, "f").expect("a valid name");
    let mut watch = shard.watch(key).expect("it is known");
    let (one, two, three) = (to.clone(), to.clone(), to.clone());
    let sent = shard.spawn_local(async move { one.send(b"x").acknowledged().await });
    let asked = shard.spawn_local(async move { two.request(b"x", LONG).await });
    let dialled = shard.spawn_local(async move { three.connect().await });
    let watched = shard.spawn_local(async move { watch.next().await });
    shard.yield_now().await;
    while to.try_send_acknowledged(&[0; 1_000]).is_ok() {}
    let (one, two) = (to.clone(), to.clone());
    let crowded = shard.spawn_local(async move { one.send(&[0; 1_000]).acknowledged().await });
    let ready = shard.spawn_local(async move { two.ready().await });
    for _ in 0..10 {
        shard.yield_now().await;
    }
    waits.send(()).expect("the test waits");
    Ends {
        sent: sent.await.expect("no panic"),
        asked: asked.await.expect("no panic"),
        dialled: dialled.await.expect("no panic"),
        is_watch_over: watched.await.expect("no panic").is_none(),
        crowded: crowded.await.expect("no panic"),
        ready: ready.await.expect("no panic"),
        afterwards: to.try_send_acknowledged(b"late"),
    }
}

#[test]
fn what_waits_for_a_peer_that_never_answers_ends_when_it_is_forgotten() {
    for builder in on_each_backend() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let alice = sender(builder());
        let key = PublicKey::from_bytes([9; 32]);
        alice.add_peer(key, &[silent.local_addr().unwrap()]).unwrap();
        let (waits, begun) = mpsc::channel();
        let waiting: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let (alice, waits) = (alice.clone(), waits.clone());
                let wait = move |shard| wait_in_every_way(shard, key, waits);
                thread::spawn(move || block_on(alice.on_shard(shard, wait)).expect("it runs"))
            })
            .collect();
        for _ in 0..SHARDS {
            begun.recv_timeout(PATIENCE).expect("each shard waits");
        }
        assert!(alice.forget_peer(key));
        for ends in waiting {
            let ends = ends.join().unwrap();
            let unknown = SendError::UnknownPeer;
            assert_eq!(ends.sent, Ok(Outcome::PeerLost), "{ends:?}");
            assert_eq!(ends.asked, Err(RequestError::PeerLost), "{ends:?}");
            assert_eq!(ends.dialled, Err(ConnectError::Send(unknown)), "{ends:?}");
            assert_eq!(ends.crowded, Err(WaitError::Send(unknown)), "{ends:?}");
            assert_eq!(ends.afterwards, Err(unknown), "{ends:?}");
            assert!(ends.is_watch_over && ends.ready.is_ok(), "{ends:?}");
        }
        assert_eq!(counter(&alice, "peers_forgotten"), SHARDS as u64);
        let presence = block_on(alice.presence()).unwrap();
        assert!(presence.get(&key).is_none(), "nobody watches it any more");
        stop(&[&alice]);
    }
}

#[test]
fn a_peer_is_forgotten_and_added_again_in_the_midst_of_traffic() {
    const ROUNDS: u64 = 20;
    for builder in on_each_backend() {
        let (alice, bob) = (sender(builder()), answering(builder()));
        let (key, at) = (bob.public_key(), bob.local_addr());
        for _ in 0..ROUNDS {
            alice.add_peer(key, &[at]).unwrap();
            let talk = async move |shard: Shard| {
                let to = shard.resolve(key, "f").expect("a valid name");
                let silent = shard.resolve(key, "silent").expect("a valid name");
                let asked = shard.spawn_local(async move { silent.request(b"?", LONG).await });
                (to.send(b"x").acknowledged().await, asked)
            };
            let (tell, begun) = mpsc::channel();
            let asking: Vec<_> = (0..SHARDS)
                .map(|shard| {
                    let (alice, tell) = (alice.clone(), tell.clone());
                    thread::spawn(move || {
                        let ask = async move |shard| {
                            let (sent, asked) = talk(shard).await;
                            tell.send(sent).expect("the test waits");
                            asked.await.expect("no panic")
                        };
                        block_on(alice.on_shard(shard, ask)).expect("it runs")
                    })
                })
                .collect();
            for _ in 0..SHARDS {
                let sent = begun.recv_timeout(PATIENCE).expect("it is delivered");
                assert_eq!(sent, Ok(Outcome::Delivered));
            }
            // Added again at once, before any shard has looked.
            assert!(alice.forget_peer(key));
            alice.add_peer(key, &[at]).unwrap();
            for asked in asking {
                let asked = asked.join().unwrap();
                let is_end = matches!(asked, Err(RequestError::Unknown | RequestError::PeerLost));
                assert!(is_end, "{asked:?}");
            }
        }
        let flow = alice.resolve(key, "f").unwrap();
        assert_eq!(block_on(flow.send("x")), Ok(Outcome::Delivered));
        let places = counter(&alice, "peers_forgotten");
        assert!(places >= ROUNDS * SHARDS as u64, "{places}");
        assert_eq!(counter(&alice, "violations") + counter(&bob, "violations"), 0);
        let tally = |node: &Node| block_on(node.stats()).unwrap().tally();
        eventually("all has ended", || tally(&alice).pending == 0);
        stop(&[&alice, &bob]);
    }
}
