//! Resident memory of a node with very many flows, and whether messages still find theirs.

use std::time::{Duration, Instant};

use cubed::{FlowError, Node, Outcome, Policy, Shard, block_on};
use serde_json::json;

use super::{args::FlowsArgs, sheet::Sheet, usage::resident_bytes};
use crate::{
    error::{BenchError, Result},
    node::server::new_identity,
};

/// Flows registered between two yields, so that the shard looks after the rest now and then.
const BATCH: usize = 1_000;

/// Flows to which a message is sent at the end.
const SAMPLES: usize = 100;

/// Runs the command.
///
/// # Errors
///
/// `Machine` when the node does not start, `Corrupt` when a flow does not get its message.
pub fn run(args: &FlowsArgs) -> Result<Sheet> {
    let mut sheet = Sheet::new("scale flows");
    let builder = Node::builder().identity(new_identity()?).policy(Policy::open());
    let node = args.machine.apply(builder.listen("127.0.0.1:0")).start(async |_: Shard| ());
    let node = node.map_err(|error| BenchError::Machine(error.to_string()))?;
    let before = resident_bytes()?;
    let begun = Instant::now();
    let count = args.flows;
    let registered =
        block_on(node.on_shard(0, async move |shard: Shard| register(&shard, count).await));
    let registered = registered.map_err(|error| BenchError::Machine(error.to_string()))?;
    registered.map_err(|error| BenchError::Machine(error.to_string()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = resident_bytes()?.saturating_sub(before);
    let delivered = sample(&node, count)?;
    sheet.add(vec![
        ("flows", json!(count)),
        ("resident_bytes", json!(bytes)),
        ("bytes_per_flow", json!(bytes as f64 / count.max(1) as f64)),
        ("seconds", json!(seconds)),
        ("sampled", json!(SAMPLES.min(count))),
        ("delivered", json!(delivered)),
    ]);
    node.shutdown();
    node.join().map_err(|error| BenchError::Machine(error.to_string()))?;
    Ok(sheet)
}

async fn register(shard: &Shard, count: usize) -> Result<(), FlowError> {
    for number in 0..count {
        shard.flow(&name(number)).handler(|_, _| {})?;
        if number % BATCH == 0 {
            shard.yield_now().await;
        }
    }
    Ok(())
}

/// Sends a message to some of the flows, spread over all; how many were delivered.
fn sample(node: &Node, count: usize) -> Result<usize> {
    let wrong = |text: String| BenchError::Corrupt(text);
    let step = (count / SAMPLES).max(1);
    let mut delivered = 0;
    for number in (0..count).step_by(step).take(SAMPLES) {
        let flow = node.resolve(node.public_key(), &name(number));
        let flow = flow.map_err(|error| wrong(error.to_string()))?;
        let sent = flow.message(&b"one"[..]).deadline(Duration::from_secs(10));
        match block_on(sent.into_future()) {
            Ok(Outcome::Delivered) => delivered += 1,
            other => return Err(wrong(format!("flow {number}: {other:?}"))),
        }
    }
    Ok(delivered)
}

fn name(number: usize) -> String {
    format!("scale.flow.{number:07}")
}
