//! Flags of measurements between many processes and hosts: `agent` and `run`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use cubed::PublicKey;

use super::{MachineArgs, OutputArgs};
use crate::{agents::AgentAddress, units::parse_address};

/// Flags of `agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// File with the key that identifies this agent
    #[arg(long, value_name = "FILE", visible_alias = "key")]
    pub identity: PathBuf,
    /// Public key of a controller to obey; repeat it for several. Without it nobody is obeyed
    #[arg(long, value_name = "KEY")]
    pub allow: Vec<PublicKey>,
    /// Where to listen: the address by which controller and other agents reach it
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// Core to pin it to; the system chooses without it
    #[arg(long, value_name = "CORE")]
    pub core: Option<usize>,
    /// What the node runs on.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The plan: a TOML file with seconds and an array of load tables (docs/BENCHMARKS.md)
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// The agents, in the order by which the plan counts them from 0
    #[arg(long, value_name = "KEY@ADDR,...", value_delimiter = ',', required = true)]
    pub agents: Vec<AgentAddress>,
    /// File with the controller's key, which the agents allow; a new key without it, which none does
    #[arg(long, value_name = "FILE", visible_alias = "key")]
    pub identity: Option<PathBuf>,
    /// Where results go.
    #[command(flatten)]
    pub output: OutputArgs,
}
