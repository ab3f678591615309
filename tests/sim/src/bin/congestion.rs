//! Prints what races over simulated bottlenecks come to: the tables of `docs/BENCHMARKS.md`, "In the simulator".

use std::thread;
use std::time::Duration;

use clap::Parser;
use cubed_sim::contest::Contender::{self, Cubed, Plain};
use cubed_sim::contest::{Contest, Shares};
use cubed_transport::Limits;

/// Runs races over simulated bottlenecks and prints tables.
#[derive(Parser)]
struct Arguments {
    /// Only the table of this name: shares, lanes, loss, products, start, reorder or incast.
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

const COURSES: [Course; 3] = [
    Course(10_000_000, ms(20), ms(5_000), ms(60_000)),
    Course(100_000_000, ms(5), ms(2_000), ms(20_000)),
    Course(1_000_000_000, ms(1), ms(500), ms(3_000)),
];

/// Larger products of rate and round trip, which the window needs time to find.
const PRODUCTS: [Course; 3] = [
    Course(100_000_000, ms(5), ms(2_000), ms(20_000)),
    Course(100_000_000, ms(50), ms(10_000), ms(30_000)),
    Course(1_000_000_000, ms(20), ms(5_000), ms(10_000)),
];

/// Packets that a link of this rate carries in a second.
const fn packets_a_second(rate: u64) -> u64 {
    rate / 8 / 1_452
}

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
    /// Runs the race with every seed, all at once.
    fn runs(&self, contest: &Contest) -> Vec<Shares> {
        let runs: Vec<Shares> = thread::scope(|scope| {
            let seeds = self.seed..self.seed + self.seeds.max(1);
            let threads: Vec<_> = seeds
                .map(|seed| {
                    let stagger = contest.stagger * seed as u32;
                    let contest = Contest { seed, stagger, ..contest.clone() };
                    scope.spawn(move || contest.run())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a race does not panic"))
                .collect()
        });
        if self.verbose {
            runs.iter().flat_map(|shares| &shares.senders).for_each(|text| println!("    {text}"));
        }
        runs
    }

    /// The least and the greatest of what `of` makes of the race under each seed.
    fn range(&self, contest: &Contest, of: impl Fn(&Shares) -> f64) -> (f64, f64) {
        let values = self.runs(contest).into_iter().map(|shares| of(&shares));
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        })
    }

    fn shares(&self) {
        println!(
            "| link | first of two Cubed | Cubed before plain | Cubed after plain | first of two plain |"
        );
        println!("| --- | --- | --- | --- | --- |");
        for course in COURSES {
            for (jitter, words) in [(course.1 / 50, "jitter"), (Duration::ZERO, "no jitter")] {
                let share = |pair: [Contender; 2], of: usize| {
                    let mut contest = course.contest(&pair);
                    contest.link.jitter = jitter;
                    let (least, most) = self.range(&contest, |shares| shares.share(of));
                    format!("{least:.2} to {most:.2}")
                };
                let both = share([Cubed, Cubed], 0);
                let before = share([Cubed, Plain], 0);
                let after = share([Plain, Cubed], 1);
                let plain = share([Plain, Plain], 0);
                let name = course.name();
                println!("| {name}, {words} | {both} | {before} | {after} | {plain} |");
            }
        }
    }

    /// Lanes of one node, coupled or each for itself, beside one plain flow.
    fn lanes(&self) {
        println!("| link | lanes | plain's share | uncoupled | alone, of the link |");
        println!("| --- | --- | --- | --- | --- |");
        for course in [COURSES[0], COURSES[2]] {
            for lanes in [1, 2, 4, 16] {
                let mut contenders = vec![Cubed; lanes];
                let alone = course.contest(&contenders).coupled();
                contenders.push(Plain);
                let each = course.contest(&contenders);
                let both = each.clone().coupled();
                let share = |contest: &Contest| {
                    let (least, most) = self.range(contest, |shares| shares.share(lanes));
                    format!("{least:.2} to {most:.2}")
                };
                let (least, _) = self.range(&alone, |shares| shares.total() / course.0 as f64);
                let (name, coupled, uncoupled) = (course.name(), share(&both), share(&each));
                println!("| {name} | {lanes} | {coupled} | {uncoupled} | {least:.2} |");
            }
        }
    }

    /// Goodput of one session at this loss over what the clean link gives it, worst and best, and how many packets were
    /// lost by chance in the run that lost fewest. Runs until 20 are to be expected.
    fn kept(&self, course: Course, limits: &Limits, loss: u32, clean: f64) -> String {
        let mut contest = course.contest(&[Cubed]).losing(loss);
        contest.limits = limits.clone();
        let lost_a_second = packets_a_second(course.0) as f64 * f64::from(loss) / 1e6;
        let wanted = Duration::from_secs_f64(20.0 / lost_a_second);
        contest.measure = contest.measure.max(wanted);
        let runs = self.runs(&contest);
        let totals = runs.iter().map(|shares| 100.0 * shares.total() / clean);
        let (least, most) = totals.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let fewest = runs.iter().map(|shares| shares.link.lost).min().unwrap_or(0);
        format!("{least:.0} to {most:.0} % ({fewest})")
    }

    fn loss_row(&self, course: Course, limits: &Limits, name: &str) {
        let mut contest = course.contest(&[Cubed]);
        contest.limits = limits.clone();
        let (clean, _) = self.range(&contest, Shares::total);
        let [a, b, c, d] =
            [10, 100, 1_000, 10_000].map(|loss| self.kept(course, limits, loss, clean));
        println!("| {name} | {:.1} | {a} | {b} | {c} | {d} |", clean / 1e6);
    }

    fn loss(&self) {
        println!("| link | clean, Mbit/s | 1e-5 (lost) | 1e-4 | 1e-3 | 1e-2 |");
        println!("| --- | --- | --- | --- | --- | --- |");
        let limits = Limits { log_bytes_max: 64 << 20, ..Limits::default() };
        for course in COURSES {
            self.loss_row(course, &limits, &course.name());
        }
    }

    fn products(&self) {
        println!("| link, log | clean, Mbit/s | 1e-5 (lost) | 1e-4 | 1e-3 | 1e-2 |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for course in PRODUCTS {
            for mebibytes in [1, 64] {
                let limits = Limits { log_bytes_max: mebibytes << 20, ..Limits::default() };
                self.loss_row(course, &limits, &format!("{}, {mebibytes} MiB", course.name()));
            }
        }
    }

    /// The first second of one session: what it carries, and what its start drops at the queue.
    fn start(&self) {
        println!("| link | queue | goodput | dropped at the queue, of sent |");
        println!("| --- | --- | --- | --- |");
        for Course(rate, rtt, ..) in COURSES.into_iter().chain(PRODUCTS) {
            for products in [1, 4] {
                let mut contest = Contest::new(rate, rtt, &[Cubed]).lasting(ms(0), ms(1_000));
                let product = rate / 8 * rtt.as_micros() as u64 / 1_000_000;
                contest.link.queue_bytes_max = Some(products * product);
                for contender in [Cubed, Plain] {
                    contest.contenders = vec![contender];
                    let runs = self.runs(&contest);
                    let goodput = runs.iter().map(Shares::total).fold(f64::INFINITY, f64::min);
                    let dropped = runs.iter().map(|shares| shares.link.overflowed).max();
                    let offered = runs.iter().map(|shares| shares.link.offered).min();
                    println!(
                        "| {} Mbit/s, {rtt:?}, {contender:?} | {products} | {:.1} Mbit/s | {} of {} |",
                        rate / 1_000_000,
                        goodput / 1e6,
                        dropped.unwrap_or(0),
                        offered.unwrap_or(0)
                    );
                }
            }
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
        for (course, senders) in [(COURSES[2], 8), (COURSES[2], 32), (COURSES[1], 32)] {
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
    let tables: [Table; 7] = [
        ("shares", Arguments::shares),
        ("lanes", Arguments::lanes),
        ("loss", Arguments::loss),
        ("products", Arguments::products),
        ("start", Arguments::start),
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
