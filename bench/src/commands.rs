//! What each sub-command runs and prints.

mod throughput;

mod latency;

mod agents;

mod baselines;

mod one_way;

mod peers;

mod request;

mod saturate;

mod serve;

mod compare;

use std::{sync::OnceLock, time::Duration};

use cubed::SpinPolicy;

pub use self::{latency::say_latency, throughput::say_throughput};
use crate::{
    ceiling,
    cli::{Cli, Command, ConnectArgs, MachineArgs, NodesArgs, OutputArgs},
    error::Result,
    interrupt,
    monitor::Monitor,
    node::client::{Client, ClientSettings, ServedPeer},
    pairs::Plan,
    path::MessagePath,
    peers::{audience, listeners},
    progress::{self, Progress},
    raw_echo, raw_one_way,
    report::{
        Report,
        limit::{self, Figure},
        table,
    },
    scale,
    surroundings::Surroundings,
    tour,
};

/// Bytes of each datagram where no flag says otherwise.
pub const DATAGRAM_BYTES: u16 = 1452;

impl Cli {
    /// Has signals end what runs as fits it: what measures says that it has no result, what serves tells what it did. Peer processes
    /// end when the process that measures does.
    ///
    /// # Errors
    ///
    /// `System` when signals cannot be caught.
    pub fn answer_signals(&self) -> Result<()> {
        match &self.command {
            // It is counted by the instruction: nothing beside it.
            Some(Command::Path(_)) => Ok(()),
            Some(command) if command.is_of_a_peer() => Ok(()),
            _ => interrupt::watch(),
        }
    }

    /// Runs the sub-command, or the tour.
    ///
    /// # Errors
    ///
    /// Whatever kept it from a result.
    pub fn run(&self) -> Result<()> {
        if self.quiet {
            progress::be_quiet();
        }
        if let Some((output, without)) = self.results() {
            output.prepare(&without)?;
        }
        if self.reports() {
            tell(&surroundings().line());
        }
        match &self.command {
            None => tour::run(self.machine, &self.output),
            Some(Command::Throughput(args)) => throughput::run(args),
            Some(Command::Latency(args)) => latency::run(args),
            Some(Command::Request(args)) => request::run(args),
            Some(Command::Saturate(args)) => saturate::run(args),
            Some(Command::Agent(args)) => agents::run_agent(args),
            Some(Command::Run(args)) => agents::run(args),
            Some(Command::Serve(args)) => serve::run(args),
            Some(Command::Baselines(args)) => baselines::run(args),
            Some(Command::Ceiling(args)) => throughput::run_ceiling(args),
            Some(Command::RawLatency(args)) => latency::run_raw(args),
            Some(Command::Scale(command)) => scale::run(command),
            Some(Command::Compare(args)) => compare::run(args),
            Some(Command::Path(args)) if args.requests => {
                MessagePath::new()?.ask(args.messages, args.size, args.outstanding)
            }
            Some(Command::Path(args)) => MessagePath::new()?.send(args.messages, args.size),
            Some(Command::PeerNode(args)) => serve::run_peer_node(args),
            Some(Command::PeerCeiling(args)) => {
                ceiling::run_peer(args.core, args.shares_core, !args.no_gro)
            }
            Some(Command::PeerAudience(args)) => audience::run(args),
            Some(Command::PeerListeners(args)) => listeners::run(args),
            Some(Command::PeerEcho(args)) => raw_echo::run_peer(args.core, args.spin),
            Some(Command::PeerOneWay(args)) => {
                raw_one_way::run_peer(args.core, args.size, args.spin)
            }
        }
    }
}

impl Cli {
    /// Where reports go, and the figures that they never have; `None` of what ends with no report.
    fn results(&self) -> Option<(&OutputArgs, Vec<Figure>)> {
        use Figure::{Rate, Ratio};
        let times_and = |others: &[Figure]| [&limit::TIMES[..], others].concat();
        Some(match self.command.as_ref() {
            None => (&self.output, Vec::new()),
            Some(Command::Throughput(args)) => (&args.nodes.output, times_and(&[])),
            Some(Command::Latency(args)) if args.one_way => (&args.nodes.output, Vec::new()),
            Some(Command::Latency(args)) => (&args.nodes.output, vec![Rate]),
            Some(Command::Request(args)) => (&args.nodes.output, Vec::new()),
            Some(Command::Saturate(args)) => (&args.nodes.output, Vec::new()),
            Some(Command::Run(args)) => (&args.output, vec![Ratio]),
            Some(Command::Baselines(args)) => (&args.output, times_and(&[])),
            Some(Command::Ceiling(args)) => (&args.output, times_and(&[Ratio])),
            Some(Command::RawLatency(args)) => (&args.output, vec![Rate, Ratio]),
            Some(_) => return None,
        })
    }

    /// True when what this process ends with is a report of this machine. Others say only what is asked of them: who serves answers
    /// orders on stdout, `scale` has sheets of its own, and the machines of `run` are its agents'.
    fn reports(&self) -> bool {
        use Command::{
            Agent, Compare, Path, PeerAudience, PeerCeiling, PeerEcho, PeerListeners, PeerNode,
            PeerOneWay, Run, Scale, Serve,
        };
        let Some(command) = &self.command else { return true };
        let answers = matches!(
            command,
            Serve(_) | PeerNode(_) | PeerCeiling(_) | PeerEcho(_) | PeerOneWay(_)
        );
        !answers
            && !matches!(
                command,
                Agent(_)
                    | Run(_)
                    | Compare(_)
                    | Path(_)
                    | Scale(_)
                    | PeerAudience(_)
                    | PeerListeners(_)
            )
    }
}

/// The surroundings as they were when this was first asked for: before anything was started.
pub(crate) fn surroundings() -> &'static Surroundings {
    static BEFORE: OnceLock<Surroundings> = OnceLock::new();
    BEFORE.get_or_init(Surroundings::gather)
}

/// Baselines run on this machine, so they say nothing about a path to another one.
fn has_baseline(connect: &ConnectArgs) -> bool {
    let is_here = connect.connect.is_none_or(|address| address.ip().is_loopback());
    if !is_here {
        tell("no baseline: the peer is on another machine");
    }
    is_here
}

/// The ceiling has one core a side; several shards a side over it would be a ratio of nothing.
pub fn has_ceiling(machine: MachineArgs) -> bool {
    let is_alike = machine.shards == 1;
    if !is_alike {
        tell("no ceiling: it has one core a side");
    }
    is_alike
}

/// Plain UDP with many questions outstanding is one loop on one core a side.
fn has_raw_udp(machine: MachineArgs) -> bool {
    let is_alike = machine.shards == 1;
    if !is_alike {
        tell("no plain UDP beside it: that has one core a side");
    }
    is_alike
}

fn plan(seconds: f64, with_baseline: bool) -> Result<Plan> {
    if with_baseline { Plan::pairs(seconds) } else { Plan::alone(seconds) }
}

fn client_settings(nodes: &NodesArgs, spin: SpinPolicy) -> ClientSettings<'_> {
    let NodesArgs { datagram, ref connect, machine, .. } = *nodes;
    let served = connect.connect.zip(connect.peer);
    ClientSettings {
        served: served.map(|(address, key)| ServedPeer { address, key }),
        key_file: connect.key.as_deref(),
        spin,
        datagram_bytes: datagram,
        flows: 1,
        machine,
    }
}

fn say_counters(client: &Client) -> Result<()> {
    for (name, value) in client.counters()?.into_iter().filter(|(_, value)| *value > 0) {
        say(&format!("{name:<32} {value:>12}"));
    }
    Ok(())
}

/// Prints the reports of one run and writes the files that were asked for.
///
/// # Errors
///
/// When a file cannot be written; the text names it. `Limit` when a bound of `--fail-if` is violated.
pub fn finish_all(reports: &[Report], output: &OutputArgs) -> Result<()> {
    let within = |report: &Report| report.clone().within(surroundings());
    let reports: Vec<Report> = reports.iter().map(within).collect();
    publish(&reports, output)
}

/// As [`finish_all`], for one report of what other machines measured: nothing is told of this one.
///
/// # Errors
///
/// As there.
pub fn finish_elsewhere(report: &Report, output: &OutputArgs) -> Result<()> {
    publish(std::slice::from_ref(report), output)
}

fn publish(reports: &[Report], output: &OutputArgs) -> Result<()> {
    say(table(reports).trim_end());
    output.write(reports)?;
    output.check(reports)
}

/// As [`finish_all`], for one report.
///
/// # Errors
///
/// As there.
pub fn finish(report: &Report, output: &OutputArgs) -> Result<()> {
    finish_all(std::slice::from_ref(report), output)
}

/// Watches a measurement of what is called `name` that takes `planned` without its baseline: give the monitor's meter to
/// whoever measures, and what it saw to the report.
///
/// # Errors
///
/// `Argument` when `--interval` is out of bounds; `System` when there is no thread.
pub fn watch(name: &str, planned: Duration, output: &OutputArgs) -> Result<Monitor> {
    let interval = output.interval.map(Duration::from_millis);
    Monitor::start(planned, interval, Progress::of(name, planned))
}

/// Prints one line of a result. A reader that went away (`| head`) does not end a measurement.
pub fn say(text: &str) {
    progress::print(text);
}

/// Prints one line about how it goes, unless asked to be quiet.
pub fn tell(text: &str) {
    if !progress::is_quiet() {
        progress::print(text);
    }
}
