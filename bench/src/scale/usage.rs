//! What this process uses, by the kernel's own books: resident memory, and the CPU time of its threads.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::error::{BenchError, Result};

/// Bytes of this process's own memory that are resident: what no file backs (`Anonymous` of `/proc/self/smaps_rollup`).
///
/// # Errors
///
/// `System` or `Machine` when the kernel tells nothing of it.
pub fn resident_bytes() -> Result<u64> {
    let path = "/proc/self/smaps_rollup";
    let text = fs::read_to_string(path).map_err(BenchError::system(format!("read {path}")))?;
    let found = kibibytes(&text, "Anonymous:");
    found
        .ok_or_else(|| BenchError::Machine(format!("{path} has no Anonymous line")))
        .map(|k| k << 10)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// CPU time that the threads of each shard have used, by its number. Nodes call them `cubed-N`, and helpers that such a thread
/// starts have its name.
///
/// # Errors
///
/// `System` when the kernel tells nothing of it.
pub fn shard_times() -> Result<BTreeMap<usize, Duration>> {
    let folder = "/proc/self/task";
    let threads = fs::read_dir(folder).map_err(BenchError::system(format!("read {folder}")))?;
    let mut times = BTreeMap::new();
    for thread in threads.flatten() {
        // A thread that just ended has nothing to read.
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (name, used) = (read("comm"), read("schedstat"));
        let shard = name.trim().strip_prefix("cubed-").and_then(|number| number.parse().ok());
        let nanos = used.split(' ').next().and_then(|first| first.parse().ok());
        if let Some((shard, nanos)) = shard.zip(nanos) {
            *times.entry(shard).or_default() += Duration::from_nanos(nanos);
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    //! Goal: what is read is what the kernel wrote.
    use super::*;

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = resident_bytes().unwrap();
        let touched = vec![1_u8; 32 << 20];
        let after = resident_bytes().unwrap();
        assert!(after - before >= 31 << 20, "{before} {after} {}", touched[5]);
    }

    #[test]
    fn the_field_is_found_by_its_name() {
        assert_eq!(kibibytes("Rss:   12 kB\nAnonymous:         84 kB\n", "Anonymous:"), Some(84));
        assert_eq!(kibibytes("Rss: 12 kB", "Anonymous:"), None);
    }

    #[test]
    fn a_shard_that_works_has_used_time() {
        let work = || {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(20) {}
            shard_times().unwrap()
        };
        let worker = std::thread::Builder::new().name("cubed-77".into()).spawn(work).unwrap();
        let times = worker.join().unwrap();
        assert!(times[&77] >= Duration::from_millis(1), "{times:?}");
    }
}
