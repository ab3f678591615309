//! Goal: nodes talk whatever they run on; where the system refuses rings, a node does without and says once why; what was
//! asked for by name is an error instead.

mod support;

use std::env;
use std::process::Command;

use cubed::{
    Backend, DriverKind, Executor, KeepSettings, Machine, Node, NodeBuilder, Outcome, Policy,
    Shard, StartError, block_on,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};
use support::{builder, stop};

/// Set in the child: what the test in it is to do.
const CHILD: &str = "CUBED_TEST_REFUSED";

/// How a child's lines begin, so that those of the test harness are told apart.
const MARK: &str = "child: ";

/// Number of that system call: the same on every architecture, as for all that came after Linux 5.0.
const IO_URING_SETUP: i64 = 425;

/// What Linux answers where it forbids, does not know, or has no memory for a call.
const EPERM: u32 = 1;
const EAGAIN: u32 = 11;
const ENOSYS: u32 = 38;
const ENOMEM: u32 = 12;

/// A node that answers the flow `greet`.
fn greeter(builder: NodeBuilder) -> Result<Node, cubed::StartError> {
    builder.policy(Policy::open()).start(async |shard: Shard| {
        shard.flow("greet").handler(|message, context| {
            let _ = context.reply(message.body());
        })
    })
}

/// One message and one request, there and back.
fn assert_talk(alice: &Node, bob: &Node) {
    let greet = alice.resolve(bob.public_key(), "greet").unwrap();
    assert_eq!(block_on(greet.send("no answer needed")), Ok(Outcome::Delivered));
    assert_eq!(block_on(greet.request("hello", support::PATIENCE)).unwrap(), "hello");
}

fn machine(node: &Node) -> Machine {
    block_on(node.stats()).unwrap().shards[0].machine
}

#[test]
fn every_combination_of_backend_and_executor_talks() {
    let drivers = match support::backend() {
        Backend::Epoll => vec![(Backend::Epoll, DriverKind::Epoll)],
        _ => vec![(Backend::Epoll, DriverKind::Epoll), (Backend::Uring, DriverKind::Uring)],
    };
    for (backend, driver) in drivers {
        let executors = match support::backend() {
            Backend::Epoll => vec![Executor::Portable],
            _ => vec![Executor::Portable, Executor::Glommio],
        };
        for executor in executors {
            let bob = greeter(builder().backend(backend).executor(executor)).unwrap();
            let alice = builder().peer(bob.public_key(), bob.local_addr());
            let alice = alice.start(async |_: Shard| ()).unwrap();
            assert_eq!(machine(&bob), Machine { driver, executor });
            assert_talk(&alice, &bob);
            stop(&[&alice, &bob]);
        }
    }
}

#[test]
fn a_node_does_without_rings_where_they_are_refused_and_says_so_once() {
    let reasons = [
        ("forbidden", "seccomp"),
        ("unknown", "Linux 6.0"),
        ("no memory", "ulimit -l"),
        ("little to lock", "ulimit -l 512"),
    ];
    for (refusal, remedy) in reasons {
        let said = run_child("start_where_rings_are_refused", refusal);
        let warnings: Vec<_> = said
            .lines()
            .filter(|line| line.contains("WARN") && line.contains("io_uring"))
            .collect();
        assert_eq!(warnings.len(), 1, "{refusal}: {said}");
        assert!(warnings[0].contains(remedy), "{refusal}: {said}");
        assert!(said.contains("auto runs on epoll and portable"), "{refusal}: {said}");
        assert!(said.contains("they talked"), "{refusal}: {said}");
        let by_name: Vec<_> = said.lines().filter(|line| line.contains("by name: ")).collect();
        assert_eq!(by_name.len(), 2, "{refusal}: {said}");
        assert!(by_name.iter().all(|line| line.contains(remedy)), "{refusal}: {said}");
    }
}

/// The child of the test above.
#[test]
fn start_where_rings_are_refused() {
    let Ok(refusal) = env::var(CHILD) else { return };
    match refusal.as_str() {
        "forbidden" => refuse_rings(EPERM),
        "unknown" => refuse_rings(ENOSYS),
        "no memory" => refuse_rings(ENOMEM),
        // Whoever started this has set the limit.
        _ => {}
    }
    tracing_subscriber::fmt().with_ansi(false).without_time().init();
    let plain = || builder().backend(Backend::Auto);
    let bob = greeter(plain().backend(Backend::Epoll)).unwrap();
    let alice = plain().peer(bob.public_key(), bob.local_addr());
    let alice = alice.start(async |_: Shard| ()).unwrap();
    let Machine { driver, executor } = machine(&alice);
    println!("{MARK}auto runs on {driver} and {executor}");
    assert_talk(&alice, &bob);
    println!("{MARK}they talked");
    let errors = [plain().backend(Backend::Uring), plain().executor(Executor::Glommio)];
    for builder in errors {
        let error = builder.start(async |_: Shard| ()).unwrap_err();
        println!("{MARK}by name: {error}");
    }
    stop(&[&alice, &bob]);
}

#[test]
fn a_keep_without_a_thread_to_write_on_is_told_to_the_starter() {
    let said = run_child("start_where_threads_are_refused", "no thread");
    let errors: Vec<_> = said.lines().filter(|line| line.contains("no thread to write")).collect();
    // The second start found the keep's file free.
    assert_eq!(errors.len(), 2, "{said}");
    assert!(errors.iter().all(|line| line.contains("ulimit -u")), "{said}");
}

/// The child of the test above.
#[test]
fn start_where_threads_are_refused() {
    if env::var(CHILD).as_deref() != Ok("no thread") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    refuse([libc::SYS_clone, libc::SYS_clone3], EAGAIN);
    for _ in 0..2 {
        let builder = builder().keep(KeepSettings::file(folder.path().join("keep.toml")));
        let error = builder.start(async |_: Shard| ()).unwrap_err();
        assert!(matches!(error, StartError::Thread(_)), "{error:?}");
        println!("{MARK}{error}");
    }
}

/// From here on `io_uring_setup` answers with this error in every thread of this process.
fn refuse_rings(errno: u32) {
    refuse([IO_URING_SETUP], errno);
}

/// From here on these system calls answer with this error in every thread of this process.
fn refuse<const N: usize>(calls: [i64; N], errno: u32) {
    let arch: TargetArch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(
        calls.map(|call| (call, Vec::new())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        arch,
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
}

/// Runs a test of this binary in a process of its own, with less than 512 KiB of lockable memory where that is the
/// refusal, and returns what it said.
fn run_child(test: &str, refusal: &str) -> String {
    let limit = if refusal == "little to lock" { "ulimit -l 64 && " } else { "" };
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" {test} --exact --nocapture")])
        .arg(env::current_exe().expect("the test binary"))
        .env(CHILD, refusal)
        .output()
        .expect("the test binary starts again");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}
