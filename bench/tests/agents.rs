//! Goal: agents in processes of their own send what the plan says, obey nobody else, and what they counted adds up. No timing is
//! asserted.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{EXECUTABLE, assert_counts, bench, identity_file, measured, refused};
use tempfile::tempdir;

/// `cubed-bench agent` as a child, killed when dropped.
struct Agent {
    child: Child,
    /// `KEY@ADDR`.
    name: String,
}

impl Agent {
    /// `allowed`: keys of controllers, with blanks between them.
    fn start(folder: &Path, name: &str, allowed: &str) -> Self {
        let (file, _) = identity_file(folder, name);
        let mut child = Command::new(EXECUTABLE)
            .args(["agent", "--identity", &file, "--listen", "127.0.0.1:0"])
            .args(allowed.split(' ').flat_map(|key| ["--allow", key]))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let name = lines.find_map(|line| line.strip_prefix("agent ").map(str::to_owned));
        Self { child, name: name.expect("its name") }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn agents(folder: &Path, allowed: &str) -> (Vec<Agent>, String) {
    let agents: Vec<_> =
        ["a", "b", "c"].iter().map(|name| Agent::start(folder, name, allowed)).collect();
    let names = agents.iter().map(|agent| agent.name.clone()).collect::<Vec<_>>().join(",");
    (agents, names)
}

fn plan(folder: &Path, loads: &str) -> String {
    plan_of(folder, "plan.toml", "0.3", loads)
}

fn plan_of(folder: &Path, name: &str, seconds: &str, loads: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("seconds = {seconds}\nwarm_up_seconds = 0.1\n{loads}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A controller whose run is under way at every agent, and another one with a plan of its own.
struct TwoControllers {
    agents: Vec<Agent>,
    first: Child,
    /// The second one's command line.
    second: Vec<String>,
}

impl TwoControllers {
    /// Three agents send to each other for much longer than the test lasts.
    fn start(folder: &Path) -> Self {
        let (first_file, first_key) = identity_file(folder, "first");
        let (second_file, second_key) = identity_file(folder, "second");
        let (agents, names) = agents(folder, &format!("{first_key} {second_key}"));
        let load = "[[load]]\nfrom = [0, 1, 2]\nto = [0, 1, 2]\nrate = \"100\"";
        let long = plan_of(folder, "long.toml", "3000.0", load);
        let short = plan(folder, "[[load]]\nfrom = [0]\nto = [1]\nrate = \"100\"");
        let mut first = Command::new(EXECUTABLE)
            .args(["run", &long, "--identity", &first_file, "--agents", &names])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(first.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("measuring 3000 s")), "its run did not begin");
        let pair = [&agents[0].name, ",", &agents[1].name].concat();
        let second = ["run", &short, "--identity", &second_file, "--agents", &pair];
        let second: Vec<_> = second.map(ToOwned::to_owned).into_iter().collect();
        let command: Vec<_> = second.iter().map(String::as_str).collect();
        let said = refused(&command);
        assert!(said.contains("a run is under way"), "{said}");
        Self { agents, first, second }
    }

    /// Runs the second controller until it succeeds.
    fn await_second(&self) {
        let command: Vec<_> = self.second.iter().map(String::as_str).collect();
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let output = bench(&command);
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "the agents are not free: {output:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for TwoControllers {
    fn drop(&mut self) {
        let _ = self.first.kill();
        self.first.wait().unwrap();
    }
}

const LOADS: &str = r#"
[[load]]                    # fan-in
from = [0, 1, 2]
to = [2]
[[load]]                    # fan-out, on time, mixed
from = [2]
to = [0, 1]
sizes = "mix:64*9,4K*1"
rate = "2k"
[[load]]
from = [0]
to = [1]
mode = "best-effort"
rate = "500"
"#;

#[test]
fn streams_between_agents_are_counted_at_both_ends() {
    let folder = tempdir().unwrap();
    let (control_file, control_key) = identity_file(folder.path(), "control");
    let (_agents, names) = agents(folder.path(), &control_key);
    let plan = plan(folder.path(), LOADS);
    let command = ["run", &plan, "--identity", &control_file, "--agents", &names];
    // Twice: a second plan finds the agents as the first one did.
    for _ in 0..2 {
        let report = measured(&command);
        assert_counts(&report);
        assert_eq!((&report["duplicated"], &report["times"]), (&0.into(), &"one way".into()));
        // What is measured are the agents, not the machine that this was asked on.
        assert!(report["surroundings"].is_null() && report["backend"].is_null());
        let streams = report["details"]["streams"].as_array().unwrap();
        let count =
            |name: &'static str| streams.iter().map(move |stream| stream[name].as_u64().unwrap());
        assert_eq!(
            count("from").zip(count("to")).collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 0), (2, 1), (0, 1)]
        );
        assert!(count("delivered").take(4).eq(count("sent").take(4)));
        assert!(count("delivered").take(4).all(|delivered| delivered > 0));
        assert_eq!(count("sent").sum::<u64>(), report["sent"].as_u64().unwrap());
        assert_eq!(count("delivered").sum::<u64>(), report["delivered"].as_u64().unwrap());
        assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0);
        let intervals = report["intervals"].as_array().unwrap();
        let rate = |interval: &Value| interval["messages_per_second"].as_f64().unwrap();
        assert!(intervals.iter().any(|interval| rate(interval) > 0.0), "{intervals:?}");
        let agents = report["details"]["agents"].as_array().unwrap();
        assert_eq!(agents.len(), 3);
        for agent in agents {
            assert!(agent["counters"]["datagrams_sent"].as_u64().unwrap() > 0, "{agent}");
            assert!(agent["clock_error_us"].as_f64().unwrap() > 0.0);
            assert!(agent["backend"].is_string() && agent["surroundings"]["cores"].is_array());
        }
    }
}

#[test]
fn an_agent_obeys_only_whom_it_allows() {
    let folder = tempdir().unwrap();
    let (_, control_key) = identity_file(folder.path(), "control");
    let (other_file, _) = identity_file(folder.path(), "other");
    let agent = Agent::start(folder.path(), "a", &control_key);
    let plan = plan(folder.path(), "[[load]]\nfrom = [0]\nto = [1]");
    let text = refused(&["run", &plan, "--identity", &other_file, "--agents", &agent.name]);
    let identity = cubed::Identity::load(&other_file).unwrap();
    let remedy = format!("--allow {}", identity.public_key());
    assert!(text.contains("does not admit") && text.contains(&remedy), "{text}");
}

#[test]
fn plans_and_agents_that_make_no_sense_are_named() {
    let folder = tempdir().unwrap();
    let (control_file, control_key) = identity_file(folder.path(), "control");
    let agent = Agent::start(folder.path(), "a", &control_key);
    for (loads, wanted) in [
        ("[[load]]\nfrom = [0]\nto = [7]", "agent 7"),
        ("[[load]]\nfrom = [0]\nto = [0]", "0 streams"),
        ("[[load]]\nfrom = [0]", "plan.toml"),
        ("[[load]]\nfrom = [0]\nto = [1]\nspeed = 1", "speed"),
        ("[[load]]\nfrom = [0]\nto = [1]\nrate = \"1e-20\"", "1e-20"),
    ] {
        let plan = plan(folder.path(), loads);
        let command = ["run", &plan, "--identity", &control_file, "--agents", &agent.name];
        let text = refused(&command);
        assert!(text.contains(wanted), "{loads}: {text}");
    }
    assert!(refused(&["run", "x.toml", "--agents", "nobody"]).contains("KEY@ADDR"));
    let untimed = plan(folder.path(), "[[load]]\nfrom = [0]\nto = [0]");
    let bound = ["run", &untimed, "--agents", &agent.name, "--fail-if", "p99>1s"];
    assert!(refused(&bound).contains("load with a rate"));
    let cut = ["run", "x.toml", "--agents", &agent.name, "--interval", "100"];
    assert!(refused(&cut).contains("--interval"));
}

#[test]
fn agents_stop_when_their_controller_is_gone() {
    let folder = tempdir().unwrap();
    let mut controllers = TwoControllers::start(folder.path());
    controllers.first.kill().unwrap();
    controllers.await_second();
}

#[test]
fn a_run_ends_and_names_the_agent_that_is_gone() {
    let folder = tempdir().unwrap();
    let mut controllers = TwoControllers::start(folder.path());
    let gone = controllers.agents.pop().unwrap();
    let address = gone.name.split_once('@').unwrap().1.to_owned();
    drop(gone);
    let mut said = String::new();
    controllers.first.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!controllers.first.wait().unwrap().success());
    assert!(said.contains(&format!("agent {address}: ")), "{said}");
    // The others were told to stop: no silence to wait for.
    let command: Vec<_> = controllers.second.iter().map(String::as_str).collect();
    assert_counts(&measured(&command));
}
