//! Goal: agents in processes of their own send what the plan says, obey nobody else, and what they counted adds up. No timing is
//! asserted.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use support::{EXECUTABLE, assert_counts, identity_file, measured, refused};
use tempfile::tempdir;

/// `cubed-bench agent` as a child, killed when dropped.
struct Agent {
    child: Child,
    /// `KEY@ADDR`.
    name: String,
}

impl Agent {
    fn start(folder: &Path, name: &str, allowed: &str) -> Self {
        let (file, _) = identity_file(folder, name);
        let mut child = Command::new(EXECUTABLE)
            .args(["agent", "--identity", &file, "--allow", allowed, "--listen", "127.0.0.1:0"])
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
    let path = folder.join("plan.toml");
    fs::write(&path, format!("seconds = 0.3\nwarm_up_seconds = 0.1\n{loads}")).unwrap();
    path.to_str().unwrap().to_owned()
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
        assert_eq!(report["duplicated"], 0);
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
        let agents = report["details"]["agents"].as_array().unwrap();
        assert_eq!(agents.len(), 3);
        for agent in agents {
            assert!(agent["counters"]["datagrams_sent"].as_u64().unwrap() > 0, "{agent}");
            assert!(agent["clock_error_us"].as_f64().unwrap() > 0.0);
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
    assert!(text.contains("does not admit"), "{text}");
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
    ] {
        let plan = plan(folder.path(), loads);
        let command = ["run", &plan, "--identity", &control_file, "--agents", &agent.name];
        let text = refused(&command);
        assert!(text.contains(wanted), "{loads}: {text}");
    }
    assert!(refused(&["run", "x.toml", "--agents", "nobody"]).contains("KEY@ADDR"));
}
