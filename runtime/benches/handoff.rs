//! What does a message cost from shard to shard? The mesh beside the least that two cores can do, in one run.
//! `cargo bench -p cubed-runtime --bench handoff [-- --json]`, on a quiet machine with two cores.
//!
//! Baselines: a ring for one producer and one consumer of 64 B messages; two cache lines that answer each other; a thread
//! that sleeps in `park` and is unparked. Each figure is the best of several rounds, its baseline measured between them.

#[path = "handoff/bare.rs"]
mod bare;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use bare::{Message, Ring};
use cubed_runtime::{
    Clock, Driver, HandOff, HandOffOptions, PushError, SocketOptions, UdpSocket, UringDriver,
    UringOptions, cores, handoff, pin_current_thread,
};

const MESSAGES: u64 = 2_000_000;
const ROUND_TRIPS: u64 = 200_000;
const WAKES: u64 = 2_000;
/// Long enough for the other side to be asleep again.
const PAUSE_NANOS: u64 = 50_000;
const ROUNDS: usize = 5;

fn now() -> u64 {
    Clock::new().now_nanos()
}

/// Read before any thread is pinned: a pinned thread sees its own core only, and so do those that it starts.
static CORES: LazyLock<Vec<usize>> = LazyLock::new(cores);

fn pin(index: usize) {
    let all = &*CORES;
    pin_current_thread(all[index % all.len()]).expect("a core of this process");
}

fn pair() -> (HandOff<Message>, HandOff<Message>) {
    let mut shards = handoff::mesh(2, HandOffOptions::default());
    let second = shards.pop().expect("two");
    (shards.pop().expect("two"), second)
}

/// Runs `other` on the second core and `here` on the first; what `here` returns.
fn two<T>(other: impl FnOnce() + Send + 'static, here: impl FnOnce() -> T) -> T {
    let thread = thread::spawn(move || {
        pin(1);
        other();
    });
    let result = here();
    thread.join().expect("no panic");
    result
}

/// Nanoseconds a message over the bare ring.
fn bare_ring() -> f64 {
    let (mut producer, mut consumer) = Ring::pair();
    let begun = now();
    two(
        move || {
            let mut next = 0;
            while next < MESSAGES {
                match consumer.pop() {
                    Some(message) => {
                        assert_eq!(message[0], next);
                        next += 1;
                    }
                    None => spin_loop(),
                }
            }
        },
        || {
            for number in 0..MESSAGES {
                while !producer.push([number; 8]) {
                    spin_loop();
                }
            }
        },
    );
    (now() - begun) as f64 / MESSAGES as f64
}

/// Nanoseconds a message over the mesh, flushed after so many.
fn mesh(flush_every: u64) -> f64 {
    let (mut first, mut second) = pair();
    let begun = now();
    two(
        move || {
            let mut next = 0;
            while next < MESSAGES {
                let drained = second.inbound.drain(256, |_, message| {
                    assert_eq!(message[0], next);
                    next += 1;
                });
                if drained.items == 0 {
                    spin_loop();
                }
            }
        },
        || {
            for number in 0..MESSAGES {
                let mut pushed = first.outbound.push(1, [number; 8]);
                while let Err(PushError::Full(message)) = pushed {
                    spin_loop();
                    pushed = first.outbound.push(1, message);
                }
                if (number + 1) % flush_every == 0 {
                    first.outbound.flush();
                }
            }
            first.outbound.flush();
        },
    );
    (now() - begun) as f64 / MESSAGES as f64
}

/// A number alone on its cache line.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Nanoseconds a round trip between two cache lines.
fn bare_round_trip() -> f64 {
    let lines = Arc::new((Line::default(), Line::default()));
    let theirs = Arc::clone(&lines);
    let begun = now();
    two(
        move || {
            for turn in 1..=ROUND_TRIPS {
                while theirs.0.0.load(Ordering::Acquire) != turn {
                    spin_loop();
                }
                theirs.1.0.store(turn, Ordering::Release);
            }
        },
        || {
            for turn in 1..=ROUND_TRIPS {
                lines.0.0.store(turn, Ordering::Release);
                while lines.1.0.load(Ordering::Acquire) != turn {
                    spin_loop();
                }
            }
        },
    );
    (now() - begun) as f64 / ROUND_TRIPS as f64
}

/// Waits for a message and returns its first word.
fn take_one(shard: &mut HandOff<Message>) -> u64 {
    loop {
        let mut taken = None;
        shard.inbound.drain(1, |_, message| taken = Some(message[0]));
        // No pause behind the message: the bare line has none either.
        match taken {
            Some(word) => return word,
            None => spin_loop(),
        }
    }
}

/// Sends one message at once. There is room: the other side has drained the one before.
fn send_one(shard: &mut HandOff<Message>, to: usize, word: u64) {
    while shard.outbound.push(to, [word; 8]).is_err() {
        spin_loop();
    }
    shard.outbound.flush();
}

/// Nanoseconds a round trip of a 64 B message over the mesh, both sides spinning.
fn mesh_round_trip() -> f64 {
    let (mut first, mut second) = pair();
    let begun = now();
    two(
        move || {
            for _ in 0..ROUND_TRIPS {
                let word = take_one(&mut second);
                send_one(&mut second, 0, word);
            }
        },
        || {
            for turn in 0..ROUND_TRIPS {
                send_one(&mut first, 1, turn);
                assert_eq!(take_one(&mut first), turn);
            }
        },
    );
    (now() - begun) as f64 / ROUND_TRIPS as f64
}

fn pause(from: u64) {
    while now() < from + PAUSE_NANOS {
        spin_loop();
    }
}

/// Median and 99th percentile, nanoseconds.
fn quantiles(mut delays: Vec<u64>) -> (f64, f64) {
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() * share / 100).min(delays.len() - 1)] as f64;
    (at(50), at(99))
}

/// From the push of a message to its drain by a thread that sleeps in its ring, or spins.
fn wake(is_parked: bool) -> (f64, f64) {
    let (mut first, mut second) = pair();
    let (told, hears) = std::sync::mpsc::channel();
    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::clone(&ready);
    two(
        move || {
            let address = "127.0.0.1:0".parse().expect("an address");
            let socket = UdpSocket::bind(address, &SocketOptions::default()).expect("a port");
            let mut driver = UringDriver::new(socket, UringOptions::default()).expect("io_uring");
            second.inbound.attach(driver.waker());
            is_ready.store(true, Ordering::Release);
            let mut delays = Vec::new();
            while (delays.len() as u64) < WAKES {
                let drained = second.inbound.drain(1, |_, message| delays.push(now() - message[0]));
                if drained.items == 0 && is_parked {
                    driver.wait(None, &mut |_| {}).expect("a working ring");
                }
            }
            told.send(delays).expect("somebody hears");
        },
        || {
            while !ready.load(Ordering::Acquire) {
                spin_loop();
            }
            for _ in 0..WAKES {
                let begun = now();
                pause(begun);
                send_one(&mut first, 1, now());
            }
        },
    );
    quantiles(hears.recv().expect("delays"))
}

/// From `unpark` to the return of `park`.
fn bare_wake() -> (f64, f64) {
    let sent = Arc::new(Line::default());
    let theirs = Arc::clone(&sent);
    let thread = thread::spawn(move || {
        pin(1);
        let mut delays = Vec::new();
        while (delays.len() as u64) < WAKES {
            thread::park();
            let at = theirs.0.swap(0, Ordering::AcqRel);
            if at != 0 {
                delays.push(now() - at);
            }
        }
        delays
    });
    while !thread.is_finished() {
        pause(now());
        sent.0.store(now(), Ordering::Release);
        thread.thread().unpark();
    }
    quantiles(thread.join().expect("no panic"))
}

fn main() {
    pin(0);
    let (mut ring, mut line) = (f64::INFINITY, f64::INFINITY);
    let (mut single, mut batched, mut trip) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        ring = ring.min(bare_ring());
        single = single.min(mesh(1));
        batched = batched.min(mesh(64));
        line = line.min(bare_round_trip());
        trip = trip.min(mesh_round_trip());
    }
    let (parked, spinning, unpark) = (wake(true), wake(false), bare_wake());
    let figures = [
        ("bare_ring_ns_per_message", ring),
        ("mesh_single_ns_per_message", single),
        ("mesh_batched_ns_per_message", batched),
        ("mesh_batched_ratio", batched / ring),
        ("bare_round_trip_ns", line),
        ("mesh_round_trip_ns", trip),
        ("mesh_round_trip_ratio", trip / line),
        ("wake_parked_ns_p50", parked.0),
        ("wake_parked_ns_p99", parked.1),
        ("wake_spinning_ns_p50", spinning.0),
        ("wake_spinning_ns_p99", spinning.1),
        ("bare_unpark_ns_p50", unpark.0),
        ("bare_unpark_ns_p99", unpark.1),
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let fields = figures.map(|(name, value)| format!("\"{name}\": {value:.2}"));
        println!("{{{}}}", fields.join(", "));
        return;
    }
    for (name, value) in figures {
        println!("{name:32} {value:10.2}");
    }
    println!("goals: mesh_batched_ratio at most 3, mesh_round_trip_ratio at most 2");
}
