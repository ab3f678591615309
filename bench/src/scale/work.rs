//! A fixed number of messages between two nodes in this one process: something for an instruction counter to count.
//!
//! It measures nothing by itself. `perf-scripts/scaling instructions` runs it under callgrind with different numbers of messages
//! and takes the difference, in which start and end cancel.

use std::time::Duration;

use cubed::{SendError, Shard, SpinPolicy};
use serde_json::json;

use super::{args::WorkArgs, sheet::Sheet};
use crate::{
    commands::DATAGRAM_BYTES,
    error::{BenchError, Result},
    node::{
        bodies::{Bodies, Mode},
        client::{Client, ClientSettings, ServedPeer},
        server::{self, Server, new_identity},
        sink::{SinkCounts, SinkOrder},
    },
    workload::Sizes,
};

/// Body bytes.
const SIZE_BYTES: usize = 64;

/// Messages between two yields.
const BURST: u64 = 2_048;

/// How often the end looks whether all are settled.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Runs the command.
///
/// # Errors
///
/// Those of the nodes; `Corrupt` when a message was not delivered once.
pub fn run(args: &WorkArgs) -> Result<Sheet> {
    let identity = new_identity()?;
    let server = Server {
        listen: server::ANY_LOOPBACK,
        core: None,
        spin: SpinPolicy::Never,
        datagram_bytes: DATAGRAM_BYTES,
        flows: 1,
        machine: args.machine,
        allowed: vec![identity.public_key()],
    };
    let serving = server.start(new_identity()?)?;
    let peer = ServedPeer { address: serving.local_addr(), key: serving.public_key() };
    let settings = ClientSettings {
        served: Some(peer),
        key_file: None,
        spin: SpinPolicy::Never,
        datagram_bytes: DATAGRAM_BYTES,
        flows: 1,
        machine: args.machine,
    };
    let client = Client::start_as(identity, &settings)?;
    client.begin(&SinkOrder { size_bytes: Some(SIZE_BYTES), stamped: false, offset_nanos: 0 })?;
    let messages = args.messages;
    client.on_each_shard(|shard| {
        let (key, sink) = (client.peer_key(), client.sinks(shard)[0].clone());
        async move |shard: Shard| send(&shard, key, &sink, messages).await
    })?;
    let counts: Vec<SinkCounts> = client.end()?;
    let delivered: u64 = counts.iter().map(|counts| counts.delivered).sum();
    let doubled: u64 = counts.iter().map(|counts| counts.duplicated).sum();
    let wanted = messages * args.machine.shards as u64;
    drop(client);
    serving.shutdown();
    serving.join().map_err(|error| BenchError::Machine(error.to_string()))?;
    if (delivered, doubled) != (wanted, 0) {
        return Err(BenchError::Corrupt(format!(
            "{delivered} of {wanted} messages were delivered, {doubled} twice"
        )));
    }
    let mut sheet = Sheet::new("scale work");
    sheet.add(vec![
        ("shards", json!(args.machine.shards)),
        ("messages", json!(wanted)),
        ("delivered", json!(delivered)),
    ]);
    Ok(sheet)
}

async fn send(shard: &Shard, key: cubed::PublicKey, sink: &str, messages: u64) -> Result<()> {
    let wrong = |text: String| BenchError::Peer(text);
    let to = shard.resolve(key, sink).map_err(|error| wrong(error.to_string()))?;
    let mut bodies = Bodies::new(&Sizes::Fixed(SIZE_BYTES), 0, Mode::Acked, None);
    while bodies.sent() < messages {
        match bodies.send_next(&to) {
            Ok(()) if bodies.sent().is_multiple_of(BURST) => shard.yield_now().await,
            Ok(()) => {}
            Err(SendError::Full) => to.ready().await.map_err(|error| wrong(error.to_string()))?,
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    while shard.stats().is_some_and(|stats| stats.tally.pending > 0) {
        shard.sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
