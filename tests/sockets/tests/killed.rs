//! Goal: a receiver killed in the middle leaves an exact account at the sender: every message has one outcome, soon after
//! `give_up`, and what was reported delivered is in the receiver's journal.

mod support;

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use cubed::{Outcome, block_on};
use support::{Peer, sender, start, time_until};

const MESSAGES: u64 = 10_000;
const GIVE_UP: Duration = Duration::from_millis(2_500);
/// From `give_up` after the kill to the last outcome, at most.
const LATE_MAX: Duration = Duration::from_secs(3);

#[test]
fn every_message_to_a_killed_receiver_ends_and_none_delivered_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    // A tenth of a millisecond for each message, so that the kill comes while most are on their way.
    let flags = format!("--journal {} --pause-us 100", path.display());
    let mut peer = Peer::start(&flags);
    let builder = sender(peer.key, peer.address).down_after(GIVE_UP / 2).give_up(GIVE_UP);
    let node = start(builder);
    let (key, own) = (peer.key, node.clone());
    let sending = async move {
        own.on_shard(0, move |shard| async move {
            let to = shard.resolve(key, "journal").expect("a valid name");
            let waiting: Vec<_> = (0..MESSAGES)
                .map(|number| {
                    let to = to.clone();
                    shard.spawn_local(async move {
                        let mut body = [7; 64];
                        body[..8].copy_from_slice(&number.to_le_bytes());
                        to.send(&body).acknowledged().await
                    })
                })
                .collect();
            let mut outcomes = Vec::new();
            for task in waiting {
                outcomes.push(task.await.expect("no panic").expect("an outcome"));
            }
            outcomes
        })
        .await
    };
    let sending = std::thread::spawn(move || (block_on(sending), Instant::now()));
    let journalled = || fs::metadata(&path).map_or(0, |file| file.len() / 8);
    time_until("a part is consumed", Duration::from_secs(30), || journalled() > 1_000);
    let tally = block_on(node.stats()).expect("the node runs").tally();
    assert_eq!(tally.offered, MESSAGES, "all are in flight or ended: {tally:?}");
    peer.process.kill();
    let killed = Instant::now();
    let (outcomes, ended) = sending.join().expect("no panic");
    let took = ended.saturating_duration_since(killed);
    let outcomes = outcomes.expect("the node runs");
    check(&outcomes, &fs::read(&path).expect("a journal"), took);
    let tally = block_on(node.stats()).expect("the node runs").tally();
    assert_eq!((tally.offered, tally.pending), (MESSAGES, 0), "{tally:?}");
}

fn check(outcomes: &[Outcome], journal: &[u8], took: Duration) {
    let (numbers, rest) = journal.as_chunks::<8>();
    assert!(rest.is_empty());
    let consumed: HashSet<u64> = numbers.iter().map(|n| u64::from_le_bytes(*n)).collect();
    assert_eq!(consumed.len(), numbers.len(), "nothing was consumed twice");
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    let delivered = count(|outcome| matches!(outcome, Outcome::Delivered));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    let lost = count(|outcome| matches!(outcome, Outcome::PeerLost));
    println!(
        "delivered {delivered}, peer lost {lost}, unknown {unknown}; journal {}; the last outcome {took:?} \
         after the kill",
        numbers.len()
    );
    assert_eq!((delivered + lost + unknown) as u64, MESSAGES);
    assert!(unknown + lost > 1_000, "the kill came too late to show anything");
    for (number, outcome) in (0_u64..).zip(outcomes) {
        let is_safe = !matches!(outcome, Outcome::Delivered) || consumed.contains(&number);
        assert!(is_safe, "message {number} was reported delivered and is not in the journal");
    }
    assert!(took < GIVE_UP + LATE_MAX, "{took:?}");
}
