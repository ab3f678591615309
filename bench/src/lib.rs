//! Load generator for Cubed: throughput and latency, counted at the receiver, beside baselines
//! measured in the same run on the same cores.
//!
//! Three baselines know nothing of Cubed's protocol: the [`ceiling`] (framing, sealing and UDP offload without
//! reliability), [`raw_echo`] (plain UDP echo) and [`raw_one_way`] (plain UDP one way). Anything that implements a trait of [`subject`]
//! is measured in slices that alternate with its baseline ([`pairs`]); idle processes are blocked.
//! Cubed itself is measured through its public API ([`node`]); what grows with its peers by [`scale`].
//! Modules are listed leaf first; each imports only from those above it.

pub mod error;

pub mod tag;

pub mod stats;

pub mod workload;

pub mod search;

pub mod units;

pub mod subject;

pub mod floor;

pub mod goal;

pub mod pairs;

pub mod cpu;

pub mod meter;

pub mod monitor;

pub mod progress;

pub mod interrupt;

pub mod control;

pub mod peer;

pub mod keeper;

pub mod process;

pub mod machine;

pub mod preempted;

pub mod ceiling;

pub mod raw_echo;

pub mod node;

pub mod raw_one_way;

pub mod surroundings;

pub mod report;

pub mod scale;

pub mod peers;

pub mod agents;
pub mod counting;
pub mod path;

pub mod cli;

pub mod commands;

pub mod tour;
