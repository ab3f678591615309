//! Goal: each fact that is bad is found by its own check, says what to do, and no good machine is blamed.

use std::collections::BTreeSet;

use cubed::runtime::SocketBuffers;

use super::super::facts::{quota_of, soft_limit};
use super::*;

fn good() -> Facts {
    let buffers = SocketBuffers {
        recv_bytes: 8 << 20,
        send_bytes: 8 << 20,
        recv_requested_bytes: 4 << 20,
        send_requested_bytes: 4 << 20,
    };
    Facts {
        kernel: Some("6.12.3-generic".to_owned()),
        driver: Ok(()),
        executor: Ok(()),
        locked_bytes_max: Some(8 << 20),
        files_max: Some(1_024),
        socket: Ok(Socket { buffers, has_gro: true, has_gso: true }),
        steering: Ok(()),
        cores: vec![0, 1, 2, 3],
        pinning: Ok(()),
        quota_cores: None,
        governors: BTreeSet::from(["performance".to_owned()]),
        clock_source: Some("tsc".to_owned()),
        has_aes: Some(true),
    }
}

/// The checks that find fault, with how bad it is.
fn faults(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Level)> {
    let mut facts = good();
    change(&mut facts);
    let bad = judge(&facts).into_iter().filter(|finding| finding.level() != Level::Good);
    let bad = bad.inspect(|finding| {
        let trouble = finding.trouble.as_ref().expect("a reason");
        assert!(!trouble.costs.is_empty() && !trouble.mend.is_empty(), "{}", finding.check);
    });
    bad.map(|finding| (finding.check, finding.level())).collect()
}

fn socket(facts: &mut Facts) -> &mut Socket {
    facts.socket.as_mut().expect("a socket")
}

#[test]
fn a_good_machine_is_not_blamed() {
    assert_eq!(faults(|_| ()), []);
    assert_eq!(judge(&good()).len(), 12);
}

#[test]
fn what_the_machine_does_not_tell_is_no_fault() {
    let untold = |facts: &mut Facts| {
        *facts = Facts {
            kernel: None,
            locked_bytes_max: None,
            files_max: None,
            governors: BTreeSet::new(),
            clock_source: None,
            has_aes: None,
            ..facts.clone()
        };
    };
    assert_eq!(faults(untold), []);
}

#[test]
fn each_fault_is_found_by_its_check() {
    use Level::{Fails, Slow};
    let error = || Err("refused".to_owned());
    assert_eq!(faults(|facts| facts.kernel = Some("4.19.0".into())), [("kernel", Slow)]);
    assert_eq!(faults(|facts| facts.kernel = Some("5.15.0-91".into())), [("kernel", Slow)]);
    assert_eq!(faults(|facts| facts.driver = error()), [("io_uring", Slow)]);
    assert_eq!(faults(|facts| facts.executor = error()), [("io_uring", Slow)]);
    let locked = |bytes| faults(move |facts: &mut Facts| facts.locked_bytes_max = Some(bytes));
    assert_eq!(locked((512 << 10) - 1), [("locked memory", Slow)]);
    assert_eq!(locked(512 << 10), [], "as much for many shards as for one");
    assert_eq!(faults(|facts| facts.files_max = Some(127)), [("open files", Fails)]);
    assert_eq!(faults(|facts| facts.socket = Err(String::new())), [("socket", Fails)]);
    let half = |facts: &mut Facts| socket(facts).buffers.recv_bytes /= 2;
    assert_eq!(faults(half), [("socket buffers", Slow)]);
    assert_eq!(faults(|facts| socket(facts).has_gro = false), [("GSO and GRO", Slow)]);
    assert_eq!(faults(|facts| socket(facts).has_gso = false), [("GSO and GRO", Slow)]);
    assert_eq!(faults(|facts| facts.steering = error()), [("steering", Slow)]);
    assert_eq!(faults(|facts| facts.quota_cores = Some(3.5)), [("cores", Slow)]);
    assert_eq!(faults(|facts| facts.quota_cores = Some(4.0)), []);
    assert_eq!(faults(|facts| facts.pinning = error()), [("pinning", Fails)]);
    let saving = |facts: &mut Facts| facts.governors.extend(["powersave".to_owned()]);
    assert_eq!(faults(saving), [("CPU governor", Slow)]);
    assert_eq!(faults(|facts| facts.clock_source = Some("hpet".into())), [("clock", Slow)]);
    assert_eq!(faults(|facts| facts.has_aes = Some(false)), [("AES", Slow)]);
}

#[test]
fn limits_and_quotas_are_read_as_the_kernel_writes_them() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                  Max open files            1024                 524288               files\n\
                  Max locked memory         unlimited            unlimited            bytes\n";
    assert_eq!(soft_limit(limits, "Max open files"), Some(1_024));
    assert_eq!(soft_limit(limits, "Max locked memory"), Some(u64::MAX));
    assert_eq!(soft_limit(limits, "Max processes"), None);
    assert_eq!(quota_of("150000 100000"), Some(1.5));
    assert_eq!(quota_of("max 100000"), None);
}
