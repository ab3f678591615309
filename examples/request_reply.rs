//! Requests and replies: a calculator on one node, asked from the main thread of another.
//!
//! The server takes requests in batches and answers some of them late; a request that nobody answers
//! ends at its deadline. `cargo run --example request_reply`

use std::time::Duration;

use cubed::{Capacity, Identity, Node, Policy, Queue, RequestError, Shard, block_on};

/// Runs the example; tests run it too.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Node::builder()
        .identity(Identity::generate()?)
        .listen("127.0.0.1:0")
        .policy(Policy::open())
        .start(async |shard: Shard| {
            let sums = shard.flow("sum").queue(Capacity::bytes(1 << 20))?;
            serve(&shard, sums).await;
            Ok::<(), cubed::FlowError>(())
        })?;
    let client = Node::builder()
        .identity(Identity::generate()?)
        .peer(server.public_key(), server.local_addr())
        .start(async |_: Shard| ())?;
    let sum = client.resolve(server.public_key(), "sum")?;
    for question in ["1 2 3", "40 2", "nonsense"] {
        match block_on(sum.request(question, Duration::from_millis(200))) {
            Ok(answer) => println!("{question} = {}", String::from_utf8_lossy(&answer)),
            Err(RequestError::Expired) => println!("{question}: no answer"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Answers what it understands, a millisecond later each time, and nothing else.
async fn serve(shard: &Shard, mut sums: Queue) {
    while let Some(batch) = sums.next_batch().await {
        for message in &batch {
            let Some(sum) = add(message.body()) else {
                continue;
            };
            let Some(responder) = message.responder() else {
                continue;
            };
            shard.sleep(Duration::from_millis(1)).await;
            if responder.reply(sum.to_string().as_bytes()).is_err() {
                eprintln!("no room for a reply");
            }
        }
    }
}

fn add(text: &[u8]) -> Option<i64> {
    let words = std::str::from_utf8(text).ok()?.split_whitespace();
    words.map(|word| word.parse::<i64>().ok()).sum()
}
