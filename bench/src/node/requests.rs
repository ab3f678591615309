//! Requests and replies of Cubed, so many outstanding at any time: the next request follows a reply.

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
    ECHO_FLOW,
    client::{Client, ClientSettings},
    latency::{ANSWER_TIME_MAX, SIZE_BYTES_MAX, SIZE_BYTES_MIN, check},
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

/// Requests of Cubed from one shard.
#[derive(Debug)]
pub struct CubedRequests {
    client: Client,
    size_bytes: usize,
    outstanding: usize,
    meter: Option<Meter>,
    times: LatencySlice,
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
    /// `Argument` for a size that no question has, or outside 1 to [`OUTSTANDING_MAX`]; else those of [`Client::start`].
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
        let client = Client::start(settings)?;
        Ok(Self { client, size_bytes, outstanding, meter: None, times: LatencySlice::empty() })
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

    fn ask_for(&self, duration: Duration, meter: Option<Meter>) -> Result<LatencySlice> {
        let (peer, size_bytes) = (self.client.peer_key(), self.size_bytes);
        let outstanding = self.outstanding;
        self.client.on_shard(0, async move |shard: Shard| {
            let to = shard.resolve(peer, ECHO_FLOW);
            let to = to.map_err(|error| BenchError::Peer(error.to_string()))?;
            let telling = meter.map(|meter| Telling::new(&shard, meter));
            let shared = Rc::new(RefCell::new(Shared::new(telling)));
            let start = shard.now();
            let end = start + duration;
            let shared_here = &shared;
            let askers = (0..outstanding).step_by(QUESTIONS_PER_TASK).map(|first| {
                let count = QUESTIONS_PER_TASK.min(outstanding - first);
                let shared = Rc::clone(shared_here);
                let mut asker = Asker { here: shard.clone(), to: to.clone(), shared, end };
                let mut questions: Vec<_> = (0..count).map(|_| Question::new(size_bytes)).collect();
                shard.spawn_local(poll_fn(move |context| asker.poll(&mut questions, context)))
            });
            for asker in askers.collect::<Vec<_>>() {
                asker.await.map_err(|error| BenchError::Machine(error.to_string()))??;
            }
            let mut slice = shared.borrow_mut().end();
            slice.seconds = shard.now().saturating_duration_since(start).as_secs_f64();
            Ok(slice)
        })
    }
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
        let slice = self.ask_for(duration, self.meter.clone())?;
        drop(open);
        let after = self.client.sent()?;
        self.times.add(&slice);
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
