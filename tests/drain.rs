//! Goal: a drain accounts for every acknowledged message, whatever became of it.

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cubed::{Capacity, Identity, SendError, Shard, WaitError, block_on};
use support::{PATIENCE, builder, receiver, send_numbered, sender_to, stop};

#[test]
fn everything_delivered_is_reported_so() {
    let bob = receiver(|shard| shard.flow("f").handler(|_, _| {}).expect("a new flow"));
    let alice = sender_to(&bob);
    send_numbered(&alice, &bob, "f", 500, 100);
    send_numbered(&alice, &bob, "unknown", 20, 100);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered, report.refused), (520, 500, 20));
    assert_eq!((report.undelivered(), report.unknown), (20, 0));
    let late = block_on(alice.resolve(bob.public_key(), "f").unwrap().send("late"));
    assert_eq!(late, Err(WaitError::Send(SendError::Closing)));
    stop(&[&alice, &bob]);
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
    assert_eq!(report.delivered + report.undelivered() + report.unknown, report.offered);
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
    assert_eq!(report.delivered + report.undelivered() + report.unknown, 10, "{report:?}");
    assert_eq!(report.delivered, 0);
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
    assert_eq!(report.delivered + report.undelivered() + report.unknown, report.offered);
    let accepted = block_on(bob.stats()).unwrap().counter("acknowledged_accepted").unwrap();
    assert!(report.delivered <= accepted && accepted <= report.delivered + report.unknown);
    assert!(report.peer_lost > 0, "what waited for the dead peer was never sent: {report:?}");
    stop(&[&alice, &bob]);
}
