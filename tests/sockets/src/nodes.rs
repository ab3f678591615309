//! The nodes of these tests and tools, all on the backend that the environment names, children included.

use std::env;

use cubed::{Backend, Node, NodeBuilder};

/// A node on the backend that `CUBED_BACKEND` names (auto, uring or epoll); without it on the library's own choice.
///
/// # Panics
/// If it names something else.
pub fn node() -> NodeBuilder {
    let backend = match env::var("CUBED_BACKEND") {
        Ok(name) => name.parse().expect("CUBED_BACKEND names a backend"),
        Err(_) => Backend::Auto,
    };
    Node::builder().backend(backend)
}
