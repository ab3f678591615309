//! Goal: what goes wrong is said to whoever can do something about it, and nothing hangs.

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use cubed::{
    ConnectError, DialFailure, Identity, NodeError, Outcome, Policy, Refusal, Shard, StartError,
    Stopped, block_on,
};
use support::{PATIENCE, builder, eventually, receiver, sender_to, stop};

#[test]
fn a_message_to_an_unknown_flow_is_refused_to_its_sender() {
    let bob = receiver(|_| {});
    let alice = sender_to(&bob);
    let nowhere = alice.resolve(bob.public_key(), "nowhere").unwrap();
    let refused = Ok(Outcome::Refused(Refusal::NoSuchFlow));
    assert_eq!(block_on(nowhere.send("anybody?")), refused);
    stop(&[&alice, &bob]);
}

#[test]
fn the_default_policy_denies_even_known_peers() {
    let alice = Identity::generate().unwrap();
    // Bob knows Alice, so she may connect, but no rule lets her send.
    let bob = builder()
        .peer(alice.public_key(), "127.0.0.1:9")
        .start(async |shard: Shard| shard.flow("orders").handler(|_, _| unreachable!("denied")));
    let bob = bob.unwrap();
    let alice = support::node().identity(alice).listen("127.0.0.1:0");
    let alice = alice.peer(bob.public_key(), bob.local_addr()).start(async |_: Shard| ()).unwrap();
    let orders = alice.resolve(bob.public_key(), "orders").unwrap();
    assert_eq!(block_on(orders.send("buy")), Ok(Outcome::Refused(Refusal::Denied)));
    assert!(block_on(bob.stats()).unwrap().shards[0].bindings_refused > 0);
    // A policy that allows it takes effect without a new session.
    let rule = "orders".parse().unwrap();
    let policy = Policy::deny().with_rule(alice.public_key(), rule, &[cubed::Verb::Request]);
    block_on(bob.set_policy(policy)).unwrap();
    assert_eq!(
        block_on(orders.send("buy")),
        Ok(Outcome::Refused(Refusal::Denied)),
        "not this verb"
    );
    stop(&[&alice, &bob]);
}

#[test]
fn a_stranger_is_not_admitted() {
    let bob = builder().start(async |_: Shard| ()).unwrap();
    let alice = builder().peer(bob.public_key(), bob.local_addr());
    let alice = alice.dial_timeout(Duration::from_millis(700)).start(async |_: Shard| ()).unwrap();
    let failed = block_on(alice.resolve(bob.public_key(), "x").unwrap().connect()).unwrap_err();
    let text = failed.to_string();
    assert!(text.contains(&alice.public_key().fingerprint().to_string()), "{text}");
    assert!(text.contains(&bob.local_addr().to_string()), "{text}");
    stop(&[&alice, &bob]);
}

#[test]
fn nobody_listening_is_a_timeout_that_says_so() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap();
    drop(socket);
    let key = Identity::generate().unwrap().public_key();
    let alice = builder().peer(key, nobody).dial_timeout(Duration::from_millis(300));
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let failed = block_on(alice.resolve(key, "x").unwrap().connect()).unwrap_err();
    assert!(matches!(failed, ConnectError::Dial(DialFailure::Timeout { .. })), "{failed:?}");
    let text = failed.to_string();
    assert!(text.contains("nobody listens") && text.contains(&nobody.to_string()), "{text}");
    stop(&[&alice]);
}

#[test]
fn a_wrong_key_is_an_error_that_names_both_fingerprints() {
    let bob = receiver(|_| {});
    let wrong = Identity::generate().unwrap().public_key();
    let alice = builder().peer(wrong, bob.local_addr()).dial_timeout(Duration::from_millis(700));
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let failed = block_on(alice.resolve(wrong, "x").unwrap().connect()).unwrap_err();
    let text = failed.to_string();
    assert!(text.contains(&wrong.fingerprint().to_string()), "{text}");
    assert!(text.contains(&alice.public_key().fingerprint().to_string()), "{text}");
    stop(&[&alice, &bob]);
}

#[test]
fn an_acknowledged_message_to_nobody_ends_as_peer_lost() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let key = Identity::generate().unwrap().public_key();
    let alice = builder().peer(key, socket.local_addr().unwrap());
    let alice = alice.dial_timeout(Duration::from_millis(200));
    let alice = alice.down_after(Duration::from_millis(300)).give_up(Duration::from_millis(600));
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let sent = block_on(alice.resolve(key, "x").unwrap().send("anybody?"));
    assert_eq!(sent, Ok(Outcome::PeerLost));
    stop(&[&alice]);
}

#[test]
fn a_full_queue_slows_its_sender_and_is_said_to_the_next() {
    let bob = receiver(|shard| {
        let capacity = cubed::Capacity::bytes(64 << 10).total(64 << 10);
        let queue = shard.flow("slow").queue(capacity).expect("a new flow");
        let own = shard.clone();
        // Nobody reads.
        shard.spawn_local(async move {
            own.sleep(PATIENCE * 10).await;
            drop(queue);
        });
    });
    let (alice, carol) = (sender_to(&bob), sender_to(&bob));
    let (body, key) = (vec![7; 1_024], bob.public_key());
    let slow = alice.resolve(key, "slow").unwrap();
    // 64 KiB are 60 messages of 1,024 bytes and their charge of 64.
    for number in 0..60 {
        assert_eq!(block_on(slow.send(body.clone())), Ok(Outcome::Delivered), "{number}");
    }
    let waiting = alice.on_shard(0, move |shard| async move {
        let slow = shard.resolve(key, "slow").expect("a valid name");
        slow.send(&[7; 1_024]).acknowledged().deadline(Duration::from_millis(200)).await
    });
    let waited = block_on(waiting).unwrap();
    assert!(matches!(waited, Err(cubed::WaitError::Deadline { .. })), "{waited:?}");
    let refused = block_on(carol.resolve(key, "slow").unwrap().send(body));
    assert_eq!(refused, Ok(Outcome::Refused(Refusal::QueueFull)));
    stop(&[&alice, &carol, &bob]);
}

#[test]
fn a_busy_port_is_said_to_the_caller_of_start() {
    let bob = receiver(|_| {});
    let error = builder().listen(bob.local_addr()).start(async |_: Shard| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StartError::Bind(_)), "{error:?}");
    assert!(text.contains("in use") && text.contains(&bob.local_addr().to_string()), "{text}");
    stop(&[&bob]);
}

#[test]
fn settings_are_checked_before_anything_starts() {
    let start = |builder: cubed::NodeBuilder| builder.start(async |_: Shard| ()).unwrap_err();
    let text = |builder| start(builder).to_string();
    assert!(text(support::node()).contains("no identity"));
    assert!(
        text(builder().shards(256))
            .contains("the number of shards is 256; choose a value from 1 to 255")
    );
    assert!(text(builder().datagram_bytes(100)).contains("datagram_bytes"));
    assert!(text(builder().listen("nowhere")).contains("\"nowhere\""));
    assert!(text(builder().name("a b")).contains("name"));
    assert!(text(builder().socket_buffers(1, 1)).contains("receive buffer is 1;"));
    let twice = Identity::generate().unwrap().public_key();
    let twice =
        builder().peer_named("bob", twice, "127.0.0.1:1").peer_named("bob", twice, "[::1]:1");
    assert!(text(twice).contains("two peers are called"));
}

#[test]
fn garbage_is_counted_and_not_answered() {
    let bob = receiver(|_| {});
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(bob.local_addr()).unwrap();
    let mut hash = blake3::Hasher::new();
    let mut sent = 0_u64;
    for number in 0_usize..1_000 {
        let mut datagram = vec![0; number * 7 % 1_600];
        hash.update(&number.to_le_bytes()).finalize_xof().fill(&mut datagram);
        if let Some(first) = datagram.first_mut() {
            // Every kind of datagram in turn, valid or not.
            *first = number as u8;
            sent += 1;
        }
        socket.send(&datagram).unwrap();
    }
    let dropped = || {
        let stats = block_on(bob.stats()).unwrap();
        let counters = stats.shards[0].counters;
        let drops = counters.iter().filter(|(name, _)| name.starts_with("dropped_"));
        drops.map(|(_, count)| count).sum::<u64>()
    };
    eventually("every datagram is counted as dropped", || dropped() >= sent);
    let stats = block_on(bob.stats()).unwrap();
    assert_eq!(stats.counter("datagrams_sent"), Some(0));
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 2_000]).is_err(), "nothing was answered");
    // And the node still works.
    let alice = sender_to(&bob);
    block_on(alice.resolve(bob.public_key(), "x").unwrap().connect()).unwrap();
    stop(&[&alice, &bob]);
}

fn panicked(message: &str) -> NodeError {
    NodeError::Panicked { shard: 0, message: message.to_owned() }
}

#[test]
fn a_panic_or_an_error_in_the_start_function_stops_the_node() {
    let error = builder().start(async |_: Shard| Err::<(), _>("no such table")).unwrap_err();
    assert_eq!(error.to_string(), "the start function failed: no such table");
    let error = builder().start(async |_: Shard| panic!("no such luck")).unwrap_err();
    assert_eq!(error.to_string(), "the start function panicked: no such luck");
    let later = builder().start(async |shard: Shard| {
        shard.sleep(Duration::from_millis(5)).await;
        panic!("later")
    });
    assert_eq!(later.unwrap().join(), Err(panicked("later")));
}

#[test]
fn a_panic_in_a_handler_stops_the_node_and_ends_every_call() {
    let bob = receiver(|shard| {
        shard.flow("trap").handler(|_, _| panic!("caught")).expect("a new flow");
    });
    let waiting = std::thread::spawn({
        let bob = bob.clone();
        move || {
            let forever = bob.on_shard(0, |shard| async move { shard.sleep(PATIENCE * 10).await });
            block_on(forever)
        }
    });
    let alice = sender_to(&bob);
    let trap = alice.resolve(bob.public_key(), "trap").unwrap();
    block_on(trap.send_best_effort("x")).ok();
    let trapped = std::thread::spawn(move || block_on(trap.send("x")));
    assert_eq!(bob.join(), Err(panicked("caught")));
    assert_eq!(bob.join(), Err(panicked("caught")), "and says so again");
    assert_eq!(waiting.join().unwrap(), Err(Stopped));
    assert_eq!(block_on(bob.stats()).unwrap_err(), Stopped);
    stop(&[&alice]);
    let ended = trapped.join().unwrap();
    assert!(!matches!(ended, Ok(Outcome::Delivered)), "{ended:?}");
}

#[test]
fn a_node_that_is_stopped_ends_every_wait_of_its_tasks() {
    let (ends, ended) = std::sync::mpsc::channel();
    let bob = receiver(move |shard| {
        let (ends, own) = (ends.clone(), shard.clone());
        let mut queue =
            shard.flow("q").queue(cubed::Capacity::bytes(64 << 10)).expect("a new flow");
        shard.spawn_local(async move {
            let none = queue.next_batch().await.is_none();
            let nobody = Identity::generate().unwrap().public_key();
            let refused = own.resolve(nobody, "x").map(|to| to.try_send_acknowledged(b"x"));
            let _ = ends.send((none, format!("{refused:?}")));
        });
    });
    bob.shutdown();
    assert_eq!(bob.join(), Ok(()));
    let (none, refused) = ended.recv_timeout(PATIENCE).unwrap();
    assert!(none, "the queue said that it is over");
    assert!(!refused.contains("Ok(Ok"), "{refused}");
}

#[test]
fn the_last_handle_dropped_stops_the_node() {
    let bob = receiver(|_| {});
    let at = bob.local_addr();
    drop(bob);
    eventually("the port is free again", || UdpSocket::bind(at).is_ok());
}

#[test]
fn join_from_the_shard_itself_is_refused() {
    let bob = receiver(|_| {});
    let own = bob.clone();
    let joined = block_on(bob.on_shard(0, move |_| async move { own.join() }));
    assert_eq!(joined, Ok(Err(NodeError::JoinedFromShard)));
    stop(&[&bob]);
}
