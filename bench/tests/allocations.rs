//! Goal: on the message path, once it is warm, no message allocates.

use cubed_bench::path::MessagePath;

#[test]
fn a_message_allocates_nothing() {
    let mut path = MessagePath::new().unwrap();
    for bytes in [16, 64, 1_024] {
        path.send(20_000, bytes).unwrap();
        let [once, twice] = [20_000, 40_000].map(|messages| {
            allocation_counter::measure(|| path.send(messages, bytes).unwrap()).count_total
        });
        // The call's own body, and nothing that grows with the messages.
        assert!(twice <= once + 2 && once < 100, "{bytes} B: {once} and {twice} allocations");
    }
}
