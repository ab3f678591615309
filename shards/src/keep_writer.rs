//! The thread that stores a keep: it hears of changes, and waits for the disk so that no shard has to.
//!
//! Always holds: changes are stored in the order in which they were made; many at once cost one write; whoever asked to be
//! told is told after the disk has them. When the writer is dropped, everything has been stored or the log says why not.
//!
//! A session may begin before the disk knows of its acceptance. A crash in between forgets it, and the next contact is
//! judged as the first was; what the operator says counts as done only once it is stored.

use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cubed_router::keep::Change;
use cubed_runtime::Clock;

use crate::keep_file::KeepFile;

/// After a write, how long changes are gathered before the next one at least, unless somebody waits for it.
const GATHER: Duration = Duration::from_millis(20);
/// For how many times as long as a write took the disk then rests, unless somebody waits for the next one: strangers make changes,
/// and each of them would have the whole keep written.
const REST: u32 = 15;
/// After a failed write, how long until the next attempt.
const RETRY: Duration = Duration::from_secs(1);

enum Order {
    Store(Vec<Change>),
    Tell(Ack),
}

/// The shard's end.
pub(crate) struct KeepWriter {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl KeepWriter {
    /// Starts the thread.
    pub(crate) fn start(file: KeepFile) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new().name("cubed-keep".to_owned());
        let thread = thread.spawn(move || run(file, &inbox))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Hands over changes; never waits. There are at most a few for each handshake, and they are small.
    pub(crate) fn store(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.send(Order::Store(changes));
        }
    }

    /// Ends when all that was handed over before is stored.
    pub(crate) fn stored(&self) -> Stored {
        let slot = Arc::new(Slot::default());
        self.send(Order::Tell(Ack(Arc::clone(&slot))));
        Stored(slot)
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that is gone has told everybody who waits.
            let _ = orders.send(order);
        }
    }
}

impl Drop for KeepWriter {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread: gathers orders, stores, tells.
fn run(file: KeepFile, inbox: &Receiver<Order>) {
    let clock = Clock::new();
    let mut store = Store { file, is_unstored: false };
    let (mut told, mut pause) = (false, Duration::ZERO);
    loop {
        let (waiting, is_over) = store.gather(clock, inbox, pause);
        let begun = clock.now_nanos();
        let result = store.save();
        match &result {
            Ok(()) => told = false,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::error!(%error, "decisions about keys are not stored");
            }
            Err(_) => {}
        }
        let took = Duration::from_nanos(clock.now_nanos().saturating_sub(begun));
        pause = pause_after(took, result.is_err());
        for ack in waiting {
            ack.tell(result.clone());
        }
        if is_over {
            return;
        }
    }
}

/// How long changes are gathered after a write, if nobody waits for them.
fn pause_after(took: Duration, has_failed: bool) -> Duration {
    let least = if has_failed { RETRY } else { GATHER };
    least.max(REST * took)
}

/// What is, or is to be, on the disk. Changes are made here as they come, so that many to one key cost no more than one.
struct Store {
    file: KeepFile,
    is_unstored: bool,
}

impl Store {
    /// Takes orders until something is to be written and `pause` is over, or somebody waits, or nobody is left who could
    /// order anything. Returns who waits, and whether that is so.
    fn gather(
        &mut self,
        clock: Clock,
        inbox: &Receiver<Order>,
        pause: Duration,
    ) -> (Vec<Ack>, bool) {
        let end = clock.now_nanos().saturating_add(pause.as_nanos() as u64);
        let mut waiting = Vec::new();
        loop {
            let left = Duration::from_nanos(end.saturating_sub(clock.now_nanos()));
            let order = if !waiting.is_empty() {
                inbox.recv_timeout(Duration::ZERO)
            } else if self.is_unstored {
                inbox.recv_timeout(left)
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match order {
                Ok(Order::Tell(ack)) => waiting.push(ack),
                Ok(Order::Store(changes)) => {
                    for change in changes {
                        self.file.apply(change);
                    }
                    self.is_unstored = true;
                }
                Err(RecvTimeoutError::Timeout) => return (waiting, false),
                Err(RecvTimeoutError::Disconnected) => return (waiting, true),
            }
        }
    }

    fn save(&mut self) -> Result<(), String> {
        if self.is_unstored {
            self.file.save().map_err(|error| error.to_string())?;
        }
        self.is_unstored = false;
        Ok(())
    }
}

#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    result: Option<Result<(), String>>,
    waker: Option<Waker>,
}

impl Slot {
    /// A panic while the lock was held leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's end of a [`Stored`].
struct Ack(Arc<Slot>);

impl Ack {
    fn tell(self, result: Result<(), String>) {
        self.0.lock().result = Some(result);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let gone = || Err("the thread that stores decisions is gone".to_owned());
        state.result.get_or_insert_with(gone);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Ends when the disk has it, or with the reason why not. May be awaited on any thread.
pub(crate) struct Stored(Arc<Slot>);

impl Future for Stored {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what was handed over is on the disk when one is told so, and when the writer is gone.
    use super::*;
    use crate::block_on::block_on;
    use cubed_router::keep::{Entry, KeyState};
    use cubed_transport::identity::PublicKey;

    fn accepted(byte: u8) -> Change {
        let key = PublicKey::from_bytes([byte; 32]);
        Change::Set(Entry { key, state: KeyState::Accepted, portrait: None, address: None })
    }

    #[test]
    fn what_is_told_as_stored_is_stored_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep.toml");
        let writer = KeepWriter::start(KeepFile::open(&path, "").unwrap()).unwrap();
        let count = || KeepFile::read(&path).unwrap().entries().count();
        for byte in 1..=50 {
            writer.store(vec![accepted(byte)]);
        }
        assert_eq!(block_on(writer.stored()), Ok(()));
        assert_eq!(count(), 50);
        writer.store(vec![accepted(51), accepted(52)]);
        drop(writer);
        assert_eq!(count(), 52);
        // And the file is free again.
        KeepFile::open(&path, "").unwrap();
    }

    #[test]
    fn a_write_that_fails_is_told_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("keep.toml");
        let writer = KeepWriter::start(KeepFile::open(&path, "").unwrap()).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        writer.store(vec![accepted(1)]);
        let error = block_on(writer.stored()).unwrap_err();
        assert!(error.contains("cannot write") && error.contains("keep.toml"), "{error}");
        std::fs::create_dir(&inner).unwrap();
        assert_eq!(block_on(writer.stored()), Ok(()));
        assert_eq!(KeepFile::read(&path).unwrap().entries().count(), 1);
    }

    #[test]
    fn the_disk_rests_longer_than_it_works_unless_somebody_waits() {
        let millis = Duration::from_millis;
        assert_eq!(pause_after(millis(0), false), GATHER);
        assert_eq!(pause_after(millis(100), false), millis(1_500));
        assert_eq!(pause_after(millis(10), true), RETRY);
        let folder = tempfile::tempdir().unwrap();
        let file = KeepFile::open(folder.path().join("keep.toml"), "").unwrap();
        let (orders, inbox) = mpsc::channel();
        let (clock, mut store) = (Clock::new(), Store { file, is_unstored: false });
        for byte in 1..=200 {
            orders.send(Order::Store(vec![accepted(byte % 10)])).unwrap();
        }
        let slot = Arc::new(Slot::default());
        orders.send(Order::Tell(Ack(Arc::clone(&slot)))).unwrap();
        orders.send(Order::Store(vec![accepted(77)])).unwrap();
        // In the middle of an hour's pause.
        let (waiting, is_over) = store.gather(clock, &inbox, Duration::from_hours(1));
        assert_eq!((waiting.len(), is_over, store.is_unstored), (1, false, true));
        assert_eq!(store.file.keep().entries().count(), 11, "all that came before or with it");
        store.save().unwrap();
        orders.send(Order::Store(vec![accepted(78)])).unwrap();
        drop(orders);
        let (waiting, is_over) = store.gather(clock, &inbox, Duration::from_hours(1));
        assert_eq!((waiting.len(), is_over, store.is_unstored), (0, true, true));
    }
}
