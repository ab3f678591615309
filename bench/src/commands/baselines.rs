//! Runs `baselines`: what lies below Cubed, layer by layer, and Cubed itself, in slices that take turns.

use std::rc::Rc;

use super::{finish_all, say_throughput, watch};
use crate::{
    ceiling::{Ceiling, Form},
    cli::BaselinesArgs,
    error::{BenchError, Result},
    node::{
        bodies::Mode, client::ClientSettings, load::Load, loader::Loader,
        throughput::CubedThroughput,
    },
    pairs::{Plan, ThroughputRun},
    report::Report,
    subject::{ThroughputSlice, ThroughputSubject},
};

/// What lies below Cubed, the least first; the ceiling is the last.
const FORMS: [Form; 3] = [Form::Single, Form::Clear, Form::Sealed];

pub(super) fn run(args: &BaselinesArgs) -> Result<()> {
    if args.machine.shards != 1 {
        return Err(BenchError::Argument("--shards: the baselines have one core a side".into()));
    }
    let plan = Plan::pairs(args.seconds)?;
    let start = |form| Ceiling::start_as(form, args.size, args.datagram.into());
    let mut below = FORMS.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let settings = ClientSettings {
        served: None,
        key_file: None,
        spin: CubedThroughput::SPIN,
        datagram_bytes: args.datagram,
        flows: 1,
        machine: args.machine,
    };
    let loader = Rc::new(Loader::start(&settings)?);
    let load = Load::fixed(args.size, Mode::Acked);
    let mut cubed = CubedThroughput::new("cubed", &loader, load);
    let monitor = watch("baselines", plan.length(), &args.output)?;
    cubed.watch(monitor.meter());
    let mut subjects: Vec<&mut dyn ThroughputSubject> =
        below.iter_mut().map(|form| form as &mut dyn ThroughputSubject).collect();
    subjects.push(&mut cubed);
    let slices = in_turn(plan, &mut subjects)?;
    let intervals = monitor.finish();
    let ceiling = FORMS.len() - 1;
    let report = |subject: &Vec<ThroughputSlice>, baseline: &[ThroughputSlice]| {
        let run = ThroughputRun { subject: subject.clone(), baseline: baseline.to_vec() };
        Report::of_throughput("baselines", args.size, args.datagram.into(), &run)
    };
    let mut reports = Vec::new();
    for (index, form) in FORMS.into_iter().enumerate() {
        // The ceiling's ratio to itself says nothing.
        let baseline = if index == ceiling { &[][..] } else { &slices[ceiling] };
        let mut report = report(&slices[index], baseline);
        report.label = form.name().into();
        report.goal = None;
        reports.push(report);
    }
    let mut own = report(&slices[FORMS.len()], &slices[ceiling]);
    own.label = "cubed".into();
    own.intervals = intervals;
    reports.push(own.by(loader.client())?.waiting(CubedThroughput::SPIN));
    finish_all(&reports, &args.output)
}

/// The slices of each subject; who begins changes with each turn.
fn in_turn(
    plan: Plan,
    subjects: &mut [&mut dyn ThroughputSubject],
) -> Result<Vec<Vec<ThroughputSlice>>> {
    let mut slices = vec![Vec::new(); subjects.len()];
    for turn in 0..plan.count as usize {
        for step in 0..subjects.len() {
            let who = (turn + step) % subjects.len();
            let slice = subjects[who].run_slice(plan.slice)?;
            say_throughput(subjects[who].name(), &slice);
            slices[who].push(slice);
        }
    }
    Ok(slices)
}

#[cfg(test)]
mod tests {
    //! Goal: everyone has as many slices, and everyone begins.
    use std::{cell::RefCell, time::Duration};

    use super::*;

    struct Noted<'a>(&'static str, &'a RefCell<Vec<&'static str>>);

    impl ThroughputSubject for Noted<'_> {
        fn name(&self) -> &str {
            self.0
        }

        fn run_slice(&mut self, _: Duration) -> Result<ThroughputSlice> {
            self.1.borrow_mut().push(self.0);
            Ok(ThroughputSlice::default())
        }
    }

    #[test]
    fn turns_go_round() {
        let order = RefCell::new(Vec::new());
        let (mut a, mut b) = (Noted("a", &order), Noted("b", &order));
        let plan = Plan { count: 3, slice: Duration::ZERO };
        let slices = in_turn(plan, &mut [&mut a, &mut b]).unwrap();
        assert_eq!(order.into_inner(), ["a", "b", "b", "a", "a", "b"]);
        assert!(slices.iter().all(|slices| slices.len() == 3));
    }
}
