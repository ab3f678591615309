//! Goal: on the message path, once it is warm, no message allocates.

use cubed_bench::path::MessagePath;

const MESSAGES: u64 = 40_000;

#[test]
fn a_message_allocates_nothing() {
    for bytes in [16, 64, 1_024] {
        let mut path = MessagePath::new().unwrap();
        // Until windows, logs and pools have the size that they keep.
        path.send(16 * MESSAGES, bytes).unwrap();
        let counted = allocation_counter::measure(|| path.send(MESSAGES, bytes).unwrap());
        let allocations = counted.count_total;
        println!("{bytes} B: {allocations} allocations for {MESSAGES} messages");
        // The call's own body, and what a message does not cause.
        assert!(allocations < 20, "{bytes} B: {allocations} for {MESSAGES} messages");
    }
}
