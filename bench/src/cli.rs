//! The command line: its flags and their limits. What the sub-commands do: [`crate::commands`].

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use cubed::{Backend, Executor, NodeBuilder, PublicKey};

use crate::{
    ceiling,
    node::{bodies::Mode, server},
    raw_echo,
};

/// Measures Cubed and, in the same run, the best that this machine could do.
///
/// Without a command: a tour of half a minute.
#[derive(Debug, Parser)]
#[command(name = "cubed-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to measure; the tour without it.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What the tour's nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where the tour's results go.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages per second, beside the ceiling
    Throughput(ThroughputArgs),
    /// Round trip of a request and its reply, beside plain UDP
    Latency(LatencyArgs),
    /// The peer for `--connect`: counts what it gets and answers requests, until it is killed
    Serve(ServeArgs),
    /// The most that framing, sealing and UDP offload reach here without any reliability
    Ceiling(CeilingArgs),
    /// Round trip of plain UDP between two pinned processes
    RawLatency(RawLatencyArgs),
    /// The serving process of `throughput` and `latency`.
    #[command(name = server::PEER_COMMAND, hide = true)]
    PeerNode(PeerNodeArgs),
    /// The receiving process of `ceiling`.
    #[command(name = ceiling::PEER_COMMAND, hide = true)]
    PeerCeiling(PeerCeilingArgs),
    /// The echoing process of `raw-latency`.
    #[command(name = raw_echo::PEER_COMMAND, hide = true)]
    PeerEcho(PeerEchoArgs),
}

/// What nodes run on: the measuring one, and the one started beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct MachineArgs {
    /// How datagrams are moved: auto, uring or epoll
    #[arg(long, value_name = "NAME", default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// What runs tasks: glommio or portable; without it what goes with the backend
    #[arg(long, value_name = "NAME")]
    pub executor: Option<Executor>,
    /// Shards of each node, one core each as far as there are cores
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub shards: usize,
}

impl MachineArgs {
    /// Asks a node for it.
    pub fn apply(&self, node: NodeBuilder) -> NodeBuilder {
        let node = node.backend(self.backend);
        match self.executor {
            Some(executor) => node.executor(executor),
            None => node,
        }
    }

    /// As flags for a process.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--backend".to_owned(), self.backend.to_string()];
        flags.extend(["--shards".to_owned(), self.shards.to_string()]);
        if let Some(executor) = self.executor {
            flags.extend(["--executor".to_owned(), executor.to_string()]);
        }
        flags
    }
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
    pub peer: Option<PublicKey>,
    /// File with our own key, which the peer must allow; a new key without it
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub key: Option<PathBuf>,
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
    pub datagram: u16,
    /// Do not measure the ceiling
    #[arg(long)]
    pub no_baseline: bool,
    /// Print what the measuring node counted: losses, retransmissions, drops
    #[arg(long)]
    pub counters: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
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
    /// Print what the measuring node counted: losses, retransmissions, drops
    #[arg(long)]
    pub counters: bool,
    /// Whom to measure against.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What the nodes run on.
    #[command(flatten)]
    pub machine: MachineArgs,
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
    pub allow: Vec<PublicKey>,
    /// Core to pin the first shard to, and the others to those after it; the system chooses without it
    #[arg(long, value_name = "CORE")]
    pub core: Option<usize>,
    /// Bytes of each UDP datagram sent
    #[arg(long, value_name = "BYTES", default_value_t = 1452)]
    pub datagram: u16,
    /// Poll for up to 10 ms before parking
    #[arg(long)]
    pub spin: bool,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
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

/// Flags of the hidden serving process.
#[derive(Debug, Clone, Args)]
pub struct PeerNodeArgs {
    /// Core to pin the first shard to
    #[arg(long)]
    pub core: usize,
    /// Public key that may measure
    #[arg(long)]
    pub allow: PublicKey,
    /// Bytes of each UDP datagram sent
    #[arg(long)]
    pub datagram: u16,
    /// How long to poll before parking; adaptive without it
    #[arg(long)]
    pub spin_micros: Option<u64>,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
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

#[cfg(test)]
mod tests {
    //! Goal: every promised flag parses, and those that belong together are asked for together.
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        let cli = Cli::try_parse_from(std::iter::once("cubed-bench").chain(line.split(' ')))?;
        Ok(cli.command.expect("a command was given"))
    }

    fn key() -> PublicKey {
        cubed::Identity::generate().unwrap().public_key()
    }

    #[test]
    fn throughput_takes_its_flags() {
        let line = format!(
            "throughput --size 1024 --seconds 2 --mode best-effort --datagram 1200 --connect \
             127.0.0.1:7530 --peer {} --key own.pem --no-baseline --json out.json",
            key()
        );
        let Command::Throughput(args) = parsed(&line).unwrap() else {
            panic!("not throughput");
        };
        assert_eq!((args.size, args.mode, args.datagram), (1024, Mode::BestEffort, 1200));
        assert!(args.no_baseline && args.connect.connect.is_some() && args.output.json.is_some());
    }

    #[test]
    fn latency_and_serve_take_their_flags() {
        let line = "latency --size 64 --seconds 2 --rate 10000 --spin --no-baseline --json out";
        let Command::Latency(args) = parsed(line).unwrap() else {
            panic!("not latency");
        };
        assert_eq!((args.rate, args.spin), (Some(10_000.0), true));
        let (one, other) = (key(), key());
        let line = format!(
            "serve --listen [::]:7530 --key node.key --allow {one} --allow {other} --backend epoll"
        );
        let Command::Serve(args) = parsed(&line).unwrap() else {
            panic!("not serve");
        };
        assert_eq!(args.machine.backend, Backend::Epoll);
        assert_eq!((args.listen.port(), args.allow), (7530, vec![one, other]));
    }

    #[test]
    fn an_address_needs_its_key_and_a_key_its_checksum() {
        assert!(parsed("throughput --connect 127.0.0.1:7530").is_err());
        assert!(parsed(&format!("latency --peer {}", key())).is_err());
        let error = parsed("latency --connect 127.0.0.1:7530 --peer abc").unwrap_err();
        assert!(error.to_string().contains("--peer"), "{error}");
    }

    #[test]
    fn a_backend_that_does_not_exist_is_answered_with_those_that_do() {
        let error = parsed("latency --backend kqueue").unwrap_err().to_string();
        assert!(error.contains("choose auto, uring or epoll"), "{error}");
        assert!(parsed("throughput --executor tokio").is_err());
    }

    #[test]
    fn without_a_command_there_is_the_tour() {
        let cli = Cli::try_parse_from(["cubed-bench", "--json", "tour.json"]).unwrap();
        assert!(cli.command.is_none() && cli.output.json.is_some());
    }

    #[test]
    fn peer_commands_are_hidden_and_parse_what_the_components_pass() {
        let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
        assert!(!help.contains("peer-"), "{help}");
        let machine =
            MachineArgs { backend: Backend::Uring, executor: Some(Executor::Portable), shards: 2 };
        let node = format!(
            "peer-node --core 1 --allow {} --datagram 1452 --spin-micros 0 {}",
            key(),
            machine.flags().join(" ")
        );
        let Command::PeerNode(args) = parsed(&node).unwrap() else {
            panic!("not peer-node");
        };
        assert_eq!(args.machine, machine);
        for line in ["peer-ceiling --core 1 --shares-core", "peer-echo --core 1 --spin", &node] {
            parsed(line).unwrap();
        }
    }
}
