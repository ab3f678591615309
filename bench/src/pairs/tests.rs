//! Goal: pairs alternate fairly and the ratio is taken within each pair.
use std::{cell::RefCell, rc::Rc};

use super::*;
use crate::stats::record_latency;

/// Plays back the given rates (messages/s) or p50s (ns), and writes its name to a shared log.
struct Fake {
    name: &'static str,
    values: Vec<u64>,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl Fake {
    fn next(&mut self) -> Result<u64> {
        self.log.borrow_mut().push(self.name);
        if self.values.is_empty() {
            return Err(BenchError::Peer("gone".into()));
        }
        Ok(self.values.remove(0))
    }
}

impl ThroughputSubject for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let rate = self.next()? as f64;
        let seconds = duration.as_secs_f64();
        let delivered = (rate * seconds) as u64;
        Ok(ThroughputSlice { seconds, delivered, sent: delivered + 1, ..Default::default() })
    }
}

impl LatencySubject for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn run_slice(&mut self, duration: Duration) -> Result<LatencySlice> {
        let mut slice = LatencySlice::empty();
        record_latency(&mut slice.histogram, self.next()?);
        slice.seconds = duration.as_secs_f64();
        slice.sent = 1;
        Ok(slice)
    }
}

fn fakes(subject: &[u64], baseline: &[u64]) -> (Fake, Fake, Rc<RefCell<Vec<&'static str>>>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let fake = |name, values: &[u64]| Fake { name, values: values.to_vec(), log: log.clone() };
    (fake("cubed", subject), fake("ceiling", baseline), log.clone())
}

fn plan(count: u32) -> Plan {
    Plan { count, slice: Duration::from_secs(1) }
}

#[test]
fn who_begins_changes_with_each_pair() {
    let (mut subject, mut baseline, log) = fakes(&[1; 3], &[1; 3]);
    let mut seen = Vec::new();
    measure_throughput(plan(3), &mut subject, Some(&mut baseline), |name, _| {
        seen.push(name.to_owned());
    })
    .unwrap();
    let wanted = ["ceiling", "cubed", "cubed", "ceiling", "ceiling", "cubed"];
    assert_eq!(*log.borrow(), wanted);
    assert_eq!(seen, wanted);
}

#[test]
fn the_ratio_is_the_median_of_pairs_and_survives_drift() {
    // The machine halves its speed after two pairs; each pair still shows 0.8, one shows 0.5.
    let (mut subject, mut baseline, _) =
        fakes(&[800, 800, 400, 400, 250], &[1000, 1000, 500, 500, 500]);
    let run = measure_throughput(plan(5), &mut subject, Some(&mut baseline), |_, _| {}).unwrap();
    assert!((run.ratio().unwrap() - 0.8).abs() < 1e-9);
    assert!((run.ratio_spread().unwrap() - 0.3).abs() < 1e-9);
    assert!((run.subject_rate().unwrap() - 400.0).abs() < 1e-9);
    assert!((run.baseline_rate().unwrap() - 500.0).abs() < 1e-9);
    let total = run.subject_total();
    assert_eq!((total.delivered, total.sent, total.lost()), (2650, 2655, 5));
    assert!((total.seconds - 5.0).abs() < 1e-9);
}

#[test]
fn without_a_baseline_there_is_no_ratio() {
    let (mut subject, _, _) = fakes(&[5, 7, 6], &[]);
    let run = measure_throughput(plan(3), &mut subject, None, |_, _| {}).unwrap();
    assert_eq!((run.ratio(), run.ratio_spread(), run.baseline_rate()), (None, None, None));
    assert_eq!(run.subject_rate(), Some(6.0));
}

#[test]
fn a_baseline_slice_without_delivery_gives_no_ratio() {
    let (mut subject, mut baseline, _) = fakes(&[5, 5], &[0, 10]);
    let run = measure_throughput(plan(2), &mut subject, Some(&mut baseline), |_, _| {}).unwrap();
    assert_eq!(run.ratios(), [0.5]);
}

#[test]
fn the_first_error_ends_the_run() {
    let (mut subject, mut baseline, log) = fakes(&[1], &[1, 1]);
    let result = measure_throughput(plan(2), &mut subject, Some(&mut baseline), |_, _| {});
    assert!(matches!(result, Err(BenchError::Peer(_))));
    assert_eq!(*log.borrow(), ["ceiling", "cubed", "cubed"]);
}

#[test]
fn latency_ratios_are_taken_pair_by_pair() {
    let (mut subject, mut baseline, _) =
        fakes(&[12_000, 13_000, 28_000], &[10_000, 10_000, 20_000]);
    let run = measure_latency(plan(3), &mut subject, Some(&mut baseline), |_, _| {}).unwrap();
    assert!((median(&run.ratios).unwrap() - 1.3).abs() < 0.01);
    assert_eq!((run.subject.histogram.len(), run.baseline.histogram.len()), (3, 3));
    assert_eq!(run.subject.sent, 3);
}

#[test]
fn plans_keep_the_least_slice_and_the_least_count() {
    let pairs = |seconds| Plan::pairs(seconds).unwrap();
    assert_eq!(pairs(1.0), Plan { count: 5, slice: SLICE_MIN });
    assert_eq!(pairs(3.0), Plan { count: 6, slice: SLICE_MIN });
    assert_eq!(pairs(30.0), Plan { count: 15, slice: Duration::from_secs(2) });
    let alone = |seconds| Plan::alone(seconds).unwrap();
    assert_eq!(alone(0.3), Plan { count: 1, slice: Duration::from_millis(300) });
    assert_eq!(alone(2.0), Plan { count: 4, slice: SLICE_MIN });
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(matches!(Plan::pairs(bad), Err(BenchError::Argument(_))), "{bad}");
    }
}
