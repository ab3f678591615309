//! The measurements: which, in which order, in which processes.
//!
//! For each run and each workload Cubed goes first and then each stack, so that what disturbs the machine disturbs all of them.
//! Receivers are on core 1, senders on core 0. A stack that fails does not end the run; it is said in the report.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use cubed_peers::{
    load::{Checks, rate},
    side::{READY, Seen},
    stack::Outcome,
};

use clap::ValueEnum;

use crate::{
    report::{Report, Row, Value},
    stacks::{STACKS, Stack},
};

/// How long a side may take beyond its time: to start, to connect and to hand over what is on the way.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is measured, in the order of the table's columns.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload { key: "16", name: "one-way 16 B", size: 16, is_echo: false },
    Workload { key: "64", name: "one-way 64 B", size: 64, is_echo: false },
    Workload { key: "256", name: "one-way 256 B", size: 256, is_echo: false },
    Workload { key: "1024", name: "one-way 1 KiB", size: 1024, is_echo: false },
    Workload { key: "65536", name: "one-way 64 KiB", size: 65536, is_echo: false },
    Workload { key: "echo", name: "echo 64 B", size: 64, is_echo: true },
];

/// How Cubed's shards wait for work. The other stacks' threads block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// They sleep at once, as the others do.
    Park,
    /// They poll for up to 50 us before they sleep, as a node does by default; in echoes they sleep at once.
    Adaptive,
    /// They poll for 10 ms before they sleep.
    Spin,
}

impl Wait {
    /// Its flags of `cubed-bench`, and what that then reports of how its nodes waited.
    fn of(self, workload: &Workload) -> (&'static [&'static str], &'static str) {
        match (self, workload.is_echo) {
            (Self::Park, false) => (&["--spin-micros", "0"], "park"),
            (Self::Adaptive, false) => (&[], "adaptive"),
            (Self::Spin, false) => (&["--spin-micros", "10000"], "spin"),
            (Self::Park | Self::Adaptive, true) => (&[], "park"),
            (Self::Spin, true) => (&["--spin"], "spin"),
        }
    }

    /// Its name, for `--wait` and the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Park => "park",
            Self::Adaptive => "adaptive",
            Self::Spin => "spin",
        }
    }
}

/// One column of the table.
#[derive(Debug)]
pub(crate) struct Workload {
    /// For `--workloads` and the results.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) is_echo: bool,
}

/// What a run is asked for.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    pub(crate) runs: usize,
    pub(crate) only: &'a [String],
    /// Keys of workloads; none is all.
    pub(crate) workloads: &'a [String],
    /// Executables of families that have their own, as `FAMILY=FILE`.
    pub(crate) programs: &'a [String],
    /// The executable of `cubed-bench`; without it there are no ratios.
    pub(crate) cubed: Option<&'a Path>,
    /// How Cubed waits.
    pub(crate) wait: Wait,
    /// Families that could not be built, as `FAMILY=WHY`.
    pub(crate) missing: &'a [String],
}

/// Measures all of the plan.
pub(crate) fn measure(plan: &Plan<'_>) -> Report {
    let mut report = Report::new(plan.seconds, plan.runs, plan.wait);
    let mut stacks = Vec::new();
    for stack in STACKS.iter().filter(|stack| stack.is_among(plan.only)) {
        if let Some(program) = plan.program(stack) {
            stacks.push((stack, program));
            report.rows.push(Row::new(stack.name, stack.security, stack.is_reliable));
        } else {
            let why = of_family(plan.missing, stack).unwrap_or("not built in");
            report.skipped.push((stack.name, why.to_owned()));
        }
    }
    let mut loose = Row::new("cubed-best-effort", "TLS 1.3", false);
    for run in 1..=plan.runs {
        for (column, workload) in WORKLOADS.iter().enumerate() {
            if !plan.workloads.is_empty() && !plan.workloads.iter().any(|key| key == workload.key) {
                continue;
            }
            eprint!("run {run} of {}, {}:", plan.runs, workload.name);
            if let Some(bench) = plan.cubed {
                eprint!(" cubed");
                note(&mut report.cubed, column, cubed(bench, workload, plan, "acked"));
                if !workload.is_echo {
                    eprint!(" {}", loose.name);
                    let outcome = cubed(bench, workload, plan, "best-effort");
                    note(&mut loose, column, outcome);
                }
            }
            for ((stack, program), row) in stacks.iter().zip(&mut report.rows) {
                if workload.size <= stack.size_max {
                    eprint!(" {}", stack.name);
                    note(row, column, peer(stack, program, workload, plan));
                }
            }
            eprintln!();
        }
    }
    if plan.cubed.is_some() {
        report.rows.insert(0, loose);
    }
    report
}

impl Plan<'_> {
    /// The executable that plays the sides of `stack`, if there is one.
    fn program(&self, stack: &Stack) -> Option<PathBuf> {
        match of_family(self.programs, stack) {
            Some(file) => Some(file.into()),
            None => std::env::current_exe().ok().filter(|_| stack.sides().is_some()),
        }
    }
}

/// What is said of the stack's family in entries of the form `FAMILY=TEXT`.
fn of_family<'a>(entries: &'a [String], stack: &Stack) -> Option<&'a str> {
    let of = |entry: &'a String| entry.strip_prefix(stack.family)?.strip_prefix('=');
    entries.iter().find_map(of)
}

fn note(row: &mut Row, column: usize, outcome: Outcome<(Option<Value>, Checks)>) {
    let cell = &mut row.cells[column];
    match outcome {
        Ok((value, checks)) => {
            cell.runs.push(value);
            cell.disturbed += usize::from(value.is_none());
            cell.checks.add(checks);
        }
        Err(error) => {
            eprint!(" (failed: {error})");
            cell.runs.push(None);
            cell.failures.push(error.to_string());
        }
    }
}

/// One measurement of a stack.
fn peer(
    stack: &Stack,
    program: &Path,
    workload: &Workload,
    plan: &Plan<'_>,
) -> Outcome<(Option<Value>, Checks)> {
    let (listens, loads) = if workload.is_echo { ("answer", "ask") } else { ("receive", "send") };
    let start = |role: &str, core: usize, address: &str| {
        let mut command = pinned(core, program);
        command.args(["side", "--stack", stack.name, "--role", role, "--address", address]);
        command.arg("--size").arg(workload.size.to_string());
        command.arg("--warm-up").arg(plan.warm_up.to_string());
        command.arg("--seconds").arg(plan.seconds.to_string());
        Side::start(command)
    };
    let deadline =
        Instant::now() + PATIENCE + Duration::try_from_secs_f64(plan.seconds + plan.warm_up)?;
    let mut listener = start(listens, 1, "")?;
    let line = listener.line(deadline)?;
    let address = line.strip_prefix(READY).ok_or_else(|| format!("not ready but {line:?}"))?;
    let mut loader = start(loads, 0, address)?;
    let (seen, other) = if workload.is_echo {
        (loader.line(deadline)?, listener.line(deadline)?)
    } else {
        (listener.line(deadline)?, loader.line(deadline)?)
    };
    if !matches!(serde_json::from_str(&other)?, Seen::Nothing) {
        return Err(format!("the other side said {other:?}").into());
    }
    match serde_json::from_str(&seen)? {
        Seen::Received(seen) => Ok((seen.messages_per_second.map(Value::rate), seen.checks)),
        Seen::Echoed(seen) => Ok((seen.p50_p99_us.map(Value::times), seen.checks)),
        Seen::Nothing => Err("nothing was measured".into()),
    }
}

/// The same workload by `cubed-bench`; it warms up and checks its tags itself.
fn cubed(
    bench: &Path,
    workload: &Workload,
    plan: &Plan<'_>,
    mode: &str,
) -> Outcome<(Option<Value>, Checks)> {
    let file = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(bench);
    if workload.is_echo {
        command.args(["latency", "--closed"]);
    } else {
        command.args(["throughput", "--mode", mode]);
    }
    let (flags, wait) = plan.wait.of(workload);
    command.args(["--no-baseline", "--quiet", "--size"]).arg(workload.size.to_string()).args(flags);
    command.arg("--seconds").arg(plan.seconds.to_string()).arg("--json").arg(file.path());
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(last_line(&output.stderr).into());
    }
    read_cubed(&serde_json::from_reader(file.reopen()?)?, workload, plan.seconds, wait)
}

/// What `cubed-bench` reported, when its nodes waited as they should. Its rate is what all others' is: messages that arrived by the
/// time between the first and the last of them.
fn read_cubed(
    json: &serde_json::Value,
    workload: &Workload,
    seconds: f64,
    wait: &str,
) -> Outcome<(Option<Value>, Checks)> {
    if json["wait"] != wait {
        return Err(format!("cubed-bench waited by {}, not by {wait}", json["wait"]).into());
    }
    let number = |pointer: &str| {
        let found = json.pointer(pointer).and_then(serde_json::Value::as_f64);
        found.ok_or_else(|| format!("cubed-bench reported no {pointer}"))
    };
    let value = if workload.is_echo {
        Some(Value::times((number("/latency_us/p50")?, number("/latency_us/p99")?)))
    } else {
        let (delivered, passed) = (number("/delivered")?, number("/seconds")?);
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds);
        rate(delivered as u64, duration(passed)?, duration(seconds)?).map(Value::rate)
    };
    let count = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_u64);
    let checks = Checks {
        messages: count("/delivered").unwrap_or_default(),
        missing: count("/lost").unwrap_or_default(),
        repeated: count("/duplicated").unwrap_or_default(),
        wrong_length: 0,
    };
    Ok((value, checks))
}

/// Starts `program` on one core; where there are not so many, wherever the system puts it.
fn pinned(core: usize, program: &Path) -> Command {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > core) {
        let mut command = Command::new("taskset");
        command.arg("--cpu-list").arg(core.to_string()).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim_end().lines().last().unwrap_or("it failed without a word").to_owned()
}

/// A process that plays one side; it ends no later than this value.
#[derive(Debug)]
struct Side {
    child: Child,
    lines: Receiver<String>,
}

impl Side {
    fn start(mut command: Command) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            format!("{} cannot be started: {error}", command.get_program().display())
        })?;
        let stdout = child.stdout.take().ok_or("started without stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Its next line; when it has none, what it said on stderr.
    fn line(&mut self, deadline: Instant) -> Outcome<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(left).map_err(|_| {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            self.end();
            let mut text = Vec::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                let _ = stderr.read_to_end(&mut text);
            }
            let late = if has_ended || !text.is_empty() { "" } else { "did not end in time: " };
            format!("{late}{}", last_line(&text)).into()
        })
    }

    fn end(&mut self) {
        // Its own child, by handle; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: Cubed is asked for the wait that was named, and its rate is that of all it delivered.
    use serde_json::json;

    use super::*;

    fn workload(is_echo: bool) -> &'static Workload {
        WORKLOADS.iter().find(|workload| workload.is_echo == is_echo).unwrap()
    }

    #[test]
    fn every_wait_has_its_flags_and_is_what_comes_back() {
        for wait in Wait::value_variants() {
            let (flags, reported) = wait.of(workload(false));
            assert_eq!(reported, wait.name());
            assert_eq!(flags.is_empty(), *wait == Wait::Adaptive, "{flags:?}");
            assert_eq!(wait.to_possible_value().unwrap().get_name(), wait.name());
        }
        assert_eq!(Wait::Park.of(workload(true)), (&[][..], "park"));
        assert_eq!(Wait::Spin.of(workload(true)), (&["--spin"][..], "spin"));
    }

    #[test]
    fn a_rate_is_what_was_delivered_by_the_time_it_took() {
        // The median of the slices is another figure.
        let report = json!({
            "wait": "park", "messages_per_second": 9e6, "seconds": 1.25, "delivered": 5_000_000,
            "lost": 3, "duplicated": 0,
        });
        let (value, checks) = read_cubed(&report, workload(false), 1.0, "park").unwrap();
        assert_eq!(value, Some(Value::rate(4e6)));
        assert_eq!((checks.messages, checks.missing), (5_000_000, 3));
        let (value, _) = read_cubed(&report, workload(false), 10.0, "park").unwrap();
        assert_eq!(value, None, "cut short");
        let error = read_cubed(&report, workload(false), 1.0, "spin").unwrap_err().to_string();
        assert!(error.contains("park") && error.contains("spin"), "{error}");
    }
}
