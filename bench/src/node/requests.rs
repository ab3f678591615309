//! Requests and replies of Cubed, so many outstanding at any time: the next request follows a reply.

use std::{cell::RefCell, rc::Rc, time::Duration};

use cubed::{Shard, SpinPolicy};

use super::{
    ECHO_FLOW,
    client::{Client, ClientSettings},
    latency::{SIZE_BYTES_MAX, SIZE_BYTES_MIN, ask},
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

/// Requests of Cubed from one shard.
#[derive(Debug)]
pub struct CubedRequests {
    client: Client,
    size_bytes: usize,
    outstanding: usize,
    meter: Option<Meter>,
    times: LatencySlice,
}

/// What all askers of a slice share.
struct Shared {
    slice: LatencySlice,
    watch: Option<CounterWatch>,
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

    /// Tells `meter` of every slice from here on.
    pub fn watch(&mut self, meter: Meter) {
        self.meter = Some(meter);
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
            let watch = meter.map(|meter| CounterWatch::new(&shard, meter, None));
            let shared = Rc::new(RefCell::new(Shared { slice: LatencySlice::empty(), watch }));
            let start = shard.now();
            let end = start + duration;
            let askers = (0..outstanding).map(|_| {
                let (here, to, shared) = (shard.clone(), to.clone(), Rc::clone(&shared));
                shard.spawn_local(async move {
                    let mut body = vec![0x5A; size_bytes];
                    let mut now = here.now();
                    while now < end {
                        write_tag(&mut body, shared.borrow().slice.sent);
                        shared.borrow_mut().slice.sent += 1;
                        let answered = ask(&to, &body).await?;
                        let asked = std::mem::replace(&mut now, here.now());
                        let mut shared = shared.borrow_mut();
                        shared.slice.record(answered, asked, now, None);
                        if let Some(watch) = &mut shared.watch {
                            watch.look(&here, now);
                        }
                    }
                    Ok::<(), BenchError>(())
                })
            });
            for asker in askers.collect::<Vec<_>>() {
                asker.await.map_err(|error| BenchError::Machine(error.to_string()))??;
            }
            let mut slice = std::mem::take(&mut shared.borrow_mut().slice);
            slice.seconds = shard.now().saturating_duration_since(start).as_secs_f64();
            Ok(slice)
        })
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
        if let Some(meter) = &self.meter {
            meter.add_messages(slice.histogram.len());
            meter.add_latencies(&slice.histogram);
        }
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
