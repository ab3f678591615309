//! What is sent and to whom: sizes of bodies and choices among targets, as flags name them and as tables a sender walks.
//!
//! A sender never draws while it measures: it walks a table of 65,536 entries that a seed has filled before, from the front
//! again after its end. The same seed gives the same run.

use std::{fmt, str::FromStr};

use fastrand::Rng;

/// Entries of a table. A power of two, so that a number finds its entry by a mask.
const TABLE_ENTRIES: usize = 1 << 16;

/// Largest body, in bytes.
pub const SIZE_BYTES_MAX: usize = 64 << 20;

/// How long bodies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// All of one length.
    Fixed(usize),
    /// Every length from the first to the last as often as the others.
    Uniform(usize, usize),
    /// Every doubling between the first and the last as often as the others: many short ones, few long ones.
    LogUniform(usize, usize),
    /// So many of each length, in turn: length and count.
    Mix(Vec<(usize, usize)>),
}

/// Whose turn it is among several targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// One after the other.
    RoundRobin,
    /// Each as likely as the others.
    Uniform,
    /// Target k (from 1) with a chance that falls as 1 over k to this power.
    Zipf(f64),
}

impl Sizes {
    /// Length of every body, if there is one for all.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// Longest length.
    pub fn largest(&self) -> usize {
        match self {
            Self::Fixed(size) | Self::Uniform(_, size) | Self::LogUniform(_, size) => *size,
            Self::Mix(parts) => parts.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    /// Shortest length.
    pub fn smallest(&self) -> usize {
        match self {
            Self::Fixed(size) | Self::Uniform(size, _) | Self::LogUniform(size, _) => *size,
            Self::Mix(parts) => parts.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    /// Mean length in bytes, of the table that `seed` fills.
    pub fn mean(&self, seed: u64) -> f64 {
        if let Some(size) = self.fixed() {
            return size as f64;
        }
        let table = self.table(seed);
        table.iter().map(|size| f64::from(*size)).sum::<f64>() / table.len() as f64
    }

    /// Lengths to be walked; as many as a power of two.
    pub fn table(&self, seed: u64) -> Vec<u32> {
        let mut rng = Rng::with_seed(seed);
        let mut draw: Box<dyn FnMut(usize) -> usize> = match self {
            // Beyond what any message may have, and refused as such.
            Self::Fixed(size) => return vec![u32::try_from(*size).unwrap_or(u32::MAX)],
            Self::Uniform(from, to) => Box::new(move |_| rng.usize(*from..=*to)),
            Self::LogUniform(from, to) => {
                let (low, high) = ((*from as f64).ln(), (*to as f64 + 1.0).ln());
                Box::new(move |_| ((low + rng.f64() * (high - low)).exp() as usize).min(*to))
            }
            Self::Mix(parts) => {
                let turn: Vec<usize> = parts
                    .iter()
                    .flat_map(|(size, count)| std::iter::repeat_n(*size, *count))
                    .collect();
                Box::new(move |index| turn[index % turn.len()])
            }
        };
        (0..TABLE_ENTRIES).map(|index| draw(index) as u32).collect()
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        let sizes = match kind {
            "fixed" => Self::Fixed(bytes(rest)?),
            "uniform" => range(rest).map(|(from, to)| Self::Uniform(from, to))?,
            "log-uniform" => range(rest).map(|(from, to)| Self::LogUniform(from, to))?,
            "mix" => Self::Mix(rest.split(',').map(part).collect::<Result<_, _>>()?),
            other => {
                return Err(format!("{other:?} is no distribution: {SIZES_FORMS}"));
            }
        };
        if let Self::Mix(parts) = &sizes {
            let count: usize = parts.iter().map(|(_, count)| count).sum();
            if !(1..=TABLE_ENTRIES).contains(&count) {
                return Err(format!("mix of {count} messages: from 1 to {TABLE_ENTRIES}"));
            }
        }
        Ok(sizes)
    }
}

/// Every form that [`Sizes`] has as text.
const SIZES_FORMS: &str = "choose fixed:64, uniform:1..2048, log-uniform:1..2048 or mix:64*9,64K*1";

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "fixed:{size}"),
            Self::Uniform(from, to) => write!(f, "uniform:{from}..{to}"),
            Self::LogUniform(from, to) => write!(f, "log-uniform:{from}..{to}"),
            Self::Mix(parts) => {
                f.write_str("mix")?;
                for (index, (size, count)) in parts.iter().enumerate() {
                    write!(f, "{}{size}*{count}", if index == 0 { ":" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl Choice {
    /// Targets to be walked, by number, for `count` of them; as many as a power of two. [`Choice::RoundRobin`] has none: it counts.
    pub fn table(self, count: usize, seed: u64) -> Vec<u32> {
        let mut rng = Rng::with_seed(seed);
        match self {
            Self::RoundRobin => Vec::new(),
            Self::Uniform => (0..TABLE_ENTRIES).map(|_| rng.usize(..count) as u32).collect(),
            Self::Zipf(power) => {
                let mut sum = 0.0;
                let sums: Vec<f64> = (1..=count)
                    .map(|k| {
                        sum += (k as f64).powf(-power);
                        sum
                    })
                    .collect();
                let mut draw = || {
                    let at = rng.f64() * sum;
                    sums.partition_point(|upto| *upto <= at).min(count - 1) as u32
                };
                (0..TABLE_ENTRIES).map(|_| draw()).collect()
            }
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("round-robin", "") => Ok(Self::RoundRobin),
            ("uniform", "") => Ok(Self::Uniform),
            ("zipf", "") => Ok(Self::Zipf(1.0)),
            ("zipf", power) => match power.parse::<f64>() {
                Ok(power) if (0.0..=10.0).contains(&power) => Ok(Self::Zipf(power)),
                _ => Err(format!("zipf:{power}: give a power from 0 to 10")),
            },
            _ => Err(format!("{text:?}: choose round-robin, uniform, zipf or zipf:POWER")),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round-robin"),
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(power) => write!(f, "zipf:{power}"),
        }
    }
}

/// A number of bytes, with K or M for 2^10 or 2^20.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.trim().split_at_checked(text.trim().len().wrapping_sub(1)) {
        Some((digits, "K")) => (digits, 1 << 10),
        Some((digits, "M")) => (digits, 1 << 20),
        _ => (text.trim(), 1),
    };
    let number: usize = digits.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    let size = number.saturating_mul(unit);
    if size > SIZE_BYTES_MAX {
        return Err(format!("{text}: at most {SIZE_BYTES_MAX} bytes"));
    }
    Ok(size)
}

fn range(text: &str) -> Result<(usize, usize), String> {
    let (from, to) =
        text.split_once("..").ok_or_else(|| format!("{text:?}: give a range such as 1..2048"))?;
    let (from, to) = (bytes(from)?, bytes(to)?);
    if from == 0 || from > to {
        return Err(format!("{text}: begin with 1 or more, and end with no less"));
    }
    Ok((from, to))
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let (size, count) = text.split_once('*').unwrap_or((text, "1"));
    let count = count.trim().parse().map_err(|_| format!("{text:?}: give SIZE*COUNT"))?;
    Ok((bytes(size)?, count))
}

#[cfg(test)]
mod tests {
    //! Goal: the texts of the flags mean what they say, and a seed repeats a run.
    use super::*;

    fn sizes(text: &str) -> Sizes {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_sizes_parses_and_prints_as_itself() {
        for text in ["fixed:64", "uniform:1..2048", "log-uniform:16..1024", "mix:64*9,65536*1"] {
            assert_eq!(sizes(text).to_string(), text);
        }
        assert_eq!(sizes("64"), Sizes::Fixed(64));
        assert_eq!(sizes("mix:64*9,64K"), Sizes::Mix(vec![(64, 9), (65_536, 1)]));
        assert_eq!(
            (sizes("uniform:1..2M").largest(), sizes("2M").fixed()),
            (2 << 20, Some(2 << 20))
        );
        for wrong in [
            "",
            "x",
            "65M",
            "uniform:5",
            "uniform:9..5",
            "uniform:0..5",
            "normal:1..2",
            "mix:",
            "mix:64*0",
            "mix:64*x",
        ] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tables_stay_in_their_range_and_repeat_with_their_seed() {
        for text in ["uniform:5..9", "log-uniform:5..9", "uniform:1..2048", "log-uniform:1..2048"] {
            let sizes = sizes(text);
            let (Sizes::Uniform(from, to) | Sizes::LogUniform(from, to)) = sizes else {
                panic!("no range");
            };
            let table = sizes.table(7);
            assert!(table.len().is_power_of_two());
            for end in [from, to] {
                assert!(table.contains(&(end as u32)), "{text} has {end}");
            }
            assert!(table.iter().all(|size| (from..=to).contains(&(*size as usize))), "{text}");
            assert_eq!(table, sizes.table(7));
            assert_ne!(table, sizes.table(8));
        }
    }

    #[test]
    fn mixes_keep_their_proportion_and_log_uniform_has_mostly_short_ones() {
        let table = sizes("mix:64*9,64K*1").table(1);
        let short = table.iter().filter(|size| **size == 64).count();
        assert!((table.len() * 9 / 10).abs_diff(short) < 10, "{short}");
        let table = sizes("log-uniform:1..1023").table(1);
        let under_32 = table.iter().filter(|size| **size < 32).count() as f64;
        assert!((under_32 / table.len() as f64 - 0.5).abs() < 0.02, "{under_32}");
        assert!((sizes("uniform:1..99").mean(3) - 50.0).abs() < 1.0);
    }

    #[test]
    fn choices_favour_whom_they_say() {
        let counts = |choice: Choice| {
            let mut counts = [0_u32; 10];
            for target in choice.table(10, 5) {
                counts[target as usize] += 1;
            }
            counts
        };
        assert!(counts(Choice::Uniform).iter().all(|count| (6_000..7_200).contains(count)));
        let zipf = counts(Choice::Zipf(1.0));
        // The chance of target k is 1/k over 1 + 1/2 + ... + 1/10 = 2.929.
        for (k, count) in (1_u32..).zip(zipf) {
            let wanted = 65_536.0 / f64::from(k) / 2.929;
            assert!((f64::from(count) / wanted - 1.0).abs() < 0.1, "{k}: {count} of {wanted}");
        }
        assert!(Choice::RoundRobin.table(10, 5).is_empty());
        for text in ["round-robin", "uniform", "zipf:1.2"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert!("zipf:x".parse::<Choice>().is_err() && "random".parse::<Choice>().is_err());
    }
}
