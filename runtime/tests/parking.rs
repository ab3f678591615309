//! Goal: no order of two threads' steps loses a wake. The real `parking`, every order with at most three preemptions, by loom.
//!
//! Queues are one number each, published and read as a channel's tail is: that is all the order they give. A lost wake is
//! a thread that sleeps for ever, which loom reports as a deadlock.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

#[path = "../src/parking.rs"]
mod parking;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use parking::{ParkWord, Starved};
use sync::{AtomicBool, AtomicU32, Ordering, fence};

/// Runs a model in every order of its steps that takes a running thread off its core at most three times: a lost wake
/// needs one such moment on either side.
fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A thread's word and the eventfd that it sleeps on.
struct Sleeper {
    word: ParkWord,
    event: Mutex<u32>,
    ends: Condvar,
}

impl Sleeper {
    fn new() -> Self {
        Self { word: ParkWord::new(), event: Mutex::new(0), ends: Condvar::new() }
    }

    fn wake(&self) {
        if self.word.wake() {
            self.signal();
        }
    }

    fn wake_fenced(&self) {
        if self.word.wake_fenced() {
            self.signal();
        }
    }

    fn signal(&self) {
        *self.event.lock().expect("no panic") += 1;
        self.ends.notify_one();
    }

    /// As a driver's wait. Returns how often the event was signalled in this sleep.
    fn wait(&self) -> u32 {
        if !self.word.park() {
            return 0;
        }
        let mut event = self.event.lock().expect("no panic");
        while *event == 0 {
            event = self.ends.wait(event).expect("no panic");
        }
        let signals = std::mem::take(&mut *event);
        drop(event);
        self.word.unpark();
        signals
    }
}

/// Batches sent so far, as a channel publishes them.
struct Queue(AtomicU32);

impl Queue {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn send(&self, batches: u32) {
        self.0.store(batches, Ordering::Release);
    }

    fn has(&self, batches: u32) -> bool {
        self.0.load(Ordering::Acquire) == batches
    }
}

#[test]
fn a_wake_is_never_lost_and_a_sleep_costs_one() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new()));
        let theirs = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            for batch in 1..=2 {
                theirs.1.send(batch);
                theirs.0.wake();
            }
        });
        while !shared.1.has(2) {
            assert!(shared.0.wait() <= 1, "one wake per sleep");
        }
        producer.join().expect("no panic");
    });
}

#[test]
fn two_producers_wake_one_consumer() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), [Queue::new(), Queue::new()]));
        let producers = [0, 1].map(|index: usize| {
            let theirs = Arc::clone(&shared);
            thread::spawn(move || {
                theirs.1[index].send(1);
                theirs.0.wake();
            })
        });
        while !(shared.1[0].has(1) && shared.1[1].has(1)) {
            assert!(shared.0.wait() <= 1, "one wake per sleep, whoever sent");
        }
        for producer in producers {
            producer.join().expect("no panic");
        }
    });
}

#[test]
fn a_producer_that_waits_for_a_batch_is_woken() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new(), Starved::new()));
        let theirs = Arc::clone(&shared);
        let consumer = thread::spawn(move || {
            theirs.1.send(1);
            fence(Ordering::SeqCst);
            if theirs.2.take_fenced() {
                theirs.0.wake_fenced();
            }
        });
        let (sleeper, returned, starved) = &*shared;
        while !returned.has(1) {
            starved.set();
            if returned.has(1) {
                starved.clear();
                break;
            }
            sleeper.wait();
        }
        consumer.join().expect("no panic");
    });
}

#[test]
fn what_was_sent_before_the_consumer_could_be_woken_is_found() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new(), AtomicBool::new(false)));
        let theirs = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            theirs.1.send(1);
            fence(Ordering::SeqCst);
            if theirs.2.load(Ordering::Acquire) {
                theirs.0.wake_fenced();
            }
        });
        let (sleeper, queue, is_attached) = &*shared;
        is_attached.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while !queue.has(1) {
            sleeper.wait();
        }
        producer.join().expect("no panic");
    });
}
