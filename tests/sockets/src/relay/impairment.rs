//! What becomes of each datagram: decided from a seed, counted, and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::random::Random;

/// How a path treats its datagrams, in both directions alike.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Share of datagrams dropped, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub loss: f64,
    /// Share held back, so that later ones overtake them
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub reorder: f64,
    /// How long those are held back at most, ms
    #[arg(long, default_value_t = 10)]
    pub reorder_ms: u64,
    /// Share sent twice, the copy up to --reorder-ms later
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub duplicate: f64,
    /// Share with one bit flipped
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub corrupt: f64,
    /// Delay of every datagram, ms
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Longest datagram that passes; longer ones vanish
    #[arg(long, default_value_t = 65_535)]
    pub datagram_bytes_max: usize,
    /// Open and cut intervals in turn, ms: "5000,2000,..." repeats, "1000,60000" does not
    #[arg(long)]
    pub schedule: Option<Schedule>,
    /// When each client's port as seen by the node changes (NAT rebinding), ms after the first datagram
    #[arg(long, value_delimiter = ',')]
    pub rebind_at_ms: Vec<u64>,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("allowed is 0 to 1".into()) }
}

/// What a relay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Datagrams taken, of both directions.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Dropped by chance.
    pub lost: u64,
    /// Dropped while the path was cut.
    pub cut: u64,
    /// Dropped because they were too long.
    pub too_long: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Sent on with a bit flipped, copies counted.
    pub corrupted: u64,
    /// Handed to a socket, copies counted.
    pub sent: u64,
    /// Refused by the system when they were to be sent.
    pub send_errors: u64,
    /// Clients seen.
    pub clients: u64,
    /// Changes of a client's upstream port.
    pub rebound: u64,
}

/// One copy of a datagram on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// How long it takes.
    pub after: Duration,
    /// Which bit is flipped.
    pub flipped_bit: Option<usize>,
}

/// The plan at work.
#[derive(Debug)]
pub struct Impairment {
    plan: Plan,
    random: Random,
    /// Set from outside: nothing passes, whatever the schedule says.
    pub is_cut: bool,
    /// What has been done so far.
    pub counts: Counts,
}

impl Impairment {
    /// Begins a sequence of decisions.
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self { plan, random: Random::new(seed), is_cut: false, counts: Counts::default() }
    }

    /// Decides about a datagram of `bytes` that came `elapsed` after the first: the original and a copy, if they pass.
    pub fn judge(&mut self, elapsed: Duration, bytes: usize) -> [Option<Passage>; 2] {
        self.counts.received += 1;
        self.counts.received_bytes += bytes as u64;
        let is_open = |schedule: &Schedule| schedule.is_open(elapsed);
        if self.is_cut || !self.plan.schedule.as_ref().is_none_or(is_open) {
            self.counts.cut += 1;
            return [None, None];
        }
        if bytes > self.plan.datagram_bytes_max {
            self.counts.too_long += 1;
            return [None, None];
        }
        if self.random.is(self.plan.loss) {
            self.counts.lost += 1;
            return [None, None];
        }
        let is_held = self.random.is(self.plan.reorder);
        self.counts.reordered += u64::from(is_held);
        let original = self.passage(bytes, is_held);
        let is_doubled = self.random.is(self.plan.duplicate);
        self.counts.duplicated += u64::from(is_doubled);
        [Some(original), is_doubled.then(|| self.passage(bytes, true))]
    }

    fn passage(&mut self, bytes: usize, is_held: bool) -> Passage {
        let mut after = Duration::from_millis(self.plan.delay_ms);
        if is_held {
            after += Duration::from_millis(self.plan.reorder_ms).mul_f64(self.random.fraction());
        }
        let is_corrupted = bytes > 0 && self.random.is(self.plan.corrupt);
        self.counts.corrupted += u64::from(is_corrupted);
        Passage { after, flipped_bit: is_corrupted.then(|| self.random.below(bytes * 8)) }
    }

    /// How many changes of port are due by now, in all.
    pub fn rebinds_due(&self, elapsed: Duration) -> usize {
        let due = |at: &&u64| Duration::from_millis(**at) <= elapsed;
        self.plan.rebind_at_ms.iter().filter(due).count()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: shares are what was asked for, a seed repeats its decisions, and every datagram is accounted for.
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        plan: Plan,
    }

    fn impairment(flags: &str, seed: u64) -> Impairment {
        let words = std::iter::once("relay").chain(flags.split_whitespace());
        Impairment::new(Cli::parse_from(words).plan, seed)
    }

    fn judge_many(impairment: &mut Impairment) -> Vec<[Option<Passage>; 2]> {
        let elapsed = |at: u64| Duration::from_micros(at * 100);
        (0..20_000).map(|at| impairment.judge(elapsed(at), 1_000)).collect()
    }

    #[test]
    fn without_flags_everything_passes_at_once_and_whole() {
        let mut clean = impairment("", 1);
        let straight = Passage { after: Duration::ZERO, flipped_bit: None };
        assert!(judge_many(&mut clean).iter().all(|fate| *fate == [Some(straight), None]));
    }

    #[test]
    fn shares_are_what_was_asked_for() {
        let mut bad = impairment("--loss 0.3 --reorder 0.25 --duplicate 0.1 --corrupt 0.01", 2);
        let fates = judge_many(&mut bad);
        let counts = bad.counts;
        let near = |count: u64, share: f64, of: u64| {
            let expected = share * of as f64;
            assert!((count as f64 - expected).abs() < 0.1 * expected + 30.0, "{counts:?}");
        };
        near(counts.lost, 0.3, 20_000);
        let passed = 20_000 - counts.lost;
        near(counts.reordered, 0.25, passed);
        near(counts.duplicated, 0.1, passed);
        near(counts.corrupted, 0.01, passed + counts.duplicated);
        let passages = || fates.iter().flatten().flatten();
        assert_eq!(passages().count() as u64, passed + counts.duplicated);
        let flipped = passages().filter_map(|passage| passage.flipped_bit);
        assert_eq!(flipped.clone().count() as u64, counts.corrupted);
        assert!(flipped.clone().all(|bit| bit < 8_000) && flipped.max() > Some(4_000));
        assert!(passages().all(|passage| passage.after < Duration::from_millis(10)));
    }

    #[test]
    fn a_seed_repeats_its_decisions() {
        let flags = "--loss 0.3 --reorder 0.25 --duplicate 0.1 --corrupt 0.1";
        let fates = |seed| judge_many(&mut impairment(flags, seed));
        assert_eq!(fates(3), fates(3));
        assert_ne!(fates(3), fates(4));
    }

    #[test]
    fn what_is_cut_or_too_long_is_counted_so() {
        let mut cut = impairment("--schedule 1000,500,... --datagram-bytes-max 999", 5);
        assert!(judge_many(&mut cut).iter().all(|fate| *fate == [None, None]));
        // 2 s of datagrams, the third half-second cut.
        assert_eq!((cut.counts.cut, cut.counts.too_long), (5_000, 15_000));
        cut.is_cut = true;
        assert_eq!(cut.judge(Duration::ZERO, 1), [None, None]);
        assert_eq!(cut.counts.cut, 5_001);
        cut.is_cut = false;
        assert!(cut.judge(Duration::ZERO, 999)[0].is_some());
    }

    #[test]
    fn changes_of_port_fall_due_one_by_one() {
        let rebinding = impairment("--rebind-at-ms 100,300", 6);
        let due = |millis| rebinding.rebinds_due(Duration::from_millis(millis));
        assert_eq!([due(0), due(100), due(299), due(300)], [0, 1, 1, 2]);
    }
}
