//! Goal: every workload delivers what was sent to where it was sent, says what it was, and stands beside its baseline. No timing is
//! asserted.

mod support;

use serde_json::Value;
use support::{assert_counts, measured, refused};

/// The figure of `name` that the command alone has.
fn detail<'a>(report: &'a Value, name: &str) -> &'a Value {
    &report["details"][name]
}

#[test]
fn many_flows_stand_beside_one() {
    let report = measured(&["throughput", "--flows", "300", "--seconds", "0.3"]);
    assert_counts(&report);
    assert_eq!(report["lost"], 0);
    assert_eq!(
        (detail(&report, "flows"), detail(&report, "baseline")),
        (&300.into(), &"one flow".into())
    );
    assert!(detail(&report, "ratio_to_baseline").as_f64().unwrap() > 0.0);
    assert!(report["ratio_to_ceiling"].is_null());
}

#[test]
fn flows_are_chosen_as_asked_on_every_shard() {
    for choice in ["uniform", "zipf:1.2"] {
        let command = ["throughput", "--flows", "40", "--choice", choice, "--shards", "2"];
        let report = measured(&[&command[..], &["--seconds", "0.2", "--no-baseline"]].concat());
        assert_counts(&report);
        assert_eq!(detail(&report, "choice"), choice);
    }
}

#[test]
fn sizes_are_mixed_and_repeat_with_their_seed() {
    for (sizes, mode) in [
        ("mix:64*9,65536*1", "acked"),
        ("log-uniform:1..2048", "acked"),
        ("uniform:0..9", "acked"),
        ("uniform:1..4000", "best-effort"),
    ] {
        let command = ["throughput", "--sizes", sizes, "--mode", mode, "--seed", "9"];
        let command = [&command[..], &["--seconds", "0.2", "--no-baseline"]].concat();
        if sizes.contains("0..") {
            assert!(refused(&command).contains("begin with 1"));
            continue;
        }
        let report = measured(&command);
        assert_counts(&report);
        assert_eq!((detail(&report, "sizes"), detail(&report, "seed")), (&sizes.into(), &9.into()));
    }
}

#[test]
fn workloads_out_of_range_are_named() {
    for (arguments, wanted) in [
        (&["throughput", "--flows", "0"][..], "--flows 0"),
        (&["throughput", "--flows", "4001"], "--flows 4001"),
        (&["throughput", "--sizes", "normal:1..2"], "log-uniform"),
        (&["throughput", "--choice", "last"], "round-robin"),
        (&["throughput", "--sizes", "64", "--size", "64"], "--size"),
    ] {
        let text = refused(arguments);
        assert!(text.contains(wanted), "{arguments:?}: {text}");
    }
}
