//! The pump: the one task of a shard that moves everything.
//!
//! A turn runs commands, receives, does what is due, sends what is there and wakes who waits; then the
//! other tasks run. Always holds: after anything changed, the endpoint is asked for datagrams and
//! events before the shard sleeps; the shard sleeps only if a turn did nothing and no task has run
//! since; bytes received are lent for the call that handles them.

mod batch;
mod events;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use cubed_runtime::{
    Driver, DriverWaker, HandOff, Inbound, Port, SendStatus, SpinDecision, Spinner, panic_message,
    polls, yield_now,
};
use cubed_transport::Transmit;
use cubed_transport::time::Instant;

use crate::application::Receiver;
use crate::follow::follow;
use crate::handed::{HERE, Handed};
use crate::hellos::Hellos;
use crate::lane_counts::count_lanes;
use crate::limits::{
    COMMANDS_PER_TURN_MAX, FAREWELL_DURATION_MAX, FAREWELL_YIELDS, FULL_BATCH_BYTES_MIN,
    HANDED_PER_TURN_MAX, RECEIVES_PER_TURN_MAX, SEND_RETRY_INTERVAL, SENDS_PER_TURN_MAX,
};
use crate::outside::Calls;
use crate::ports::split;
use crate::shard::Shard;
use crate::shared::{PumpCounters, Shared, State};
use crate::strays::{Stray, Strays};
use crate::watch::Watch;
use batch::{Rest, handle_rest, receive, receive_first};

/// The pump of one shard, on any driver.
pub(crate) struct Pump<D> {
    shared: Rc<Shared>,
    shard: Shard,
    driver: D,
    inbound: Inbound<Handed>,
    calls: Calls,
    spinner: Spinner,
    run: Run,
    rest: Rest,
    strays: Strays,
    hellos: Hellos,
    watch: Watch,
    counters: PumpCounters,
    /// The turn before received something.
    is_loaded: bool,
}

/// The run of datagrams on its way to the socket.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// What has not left yet, and how many bytes of it have.
    held: Option<(Transmit, usize)>,
}

impl<D: Driver> Pump<D> {
    pub(crate) fn new(
        shared: Rc<Shared>,
        driver: D,
        calls: Calls,
        strays: HandOff<Stray>,
        inbound: Inbound<Handed>,
        spinner: Spinner,
    ) -> Self {
        let strays = Strays::new(shared.facts.index, strays, driver.waker());
        let hellos = Hellos::new(driver.has_side());
        inbound.attach(driver.waker());
        Self {
            shard: Shard::new(Rc::clone(&shared)),
            shared,
            driver,
            inbound,
            calls,
            spinner,
            run: Run::default(),
            rest: Rest::default(),
            strays,
            hellos,
            watch: Watch::default(),
            counters: PumpCounters::default(),
            is_loaded: false,
        }
    }

    /// Ends the shard's sleep, from any thread.
    pub(crate) fn waker(&self) -> DriverWaker {
        self.driver.waker()
    }

    /// Runs until the shard is asked to stop, then takes leave of the peers.
    ///
    /// # Errors
    ///
    /// The system's, when the socket or the ring is broken.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        // No other task is ready, as far as we know: a task becomes so only in a turn that worked.
        let mut quiet = false;
        while !self.shared.is_stopping() {
            let Some(worked) = self.guarded(Self::turn).transpose()? else { break };
            let now = self.shared.now().as_nanos();
            if worked || !quiet {
                self.spinner.on_work(now);
                quiet = self.let_others_run().await;
            } else if self.spinner.on_idle(now) == SpinDecision::Park {
                let Some(batches) = self.guarded(Self::park).transpose()? else { break };
                quiet = batches == 0;
            }
        }
        self.end_waits().await;
        let _ = self.guarded(Self::take_leave);
        Ok(())
    }

    /// Takes a step in which a handler may panic: the node then stops, and the step ends with nothing. What the handler had
    /// under its hands may be half done; nothing is asked of it any more but to end the sessions.
    fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = panic::catch_unwind(AssertUnwindSafe(|| step(self)));
        result.map_err(|cause| self.shared.fail_by_panic(panic_message(&*cause))).ok()
    }

    /// One round of everything; whether there was anything to do.
    fn turn(&mut self) -> io::Result<bool> {
        self.counters.turns += 1;
        let commands = self.calls.run(&self.shard, COMMANDS_PER_TURN_MAX);
        self.counters.commands += commands as u64;
        self.shared.read_clock();
        // What tasks gave the endpoint goes out before a look at the socket, a system call; their outbox follows with `run_due`.
        let mut sent = self.transmit();
        let strayed = self.take_strays();
        let mut batches = 0;
        while batches < RECEIVES_PER_TURN_MAX {
            let mut bytes = 0;
            let Self { shared, strays, hellos, rest, .. } = self;
            let count = self.driver.recv(1, &mut |batch| {
                bytes = batch.bytes.len();
                receive_first(shared, strays, hellos, batch, rest);
            })?;
            batches += count;
            sent |= self.receive_rest();
            if count == 0 || (!self.is_loaded && bytes < FULL_BATCH_BYTES_MIN) {
                // Probably the last: answering comes before another look at the socket. Not so when the turn before
                // received as well: many short batches are then answered together.
                break;
            }
        }
        self.is_loaded = batches > 0;
        let due = self.run_due();
        let handed = self.exchange();
        sent |= self.transmit();
        self.strays.flush();
        let told = self.dispatch_events();
        let mut worked = commands > 0 || batches > 0 || strayed || due || handed || sent || told;
        if self.hellos.are_due(&self.driver, !worked, self.shared.now()) {
            // Their answers leave with the next turn, which follows at once.
            worked |= self.receive_hellos()?;
        }
        if worked {
            self.publish();
        }
        Ok(worked)
    }

    /// Takes a few of the datagrams that anybody may send; whether there were any. Then it is the turn of all else for a
    /// while, unless there is nothing else.
    #[cold]
    fn receive_hellos(&mut self) -> io::Result<bool> {
        let Self { shared, strays, hellos, driver, .. } = self;
        let begun = shared.read_clock();
        let count = hellos.take(driver, &mut |mut batch| {
            receive(shared, strays, |_, _| false, &mut batch);
        })?;
        hellos.rest(driver, begun, shared.read_clock());
        Ok(count > 0)
    }

    /// Sends the answers to the first half of a batch and handles its second half, if one was kept; whether anything left.
    fn receive_rest(&mut self) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let sent = self.transmit();
        let Self { shared, strays, hellos, rest, .. } = self;
        handle_rest(shared, strays, hellos, rest);
        sent
    }

    /// Sleeps until a datagram, a call or a deadline comes; how many batches came.
    fn park(&mut self) -> io::Result<usize> {
        self.counters.parks += 1;
        self.publish();
        let mut deadline = self.shared.timers.next_deadline();
        let timeout = self.shared.state.borrow().endpoint.poll_timeout();
        let timeout = timeout.map(Instant::as_nanos);
        deadline = earlier(deadline, timeout);
        let local = self.shared.state.borrow().receiver.local.next_deadline();
        deadline = earlier(deadline, local.map(Instant::as_nanos));
        if self.run.held.is_some() {
            let retry = self.shared.now() + SEND_RETRY_INTERVAL;
            deadline = earlier(deadline, Some(retry.as_nanos()));
        }
        let Self { shared, strays, hellos, rest, .. } = self;
        let batches = self.driver.wait(deadline, &mut |batch| {
            receive_first(shared, strays, hellos, batch, rest);
        })?;
        self.receive_rest();
        self.strays.flush();
        Ok(batches)
    }

    /// Handles what other shards received for this one; whether there was anything.
    fn take_strays(&mut self) -> bool {
        let Self { shared, strays, hellos, .. } = self;
        let drained = strays.take(|from, datagram| {
            if hellos.set_aside(from, datagram) {
                return;
            }
            let mut state = shared.state.borrow_mut();
            let State { endpoint, receiver, .. } = &mut *state;
            receiver.now = shared.now();
            endpoint.handle_datagram(receiver.now, from, datagram, receiver);
        });
        if drained.items > 0 {
            flush(shared, &mut shared.state.borrow_mut());
        }
        drained.items > 0
    }

    /// Hands over what tasks left in the outbox, and fires what time has come for.
    fn run_due(&mut self) -> bool {
        let now = self.shared.now();
        let fired = self.shared.timers.fire(now.as_nanos()) > 0;
        let mut state = self.shared.state.borrow_mut();
        let flushed = flush(&self.shared, &mut state);
        let followed = follow(&self.shared, &mut state);
        let State { endpoint, receiver, watchers, .. } = &mut *state;
        let due = endpoint.poll_timeout().is_some_and(|at| at <= now);
        if due {
            receiver.now = now;
            endpoint.handle_timeout(now, receiver);
        }
        if self.watch.check_drops(endpoint, now) {
            watchers.sweep(endpoint);
            count_lanes(&self.shared.node().lane_counts, self.shared.facts.index, endpoint, now);
        }
        fired || flushed || followed || due
    }

    /// Takes what other shards handed over and hands over what is for them; whether there was anything.
    fn exchange(&mut self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let now = self.shared.now();
        state.receiver.now = now;
        let closed = state.receiver.local.newly_closed();
        // What a shard that ended had sent before is taken whole.
        let items_max = if closed.is_some() { usize::MAX } else { HANDED_PER_TURN_MAX };
        let receiver = &mut state.receiver;
        let drained = self.inbound.drain(items_max, |from, item| receiver.take_handed(from, item));
        if let Some(shard) = closed {
            receiver.local.end_shard(&mut receiver.waits, Some(shard));
        }
        if drained.items > 0 {
            // Answers leave with this turn, and what handlers said.
            flush(&self.shared, &mut state);
        }
        let State { receiver, stalled, .. } = &mut *state;
        let worked = receiver.local.run(&mut receiver.waits, now);
        // Tasks that this wakes run before the shard sleeps, and what the outbox still had is flushed: there was work.
        let has_room = receiver.local.take_room() && (*stalled || receiver.waits.is_full(HERE));
        if has_room {
            receiver.waits.room(HERE);
            self.retry_outbox(&mut state, HERE);
        }
        drained.items > 0 || closed.is_some() || worked || has_room
    }

    /// Sends what the endpoint has, up to a limit; whether anything left.
    fn transmit(&mut self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let now = self.shared.now();
        let mut worked = false;
        for _ in 0..SENDS_PER_TURN_MAX {
            let Run { bytes, held } = &mut self.run;
            let next = held.take();
            let next = next.or_else(|| Some((state.endpoint.poll_transmit(now, bytes)?, 0)));
            let Some((transmit, gone)) = next else { break };
            let (port, to) = if self.shared.facts.source == Port::Shared {
                (Port::Shared, transmit.to)
            } else {
                split(transmit.to)
            };
            match self.driver.send_from(port, to, &bytes[gone..], transmit.segment_bytes) {
                Ok(SendStatus::Sent) => {}
                Ok(SendStatus::WouldBlock { sent_bytes }) => {
                    *held = Some((transmit, gone + sent_bytes));
                    return worked || sent_bytes > 0;
                }
                Err(error) => self.counters.count_send_error(to, &error),
            }
            worked = true;
        }
        worked
    }

    /// Lets every ready task run once; whether none was.
    async fn let_others_run(&self) -> bool {
        let before = polls();
        yield_now().await;
        polls() - before <= 1
    }

    /// Tells tasks that this is the end.
    async fn end_waits(&self) {
        end_waits(&self.shared);
        for _ in 0..FAREWELL_YIELDS {
            if self.let_others_run().await {
                break;
            }
        }
    }

    /// Tells peers that this is the end.
    fn take_leave(&mut self) {
        let until = self.shared.read_clock() + FAREWELL_DURATION_MAX;
        self.exchange(); // What other shards have answered is told before the sessions end.
        let mut state = self.shared.state.borrow_mut();
        flush(&self.shared, &mut state);
        state.endpoint.close();
        let Receiver { waits, local, .. } = &mut state.receiver;
        local.close(waits);
        local.run(waits, until);
        drop(state);
        while (self.transmit() || self.run.held.is_some()) && self.shared.read_clock() < until {
            self.dispatch_events();
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.counters.driver = self.driver.stats();
        self.counters.strays = self.strays.counters();
        self.counters.hellos = self.hellos.counters();
        self.shared.counters.set(self.counters);
    }
}

/// Hands over the outbox; whether there was anything in it.
fn flush(shared: &Shared, state: &mut State) -> bool {
    let mut outbox = shared.outbox.borrow_mut();
    let State { endpoint, receiver, stalled, .. } = state;
    let Receiver { waits, local, .. } = receiver;
    let worked = outbox.flush(endpoint, waits, local, shared.now());
    *stalled = outbox.is_stalled();
    worked
}

/// Ends every wait of the shard's tasks. For a shard that stops, well or not.
pub(crate) fn end_waits(shared: &Shared) {
    if let Some(mut state) = shared.try_state() {
        state.receiver.flows.stop();
        state.receiver.waits.stop();
        state.watchers.stop();
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
