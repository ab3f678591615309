//! Runs the serving node: for others, and as the peer process of a measurement.

use cubed::SpinPolicy;

use super::say;
use crate::{
    cli::{PeerNodeArgs, ServeArgs},
    error::Result,
    node::{
        latency::CubedEcho,
        server::{self, Server},
    },
};

pub(super) fn run(args: &ServeArgs) -> Result<()> {
    let spin = if args.spin { CubedEcho::spin(true, None)? } else { SpinPolicy::Adaptive };
    let server = Server {
        listen: args.listen,
        core: args.core,
        spin,
        datagram_bytes: args.datagram,
        machine: args.machine,
        flows: args.flows,
        allowed: args.allow.clone(),
    };
    server::serve(&server, &args.key, say)
}

pub(super) fn run_peer_node(args: &PeerNodeArgs) -> Result<()> {
    server::run_peer(&Server {
        listen: server::ANY_LOOPBACK,
        core: Some(args.core),
        spin: server::spin_for(args.spin_micros),
        datagram_bytes: args.datagram,
        machine: args.machine,
        flows: args.flows,
        allowed: vec![args.allow],
    })
}
