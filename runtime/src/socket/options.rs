//! What a socket is asked for, what it got, and what it has counted.

/// What to ask of the kernel when a socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_RCVBUF` to ask for, in bytes; the kernel caps it at `net.core.rmem_max`.
    pub recv_buffer_bytes: usize,
    /// `SO_SNDBUF` to ask for, in bytes; the kernel caps it at `net.core.wmem_max`.
    pub send_buffer_bytes: usize,
    /// `SO_REUSEPORT`: several sockets of one user share the port.
    pub reuse_port: bool,
    /// `UDP_GRO`: the kernel hands over runs of equal datagrams as one batch.
    pub gro: bool,
}

impl Default for SocketOptions {
    /// 4 MiB each way (what a node's credit is planned on), no shared port, GRO on.
    fn default() -> Self {
        Self {
            recv_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            reuse_port: false,
            gro: true,
        }
    }
}

/// Socket buffer sizes, as asked for and as the kernel reports them.
///
/// Linux doubles what is asked (after capping it) to make room for its own book-keeping, and reports
/// the doubled value; it charges each datagram its true size, about 832 B plus its length. So
/// `recv_bytes` of 8 MiB after asking for 4 MiB means *granted in full*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketBuffers {
    /// `SO_RCVBUF` as read back (doubled by the kernel), in bytes.
    pub recv_bytes: usize,
    /// `SO_SNDBUF` as read back (doubled by the kernel), in bytes.
    pub send_bytes: usize,
    /// What was asked for, not doubled, in bytes.
    pub recv_requested_bytes: usize,
    /// What was asked for, not doubled, in bytes.
    pub send_requested_bytes: usize,
}

impl SocketBuffers {
    /// Whether the kernel gave the receive buffer that was asked for; if not, raise
    /// `net.core.rmem_max`.
    pub fn recv_granted(&self) -> bool {
        self.recv_bytes >= 2 * self.recv_requested_bytes
    }

    /// Whether the kernel gave the send buffer that was asked for; if not, raise
    /// `net.core.wmem_max`.
    pub fn send_granted(&self) -> bool {
        self.send_bytes >= 2 * self.send_requested_bytes
    }
}

/// What one socket has done since it was bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Receive calls into the kernel, empty ones included.
    pub recv_calls: u64,
    /// Batches received: calls that brought something.
    pub recv_batches: u64,
    /// Datagrams received, each segment of a batch counted.
    pub recv_datagrams: u64,
    /// Payload bytes received.
    pub recv_bytes: u64,
    /// Batches that did not fit their buffer.
    pub recv_truncated: u64,
    /// Receive calls that the kernel refused for want of memory; what was there was read later.
    pub recv_refused: u64,
    /// Datagrams that the kernel dropped because the receive buffer was full, as last told: it tells
    /// with the next datagram that it does deliver.
    pub kernel_drops: u64,
    /// Send calls into the kernel.
    pub send_calls: u64,
    /// Datagrams handed to the kernel, each segment of a run counted.
    pub send_datagrams: u64,
    /// Payload bytes handed to the kernel.
    pub send_bytes: u64,
    /// Sends turned away because the send buffer or the interface queue was full.
    pub send_would_block: u64,
    /// Segmented runs that the kernel refused and that were sent singly instead.
    pub gso_fallbacks: u64,
    /// ICMP errors of earlier datagrams, told by a later call and stepped over.
    pub icmp_errors: u64,
}
