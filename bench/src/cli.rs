//! The command line: its flags, and what each sub-command runs.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    ceiling::{self, Ceiling},
    error::Result,
    machine::{self, Cores},
    pairs::{Plan, measure_latency, measure_throughput},
    raw_echo::{self, RawEcho},
    report::{Report, table},
    stats::LatencySummary,
    subject::{LatencySlice, ThroughputSlice},
};

/// Measures Cubed and, in the same run, the best that this machine could do.
#[derive(Debug, Parser)]
#[command(name = "cubed-bench", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The most that framing, sealing and UDP offload reach here without any reliability
    Ceiling(CeilingArgs),
    /// Round trip of plain UDP between two pinned processes
    RawLatency(RawLatencyArgs),
    /// The receiving process of `ceiling`.
    #[command(name = ceiling::PEER_COMMAND, hide = true)]
    PeerCeiling(PeerCeilingArgs),
    /// The echoing process of `raw-latency`.
    #[command(name = raw_echo::PEER_COMMAND, hide = true)]
    PeerEcho(PeerEchoArgs),
}

/// Where results go besides the terminal.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Whom to measure against, when it is not a peer process of our own.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Measure against `cubed-bench serve` at ADDR instead of a process started here
    #[arg(long, value_name = "ADDR", requires = "peer")]
    pub connect: Option<SocketAddr>,
    /// Public key of the node at ADDR
    #[arg(long, value_name = "KEY", requires = "connect")]
    pub peer: Option<String>,
}

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Kept until the receiver has acknowledged them
    Acked,
    /// Sent once
    BestEffort,
}

/// Flags of `throughput`.
#[derive(Debug, Clone, Args)]
pub struct ThroughputArgs {
    /// Body bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure Cubed for; the ceiling takes as long again
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// How messages are sent
    #[arg(long, value_enum, default_value_t = Mode::Acked)]
    pub mode: Mode,
    /// Bytes of each UDP datagram
    #[arg(long, value_name = "BYTES", default_value_t = 1452)]
    pub datagram: usize,
    /// Do not measure the ceiling
    #[arg(long)]
    pub no_baseline: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `latency`.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Body bytes of each question and answer
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure Cubed for; plain UDP takes as long again
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Questions per second, each timed from when it was due; without it the next question follows
    /// the answer
    #[arg(long, value_name = "PER_S")]
    pub rate: Option<f64>,
    /// Poll on both sides instead of parking
    #[arg(long)]
    pub spin: bool,
    /// Do not measure plain UDP
    #[arg(long)]
    pub no_baseline: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// File with the key that identifies this node
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Public key that may connect; repeat it for several. Without it nobody may
    #[arg(long, value_name = "KEY")]
    pub allow: Vec<String>,
    /// Poll instead of parking
    #[arg(long)]
    pub spin: bool,
}

/// Flags of `ceiling`.
#[derive(Debug, Clone, Args)]
pub struct CeilingArgs {
    /// Body bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure for
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Bytes of each UDP datagram
    #[arg(long, value_name = "BYTES", default_value_t = 1452)]
    pub datagram: usize,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `raw-latency`.
#[derive(Debug, Clone, Args)]
pub struct RawLatencyArgs {
    /// Bytes of each question and answer
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Seconds to measure for
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,
    /// Poll on both sides instead of blocking
    #[arg(long)]
    pub spin: bool,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of the hidden receiving process.
#[derive(Debug, Clone, Args)]
pub struct PeerCeilingArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// The measuring process has the same core
    #[arg(long)]
    pub shares_core: bool,
}

/// Flags of the hidden echoing process.
#[derive(Debug, Clone, Args)]
pub struct PeerEchoArgs {
    /// Core to pin slices to
    #[arg(long)]
    pub core: usize,
    /// Poll instead of blocking
    #[arg(long)]
    pub spin: bool,
}

impl Cli {
    /// Runs the sub-command.
    ///
    /// # Errors
    ///
    /// Whatever kept it from a result.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Ceiling(args) => run_ceiling(args),
            Command::RawLatency(args) => run_raw_latency(args),
            Command::PeerCeiling(args) => ceiling::run_peer(args.core, args.shares_core),
            Command::PeerEcho(args) => raw_echo::run_peer(args.core, args.spin),
        }
    }
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
    let mut echo = RawEcho::start(args.size, args.spin)?;
    let mode = if echo.spins() { "both sides spin" } else { "both sides park" };
    say(&format!("plain UDP echo, {mode}"));
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

fn say_throughput(name: &str, slice: &ThroughputSlice) {
    let rate = slice.messages_per_second() / 1e6;
    let gbps = slice.goodput_gbps();
    let (seconds, lost) = (slice.seconds, slice.lost());
    say(&format!("{name:<8} {seconds:.2} s: {rate:.3} M msg/s, {gbps:.2} Gb/s, {lost} lost"));
}

fn say_latency(name: &str, slice: &LatencySlice) {
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
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    //! Goal: every promised flag parses, and those that belong together are asked for together.
    use super::*;

    #[derive(Debug, Parser)]
    struct Planned {
        #[command(subcommand)]
        command: PlannedCommand,
    }

    #[derive(Debug, Subcommand)]
    enum PlannedCommand {
        Throughput(ThroughputArgs),
        Latency(LatencyArgs),
        Serve(ServeArgs),
    }

    fn planned(line: &str) -> std::result::Result<Planned, clap::Error> {
        Planned::try_parse_from(std::iter::once("cubed-bench").chain(line.split(' ')))
    }

    #[test]
    fn throughput_takes_its_flags() {
        let line = "throughput --size 1024 --seconds 2 --mode best-effort --datagram 1200 \
                    --connect 127.0.0.1:7530 --peer abc --no-baseline --json out.json";
        let PlannedCommand::Throughput(args) = planned(line).unwrap().command else {
            panic!("not throughput");
        };
        assert_eq!((args.size, args.mode, args.datagram), (1024, Mode::BestEffort, 1200));
        assert!(args.no_baseline && args.connect.connect.is_some() && args.output.json.is_some());
    }

    #[test]
    fn latency_and_serve_take_their_flags() {
        let line = "latency --size 64 --seconds 2 --rate 10000 --spin --no-baseline --json out";
        let PlannedCommand::Latency(args) = planned(line).unwrap().command else {
            panic!("not latency");
        };
        assert_eq!((args.rate, args.spin), (Some(10_000.0), true));
        let line = "serve --listen [::]:7530 --key node.key --allow a --allow b";
        let PlannedCommand::Serve(args) = planned(line).unwrap().command else {
            panic!("not serve");
        };
        assert_eq!((args.listen.port(), args.allow.len()), (7530, 2));
    }

    #[test]
    fn an_address_needs_its_key() {
        assert!(planned("throughput --connect 127.0.0.1:7530").is_err());
        assert!(planned("latency --peer abc").is_err());
    }

    #[test]
    fn peer_commands_are_hidden_and_parse_what_the_components_pass() {
        let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
        assert!(!help.contains("peer-"), "{help}");
        for line in ["peer-ceiling --core 1 --shares-core", "peer-echo --core 1 --spin"] {
            Cli::try_parse_from(std::iter::once("cubed-bench").chain(line.split(' '))).unwrap();
        }
    }
}
