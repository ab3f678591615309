//! Goal: a node that watches a peer hears when it comes, goes and comes back, on any thread, and no longer than it listens.

mod support;

use std::net::SocketAddr;

use cubed::{
    DownCause, Identity, Node, PeerState, Policy, PresenceEvents, Shard, Shards, block_on,
};
use support::{builder, eventually, own_address, receiver, start_again, stop};

#[test]
fn a_watched_peer_comes_and_goes_and_comes_back() {
    let seed = [7; 32];
    let bob = |listen: SocketAddr| {
        start_again(|| {
            let bob = builder().identity(Identity::from_seed(&seed)).policy(Policy::open());
            bob.listen(listen).start(async |_: Shard| ())
        })
    };
    let first = bob(own_address());
    let (key, at) = (first.public_key(), first.local_addr());
    let alice = builder().peer_named("bob", key, at).start(async |_: Shard| ()).unwrap();
    let mut events = block_on(alice.watch_named("bob")).unwrap();
    let up = block_on(events.next()).unwrap();
    assert_eq!((up.key, up.state, up.missed), (key, PeerState::Up, 0));
    let early = block_on(alice.presence()).unwrap();
    assert_eq!((early.up().count(), early.down().count(), early.unknown().count()), (1, 0, 0));

    stop(&[&first]);
    let down = block_on(events.next()).unwrap();
    assert_eq!(down.state, PeerState::Down(DownCause::Closed));
    let late = block_on(alice.presence()).unwrap();
    assert_eq!((late.up().count(), late.down().count()), (0, 1));
    let gone: Vec<_> = late.departures_since(&early).map(|peer| peer.key).collect();
    assert_eq!((gone, late.arrivals_since(&early).count()), (vec![key], 0));

    let second = bob(at);
    // A task of the shard hears of it as well; its watch begins with what is known.
    let heard = alice.on_shard(0, move |shard| async move {
        let mut events = shard.watch(key).expect("room for a watcher");
        while let Some(event) = events.next().await {
            if event.state == PeerState::Up {
                return true;
            }
        }
        false
    });
    assert_eq!(block_on(heard), Ok(true));
    assert_eq!(block_on(events.next()).unwrap().state, PeerState::Up);
    drop(events);
    eventually("nobody listens, so nobody is watched", || {
        block_on(alice.presence()).unwrap().iter().count() == 0
    });
    stop(&[&alice, &second]);
}

/// Which shard a dialler comes to is chance, and no other shard knows where it is.
#[test]
fn who_dialled_us_is_watched_whichever_shard_it_came_to() {
    let node = builder().policy(Policy::open()).shards(Shards::Unpinned(2));
    let node = node.start(async |_: Shard| ()).unwrap();
    let strangers: Vec<_> = (0..10).map(|_| stranger_to(&node)).collect();
    let watched: Vec<_> = strangers
        .iter()
        .map(|(peer, _)| block_on(node.watch(peer.public_key())).unwrap())
        .collect();
    eventually("all ten are up", || {
        block_on(node.presence()).unwrap().up().count() == strangers.len()
    });
    drop((watched, strangers.iter().map(|(peer, _)| stop(&[peer])).collect::<Vec<_>>()));
    stop(&[&node]);
}

/// A node that `node` does not know, and which has a session with it.
fn stranger_to(node: &Node) -> (Node, PresenceEvents) {
    let peer = builder().peer(node.public_key(), node.local_addr());
    let peer = peer.start(async |_: Shard| ()).unwrap();
    let mut events = block_on(peer.watch(node.public_key())).unwrap();
    assert_eq!(block_on(events.next()).unwrap().state, PeerState::Up);
    (peer, events)
}

#[test]
fn watchers_hear_that_the_node_stops() {
    let bob = receiver(|_| ());
    let alice = builder().peer(bob.public_key(), bob.local_addr());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let mut events = block_on(alice.watch(bob.public_key())).unwrap();
    assert_eq!(block_on(events.next()).unwrap().state, PeerState::Up);
    stop(&[&alice]);
    while block_on(events.next()).is_some() {}
    stop(&[&bob]);
}
