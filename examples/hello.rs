//! Two nodes in one process: Alice asks, Bob answers, and every message is accounted for.
//!
//! `cargo run --example hello`

use cubed::{Identity, Node, Policy, Shard, block_on};
use std::time::Duration;

/// Runs the example; tests run it too.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let second = Duration::from_secs(1);
    let bob = Node::builder()
        .identity(Identity::generate()?)
        .listen("127.0.0.1:0")
        .policy(Policy::open()) // for first steps: everybody may use every flow
        .start(async |shard: Shard| {
            shard.flow("greet").handler(|message, context| {
                let _ = context.reply(&[b"hello ", message.body()].concat());
            })
        })?;
    let alice = Node::builder()
        .identity(Identity::generate()?)
        .peer(bob.public_key(), bob.local_addr())
        .start(async |_: Shard| ())?;
    let greet = alice.resolve(bob.public_key(), "greet")?;
    println!("{}", String::from_utf8_lossy(&block_on(greet.request("alice", second))?));
    println!("{:?}", block_on(alice.drain(second))?);
    Ok(())
}
