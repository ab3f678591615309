//! What a measurement tells while it runs: counts and latencies, cut into intervals by [`crate::monitor`].
//!
//! Whoever measures opens the meter for the time that counts, warm-up left out, and adds what happens. Between opening and
//! closing every count belongs to exactly one interval; what is added while it is closed belongs to none.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::stats::{latency_histogram, record_latency};

/// Counts of a measurement that runs. Its clones are the same meter.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    messages: AtomicU64,
    retransmissions: AtomicU64,
    /// Milliseconds that the run will have measured in all, at most; 0 while nobody said it.
    planned_ms: AtomicU64,
    latencies: Latencies,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Mutex::new(latency_histogram()))
    }
}

#[derive(Debug, Default)]
struct State {
    /// Since when the running interval counts; `None` while closed.
    since: Option<Instant>,
    slice: u32,
    cuts: Vec<Cut>,
    is_stopped: bool,
}

/// What was added in one interval.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Begin of the interval.
    pub since: Instant,
    /// Its end.
    pub until: Instant,
    /// How often the meter had been opened: intervals of one slice follow each other without a gap.
    pub slice: u32,
    /// Messages delivered.
    pub messages: u64,
    /// Blocks sent again.
    pub retransmissions: u64,
    /// Latencies in ns.
    pub latencies: Histogram<u64>,
    /// The meter was closed at its end.
    pub is_last: bool,
}

/// What the monitor waits for.
#[derive(Debug)]
pub enum Event {
    /// The slice of this number began.
    Opened(u32),
    /// Intervals ended.
    Cut(Vec<Cut>),
    /// Nothing comes any more.
    Stopped,
}

impl Meter {
    /// Counts from here on, until the guard is dropped.
    pub fn open(&self) -> Open {
        let mut state = self.state();
        self.0.messages.store(0, Ordering::Relaxed);
        self.0.retransmissions.store(0, Ordering::Relaxed);
        self.latencies().reset();
        state.since = Some(Instant::now());
        state.slice += 1;
        self.0.changed.notify_all();
        Open(self.clone())
    }

    /// Adds messages that were delivered.
    pub fn add_messages(&self, count: u64) {
        self.0.messages.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds blocks that were sent again.
    pub fn add_retransmissions(&self, count: u64) {
        self.0.retransmissions.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one message that took so long. Costs some 20 ns; a million a second are better gathered and added by
    /// [`Meter::add_latencies`].
    pub fn record(&self, nanos: u64) {
        record_latency(&mut self.latencies(), nanos);
        self.add_messages(1);
    }

    /// Adds latencies in ns, and no messages.
    ///
    /// # Panics
    ///
    /// When the histogram has other bounds than [`latency_histogram`].
    pub fn add_latencies(&self, nanos: &Histogram<u64>) {
        self.latencies().add(nanos).expect("histograms share their bounds");
    }

    /// Tells how long the run will have measured in all, at most by what is known now.
    pub fn plan(&self, whole: Duration) {
        self.0.planned_ms.store(whole.as_millis() as u64, Ordering::Relaxed);
    }

    /// What [`Meter::plan`] was told last.
    pub fn planned(&self) -> Option<Duration> {
        let planned = self.0.planned_ms.load(Ordering::Relaxed);
        (planned > 0).then(|| Duration::from_millis(planned))
    }

    /// Ends the intervals: the monitor is told and goes.
    pub fn stop(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_all();
    }

    /// Waits for the next thing to do; while open it ends an interval after each `interval`. `opened` is the slice that
    /// the caller knows of.
    pub fn next(&self, interval: Duration, opened: u32) -> Event {
        let mut state = self.state();
        loop {
            if !state.cuts.is_empty() {
                return Event::Cut(mem::take(&mut state.cuts));
            }
            if state.is_stopped {
                return Event::Stopped;
            }
            if state.slice != opened && state.since.is_some() {
                return Event::Opened(state.slice);
            }
            let Some(since) = state.since else {
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = interval.saturating_sub(since.elapsed());
            if left.is_zero() {
                self.cut(&mut state, false);
            } else {
                let waited = self.0.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn cut(&self, state: &mut State, is_last: bool) {
        let Some(since) = state.since else { return };
        // Made before the lock is taken: whoever records waits for it.
        let empty = latency_histogram();
        let until = Instant::now();
        let latencies = mem::replace(&mut *self.latencies(), empty);
        state.cuts.push(Cut {
            since,
            until,
            slice: state.slice,
            messages: self.0.messages.swap(0, Ordering::Relaxed),
            retransmissions: self.0.retransmissions.swap(0, Ordering::Relaxed),
            latencies,
            is_last,
        });
        state.since = (!is_last).then_some(until);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latencies(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.latencies.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open meter; closed when dropped.
#[derive(Debug)]
pub struct Open(Meter);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.cut(&mut self.0.state(), true);
        self.0.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: whatever is added while the meter is open lies in exactly one interval, and nothing else does.
    use std::thread;

    use super::*;

    /// Runs a monitor's loop beside `work`; all its cuts.
    fn cuts(interval: Duration, work: impl FnOnce(&Meter)) -> Vec<Cut> {
        let meter = Meter::default();
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let (mut cuts, mut opened) = (Vec::new(), 0);
                loop {
                    match meter.next(interval, opened) {
                        Event::Opened(slice) => opened = slice,
                        Event::Cut(more) => cuts.extend(more),
                        Event::Stopped => return cuts,
                    }
                }
            });
            work(&meter);
            meter.stop();
            watching.join().unwrap()
        })
    }

    #[test]
    fn all_that_is_added_is_in_one_interval() {
        let cuts = cuts(Duration::from_millis(2), |meter| {
            for _ in 0..2 {
                let open = meter.open();
                for _ in 0..50 {
                    meter.record(5_000);
                    meter.add_retransmissions(2);
                    thread::sleep(Duration::from_micros(200));
                }
                drop(open);
            }
        });
        let sum = |count: fn(&Cut) -> u64| cuts.iter().map(count).sum::<u64>();
        assert_eq!(sum(|cut| cut.messages), 100);
        assert_eq!(sum(|cut| cut.latencies.len()), 100);
        assert_eq!(sum(|cut| cut.retransmissions), 200);
        assert_eq!(cuts.iter().filter(|cut| cut.is_last).count(), 2);
        assert_eq!(cuts.last().map(|cut| cut.slice), Some(2));
        let follows = |pair: &[Cut]| pair[0].is_last || pair[0].until == pair[1].since;
        assert!(cuts.windows(2).all(follows));
        assert!(cuts.len() > 2, "intervals end while the meter is open");
    }

    #[test]
    fn warm_up_is_in_none() {
        let cuts = cuts(Duration::from_mins(1), |meter| {
            meter.record(1_000_000);
            meter.add_retransmissions(7);
            let open = meter.open();
            meter.add_messages(3);
            drop(open);
            meter.record(1_000_000);
        });
        let counts: Vec<_> = cuts.iter().map(|cut| (cut.messages, cut.latencies.len())).collect();
        assert_eq!(counts, [(3, 0)]);
        assert_eq!(cuts[0].retransmissions, 0);
    }
}
