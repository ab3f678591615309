//! What this machine says of itself: probes of the kernel and files below `/proc` and `/sys`.
//!
//! Always holds: what the machine does not tell is `None`, never a guess.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;

use cubed::runtime::{
    DriverKind, Executor, ExecutorOptions, ExecutorThread, GroupOptions, SocketBuffers,
    SocketGroup, SocketOptions, SystemDriver, UdpSocket, cores, pin_current_thread,
};

/// What was found.
#[derive(Clone)]
pub(super) struct Facts {
    /// The kernel's release, such as `6.12.3-generic`.
    pub(super) kernel: Option<String>,
    /// Whether the datagram driver gets its ring.
    pub(super) driver: Result<(), String>,
    /// Whether an executor on `io_uring` gets its rings.
    pub(super) executor: Result<(), String>,
    /// Soft limit on locked memory, in bytes; `u64::MAX` for none.
    pub(super) locked_bytes_max: Option<u64>,
    /// Soft limit on open files; `u64::MAX` for none.
    pub(super) files_max: Option<u64>,
    /// A socket as a node binds it.
    pub(super) socket: Result<Socket, String>,
    /// Whether the kernel takes the filter that steers datagrams to shards.
    pub(super) steering: Result<(), String>,
    /// The cores that this process may use.
    pub(super) cores: Vec<usize>,
    /// Whether a thread can be pinned to the first of them.
    pub(super) pinning: Result<(), String>,
    /// What the process's control group may use, in cores.
    pub(super) quota_cores: Option<f64>,
    /// The governors of the cores' frequencies.
    pub(super) governors: BTreeSet<String>,
    /// What the kernel reads the time from.
    pub(super) clock_source: Option<String>,
    /// Whether the processor has instructions for AES.
    pub(super) has_aes: Option<bool>,
}

/// What a socket got.
#[derive(Clone, Copy)]
pub(super) struct Socket {
    pub(super) buffers: SocketBuffers,
    pub(super) has_gro: bool,
    pub(super) has_gso: bool,
}

impl Facts {
    /// Asks the machine.
    pub(super) fn gather() -> Self {
        let cores = cores();
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            driver: driver(),
            executor: executor(),
            locked_bytes_max: limit("Max locked memory"),
            files_max: limit("Max open files"),
            socket: socket(),
            steering: steering(),
            pinning: cores.first().map_or(Ok(()), |core| pinning(*core)),
            quota_cores: quota(),
            governors: governors(&cores),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            has_aes: has_aes(),
            cores,
        }
    }
}

/// Any port of the loopback interface: nothing leaves the machine.
fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn driver() -> Result<(), String> {
    let socket = UdpSocket::bind(anywhere(), &SocketOptions::default());
    let socket = socket.map_err(|error| error.to_string())?;
    let driver = SystemDriver::open(DriverKind::Uring, socket, None);
    driver.map(drop).map_err(|error| error.to_string())
}

fn executor() -> Result<(), String> {
    let options = ExecutorOptions { name: "doctor".to_owned(), core: None };
    let thread = Executor::Glommio.launch(options, || async {});
    thread.and_then(ExecutorThread::join).map_err(|error| error.to_string())
}

fn socket() -> Result<Socket, String> {
    let socket = UdpSocket::bind(anywhere(), &SocketOptions::default());
    let socket = socket.map_err(|error| error.to_string())?;
    Ok(Socket {
        buffers: socket.buffers(),
        has_gro: socket.gro_enabled(),
        has_gso: socket.gso_enabled(),
    })
}

fn steering() -> Result<(), String> {
    let options = GroupOptions { members: 2, ..GroupOptions::default() };
    let group = SocketGroup::bind(anywhere(), &options).map_err(|error| error.to_string())?;
    group.unsteered.map_or(Ok(()), |error| Err(error.to_string()))
}

/// On a thread of its own, which then ends.
fn pinning(core: usize) -> Result<(), String> {
    let pinned = thread::spawn(move || pin_current_thread(core)).join();
    let pinned = pinned.map_err(|_| "the thread panicked".to_owned())?;
    pinned.map_err(|error| error.to_string())
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The soft limit with this name (proc(5), `/proc/[pid]/limits`).
fn limit(name: &str) -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    soft_limit(&limits, name)
}

pub(super) fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Cores that the control group may use: the least of those on the way up (cgroups v2, `cpu.max`).
fn quota() -> Option<f64> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folders = std::path::Path::new(own).ancestors();
    let quotas = folders.filter_map(|folder| {
        let folder = folder.to_str()?.trim_start_matches('/');
        quota_of(&read(&format!("/sys/fs/cgroup/{folder}/cpu.max"))?)
    });
    quotas.min_by(f64::total_cmp)
}

/// `cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD".
pub(super) fn quota_of(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
}

fn governors(cores: &[usize]) -> BTreeSet<String> {
    let path = |core| format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
    cores.iter().filter_map(|core| read(&path(core))).collect()
}

fn has_aes() -> Option<bool> {
    let processors = read("/proc/cpuinfo")?;
    // x86 says "flags", 64-bit ARM "Features".
    let mut lines = processors.lines();
    let flags = lines.find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
    Some(flags.split_whitespace().any(|flag| flag == "aes"))
}
