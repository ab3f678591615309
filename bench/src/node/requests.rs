//! Requests and replies of Cubed, so many outstanding at any time: the next request follows a reply. With several shards each has its
//! part of them outstanding, and asks a shard of the peer's.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use cubed::{Destination, Instant, Request, Shard, SpinPolicy};

use super::{
    client::{Client, ClientSettings},
    latency::{ANSWER_TIME_MAX, SIZE_BYTES_MAX, SIZE_BYTES_MIN, check, check_peer},
    watch::CounterWatch,
};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    subject::{LatencySlice, ThroughputSlice, ThroughputSubject},
    tag::write_tag,
};

/// Requests outstanding, at most: what a node allows by default.
pub const OUTSTANDING_MAX: usize = 65_536;

/// Not recorded at the start of each slice.
const WARM_UP: Duration = Duration::from_millis(50);

/// Questions that one task keeps outstanding: their answers come together, and one wake serves them all.
const QUESTIONS_PER_TASK: usize = 16;

/// Requests of Cubed from every shard.
#[derive(Debug)]
pub struct CubedRequests {
    client: Client,
    size_bytes: usize,
    outstanding: usize,
    meter: Option<Meter>,
    times: LatencySlice,
    /// Answers to each shard.
    answered: Vec<u64>,
}

/// How often the meter is told how many were answered: a small part of its shortest interval.
const COUNT_INTERVAL: Duration = Duration::from_millis(5);

/// How often it is told their times: to add two histograms takes some 20 us.
const TIMES_INTERVAL: Duration = Duration::from_millis(50);

/// What all tasks of a slice share.
struct Shared {
    /// What came before `part`, and all that was sent.
    whole: LatencySlice,
    /// Answers whose times the meter was not told.
    part: LatencySlice,
    telling: Option<Telling>,
}

/// What the meter is told of a slice while it goes on.
struct Telling {
    meter: Meter,
    watch: CounterWatch,
    /// Answers of the part that it knows of.
    counted: u64,
    next_count: Instant,
    next_times: Instant,
}

/// What a task asks with, until `end`.
struct Asker {
    here: Shard,
    to: Destination,
    shared: Rc<RefCell<Shared>>,
    end: Instant,
}

/// One of the questions outstanding.
struct Question {
    body: Vec<u8>,
    asked: Instant,
    answer: Option<Request>,
    begun: bool,
}

impl Question {
    fn new(size_bytes: usize) -> Self {
        let body = vec![0x5A; size_bytes];
        Self { body, asked: Instant::default(), answer: None, begun: false }
    }
}

impl Asker {
    /// Takes the answers there are, each followed by the next question; ready when the last one is answered.
    fn poll(&mut self, questions: &mut [Question], context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut is_asking = false;
        for question in questions {
            if !question.begun {
                question.begun = true;
                question.asked = self.here.now();
                question.answer = self.ask(&mut question.body, question.asked);
            }
            while let Some(answer) = &mut question.answer {
                let Poll::Ready(answer) = Pin::new(answer).poll(context) else {
                    is_asking = true;
                    break;
                };
                let answered = check(answer, &question.body)?;
                let asked = std::mem::replace(&mut question.asked, self.here.now());
                self.record(answered, asked, question.asked);
                question.answer = self.ask(&mut question.body, question.asked);
            }
        }
        if is_asking { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn ask(&self, body: &mut [u8], now: Instant) -> Option<Request> {
        let mut shared = self.shared.borrow_mut();
        (now < self.end).then(|| {
            write_tag(body, shared.whole.sent);
            shared.whole.sent += 1;
            self.to.request(body, ANSWER_TIME_MAX)
        })
    }

    fn record(&self, answered: bool, asked: Instant, now: Instant) {
        let mut shared = self.shared.borrow_mut();
        shared.part.record(answered, asked, now, None);
        shared.tell(&self.here, now);
    }
}

impl CubedRequests {
    /// How both nodes wait.
    pub const SPIN: SpinPolicy = SpinPolicy::Adaptive;

    /// Starts the nodes and connects them.
    ///
    /// # Errors
    ///
    /// `Argument` for a size that no question has, outside 1 to [`OUTSTANDING_MAX`], or with fewer than one for each shard; else those
    /// of [`Client::start`].
    pub fn start(
        size_bytes: usize,
        outstanding: usize,
        settings: &ClientSettings<'_>,
    ) -> Result<Self> {
        if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size_bytes) {
            return Err(BenchError::Argument(format!(
                "--size {size_bytes}: between {SIZE_BYTES_MIN} and {SIZE_BYTES_MAX} for requests"
            )));
        }
        if !(1..=OUTSTANDING_MAX).contains(&outstanding) {
            return Err(BenchError::Argument(format!(
                "--outstanding {outstanding}: between 1 and {OUTSTANDING_MAX}"
            )));
        }
        let shards = settings.machine.shards;
        if outstanding < shards {
            return Err(BenchError::Argument(format!(
                "--outstanding {outstanding}: one or more for each of the {shards} shards"
            )));
        }
        let client = Client::start(settings)?;
        let (times, answered) = (LatencySlice::empty(), vec![0; shards]);
        Ok(Self { client, size_bytes, outstanding, meter: None, times, answered })
    }

    /// Tells `meter` of every slice from here on, if there is one.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// The measuring node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Times from request to reply of all slices so far.
    pub fn times(&self) -> &LatencySlice {
        &self.times
    }

    /// Answers to each shard in all slices so far.
    pub fn answered(&self) -> &[u64] {
        &self.answered
    }

    /// Asks from all shards at once; what each of them was answered.
    fn ask_for(&self, duration: Duration, meter: Option<&Meter>) -> Result<Vec<LatencySlice>> {
        let shards = self.client.shards();
        self.client.on_each_shard(|shard| {
            let (peer, echo) = (self.client.peer_key(), self.client.echo(shard).to_owned());
            let (size_bytes, meter) = (self.size_bytes, meter.cloned());
            let outstanding = part_of(self.outstanding, shards, shard);
            async move |shard: Shard| {
                let to = shard.resolve(peer, &echo);
                let to = to.map_err(|error| BenchError::Peer(error.to_string()))?;
                ask_on(shard, to, size_bytes, outstanding, duration, meter).await
            }
        })
    }
}

/// What shard `shard` of `shards` has of `outstanding`: as much as the others, or one more.
fn part_of(outstanding: usize, shards: usize, shard: usize) -> usize {
    outstanding / shards + usize::from(shard < outstanding % shards)
}

/// All shards' slices as one: they ran beside each other, so the longest tells the time.
fn sum(parts: &[LatencySlice]) -> LatencySlice {
    let mut whole = LatencySlice::empty();
    for part in parts {
        whole.add(part);
    }
    whole.seconds = parts.iter().map(|part| part.seconds).fold(0.0, f64::max);
    whole
}

/// Keeps so many requests of one shard outstanding for `duration`.
async fn ask_on(
    here: Shard,
    to: Destination,
    size_bytes: usize,
    outstanding: usize,
    duration: Duration,
    meter: Option<Meter>,
) -> Result<LatencySlice> {
    let telling = meter.map(|meter| Telling::new(&here, meter));
    let shared = Rc::new(RefCell::new(Shared::new(telling)));
    let start = here.now();
    let end = start + duration;
    let shared_here = &shared;
    let askers = (0..outstanding).step_by(QUESTIONS_PER_TASK).map(|first| {
        let count = QUESTIONS_PER_TASK.min(outstanding - first);
        let shared = Rc::clone(shared_here);
        let mut asker = Asker { here: here.clone(), to: to.clone(), shared, end };
        let mut questions: Vec<_> = (0..count).map(|_| Question::new(size_bytes)).collect();
        here.spawn_local(poll_fn(move |context| asker.poll(&mut questions, context)))
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.map_err(|error| BenchError::Machine(error.to_string()))??;
    }
    let mut slice = shared.borrow_mut().end();
    slice.seconds = here.now().saturating_duration_since(start).as_secs_f64();
    check_peer(&to, &slice).await?;
    Ok(slice)
}

impl Shared {
    fn new(telling: Option<Telling>) -> Self {
        Self { whole: LatencySlice::empty(), part: LatencySlice::empty(), telling }
    }

    /// Tells the meter what it is time to tell.
    #[inline]
    fn tell(&mut self, shard: &Shard, now: Instant) {
        let Some(telling) = &mut self.telling else { return };
        if now < telling.next_count {
            return;
        }
        telling.watch.look(shard, now);
        telling.count(self.part.histogram.len());
        telling.next_count = now + COUNT_INTERVAL;
        if now >= telling.next_times {
            telling.next_times = now + TIMES_INTERVAL;
            self.end_part();
        }
    }

    /// Adds the part to the whole, and its times to the meter's.
    fn end_part(&mut self) {
        if let Some(telling) = &mut self.telling {
            telling.count(self.part.histogram.len());
            telling.counted = 0;
            telling.meter.add_latencies(&self.part.histogram);
        }
        self.whole.add(&self.part);
        self.part.histogram.reset();
        self.part.lost = 0;
    }

    /// All of the slice; the meter knows of all of it.
    fn end(&mut self) -> LatencySlice {
        self.end_part();
        std::mem::take(&mut self.whole)
    }
}

impl Telling {
    fn new(shard: &Shard, meter: Meter) -> Self {
        let watch = CounterWatch::new(shard, meter.clone(), None);
        let now = shard.now();
        let (next_count, next_times) = (now + COUNT_INTERVAL, now + TIMES_INTERVAL);
        Self { meter, watch, counted: 0, next_count, next_times }
    }

    /// Adds what of the part's answers the meter does not know of.
    fn count(&mut self, answers: u64) {
        self.meter.add_messages(answers - self.counted);
        self.counted = answers;
    }
}

impl ThroughputSubject for CubedRequests {
    fn name(&self) -> &'static str {
        "cubed"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        self.ask_for(WARM_UP, None)?;
        let before = self.client.sent()?;
        let open = self.meter.as_ref().map(Meter::open);
        let parts = self.ask_for(duration, self.meter.as_ref())?;
        drop(open);
        let after = self.client.sent()?;
        let slice = sum(&parts);
        self.times.add(&slice);
        for (answered, part) in self.answered.iter_mut().zip(&parts) {
            *answered += part.histogram.len();
        }
        Ok(ThroughputSlice {
            seconds: slice.seconds,
            sent: slice.sent,
            delivered: slice.histogram.len(),
            duplicated: 0,
            size_bytes: self.size_bytes as u64,
            datagrams: after.0 - before.0,
            sends: after.1 - before.1,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no question is lost or doubled where shards divide them.
    use super::*;

    #[test]
    fn shards_divide_what_is_outstanding() {
        let parts = |outstanding, shards| {
            (0..shards).map(|shard| part_of(outstanding, shards, shard)).collect::<Vec<_>>()
        };
        assert_eq!(parts(64, 1), [64]);
        assert_eq!(parts(10, 4), [3, 3, 2, 2]);
        for shards in 1..20 {
            assert_eq!(parts(65, shards).iter().sum::<usize>(), 65);
        }
    }

    #[test]
    fn slices_beside_each_other_add_up_within_the_time_of_the_longest() {
        let part = |sent, seconds| LatencySlice { sent, lost: 1, seconds, ..LatencySlice::empty() };
        let whole = sum(&[part(5, 0.5), part(7, 0.6)]);
        assert_eq!((whole.sent, whole.lost), (12, 2));
        assert!((whole.seconds - 0.6).abs() < 1e-12);
    }
}
