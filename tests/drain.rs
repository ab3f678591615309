//! Goal: a drain accounts for every acknowledged message, whatever became of it.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubed::{
    Capacity, Context, Identity, Limits, Message, Outcome, SendError, Shard, WaitError, block_on,
};
use support::{PATIENCE, builder, receiver, send_numbered, sender_to, stop};

#[test]
fn everything_delivered_is_reported_so() {
    let bob = receiver(|shard| shard.flow("f").handler(|_, _| {}).expect("a new flow"));
    let alice = sender_to(&bob);
    send_numbered(&alice, &bob, "f", 500, 100);
    send_numbered(&alice, &bob, "unknown", 20, 100);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered, report.refused), (520, 500, 20));
    assert_eq!((report.undelivered(), report.uncertain()), (20, 0));
    let late = block_on(alice.resolve(bob.public_key(), "f").unwrap().send("late"));
    assert_eq!(late, Err(WaitError::Send(SendError::Closing)));
    stop(&[&alice, &bob]);
}

#[test]
fn what_a_handler_owns_goes_with_the_node() {
    let owned = Arc::new(());
    let guard = Arc::clone(&owned);
    let key = Identity::generate().unwrap().public_key();
    let bob = receiver(move |shard| {
        // A destination owns its shard, which owns the handler.
        let (back, guard) = (shard.resolve(key, "back").unwrap(), Arc::clone(&guard));
        let handler = move |_: &Message<'_>, context: &mut Context<'_>| {
            let _ = (context.send(&back, b"x"), &guard);
        };
        shard.flow("f").handler(handler).expect("a new flow");
    });
    let before = Arc::strong_count(&owned);
    stop(&[&bob]);
    drop(bob);
    assert_eq!((before, Arc::strong_count(&owned)), (2, 1), "handlers end with their node");
}

#[test]
fn what_nobody_answers_is_reported_at_the_deadline() {
    // A queue that nobody reads takes 64 KiB and holds it: the rest has no credit.
    let bob = receiver(|shard| {
        let queue = shard.flow("stuck").queue(Capacity::bytes(64 << 10)).expect("a new flow");
        let own = shard.clone();
        shard.spawn_local(async move {
            own.sleep(PATIENCE * 10).await;
            drop(queue);
        });
    });
    let alice = sender_to(&bob);
    send_numbered(&alice, &bob, "stuck", 2_000, 200);
    let begun = std::time::Instant::now();
    let report = block_on(alice.drain(Duration::from_millis(200))).unwrap();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(report.offered, 2_000);
    assert_eq!(report.delivered + report.undelivered() + report.uncertain(), report.offered);
    // 248 messages of 200 B, charged 264 each, are what 64 KiB of credit lets through.
    assert_eq!(report.delivered, 248, "{report:?}");
    stop(&[&alice, &bob]);
}

#[test]
fn what_never_found_a_session_is_reported() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let key = Identity::generate().unwrap().public_key();
    let alice = builder().peer(key, socket.local_addr().unwrap());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let offered = block_on(alice.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "f").unwrap();
        (0..10).filter(|_| to.try_send_acknowledged(b"anybody?").is_ok()).count()
    }));
    assert_eq!(offered, Ok(10));
    let report = block_on(alice.drain(Duration::from_millis(50))).unwrap();
    assert_eq!(report.offered, 10);
    assert_eq!(report.delivered + report.undelivered() + report.uncertain(), 10, "{report:?}");
    assert_eq!((report.delivered, report.undelivered(), report.unsent), (0, 10, 10));
    stop(&[&alice]);
}

#[test]
fn a_drain_under_load_with_a_dead_peer_is_exact_and_in_time() {
    let bob = receiver(|shard| shard.flow("f").handler(|_, _| {}).expect("a new flow"));
    // Nobody answers here: what is sent to it can only wait.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = Identity::generate().unwrap().public_key();
    let alice = builder().peer(bob.public_key(), bob.local_addr());
    let alice = alice.peer(dead, silent.local_addr().unwrap());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let key = bob.public_key();
    let taken = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&taken);
    let load = alice.on_shard(0, move |shard| async move {
        let answering = shard.resolve(key, "f").expect("a valid flow name");
        let dead = shard.resolve(dead, "f").expect("a valid flow name");
        loop {
            for to in [&answering, &dead] {
                match to.try_send_acknowledged(&[7; 300]) {
                    Ok(()) => counts.fetch_add(1, Ordering::Relaxed),
                    Err(SendError::Full) => continue,
                    Err(SendError::Closing) => return,
                    Err(error) => panic!("{error}"),
                };
            }
            shard.yield_now().await;
        }
    });
    let (report, took) = std::thread::scope(|scope| {
        let load = scope.spawn(|| block_on(load));
        support::eventually("the load flows", || taken.load(Ordering::Relaxed) > 5_000);
        let begun = std::time::Instant::now();
        // As a handler of SIGTERM does: no word to the tasks, which go on sending until they are refused.
        let report = block_on(alice.drain(Duration::from_millis(300))).unwrap();
        let took = begun.elapsed();
        assert_eq!(load.join().unwrap(), Ok(()));
        (report, took)
    });
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(report.offered, taken.load(Ordering::Relaxed), "{report:?}");
    assert_eq!(report.delivered + report.undelivered() + report.uncertain(), report.offered);
    let accepted = block_on(bob.stats()).unwrap().counter("acknowledged_accepted").unwrap();
    assert!(report.delivered <= accepted && accepted <= report.delivered + report.uncertain());
    assert!(report.unsent > 0, "what waited for the dead peer was never sent: {report:?}");
    stop(&[&alice, &bob]);
}

/// Carries datagrams between a client and `node`; once `mute` is set, only towards the node.
fn one_way(node: SocketAddr, mute: Arc<AtomicBool>) -> SocketAddr {
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (outer, inner) = (Arc::new(bind()), Arc::new(bind()));
    inner.connect(node).unwrap();
    let at = outer.local_addr().unwrap();
    let client = Arc::new(Mutex::new(None));
    let (to_client, back, other) = (Arc::clone(&outer), Arc::clone(&inner), Arc::clone(&client));
    // The threads end with the process.
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((bytes, from)) = outer.recv_from(&mut buffer) {
            *client.lock().unwrap() = Some(from);
            let _ = inner.send(&buffer[..bytes]);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(bytes) = back.recv(&mut buffer) {
            let client = *other.lock().unwrap();
            if let Some(client) = client.filter(|_| !mute.load(Ordering::Relaxed)) {
                let _ = to_client.send_to(&buffer[..bytes], client);
            }
        }
    });
    at
}

#[test]
fn what_arrived_and_was_never_answered_is_not_called_undelivered() {
    let taken = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&taken);
    let bob = receiver(move |shard| {
        let counts = Arc::clone(&counts);
        shard
            .flow("f")
            .handler(move |_, _| _ = counts.fetch_add(1, Ordering::Relaxed))
            .expect("a new flow");
    });
    let mute = Arc::new(AtomicBool::new(false));
    let at = one_way(bob.local_addr(), Arc::clone(&mute));
    let (down_after, give_up) = (Duration::from_secs(1), Duration::from_secs(3));
    let limits = Limits { down_after, give_up, ..Limits::default() };
    let alice = builder().limits(limits).peer(bob.public_key(), at);
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let flow = alice.resolve(bob.public_key(), "f").unwrap();
    assert_eq!(block_on(flow.send("answered")), Ok(Outcome::Delivered));
    mute.store(true, Ordering::Relaxed);
    assert_eq!(block_on(flow.send("heard")), Ok(Outcome::PeerLost));
    assert_eq!(taken.load(Ordering::Relaxed), 2, "it arrived");
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered, report.peer_lost), (2, 1, 1), "{report:?}");
    assert_eq!((report.undelivered(), report.uncertain()), (0, 1), "{report:?}");
    stop(&[&alice, &bob]);
}
