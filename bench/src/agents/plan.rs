//! The plan of a run between agents, as a TOML file.
//!
//! ```toml
//! seconds = 3.0
//! warm_up_seconds = 0.5      # sent before and left out; 0.5 without it
//!
//! [[load]]
//! from = [0, 1, 2]           # agents by their place in --agents: three to one
//! to = [3]
//! sizes = "mix:64*9,64K*1"   # as of --sizes; fixed:64 without it
//! mode = "acked"             # or best-effort; acked without it
//! rate = "10k"               # per second of each stream, on time; as fast as there is room without it
//! seed = 1
//! ```
//!
//! Each agent of `from` has a stream to each of `to`, but not to itself.

use std::{fs, path::Path};

use serde::Deserialize;

use super::Stream;
use crate::{
    error::{BenchError, Result},
    node::bodies::STAMPED_BYTES_MIN,
    units::parse_rate,
    workload::Sizes,
};

/// Streams of one plan, at most.
pub const STREAMS_MAX: usize = 10_000;

/// One message of so many carries its time.
const STAMP_EVERY: u64 = 64;

/// Where a plan is described.
const FORM: &str = "docs/BENCHMARKS.md, between hosts, says what a plan is";

/// What is to be measured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Length of the measurement.
    pub seconds: f64,
    /// Sent before it and left out.
    #[serde(default = "warm_up_seconds")]
    pub warm_up_seconds: f64,
    /// What is sent from where to where.
    pub load: Vec<PlanLoad>,
}

/// Streams of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLoad {
    /// Who sends, by place.
    pub from: Vec<usize>,
    /// Who receives, by place.
    pub to: Vec<usize>,
    /// Body lengths.
    #[serde(default = "sizes")]
    pub sizes: String,
    /// acked or best-effort.
    #[serde(default = "mode")]
    pub mode: String,
    /// Messages per second of each stream.
    pub rate: Option<String>,
    /// What sizes are drawn from.
    #[serde(default)]
    pub seed: u64,
}

fn warm_up_seconds() -> f64 {
    0.5
}

fn sizes() -> String {
    "fixed:64".into()
}

fn mode() -> String {
    "acked".into()
}

impl Plan {
    /// Reads a plan for so many agents.
    ///
    /// # Errors
    ///
    /// `Argument`, with the file's name and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |error: String| BenchError::Argument(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| {
            BenchError::Argument(format!(
                "cannot read the plan {} ({error}): give the path of a TOML file; {FORM}",
                path.display()
            ))
        })?;
        let plan: Self = toml::from_str(&text)
            .map_err(|error| wrong(format!("{}\n{FORM}", error.to_string().trim_end())))?;
        let is_long = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        if plan.seconds <= 0.0 || !is_long(plan.seconds) || !is_long(plan.warm_up_seconds) {
            return Err(wrong("seconds: above 0 and up to 86400".into()));
        }
        Ok(plan)
    }

    /// The streams between so many agents.
    ///
    /// # Errors
    ///
    /// `Argument` for an agent that there is not, and for texts that say nothing.
    pub(super) fn streams(&self, agents: usize) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for load in &self.load {
            load.add_to(&mut streams, agents)?;
        }
        if !(1..=STREAMS_MAX).contains(&streams.len()) {
            let count = streams.len();
            return Err(BenchError::Argument(format!("{count} streams: 1 to {STREAMS_MAX}")));
        }
        Ok(streams)
    }
}

impl PlanLoad {
    fn add_to(&self, streams: &mut Vec<Stream>, agents: usize) -> Result<()> {
        let sizes: Sizes = self.sizes.parse().map_err(BenchError::Argument)?;
        let rate =
            self.rate.as_deref().map(parse_rate).transpose().map_err(BenchError::Argument)?;
        let is_acknowledged = match self.mode.as_str() {
            "acked" => true,
            "best-effort" => false,
            other => {
                return Err(BenchError::Argument(format!("mode {other:?}: acked or best-effort")));
            }
        };
        for (from, to) in
            self.from.iter().flat_map(|from| self.to.iter().map(move |to| (*from, *to)))
        {
            if let Some(missing) = [from, to].into_iter().find(|place| *place >= agents) {
                return Err(BenchError::Argument(format!(
                    "agent {missing}: --agents names {agents}, counted from 0"
                )));
            }
            if from == to {
                continue;
            }
            let number = streams.len() as u32;
            let can_stamp = sizes.smallest() >= STAMPED_BYTES_MIN;
            streams.push(Stream {
                number,
                from,
                to,
                sizes: self.sizes.clone(),
                is_acknowledged,
                rate,
                stamp_every: (can_stamp && rate.is_some()).then_some(STAMP_EVERY),
                seed: self.seed.wrapping_add(number.into()),
                offset_nanos: 0,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a plan is the streams that it says, and nonsense is named.
    use super::*;

    fn plan(text: &str) -> Plan {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn fan_in_and_fan_out_are_streams() {
        let plan = plan(
            "seconds = 1.0\n[[load]]\nfrom = [0, 1, 2]\nto = [2]\nrate = \"10k\"\n[[load]]\nfrom = [2]\nto = [0, 1]",
        );
        let streams = plan.streams(3).unwrap();
        let ends: Vec<_> = streams.iter().map(|stream| (stream.from, stream.to)).collect();
        assert_eq!(ends, [(0, 2), (1, 2), (2, 0), (2, 1)]);
        assert_eq!((streams[0].rate, streams[0].stamp_every), (Some(1e4), Some(64)));
        assert_eq!((streams[3].rate, streams[3].stamp_every), (None, None));
        assert!(plan.streams(2).unwrap_err().to_string().contains("agent 2"));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for load in ["mode = \"x\"", "sizes = \"x\"", "rate = \"x\""] {
            let text = format!("seconds = 1.0\n[[load]]\nfrom = [0]\nto = [1]\n{load}");
            assert!(plan(&text).streams(2).is_err(), "{load}");
        }
        assert!(toml::from_str::<Plan>("seconds = 1.0\nload = []\nsecond = 2").is_err());
        assert!(plan("seconds = 1.0\nload = []").streams(2).is_err());
    }
}
