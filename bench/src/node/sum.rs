//! What a serving process says when it ends: what came, what left, and what was dropped and why.

use std::time::Duration;

use cubed::{Node, NodeStats, block_on};

use crate::{interrupt, progress::rate_text};

/// Has `node` say what it did and stop when the process is asked to end.
pub fn stop_by_signal(node: &Node, say: impl Fn(&str) + Send + 'static) {
    let (node, clock) = (node.clone(), std::time::Instant::now());
    interrupt::end_by(move || {
        // A node that has stopped has said why.
        if let Ok(stats) = block_on(node.stats()) {
            for line in sum(&stats, clock.elapsed()) {
                say(&line);
            }
        }
        node.shutdown();
    });
}

/// The lines for a node that ran for `time`.
fn sum(stats: &NodeStats, time: Duration) -> Vec<String> {
    let count = |name: &str| stats.counter(name).unwrap_or_default();
    let mut dropped: Vec<(&str, u64)> = Vec::new();
    for (name, value) in stats.shards.iter().flat_map(|shard| shard.counters.iter()) {
        match dropped.iter_mut().find(|(known, _)| *known == name) {
            _ if !name.starts_with("dropped_") || value == 0 => {}
            Some((_, sum)) => *sum += value,
            None => dropped.push((name, value)),
        }
    }
    let messages = count("acknowledged_accepted") + count("best_effort_accepted");
    let mut lines = vec![
        format!(
            "ended after {:.1} s: {} sessions, {messages} messages and requests taken, {}",
            time.as_secs_f64(),
            count("sessions_begun"),
            rate_text(messages as f64 / time.as_secs_f64().max(1e-9)),
        ),
        format!(
            "received {} datagrams, {} bytes; sent {}, {} bytes; {} blocks sent again",
            count("datagrams_received"),
            count("bytes_received"),
            count("datagrams_sent"),
            count("bytes_sent"),
            count("blocks_resent"),
        ),
    ];
    lines.extend(dropped.iter().map(|(name, value)| format!("{name} {value}")));
    lines
}

#[cfg(test)]
mod tests {
    //! Goal: the sum of a node that did nothing has every line and no drop.
    use cubed::{Identity, Shard, SpinPolicy};

    use super::*;

    #[test]
    fn an_idle_node_has_a_sum() {
        let node = Node::builder().identity(Identity::generate().unwrap()).listen("127.0.0.1:0");
        let node = node.spin(SpinPolicy::Never).start(async |_: Shard| ()).unwrap();
        let lines = sum(&block_on(node.stats()).unwrap(), Duration::from_secs(2));
        node.shutdown();
        node.join().unwrap();
        assert!(lines[0].starts_with("ended after 2.0 s: 0 sessions, 0 messages"), "{lines:?}");
        assert!(lines[1].starts_with("received 0 datagrams, 0 bytes"), "{lines:?}");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}
