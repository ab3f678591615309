//! Goal: a change beyond the noise of both runs has its direction, one within it has none.
use serde_json::{Value, json};

use super::*;
use crate::report::Report;

fn latency(p50: f64) -> Value {
    json!({"p50": p50, "p90": p50, "p99": p50 * 2.0, "p999": p50 * 3.0, "max": p50 * 9.0})
}

/// A run of throughput with these rates per slice, beside a ceiling of 100.
fn rates(rates: &[f64]) -> Kept {
    let mut value = serde_json::to_value(Report::unmeasured("throughput", 64)).unwrap();
    let slice =
        |rate: &f64| json!({"messages_per_second": rate, "baseline_messages_per_second": 100.0});
    value["messages_per_second"] = json!(median(rates));
    value["ratio_to_ceiling"] = json!(median(rates).unwrap() / 100.0);
    value["slices"] = rates.iter().map(slice).collect();
    serde_json::from_value(value).unwrap()
}

/// A run of round trips with these p50s per slice.
fn round_trips(p50s: &[f64]) -> Kept {
    let mut value = serde_json::to_value(Report::unmeasured("latency", 64)).unwrap();
    value["latency_us"] = latency(median(p50s).unwrap());
    value["slices"] = p50s.iter().map(|p50| json!({"latency_us": latency(*p50)})).collect();
    serde_json::from_value(value).unwrap()
}

fn with_loss(lost: u64, sent: u64) -> Kept {
    Kept { lost: Some(lost), sent: Some(sent), ..rates(&[10.0, 10.0]) }
}

fn verdict(first: &Kept, second: &Kept, figure: &str) -> Verdict {
    let comparison = compare(std::slice::from_ref(first), std::slice::from_ref(second)).unwrap();
    comparison.figures.iter().find(|compared| compared.figure == figure).unwrap().verdict
}

#[test]
fn more_of_a_rate_is_better_and_less_of_a_latency() {
    let (slow, fast) = (rates(&[10.0, 10.2, 9.9]), rates(&[12.0, 12.1, 11.9]));
    assert_eq!(verdict(&slow, &fast, "rate"), Verdict::Better);
    assert_eq!(verdict(&fast, &slow, "rate"), Verdict::Worse);
    assert_eq!(verdict(&fast, &slow, "ratio"), Verdict::Worse);
    let (slow, fast) = (round_trips(&[20.0, 21.0]), round_trips(&[10.0, 10.5]));
    assert_eq!(verdict(&slow, &fast, "p99"), Verdict::Better);
    assert_eq!(verdict(&fast, &slow, "p50"), Verdict::Worse);
}

#[test]
fn noise_of_either_run_hides_a_change() {
    let (calm, noisy) = (rates(&[10.0, 10.1, 9.9]), rates(&[11.0, 14.0, 9.0]));
    assert_eq!(verdict(&calm, &noisy, "rate"), Verdict::NoDifference);
    assert_eq!(verdict(&noisy, &calm, "rate"), Verdict::NoDifference);
    assert_eq!(verdict(&calm, &calm, "rate"), Verdict::NoDifference);
}

#[test]
fn the_band_is_half_the_spread_of_each_run_over_its_median() {
    let comparison = compare(&[rates(&[10.0, 9.0, 11.0])], &[rates(&[20.0, 20.0, 20.0])]).unwrap();
    let rate = &comparison.figures[0];
    assert!((rate.noise.unwrap() - 0.1).abs() < 1e-9 && (rate.ratio.unwrap() - 2.0).abs() < 1e-9);
}

#[test]
fn one_slice_gives_no_verdict() {
    assert_eq!(verdict(&rates(&[10.0]), &rates(&[99.0, 99.0]), "rate"), Verdict::NoBand);
    assert!(!compare(&[rates(&[99.0])], &[rates(&[1.0])]).unwrap().is_worse());
}

#[test]
fn loss_is_told_from_chance() {
    assert_eq!(
        verdict(&with_loss(0, 10_000), &with_loss(0, 10_000), "loss"),
        Verdict::NoDifference
    );
    assert_eq!(verdict(&with_loss(0, 10_000), &with_loss(50, 10_000), "loss"), Verdict::Worse);
    assert_eq!(
        verdict(&with_loss(50, 10_000), &with_loss(55, 10_000), "loss"),
        Verdict::NoDifference
    );
    assert_eq!(verdict(&with_loss(90, 10_000), &with_loss(10, 10_000), "loss"), Verdict::Better);
}

#[test]
fn reports_are_paired_by_label_and_differences_are_noted() {
    let named = |kept: Kept, label: &str| Kept { label: label.into(), ..kept };
    let first = [named(rates(&[10.0, 10.0]), "a"), named(rates(&[20.0, 20.0]), "b")];
    let second = [named(rates(&[20.0, 20.0]), "b"), named(rates(&[10.0, 10.0]), "a")];
    let comparison = compare(&first, &second).unwrap();
    let same = |compared: &Compared| compared.verdict == Verdict::NoDifference;
    assert!(comparison.figures.len() == 4 && comparison.figures.iter().all(same));
    let other =
        Kept { size_bytes: 1024, warnings: vec!["busy machine".into()], ..first[0].clone() };
    let comparison = compare(&first[..1], &[other]).unwrap();
    assert_eq!(
        comparison.notes,
        ["a: size_bytes differs: 64 and 1024", "a: second run: busy machine"]
    );
    assert!(comparison.table().contains("note: a: size_bytes"));
}

#[test]
fn what_was_asked_for_is_compared_as_well() {
    let asked = |name: &str, value: Value| {
        let mut kept = rates(&[10.0, 10.0]);
        kept.details.insert(name.into(), value);
        kept
    };
    for name in SETTINGS {
        let notes = compare(&[asked(name, json!(5))], &[asked(name, json!("6"))]).unwrap().notes;
        assert_eq!(notes, [format!("throughput: {name} differs: 5 and 6")]);
        // What an older run did not write down is not known to be another thing than nothing.
        let notes = compare(&[asked(name, Value::Null)], &[rates(&[10.0, 10.0])]).unwrap().notes;
        assert_eq!(notes, [""; 0]);
    }
    let notes = compare(&[asked("strays", json!(5))], &[asked("strays", json!(6))]).unwrap().notes;
    assert_eq!(notes, [""; 0]);
}

#[test]
fn a_report_of_one_run_alone_is_named() {
    let named = |label: &str| Kept { label: label.into(), ..rates(&[10.0, 10.0]) };
    let comparison =
        compare(&[named("a"), named("b")], &[named("b"), named("c"), named("d")]).unwrap();
    assert_eq!(
        comparison.notes,
        ["a: only in the first run", "c: only in the second run", "d: only in the second run"]
    );
}

#[test]
fn nothing_in_common_is_said() {
    let error = compare(&[rates(&[1.0, 1.0])], &[round_trips(&[1.0, 1.0])]).unwrap_err();
    assert!(error.to_string().contains("no figure in common"));
}
