//! An echo between two nodes: what Alice sends to Bob's flow comes back to a flow of hers.
//!
//! Bob answers from an inline handler, which costs no task and no wake-up per message; Alice takes
//! what comes back in batches. `cargo run --release --example echo`

use cubed::{Capacity, Destination, Identity, Node, Policy, SendError, Shard, block_on};

const MESSAGES: usize = 100_000;

/// Runs the example; tests run it too.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let alice_key = Identity::generate()?;
    let alice_address = alice_key.public_key();
    let bob = Node::builder()
        .identity(Identity::generate()?)
        .listen("127.0.0.1:0")
        .policy(Policy::open())
        .start(move |shard: Shard| async move {
            let back = shard.resolve(alice_address, "echoes")?;
            let echo = shard.flow("echo");
            echo.handler(move |message, context| {
                // Without room the echo is lost: Alice would find one missing.
                context.send_acknowledged(&back, message.body()).expect("room for an echo");
            })?;
            Ok::<(), Box<dyn std::error::Error>>(())
        })?;
    let alice = Node::builder()
        .identity(alice_key)
        .peer(bob.public_key(), bob.local_addr())
        .policy(Policy::open())
        .start(async |_: Shard| ())?;
    let bob_address = bob.public_key();
    let returned = block_on(alice.on_shard(0, move |shard| async move {
        let mut echoes = shard.flow("echoes").queue(Capacity::bytes(4 << 20))?;
        let to_bob = shard.resolve(bob_address, "echo")?;
        shard.spawn_local(async move { send_all(&to_bob).await });
        let mut returned = 0;
        while returned < MESSAGES {
            let Some(batch) = echoes.next_batch().await else {
                break;
            };
            returned += batch.iter().filter(|message| message.body() == b"ping").count();
        }
        Ok::<usize, Box<dyn std::error::Error + Send + Sync>>(returned)
    }))?;
    let returned = returned.map_err(|error| error.to_string())?;
    println!("{returned} of {MESSAGES} came back");
    assert_eq!(returned, MESSAGES);
    Ok(())
}

/// Sends as fast as there is room.
async fn send_all(to: &Destination) -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..MESSAGES {
        while to.try_send_acknowledged(b"ping") == Err(SendError::Full) {
            to.ready().await?;
        }
    }
    Ok(())
}
