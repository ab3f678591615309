//! What each sub-command runs and prints.

use std::{io::Write, time::Duration};

use cubed::SpinPolicy;

use crate::{
    ceiling::{self, Ceiling},
    cli::{
        CeilingArgs, Cli, Command, ConnectArgs, LatencyArgs, MachineArgs, OutputArgs, PeerNodeArgs,
        RawLatencyArgs, ServeArgs, ThroughputArgs,
    },
    error::{BenchError, Result},
    goal,
    machine::{self, Cores},
    node::{
        bodies::Mode,
        client::{Client, ClientSettings, ServedPeer},
        latency::CubedEcho,
        server::{self, Server},
        throughput::CubedThroughput,
    },
    pairs::{Plan, measure_latency, measure_throughput},
    raw_echo::{self, RawEcho},
    report::{Report, table},
    stats::LatencySummary,
    subject::{LatencySlice, LatencySubject, ThroughputSlice, ThroughputSubject},
    tour,
};

/// Highest rate of an open loop, per second.
const RATE_MAX: f64 = 1e6;

impl Cli {
    /// Runs the sub-command, or the tour.
    ///
    /// # Errors
    ///
    /// Whatever kept it from a result.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            None => tour::run(self.machine, self.output.json.as_deref()),
            Some(Command::Throughput(args)) => run_throughput(args),
            Some(Command::Latency(args)) => run_latency(args),
            Some(Command::Serve(args)) => run_serve(args),
            Some(Command::Ceiling(args)) => run_ceiling(args),
            Some(Command::RawLatency(args)) => run_raw_latency(args),
            Some(Command::PeerNode(args)) => run_peer_node(args),
            Some(Command::PeerCeiling(args)) => ceiling::run_peer(args.core, args.shares_core),
            Some(Command::PeerEcho(args)) => raw_echo::run_peer(args.core, args.spin),
        }
    }
}

fn run_throughput(args: &ThroughputArgs) -> Result<()> {
    let with_baseline = !args.no_baseline && has_baseline(&args.connect);
    let plan = plan(args.seconds, with_baseline)?;
    say(&machine::describe(Cores::choose()?));
    let settings =
        client_settings(&args.connect, args.machine, CubedThroughput::SPIN, args.datagram);
    let mut subject = CubedThroughput::start(args.size, args.mode, &settings)?;
    let mut ceiling =
        with_baseline.then(|| Ceiling::start(args.size, args.datagram.into())).transpose()?;
    let baseline = ceiling.as_mut().map(|ceiling| ceiling as &mut dyn ThroughputSubject);
    let run = measure_throughput(plan, &mut subject, baseline, say_throughput)?;
    if args.counters {
        say_counters(subject.client())?;
    }
    if args.mode == Mode::Acked {
        say("by the tags: every message delivered once, 0 lost, 0 duplicated");
    }
    let report = Report::of_throughput("throughput", args.size, args.datagram.into(), &run);
    finish(&report.on(subject.client().machine()), &args.output)
}

fn run_latency(args: &LatencyArgs) -> Result<()> {
    let with_baseline = !args.no_baseline && has_baseline(&args.connect);
    let plan = plan(args.seconds, with_baseline)?;
    let interval = args.rate.map(interval).transpose()?;
    say(&machine::describe(Cores::choose()?));
    let spin = CubedEcho::spin(args.spin, interval)?;
    let spins = spin != SpinPolicy::Never;
    let settings = client_settings(&args.connect, args.machine, spin, DATAGRAM_BYTES);
    let mut subject = CubedEcho::start(args.size, interval, &settings)?;
    let mut raw =
        with_baseline.then(|| RawEcho::start(args.size, args.spin, interval)).transpose()?;
    say(&format!("request and reply, {}", wait_mode(spins)));
    let baseline = raw.as_mut().map(|raw| raw as &mut dyn LatencySubject);
    let run = measure_latency(plan, &mut subject, baseline, say_latency)?;
    if args.counters {
        say_counters(subject.client())?;
    }
    let goal = if spins { goal::ECHO_SPINNING } else { goal::ECHO_PARKED };
    let goal = args.rate.is_none().then_some(goal);
    let report = Report::of_latency("latency", args.size, &run, goal);
    finish(&report.on(subject.client().machine()), &args.output)
}

fn run_serve(args: &ServeArgs) -> Result<()> {
    let spin = if args.spin { CubedEcho::spin(true, None)? } else { SpinPolicy::Adaptive };
    let server = Server {
        listen: args.listen,
        core: args.core,
        spin,
        datagram_bytes: args.datagram,
        machine: args.machine,
        allowed: args.allow.clone(),
    };
    server::serve(&server, &args.key, say)
}

fn run_peer_node(args: &PeerNodeArgs) -> Result<()> {
    let spin = match args.spin_micros {
        None => SpinPolicy::Adaptive,
        Some(0) => SpinPolicy::Never,
        Some(micros) => SpinPolicy::For(Duration::from_micros(micros)),
    };
    server::run_peer(&Server {
        listen: server::ANY_LOOPBACK,
        core: Some(args.core),
        spin,
        datagram_bytes: args.datagram,
        machine: args.machine,
        allowed: vec![args.allow],
    })
}

/// Bytes of each datagram where no flag says otherwise.
pub const DATAGRAM_BYTES: u16 = 1452;

/// Baselines run on this machine, so they say nothing about a path to another one.
fn has_baseline(connect: &ConnectArgs) -> bool {
    let is_here = connect.connect.is_none_or(|address| address.ip().is_loopback());
    if !is_here {
        say("no baseline: the peer is on another machine");
    }
    is_here
}

fn plan(seconds: f64, with_baseline: bool) -> Result<Plan> {
    if with_baseline { Plan::pairs(seconds) } else { Plan::alone(seconds) }
}

fn interval(rate: f64) -> Result<Duration> {
    if rate > 0.0 && rate <= RATE_MAX {
        return Ok(Duration::from_secs_f64(1.0 / rate));
    }
    Err(BenchError::Argument(format!("--rate {rate}: give a number above 0 and up to {RATE_MAX}")))
}

fn client_settings(
    connect: &ConnectArgs,
    machine: MachineArgs,
    spin: SpinPolicy,
    datagram_bytes: u16,
) -> ClientSettings<'_> {
    let served = connect.connect.zip(connect.peer);
    ClientSettings {
        served: served.map(|(address, key)| ServedPeer { address, key }),
        key_file: connect.key.as_deref(),
        spin,
        datagram_bytes,
        machine,
    }
}

fn say_counters(client: &Client) -> Result<()> {
    for (name, value) in client.counters()?.into_iter().filter(|(_, value)| *value > 0) {
        say(&format!("{name:<32} {value:>12}"));
    }
    Ok(())
}

fn wait_mode(spins: bool) -> &'static str {
    if spins { "both sides spin" } else { "both sides park" }
}

fn run_ceiling(args: &CeilingArgs) -> Result<()> {
    let plan = Plan::alone(args.seconds)?;
    say(&machine::describe(Cores::choose()?));
    let mut ceiling = Ceiling::start(args.size, args.datagram)?;
    say(&format!("window of {} datagrams is the fastest", ceiling.window()));
    let run = measure_throughput(plan, &mut ceiling, None, say_throughput)?;
    finish(&Report::of_ceiling(args.size, args.datagram, &run), &args.output)
}

fn run_raw_latency(args: &RawLatencyArgs) -> Result<()> {
    let plan = Plan::alone(args.seconds)?;
    say(&machine::describe(Cores::choose()?));
    let mut echo = RawEcho::start(args.size, args.spin, None)?;
    say(&format!("plain UDP echo, {}", wait_mode(echo.spins())));
    let run = measure_latency(plan, &mut echo, None, say_latency)?;
    finish(&Report::of_raw_latency(args.size, &run.subject), &args.output)
}

fn finish(report: &Report, output: &OutputArgs) -> Result<()> {
    say(table(std::slice::from_ref(report)).trim_end());
    match &output.json {
        Some(path) => report.write_json(path),
        None => Ok(()),
    }
}

/// Prints one slice of throughput.
pub fn say_throughput(name: &str, slice: &ThroughputSlice) {
    let rate = slice.messages_per_second() / 1e6;
    let gbps = slice.goodput_gbps();
    let (seconds, lost) = (slice.seconds, slice.lost());
    say(&format!("{name:<8} {seconds:.2} s: {rate:.3} M msg/s, {gbps:.2} Gb/s, {lost} lost"));
}

/// Prints one slice of round trips.
pub fn say_latency(name: &str, slice: &LatencySlice) {
    let seconds = slice.seconds;
    let answers = slice.histogram.len();
    match LatencySummary::of(&slice.histogram) {
        Some(LatencySummary { p50, p99, .. }) => say(&format!(
            "{name:<8} {seconds:.2} s: p50 {p50:.1} us, p99 {p99:.1} us of {answers} round trips"
        )),
        None => say(&format!("{name:<8} {seconds:.2} s: no answer to {} questions", slice.sent)),
    }
}

/// Prints one line. A reader that went away (`| head`) does not end a measurement.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
