//! Prints what races over simulated bottlenecks come to: the tables of `docs/BENCHMARKS.md`, "In the simulator".

use std::time::Duration;

use clap::Parser;
use cubed_sim::contest::Contender::{self, Cubed, Plain};
use cubed_sim::contest::{Contest, Shares};

/// Runs races over simulated bottlenecks and prints tables.
#[derive(Parser)]
struct Arguments {
    /// Only the table of this name: shares, loss, reorder or incast.
    table: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds of each race; the worst and the best are told.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Print the senders of each race at its end.
    #[arg(long)]
    verbose: bool,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A link of the tables: rate in bit/s, round trip, and times that suit it.
#[derive(Clone, Copy)]
struct Course(u64, Duration, Duration, Duration);

const COURSES: [Course; 5] = [
    Course(10_000_000, ms(20), ms(5_000), ms(30_000)),
    Course(100_000_000, ms(5), ms(5_000), ms(20_000)),
    Course(100_000_000, ms(50), ms(20_000), ms(60_000)),
    Course(1_000_000_000, ms(1), ms(1_000), ms(5_000)),
    Course(1_000_000_000, ms(10), ms(10_000), ms(20_000)),
];

impl Course {
    fn contest(self, contenders: &[Contender]) -> Contest {
        let Self(rate, rtt, settle, measure) = self;
        Contest::new(rate, rtt, contenders).lasting(settle, measure)
    }

    fn name(self) -> String {
        format!("{} Mbit/s, {:?}", self.0 / 1_000_000, self.1)
    }
}

impl Arguments {
    /// Runs the race with every seed; gives the least and the greatest of what `of` makes of it.
    fn range(&self, contest: &Contest, of: impl Fn(&Shares) -> f64) -> (f64, f64) {
        let values = (self.seed..self.seed + self.seeds.max(1)).map(|seed| {
            let stagger = contest.stagger * seed as u32;
            let shares = Contest { seed, stagger, ..contest.clone() }.run();
            if self.verbose {
                shares.senders.iter().for_each(|sender| println!("    {sender}"));
            }
            of(&shares)
        });
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        })
    }

    fn shares(&self) {
        println!(
            "| link | two Cubed: least over greatest | first of Cubed and plain | first of plain and Cubed | two plain |"
        );
        println!("| --- | --- | --- | --- | --- |");
        for course in COURSES {
            let (even, _) = self.range(&course.contest(&[Cubed, Cubed]), Shares::least_of_greatest);
            let share = |pair: [Contender; 2]| {
                let (least, most) = self.range(&course.contest(&pair), |shares| shares.share(0));
                format!("{least:.2} to {most:.2}")
            };
            let [first, second, plain] =
                [[Cubed, Plain], [Plain, Cubed], [Plain, Plain]].map(share);
            println!("| {} | {even:.2} | {first} | {second} | {plain} |", course.name());
        }
    }

    fn loss(&self) {
        println!("| link | clean, Mbit/s | 1e-5 | 1e-4 | 1e-3 | 1e-2 |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for course in COURSES {
            let (clean, _) = self.range(&course.contest(&[Cubed]), Shares::total);
            let kept = |loss| {
                let (least, _) = self.range(&course.contest(&[Cubed]).losing(loss), Shares::total);
                format!("{:.0} %", 100.0 * least / clean)
            };
            let [a, b, c, d] = [10, 100, 1_000, 10_000].map(kept);
            println!("| {} | {:.1} | {a} | {b} | {c} | {d} |", course.name(), clean / 1e6);
        }
    }

    fn reorder(&self) {
        println!("| link | a quarter late by up to | of clean |");
        println!("| --- | --- | --- |");
        for course in COURSES {
            let (clean, _) = self.range(&course.contest(&[Cubed]), Shares::total);
            for (parts, words) in
                [(1, "1/5 round trip"), (5, "1 round trip"), (10, "2 round trips")]
            {
                let mut contest = course.contest(&[Cubed]);
                contest.link.reorder = 250_000;
                contest.link.reorder_delay = course.1 * parts / 5;
                let (least, _) = self.range(&contest, Shares::total);
                println!("| {} | {words} | {:.0} % |", course.name(), 100.0 * least / clean);
            }
        }
    }

    fn incast(&self) {
        println!("| link | senders | goodput of the link | least of the fair share |");
        println!("| --- | --- | --- | --- |");
        for (course, senders) in [(COURSES[3], 8), (COURSES[3], 32), (COURSES[1], 32)] {
            let mut contest = course.contest(&vec![Cubed; senders]);
            (contest.incast, contest.stagger) = (true, Duration::ZERO);
            let (total, _) = self.range(&contest, Shares::total);
            let (least, _) = self.range(&contest, Shares::least_of_fair);
            let part = 100.0 * total / course.0 as f64;
            println!("| {} | {senders} | {part:.0} % | {least:.2} |", course.name());
        }
    }
}

/// A table's name, and what prints it.
type Table = (&'static str, fn(&Arguments));

fn main() {
    let arguments = Arguments::parse();
    let tables: [Table; 4] = [
        ("shares", Arguments::shares),
        ("loss", Arguments::loss),
        ("reorder", Arguments::reorder),
        ("incast", Arguments::incast),
    ];
    for (name, print) in tables {
        if arguments.table.as_deref().is_none_or(|wanted| wanted == name) {
            print(&arguments);
            println!();
        }
    }
}
