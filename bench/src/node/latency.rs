//! Round trips of Cubed: requests that an inline handler answers with their own body.
//!
//! Each shard asks a shard of the peer's: with several of them they ask one after the other, each for its part of a slice, so that
//! no question meets another shard's.
//!
//! Closed loop: the next question follows the answer. Open loop: each question is due at a planned
//! time, is sent then whether or not earlier ones were answered, and is timed from when it was due.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use cubed::{Destination, Instant, RequestError, Shard, SpinPolicy};

use super::{
    client::{Client, ClientSettings},
    load::wait_until,
    server::spin_policy,
    watch::CounterWatch,
};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    stats::record_latency,
    subject::{LatencySlice, LatencySubject},
    tag::{TAG_BYTES, write_tag},
};

/// Smallest question: its number must fit.
pub const SIZE_BYTES_MIN: usize = TAG_BYTES;

/// Largest question.
pub const SIZE_BYTES_MAX: usize = 64 << 20;

/// A question without its answer after this long is lost.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Not recorded at the start of each slice: caches fill, the path is measured.
const WARM_UP: Duration = Duration::from_millis(20);

/// How often an open loop looks, at its end, whether its last questions are answered.
const ANSWER_INTERVAL: Duration = Duration::from_micros(200);

/// Nodes that spin do so over pauses of this length; what comes later finds them asleep.
const SPIN_TIME: Duration = Duration::from_millis(10);

/// Round trips of Cubed for one size, wait mode and loop.
#[derive(Debug)]
pub struct CubedEcho {
    client: Client,
    size_bytes: usize,
    interval: Option<Duration>,
    meter: Option<Meter>,
    /// Answers to each shard.
    answered: Vec<u64>,
}

impl CubedEcho {
    /// Starts the nodes and connects them. With `interval` the loop is open.
    ///
    /// # Errors
    ///
    /// `Argument` outside [`SIZE_BYTES_MIN`] and [`SIZE_BYTES_MAX`]; else those of
    /// [`Client::start`].
    pub fn start(
        size_bytes: usize,
        interval: Option<Duration>,
        settings: &ClientSettings<'_>,
    ) -> Result<Self> {
        if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size_bytes) {
            return Err(BenchError::Argument(format!(
                "--size {size_bytes}: between {SIZE_BYTES_MIN} and {SIZE_BYTES_MAX} for latency"
            )));
        }
        let client = Client::start(settings)?;
        let answered = vec![0; client.shards()];
        Ok(Self { client, size_bytes, interval, meter: None, answered })
    }

    /// Tells `meter` of every slice from here on, if there is one.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// Answers to each shard in all slices so far.
    pub fn answered(&self) -> &[u64] {
        &self.answered
    }

    /// The measuring node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How both nodes wait: polling over the pauses of the loop, or asleep.
    ///
    /// # Errors
    ///
    /// When the system names no core.
    pub fn spin(spin: bool, interval: Option<Duration>) -> Result<SpinPolicy> {
        spin_policy(spin, SPIN_TIME.max(2 * interval.unwrap_or_default()))
    }
}

impl LatencySubject for CubedEcho {
    fn name(&self) -> &'static str {
        "cubed"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<LatencySlice> {
        let shards = self.client.shards();
        let mut slice = LatencySlice::empty();
        for shard in 0..shards {
            let part = self.run_part(shard, duration / shards as u32)?;
            self.answered[shard] += part.histogram.len();
            slice.add(&part);
        }
        Ok(slice)
    }
}

impl CubedEcho {
    /// One shard's part of a slice.
    fn run_part(&self, shard: usize, duration: Duration) -> Result<LatencySlice> {
        let (peer, size_bytes, interval) = (self.client.peer_key(), self.size_bytes, self.interval);
        let (echo, meter) = (self.client.echo(shard).to_owned(), self.meter.clone());
        self.client.on_shard(shard, async move |shard: Shard| {
            let to = shard.resolve(peer, &echo);
            let to = to.map_err(|error| BenchError::Peer(error.to_string()))?;
            ask_in_turn(&shard, &to, size_bytes, WARM_UP, None).await?;
            let _open = meter.as_ref().map(Meter::open);
            let slice = match interval {
                None => ask_in_turn(&shard, &to, size_bytes, duration, meter).await?,
                Some(interval) => {
                    ask_on_time(&shard, &to, size_bytes, interval, duration, meter).await?
                }
            };
            check_peer(&to, &slice).await?;
            Ok(slice)
        })
    }
}

/// Asks for `duration`, each question after the answer to the one before.
async fn ask_in_turn(
    shard: &Shard,
    to: &Destination,
    size_bytes: usize,
    duration: Duration,
    meter: Option<Meter>,
) -> Result<LatencySlice> {
    let mut watch = meter.clone().map(|meter| CounterWatch::new(shard, meter, None));
    let mut slice = LatencySlice::empty();
    let mut body = vec![0x5A; size_bytes];
    let start = shard.now();
    let mut now = start;
    while now < start + duration {
        write_tag(&mut body, slice.sent);
        slice.sent += 1;
        let answered = ask(to, &body).await?;
        let asked = now;
        now = shard.now();
        slice.record(answered, asked, now, meter.as_ref());
        if let Some(watch) = &mut watch {
            watch.look(shard, now);
        }
    }
    slice.seconds = now.saturating_duration_since(start).as_secs_f64();
    Ok(slice)
}

/// Asks for `duration`, one question every `interval`, and waits for the last answers.
async fn ask_on_time(
    shard: &Shard,
    to: &Destination,
    size_bytes: usize,
    interval: Duration,
    duration: Duration,
    meter: Option<Meter>,
) -> Result<LatencySlice> {
    let mut watch = meter.clone().map(|meter| CounterWatch::new(shard, meter, None));
    let count = (duration.as_secs_f64() / interval.as_secs_f64()).ceil() as u64;
    let start = shard.now();
    let asked = Rc::new(RefCell::new(Asked::default()));
    for number in 0..count {
        if asked.borrow().failure.is_some() {
            break;
        }
        let due = start + interval.mul_f64(number as f64);
        wait_until(shard, due).await;
        if let Some(watch) = &mut watch {
            watch.look(shard, shard.now());
        }
        let meter = meter.clone();
        let (here, to, asked) = (shard.clone(), to.clone(), Rc::clone(&asked));
        let mut body = vec![0x5A; size_bytes];
        write_tag(&mut body, number);
        asked.borrow_mut().slice.sent += 1;
        shard.spawn_local(async move {
            let answered = ask(&to, &body).await;
            let mut asked = asked.borrow_mut();
            match answered {
                Ok(answered) => {
                    asked.slice.record(answered, due, here.now(), meter.as_ref());
                }
                Err(error) => asked.failure = Some(error),
            }
        });
    }
    // Each question holds it until it has its answer: a handle per question would grow with the run.
    while Rc::strong_count(&asked) > 1 {
        shard.sleep(ANSWER_INTERVAL).await;
    }
    let Asked { mut slice, failure } = asked.take();
    if let Some(failure) = failure {
        return Err(failure);
    }
    if slice.sent != slice.histogram.len() + slice.lost {
        return Err(BenchError::Machine("a task that asked panicked".into()));
    }
    slice.seconds = shard.now().saturating_duration_since(start).as_secs_f64();
    Ok(slice)
}

/// What all questions of an open loop share.
#[derive(Default)]
struct Asked {
    slice: LatencySlice,
    failure: Option<BenchError>,
}

/// Asks one question; false without an answer in time.
pub(super) async fn ask(to: &Destination, body: &[u8]) -> Result<bool> {
    check(to.request(body, ANSWER_TIME_MAX).await, body)
}

/// After a slice in which questions were lost: whether the peer still answers.
///
/// # Errors
///
/// `Peer` when it does not.
pub(super) async fn check_peer(to: &Destination, slice: &LatencySlice) -> Result<()> {
    if slice.lost == 0 || ask(to, &[0; SIZE_BYTES_MIN]).await? {
        return Ok(());
    }
    Err(BenchError::Peer(format!(
        "it answers no more ({} questions lost, and one more within {ANSWER_TIME_MAX:?}): see what it said last and start it again",
        slice.lost
    )))
}

/// Whether a question was answered in time; an answer must be the question's body.
pub(super) fn check(answer: std::result::Result<Bytes, RequestError>, body: &[u8]) -> Result<bool> {
    match answer {
        Ok(answer) if answer == body => Ok(true),
        Ok(answer) => Err(BenchError::Corrupt(format!(
            "asked {} bytes and was answered {} others",
            body.len(),
            answer.len()
        ))),
        Err(RequestError::Expired) => Ok(false),
        Err(error) => Err(BenchError::Peer(error.to_string())),
    }
}

impl LatencySlice {
    pub(super) fn record(
        &mut self,
        answered: bool,
        asked: Instant,
        now: Instant,
        meter: Option<&Meter>,
    ) {
        if answered {
            let nanos = now.saturating_duration_since(asked).as_nanos() as u64;
            record_latency(&mut self.histogram, nanos);
            if let Some(meter) = meter {
                meter.record(nanos);
            }
        } else {
            self.lost += 1;
        }
    }
}
