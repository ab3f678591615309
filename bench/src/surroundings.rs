//! What a figure depends on besides the code: the machine, its state before the run, and the build.
//!
//! Always holds: what the machine does not tell is null, never a guess.

mod doubts;

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use cubed::runtime::{
    affinity,
    socket::{SocketBuffers, SocketOptions, UdpSocket},
};
use serde::Serialize;

pub use self::doubts::{doubts, doubts_of_one};
use crate::{cpu::Look, machine::Cores};

/// How long the machine is looked at before a run.
const LOOK_TIME: Duration = Duration::from_millis(200);

/// The surroundings of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Surroundings {
    /// The executable.
    pub build: Build,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's name.
    pub cpu: Option<String>,
    /// The cores that this process may use, by number.
    pub cores: Vec<usize>,
    /// Where one shard on each side, and the baselines, are pinned: the measuring process.
    pub sender_core: Option<usize>,
    /// The same of the peer process; several shards a side take these cores and those after them.
    pub receiver_core: Option<usize>,
    /// What the control group may use, in cores; null for no limit.
    pub quota_cores: Option<f64>,
    /// The governors of these cores' frequencies; empty where the machine has none, as most virtual ones.
    pub governors: BTreeSet<String>,
    /// What a socket got that is made as a node makes its own.
    pub socket: Option<Offers>,
    /// `net.core.rmem_max` in bytes.
    pub rmem_max_bytes: Option<u64>,
    /// `net.core.wmem_max` in bytes.
    pub wmem_max_bytes: Option<u64>,
    /// Load average of the minute before the run.
    pub load_average: Option<f64>,
    /// Cores that were busy in the fifth of a second before the run.
    pub busy_cores: Option<f64>,
}

/// False in the build of `perf-scripts/clear`.
pub const ENCRYPTS: bool = cfg!(not(cubed_clear));

/// What the executable was built from, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// The commit of the source, or `unknown`; edits since then are not seen.
    pub commit: String,
    /// True for a build that checks itself and is slow.
    pub debug: bool,
    /// False for the build of `perf-scripts/clear`, in which a copy stands in the AEAD's place.
    pub encrypts: bool,
}

/// What the kernel gave a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Offers {
    /// Runs of datagrams leave by one call (GSO).
    pub gso: bool,
    /// Runs of datagrams come by one call (GRO).
    pub gro: bool,
    /// `SO_RCVBUF` as read back: twice what was asked for, if all was given.
    pub recv_buffer_bytes: u64,
    /// What was asked for.
    pub recv_buffer_requested_bytes: u64,
    /// `SO_SNDBUF` as read back.
    pub send_buffer_bytes: u64,
    /// What was asked for.
    pub send_buffer_requested_bytes: u64,
}

impl Surroundings {
    /// Asks the machine, and looks at it for a fifth of a second. Call it before anything is started.
    pub fn gather() -> Self {
        let before = Look::take();
        let cores = affinity::cores();
        let chosen = Cores::choose().ok();
        let mut found = Self {
            build: Build::of_this_executable(),
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: read("/proc/cpuinfo")
                .and_then(|text| Some(field(&text, "model name")?.to_owned())),
            governors: governors(&cores),
            sender_core: chosen.map(|cores| cores.sender),
            receiver_core: chosen.map(|cores| cores.receiver),
            quota_cores: quota(),
            socket: offers(),
            rmem_max_bytes: number("/proc/sys/net/core/rmem_max"),
            wmem_max_bytes: number("/proc/sys/net/core/wmem_max"),
            load_average: read("/proc/loadavg")
                .and_then(|text| text.split(' ').next()?.parse().ok()),
            busy_cores: None,
            cores,
        };
        thread::sleep(LOOK_TIME);
        let usage = Look::take().since(&before);
        found.busy_cores = (!usage.busy.is_empty()).then(|| usage.busy.iter().sum());
        found
    }

    /// One line for people: processor, kernel, cores used, commit.
    pub fn line(&self) -> String {
        let unknown = || "unknown".to_owned();
        let [cpu, kernel] =
            [&self.cpu, &self.kernel].map(|text| text.clone().unwrap_or_else(unknown));
        let [sender, receiver] = [self.sender_core, self.receiver_core]
            .map(|core| core.map_or_else(unknown, |core| core.to_string()));
        let Build { version, commit, .. } = &self.build;
        format!(
            "cubed-bench {version} ({commit}); {cpu}, Linux {kernel}, sender on core {sender}, receiver on core {receiver}"
        )
    }
}

impl Build {
    fn of_this_executable() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("CUBED_COMMIT").into(),
            debug: cfg!(debug_assertions),
            encrypts: ENCRYPTS,
        }
    }
}

impl Offers {
    /// Whether the kernel gave the receive buffer that was asked for.
    pub fn recv_granted(&self) -> bool {
        self.recv_buffer_bytes >= 2 * self.recv_buffer_requested_bytes
    }
}

/// A socket on loopback, bound as a node binds its own, and closed at once.
fn offers() -> Option<Offers> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = UdpSocket::bind(anywhere, &SocketOptions::default()).ok()?;
    let SocketBuffers { recv_bytes, send_bytes, recv_requested_bytes, send_requested_bytes } =
        socket.buffers();
    Some(Offers {
        gso: socket.gso_enabled(),
        gro: socket.gro_enabled(),
        recv_buffer_bytes: recv_bytes as u64,
        recv_buffer_requested_bytes: recv_requested_bytes as u64,
        send_buffer_bytes: send_bytes as u64,
        send_buffer_requested_bytes: send_requested_bytes as u64,
    })
}

fn governors(cores: &[usize]) -> BTreeSet<String> {
    let path = |core| format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
    cores.iter().filter_map(|core| read(&path(core))).collect()
}

/// Cores that the control group may use: the least of those on the way up (cgroups v2, `cpu.max`).
fn quota() -> Option<f64> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let quotas = Path::new(own).ancestors().filter_map(|folder| {
        let folder = folder.to_str()?.trim_start_matches('/');
        quota_of(&read(&format!("/sys/fs/cgroup/{folder}/cpu.max"))?)
    });
    quotas.min_by(f64::total_cmp)
}

/// `cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD".
fn quota_of(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    read(path)?.parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    //! Goal: what every Linux tells is found, and texts of the kernel are read by their rules.
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let found = Surroundings::gather();
        assert!(found.kernel.is_some() && !found.cores.is_empty() && found.sender_core.is_some());
        assert!(found.load_average.is_some() && found.busy_cores.is_some());
        let socket = found.socket.unwrap();
        assert!(socket.recv_buffer_requested_bytes > 0 && socket.recv_buffer_bytes > 0);
        assert_eq!(found.build.debug, cfg!(debug_assertions));
        assert!(!found.build.commit.is_empty() && found.line().contains(&found.build.commit));
    }

    #[test]
    fn quotas_are_in_cores() {
        assert_eq!(quota_of("150000 100000\n"), Some(1.5));
        assert_eq!(quota_of("max 100000"), None);
    }

    #[test]
    fn fields_stand_behind_colons() {
        assert_eq!(field("a: 1\nmodel name\t: Zen\n", "model name"), Some("Zen"));
        assert_eq!(field("a: 1", "model name"), None);
    }
}
