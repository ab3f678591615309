//! What a measuring process and its peer process say to each other over the peer's stdin and
//! stdout: one JSON value per line.
//!
//! The peer prints `Listening` once, then answers each `Begin` with `Begun` and each `End` with
//! `Report` or `Failed`. It exits when its stdin closes, so nothing outlives the measurement.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// From the measuring process to its peer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order<B> {
    /// Start a slice.
    Begin(B),
    /// The slice is over: stop using the CPU and report.
    End,
}

/// From the peer to the measuring process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<R> {
    /// Ready, at this address.
    Listening {
        /// Where its socket is bound.
        address: SocketAddr,
        /// Public key of a Cubed node in text form; none for the baselines.
        key: Option<String>,
    },
    /// The slice has started.
    Begun,
    /// What the slice counted.
    Report(R),
    /// The slice failed; the text says why.
    Failed(String),
}
