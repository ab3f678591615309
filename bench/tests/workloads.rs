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
fn many_peers_get_their_own_each() {
    for (visit, baseline) in
        [("160", "one flow to one peer"), ("1", "sealed datagrams to as many sockets")]
    {
        let command = ["throughput", "--peers", "60", "--visit", visit, "--seconds", "0.2"];
        let report = measured(&command);
        assert_counts(&report);
        assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()));
        assert_eq!(
            (detail(&report, "peers"), detail(&report, "baseline")),
            (&60.into(), &baseline.into())
        );
        assert!(detail(&report, "ratio_to_baseline").as_f64().unwrap() > 0.0);
    }
    let command = ["throughput", "--peers", "30", "--visit", "5", "--choice", "zipf"];
    assert_counts(&measured(&[&command[..], &["--seconds", "0.2", "--no-baseline"]].concat()));
}

#[test]
fn requests_stand_beside_plain_udp_with_as_many_outstanding() {
    for outstanding in ["1", "64", "1000"] {
        let report = measured(&["request", "--outstanding", outstanding, "--seconds", "0.2"]);
        assert_counts(&report);
        assert_eq!((&report["lost"], &report["command"]), (&0.into(), &"request".into()));
        assert_eq!(detail(&report, "outstanding").to_string(), outstanding);
        assert!(detail(&report, "ratio_to_baseline").as_f64().unwrap() > 0.0);
        assert!(report["latency_us"]["p99"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn times_one_way_are_taken_with_and_without_load() {
    for flags in [
        &["--load", "0.3"][..],
        &["--rate", "20000", "--spin"],
        &["--rate", "20000", "--no-baseline"],
    ] {
        let command = ["latency", "--one-way", "--seconds", "0.2"];
        let report = measured(&[&command[..], flags].concat());
        assert_counts(&report);
        assert_eq!((&report["lost"], &report["label"]), (&0.into(), &"one-way".into()));
        for name in ["planned_messages_per_second", "ratio_p99_to_unloaded_p50"] {
            assert!(detail(&report, name).as_f64().unwrap() > 0.0, "{name}");
        }
        assert!(detail(&report, "unloaded_us")["p50"].as_f64().unwrap() > 0.0);
        let has_saturation = detail(&report, "saturation_messages_per_second").is_number();
        assert_eq!(has_saturation, flags[0] == "--load");
        assert_eq!(report["slices"].as_array().unwrap().len(), 5);
        let has_raw = !flags.contains(&"--no-baseline");
        assert_eq!(report["raw_latency_us"].is_object(), has_raw);
        assert_eq!(report["ratio_to_raw_p50"].is_number(), has_raw);
        for name in ["ratio_to_raw_p99", "receiver_stalled_percent", "raw_lost"] {
            assert_eq!(detail(&report, name).is_number(), has_raw, "{name}");
        }
    }
}

#[test]
fn a_search_reports_the_highest_rate_that_passed() {
    // A limit that anything meets is failed only by what cannot be sent; one that nothing meets by all.
    for (limit, passes) in [("50s", true), ("1ns", false)] {
        let command = ["saturate", "--p99-below", limit, "--seconds", "0.1", "--precision", "0.5"];
        let from = ["--from", if passes { "50k" } else { "4" }, "--no-baseline"];
        let report = measured(&[&command[..], &from].concat());
        let found = detail(&report, "highest_messages_per_second").as_f64();
        assert_eq!(found.is_some(), passes);
        let steps = detail(&report, "steps").as_array().unwrap();
        // A machine with other work fails any step once, so which steps failed says nothing.
        let passed = steps.iter().filter(|step| step["failure"].is_null());
        let rates = passed.map(|step| step["planned_messages_per_second"].as_f64().unwrap());
        assert_eq!(rates.max_by(f64::total_cmp), found);
    }
}

#[test]
fn profiles_hold_every_rate_that_was_asked_for() {
    for (profile, wanted) in [
        (&["--ramp", "1000..3000/3"][..], &[1e3, 2e3, 3e3][..]),
        (&["--step", "5k,1k"], &[5e3, 1e3]),
    ] {
        let command = ["saturate", "--seconds", "0.1", "--p99-below", "50s"];
        let report = measured(&[&command[..], profile].concat());
        // On a machine with other work no step may be sent in time.
        let has_best = detail(&report, "highest_messages_per_second").is_number();
        if has_best {
            assert_counts(&report);
        }
        let steps = detail(&report, "steps").as_array().unwrap();
        let rates = steps.iter().map(|step| step["planned_messages_per_second"].as_f64().unwrap());
        assert_eq!(rates.collect::<Vec<_>>(), wanted);
        for step in steps {
            let planned = step["planned_messages_per_second"].as_f64().unwrap() / 10.0;
            assert!(step["sent"].as_f64().unwrap() <= planned + 1.0, "{step}");
        }
        assert_eq!(detail(&report, "ratio_to_baseline").is_number(), has_best);
    }
}

#[test]
fn workloads_out_of_range_are_named() {
    for (arguments, wanted) in [
        (&["throughput", "--flows", "0"][..], "--flows 0"),
        (&["throughput", "--flows", "4001"], "--flows 4001"),
        (&["throughput", "--sizes", "normal:1..2"], "log-uniform"),
        (&["throughput", "--choice", "last"], "round-robin"),
        (&["throughput", "--peers", "0"], "--peers 0"),
        (&["throughput", "--peers", "5", "--flows", "2"], "--flows"),
        (&["throughput", "--peers", "5", "--shards", "2"], "one shard"),
        (&["throughput", "--visit", "5"], "--peers"),
        (&["request", "--outstanding", "0"], "--outstanding 0"),
        (&["request", "--size", "4"], "--size 4"),
        (&["throughput", "--size", "99999999999"], "--size 99999999999: at most"),
        (&["serve", "--listen", "localhost:1", "--key", "x"], "names of hosts are not looked up"),
        (&["request", "--outstanding", "1", "--shards", "2"], "each of the 2 shards"),
        (&["latency", "--one-way", "--load", "0"], "--load 0"),
        (&["latency", "--load", "0.5"], "--one-way"),
        (&["latency", "--closed", "--rate", "5"], "--closed"),
        (&["latency", "--one-way", "--size", "9"], "16"),
        (&["saturate", "--sizes", "uniform:8..64"], "16"),
        (&["saturate", "--p99-below", "5"], "200us"),
        (&["saturate", "--ramp", "5..6"], "/STEPS"),
        (&["saturate", "--precision", "0"], "--precision 0"),
        (&["throughput", "--sizes", "64", "--size", "64"], "--size"),
        (&["throughput", "--peers", "5", "--counters"], "--counters"),
        (&["latency", "--one-way", "--load", "0.5", "--rate", "5"], "--load"),
        (&["latency", "--rate", "1e-20"], "--rate"),
        (&["latency", "--rate", "2M"], "--rate 2000000"),
        (&["scale", "churn", "--rate", "0"], "--rate"),
        (&["scale", "watch", "--seconds", "inf"], "--seconds inf"),
    ] {
        let text = refused(arguments);
        assert!(text.contains(wanted), "{arguments:?}: {text}");
    }
}
