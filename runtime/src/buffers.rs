//! Sizes of receive buffers.

/// Bytes of one receive buffer: the longest batch of datagrams (65,535 bytes) rounded up, and 256 for
/// the header, sender's address and control data that `io_uring` writes in front of it.
pub const RECV_BUFFER_BYTES: usize = 65_536 + 256;
