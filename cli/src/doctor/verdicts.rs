//! What each fact means for a node.
//!
//! Pure: facts in, findings out, one for each check, in the order in which an operator would mend them. Costs that are
//! given as figures were measured with `cubed-bench` on loopback and are only a guide.

use super::facts::{Facts, Socket};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Good,
    /// A node runs, and is slower or smaller than it could be.
    Slow,
    /// No node runs here.
    Fails,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Slow => "slow",
            Self::Fails => "FAILS",
        }
    }
}

/// The result of one check.
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) found: String,
    pub(super) trouble: Option<Trouble>,
}

/// What is wrong with it.
pub(super) struct Trouble {
    level: Level,
    pub(super) costs: String,
    pub(super) mend: String,
}

impl Finding {
    pub(super) fn level(&self) -> Level {
        self.trouble.as_ref().map_or(Level::Good, |trouble| trouble.level)
    }

    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, found: found.into(), trouble: None }
    }

    fn slow(check: &'static str, found: impl Into<String>, costs: &str, mend: &str) -> Self {
        Self::bad(Level::Slow, check, found, costs, mend)
    }

    fn bad(
        level: Level,
        check: &'static str,
        found: impl Into<String>,
        costs: &str,
        mend: &str,
    ) -> Self {
        let trouble = Trouble { level, costs: costs.to_owned(), mend: mend.to_owned() };
        Self { check, found: found.into(), trouble: Some(trouble) }
    }
}

/// One finding for each check.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings =
        vec![kernel(facts), io_uring(facts), locked_memory(facts), open_files(facts)];
    match &facts.socket {
        Ok(socket) => findings.extend([buffers(socket), offloads(socket)]),
        Err(error) => findings.push(Finding::bad(
            Level::Fails,
            "socket",
            error,
            "a node needs a UDP socket",
            "allow socket(AF_INET, SOCK_DGRAM) and a loopback interface in this container",
        )),
    }
    findings.extend([steering(facts), cores(facts), pinning(facts), governor(facts)]);
    findings.extend([clock(facts), aes(facts)]);
    findings
}

/// The first kernel that has each thing Cubed uses: UDP GSO came with 4.18, GRO with 5.0, what the ring needs with 6.0 and 6.1.
fn kernel(facts: &Facts) -> Finding {
    let check = "kernel";
    let Some(release) = &facts.kernel else {
        return Finding::good(check, "not told (no /proc)");
    };
    let found = format!("Linux {release}");
    match version(release) {
        Some(version) if version < (5, 0) => Finding::slow(
            check,
            found,
            "no UDP GRO: one system call for each datagram received, a third of the rate or less",
            "Linux 6.1 or later",
        ),
        Some(version) if version < (6, 1) => Finding::slow(
            check,
            found,
            "its io_uring lacks what the driver needs: the node sleeps in epoll instead",
            "Linux 6.1 or later",
        ),
        _ => Finding::good(check, found),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn io_uring(facts: &Facts) -> Finding {
    let check = "io_uring";
    let refused = facts.driver.as_ref().and(facts.executor.as_ref()).err();
    match refused {
        None => Finding::good(check, "driver and executor get their rings"),
        Some(error) => Finding::slow(
            check,
            "refused",
            "the node runs on epoll and the portable executor; a parked shard wakes later",
            error,
        ),
    }
}

/// The least limit on locked memory with which a glommio executor starts, in bytes. It looks at the limit, not at what is left
/// of it, so many shards need no more than one.
const LOCKED_BYTES_NEEDED: u64 = 512 << 10;

fn locked_memory(facts: &Facts) -> Finding {
    let check = "locked memory";
    let Some(bytes) = facts.locked_bytes_max else {
        return Finding::good(check, "limit not told");
    };
    let found = match bytes {
        u64::MAX => "no limit".to_owned(),
        bytes => format!("{} KiB", bytes >> 10),
    };
    if bytes >= LOCKED_BYTES_NEEDED {
        return Finding::good(check, found);
    }
    Finding::slow(
        check,
        found,
        "the executor gets no ring: the node runs on epoll and the portable executor",
        &format!(
            "ulimit -l {}, LimitMEMLOCK= in systemd, or --ulimit memlock=-1 in Docker",
            LOCKED_BYTES_NEEDED >> 10
        ),
    )
}

/// Descriptors of one shard (sockets twice, rings, eventfds, epoll), and what a process has besides.
const FILES_PER_SHARD: u64 = 16;
const FILES_BESIDES: u64 = 64;

fn open_files(facts: &Facts) -> Finding {
    let check = "open files";
    let Some(files) = facts.files_max else {
        return Finding::good(check, "limit not told");
    };
    let needed = FILES_BESIDES + FILES_PER_SHARD * facts.cores.len() as u64;
    let found = if files == u64::MAX { "no limit".to_owned() } else { files.to_string() };
    if files >= needed {
        return Finding::good(check, found);
    }
    Finding::bad(
        Level::Fails,
        check,
        found,
        "a node with a shard on each core does not start (peers cost no files)",
        &format!("ulimit -n {}, or LimitNOFILE= in systemd", needed.next_power_of_two()),
    )
}

fn buffers(socket: &Socket) -> Finding {
    let check = "socket buffers";
    let buffers = socket.buffers;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let found = format!(
        "receive {:.1} MiB, send {:.1} MiB, of {:.1} asked for",
        mib(buffers.recv_bytes) / 2.0,
        mib(buffers.send_bytes) / 2.0,
        mib(buffers.recv_requested_bytes)
    );
    if buffers.recv_granted() && buffers.send_granted() {
        return Finding::good(check, found);
    }
    let (recv, send) = (buffers.recv_requested_bytes, buffers.send_requested_bytes);
    Finding::slow(
        check,
        found,
        "bursts overflow sooner: datagrams are dropped by the kernel, counted and sent again",
        &format!("sysctl -w net.core.rmem_max={recv} net.core.wmem_max={send}"),
    )
}

fn offloads(socket: &Socket) -> Finding {
    let check = "GSO and GRO";
    let missing = match (socket.has_gso, socket.has_gro) {
        (true, true) => {
            return Finding::good(check, "runs of datagrams move in one call, both ways");
        }
        (false, false) => "neither",
        (true, false) => "no GRO",
        (false, true) => "no GSO",
    };
    Finding::slow(
        check,
        missing,
        "one system call for each datagram: a tenth of the rate on loopback",
        "Linux 5.0 or later; some sandboxes (gVisor) have none",
    )
}

fn steering(facts: &Facts) -> Finding {
    let check = "steering";
    match &facts.steering {
        Ok(()) => Finding::good(check, "the kernel takes the filter of SO_REUSEPORT"),
        Err(error) => Finding::slow(
            check,
            error,
            "datagrams come to any shard and are handed over by copy; hellos share a socket with all else",
            "allow setsockopt(SO_ATTACH_REUSEPORT_CBPF); one shard needs no steering",
        ),
    }
}

fn cores(facts: &Facts) -> Finding {
    let check = "cores";
    let count = facts.cores.len();
    let found = match facts.quota_cores {
        Some(quota) => format!("{count}, of which the control group may use {quota:.1}"),
        None => count.to_string(),
    };
    match facts.quota_cores {
        Some(quota) if quota < count as f64 => Finding::slow(
            check,
            found,
            "with a shard on each core, all are stopped together when the quota is used up: milliseconds of silence",
            "fewer shards than the quota, or a set of cores (cpuset) instead of a quota",
        ),
        _ => Finding::good(check, found),
    }
}

fn pinning(facts: &Facts) -> Finding {
    let check = "pinning";
    match &facts.pinning {
        Ok(()) => Finding::good(check, "threads can be pinned"),
        Err(error) => Finding::bad(
            Level::Fails,
            check,
            error,
            "a node with pinned shards does not start",
            "allow sched_setaffinity, or start it with Shards::Unpinned",
        ),
    }
}

fn governor(facts: &Facts) -> Finding {
    let check = "CPU governor";
    let governors: Vec<_> = facts.governors.iter().map(String::as_str).collect();
    match governors[..] {
        [] => Finding::good(check, "not told (a virtual machine, mostly)"),
        ["performance"] => Finding::good(check, "performance"),
        _ => Finding::slow(
            check,
            governors.join(", "),
            "cores slow down when idle and take time to speed up: latency and rates vary from run to run",
            "cpupower frequency-set -g performance",
        ),
    }
}

fn clock(facts: &Facts) -> Finding {
    let check = "clock";
    let Some(source) = &facts.clock_source else {
        return Finding::good(check, "source not told");
    };
    match source.as_str() {
        "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => {
            Finding::good(check, source)
        }
        _ => Finding::slow(
            check,
            source,
            "each look at the time is a system call, about 1 us, several in each turn",
            "boot with clocksource=tsc where the processor's counter is stable",
        ),
    }
}

fn aes(facts: &Facts) -> Finding {
    let check = "AES";
    match facts.has_aes {
        Some(true) => Finding::good(check, "instructions present"),
        None => Finding::good(check, "not told"),
        Some(false) => Finding::slow(
            check,
            "no instructions",
            "ChaCha20-Poly1305 is used instead: about four times the time for each byte",
            "another processor, or pass the flag through to the virtual machine",
        ),
    }
}

#[cfg(test)]
mod tests;
