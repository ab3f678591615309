//! Fuzz targets: each takes any bytes and panics when something that must always hold does not.
//!
//! Purpose: bytes of strangers and of peers that proved who they are never panic, never grow a table without bound, and have one
//! encoding only. Contract: a target keeps no state between calls, so an input that fails once fails always.
//! The fuzzers in `src/bin` call them with inputs that they breed; `tests/corpus.rs` calls them with every input kept in `corpus/`.
//!
//! ```
//! cubed_fuzz::decoders(b"\x03\x0a\x00");
//! ```

mod frames;
mod handshake;

pub use frames::{check, frames, limits};
pub use handshake::handshake;

use cubed_router::address::{Address, FlowName};
use cubed_router::policy::Policy;
use cubed_transport::testing;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("decoders", decoders as Target),
    ("frames", frames),
    ("handshake", handshake),
    ("texts", texts),
];

/// Every decoder of the wire outside and behind the AEAD, each on its own.
pub fn decoders(data: &[u8]) {
    let _ = testing::check_decoders(data);
    // A count or length in front of the right bytes is reached sooner from each offset.
    for start in 1..data.len().min(4) {
        let _ = testing::check_decoders(&data[start..]);
    }
}

/// What people write: policies, addresses, names. Text that is accepted reads the same after it was written again.
pub fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = Policy::from_toml(text) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(&address));
    }
    if let Ok(name) = FlowName::new(text) {
        assert_eq!(name.as_str(), text);
    }
}
