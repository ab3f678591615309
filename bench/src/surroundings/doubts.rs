//! What makes a figure doubtful: one sentence each, with the remedy.

use super::Surroundings;

/// Cores busy with other things before a run, at most.
const BUSY_CORES_MAX: f64 = 0.25;

/// Part of the cores' time that the hypervisor may give to others during a run.
const STOLEN_MAX: f64 = 0.01;

/// Every reason to doubt figures that were taken in these surroundings with so many shards on each side; `stolen` is the part of the
/// cores' time that the hypervisor gave to others meanwhile.
pub fn doubts(found: &Surroundings, shards: usize, stolen: f64) -> Vec<String> {
    doubts_of(found, 2 * shards.max(1), stolen)
}

/// Every reason to doubt figures that a process of one shard took part in, with nothing of the measurement beside it.
pub fn doubts_of_one(found: &Surroundings) -> Vec<String> {
    doubts_of(found, 1, 0.0)
}

fn doubts_of(found: &Surroundings, needed: usize, stolen: f64) -> Vec<String> {
    let mut doubts = machine_doubts(found, needed);
    if let Some(busy) = found.busy_cores.filter(|busy| *busy > BUSY_CORES_MAX) {
        doubts.push(format!(
            "busy machine: {busy:.1} of {} cores were in use before the run; end what runs beside it",
            found.cores.len()
        ));
    }
    if stolen > STOLEN_MAX {
        let percent = stolen * 100.0;
        doubts.push(format!(
            "steal time: the hypervisor gave {percent:.1} % of the cores' time to others; repeat it at a calmer time"
        ));
    }
    if found.build.debug {
        doubts.push("debug build: build with --release for figures that mean anything".into());
    }
    doubts
}

/// `needed` cores are in use at once.
fn machine_doubts(found: &Surroundings, needed: usize) -> Vec<String> {
    let mut doubts = Vec::new();
    let cores = found.cores.len();
    if cores < needed {
        doubts.push(format!(
            "few cores: {needed} shards and processes share {cores} cores, so each waits for others"
        ));
    }
    if let Some(quota) = found.quota_cores.filter(|quota| *quota < needed as f64) {
        doubts.push(format!(
            "CPU limit: the control group may use {quota:.1} cores of {needed}; raise cpu.max"
        ));
    }
    if found.governors.contains("powersave") {
        doubts.push(
            "governor powersave: cores run slowly until they are busy; choose performance".into(),
        );
    }
    let Some(socket) = found.socket else {
        return doubts;
    };
    if !socket.recv_granted() {
        doubts.push(format!(
            "small receive buffer: {} of {} bytes; raise net.core.rmem_max",
            socket.recv_buffer_bytes / 2,
            socket.recv_buffer_requested_bytes
        ));
    }
    for (name, has) in [("GSO", socket.gso), ("GRO", socket.gro)] {
        if !has {
            doubts.push(format!(
                "no {name}: the kernel moves each datagram by itself; use Linux 5.0 or later"
            ));
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    //! Goal: a good machine raises no doubt, and every bad trait raises its own.
    use std::collections::BTreeSet;

    use super::*;
    use crate::surroundings::Offers;

    fn good() -> Surroundings {
        Surroundings {
            cores: vec![0, 1],
            busy_cores: Some(0.05),
            governors: BTreeSet::from(["performance".to_owned()]),
            socket: Some(Offers {
                gso: true,
                gro: true,
                recv_buffer_bytes: 8 << 20,
                recv_buffer_requested_bytes: 4 << 20,
                ..Offers::default()
            }),
            ..Surroundings::default()
        }
    }

    fn beginnings(found: &Surroundings, shards: usize, stolen: f64) -> Vec<String> {
        let doubts = doubts(found, shards, stolen);
        doubts.iter().map(|doubt| doubt.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_good_machine_raises_none() {
        assert_eq!(beginnings(&good(), 1, 0.0), [""; 0]);
        assert_eq!(
            beginnings(&Surroundings { cores: vec![0, 1], ..Surroundings::default() }, 1, 0.0),
            [""; 0]
        );
    }

    #[test]
    fn each_bad_trait_raises_its_own() {
        let change = |change: fn(&mut Surroundings)| {
            let mut found = good();
            change(&mut found);
            beginnings(&found, 1, 0.0)
        };
        assert_eq!(change(|found| found.busy_cores = Some(1.3)), ["busy machine"]);
        assert_eq!(change(|found| found.cores = vec![4]), ["few cores"]);
        assert_eq!(change(|found| found.quota_cores = Some(1.5)), ["CPU limit"]);
        assert_eq!(change(|found| found.build.debug = true), ["debug build"]);
        assert_eq!(
            change(|found| found.governors.extend(["powersave".to_owned()])),
            ["governor powersave"]
        );
        assert_eq!(
            change(|found| found.socket.as_mut().unwrap().recv_buffer_bytes = 425_984),
            ["small receive buffer"]
        );
        assert_eq!(change(|found| found.socket.as_mut().unwrap().gso = false), ["no GSO"]);
        assert_eq!(change(|found| found.socket.as_mut().unwrap().gro = false), ["no GRO"]);
        assert_eq!(beginnings(&good(), 2, 0.0), ["few cores"]);
        assert_eq!(beginnings(&good(), 1, 0.02), ["steal time"]);
    }
}
