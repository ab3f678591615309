//! Goal: every promised flag parses, and those that belong together are asked for together.
use std::{collections::BTreeSet, ffi::OsString, time::Duration};

use clap::Parser;
use cubed::{Backend, Executor, PublicKey, SpinPolicy};

use super::*;
use crate::node::{bodies::Mode, server::spin_for};

fn parsed(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("cubed-bench").chain(line.split(' '));
    let cli = Cli::read(words.map(OsString::from))?;
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
    assert_eq!((args.size, args.mode, args.nodes.datagram), (1024, Mode::BestEffort, 1200));
    assert!(
        args.no_baseline
            && args.nodes.connect.connect.is_some()
            && args.nodes.output.json.is_some()
    );
}

/// Flags of every command that measures two nodes, with a value that each takes.
const NODES: &[&str] = &[
    "--datagram 1200",
    "--counters",
    "--connect 127.0.0.1:7530",
    "--peer KEY",
    "--key own.pem",
    "--backend epoll",
    "--executor portable",
    "--shards 2",
    "--steering off",
    "--json out.json",
    "--out folder",
    "--csv out.csv",
    "--html out.html",
    "--hgrm out.hgrm",
    "--interval 200",
    "--fail-if rate<5M",
];

/// The others of each command.
const OWN: &[(&str, &[&str])] = &[
    (
        "throughput",
        &[
            "--size 64",
            "--sizes fixed:64",
            "--flows 2",
            "--peers 2",
            "--visit 3",
            "--choice uniform",
            "--seed 2",
            "--seconds 2",
            "--mode acked",
            "--spin-micros 0",
            "--per-call 1",
            "--no-baseline",
        ],
    ),
    (
        "latency",
        &[
            "--size 64",
            "--seconds 2",
            "--rate 5k",
            "--closed",
            "--one-way",
            "--load 0.4",
            "--spin",
            "--no-baseline",
        ],
    ),
    ("request", &["--size 64", "--outstanding 5", "--seconds 2", "--no-baseline"]),
    (
        "saturate",
        &[
            "--sizes 64",
            "--flows 2",
            "--choice uniform",
            "--seed 2",
            "--mode acked",
            "--p99-below 1ms",
            "--from 5k",
            "--precision 0.1",
            "--seconds 2",
            "--ramp 1k..2k/2",
            "--step 1k,2k",
            "--spin",
            "--no-baseline",
        ],
    ),
];

#[test]
fn commands_that_measure_nodes_have_these_flags_and_no_others() {
    for (command, own) in OWN {
        let root = <Cli as clap::CommandFactory>::command();
        let found = root.find_subcommand(command).unwrap().get_arguments();
        let found: BTreeSet<_> = found.filter_map(clap::Arg::get_long).map(str::to_owned).collect();
        let flags = NODES.iter().chain(*own);
        let name =
            |flag: &&str| flag.trim_start_matches("--").split(' ').next().unwrap().to_owned();
        assert_eq!(found, flags.clone().map(name).collect(), "{command}");
        for flag in flags {
            // What one needs beside it.
            let with = match name(flag).as_str() {
                "connect" => " --peer KEY",
                "peer" => " --connect 127.0.0.1:7530",
                "key" => " --connect 127.0.0.1:7530 --peer KEY",
                "visit" => " --peers 5",
                "load" => " --one-way",
                _ => "",
            };
            let line = format!("{command} {flag}{with}").replace("KEY", &key().to_string());
            assert!(parsed(&line).is_ok(), "{line}");
        }
    }
}

#[test]
fn throughput_is_told_how_long_a_shard_polls() {
    let spin = |line: &str| match parsed(line) {
        Ok(Command::Throughput(args)) => Some(spin_for(args.spin_micros)),
        _ => None,
    };
    assert_eq!(spin("throughput"), Some(SpinPolicy::Adaptive));
    assert_eq!(spin("throughput --shards 2 --spin-micros 0"), Some(SpinPolicy::Never));
    let polls = SpinPolicy::For(Duration::from_micros(70));
    assert_eq!(spin("throughput --spin-micros 70"), Some(polls));
    assert_eq!(spin("throughput --peers 10 --spin-micros 70"), None, "peers have no shards");
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
fn flags_before_the_command_are_the_commands_or_refused() {
    let line = "--json out.json --shards 2 --fail-if rate<5M throughput --size 16";
    let Command::Throughput(args) = parsed(line).unwrap() else {
        panic!("not throughput");
    };
    assert_eq!((args.size, args.nodes.machine.shards, args.nodes.output.fail_if.len()), (16, 2, 1));
    assert!(args.nodes.output.json.is_some());
    for line in
        ["--quiet throughput", "--quiet scale idle", "scale --quiet idle", "--quiet compare a b"]
    {
        let line = std::iter::once("cubed-bench").chain(line.split(' '));
        assert!(Cli::read(line.map(OsString::from)).unwrap().quiet);
    }
    let error = parsed("--shards 2 compare a b").unwrap_err().to_string();
    assert!(error.contains("unexpected argument '--shards'"), "{error}");
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
    let machine = MachineArgs {
        backend: Backend::Uring,
        executor: Some(Executor::Portable),
        shards: 2,
        steering: SteeringArg::Off,
    };
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
