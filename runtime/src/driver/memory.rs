//! A network inside one thread, for simulations and instruction counts: no kernel, no clock.
//!
//! Always holds: batches come out in the order they went in; queues are bounded and what does not fit
//! is dropped and counted at the receiver, as the kernel does; buffers are recycled, so that a steady
//! exchange allocates nothing.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::waker::{DriverWaker, WakeState};
use super::{Driver, DriverStats, Port, Received};
use crate::socket::{
    BindError, SEND_RUN_BYTES_MAX, SEND_RUN_SEGMENTS_MAX, SendStatus, SocketBuffers,
};

/// Bytes that one receive queue holds; what exceeds it is dropped.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// What the kernel would charge for each datagram beside its length.
const DATAGRAM_OVERHEAD_BYTES: usize = 832;

/// Where ports chosen by the network begin, as in the kernel's ephemeral range.
const EPHEMERAL_PORT_FIRST: u16 = 32_768;

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    segment_bytes: usize,
    from: SocketAddr,
}

impl Batch {
    fn datagrams(&self) -> usize {
        self.bytes.len().div_ceil(self.segment_bytes).max(1)
    }

    fn charge_bytes(&self) -> usize {
        self.bytes.len() + self.datagrams() * DATAGRAM_OVERHEAD_BYTES
    }
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    charged_bytes: usize,
    dropped_datagrams: u64,
}

#[derive(Debug, Default)]
struct Switch {
    queues: HashMap<SocketAddr, Queue>,
    spare: Vec<Vec<u8>>,
}

impl Switch {
    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], segment_bytes: usize) {
        let Some(queue) = self.queues.get_mut(&to) else {
            return;
        };
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        let batch = Batch { bytes: copy, segment_bytes, from };
        let charge_bytes = batch.charge_bytes();
        if queue.charged_bytes + charge_bytes > QUEUE_BYTES_MAX {
            queue.dropped_datagrams += batch.datagrams() as u64;
            self.spare.push(batch.bytes);
            return;
        }
        queue.charged_bytes += charge_bytes;
        queue.batches.push_back(batch);
    }

    fn take(&mut self, at: SocketAddr) -> Option<Batch> {
        let queue = self.queues.get_mut(&at)?;
        let batch = queue.batches.pop_front()?;
        queue.charged_bytes -= batch.charge_bytes();
        Some(batch)
    }
}

/// A network to bind [`MemoryDriver`]s on; clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    switch: Rc<RefCell<Switch>>,
}

impl MemoryNetwork {
    /// A network with nobody on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A driver reached at `address` (port 0: the network chooses one) until it is dropped.
    ///
    /// # Errors
    /// [`BindError::AddressInUse`] when another driver holds the address, or no port is left.
    pub fn bind(&self, address: SocketAddr) -> Result<MemoryDriver, BindError> {
        let mut switch = self.switch.borrow_mut();
        let local = if address.port() == 0 {
            (EPHEMERAL_PORT_FIRST..=u16::MAX)
                .map(|port| SocketAddr::new(address.ip(), port))
                .find(|candidate| !switch.queues.contains_key(candidate))
                .ok_or(BindError::AddressInUse { address })?
        } else {
            address
        };
        if switch.queues.contains_key(&local) {
            return Err(BindError::AddressInUse { address });
        }
        switch.queues.insert(local, Queue::default());
        Ok(MemoryDriver {
            switch: Rc::clone(&self.switch),
            local,
            wake: WakeState::without_event(),
            stats: DriverStats::default(),
        })
    }
}

/// One address on a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryDriver {
    switch: Rc<RefCell<Switch>>,
    local: SocketAddr,
    wake: WakeState,
    stats: DriverStats,
}

impl Driver for MemoryDriver {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn recv(
        &mut self,
        batches_max: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let mut batches = 0;
        while batches < batches_max {
            self.stats.recv_calls += 1;
            // The switch is free again before the sink runs, which may well send.
            let taken = self.switch.borrow_mut().take(self.local);
            let Some(mut batch) = taken else { break };
            batches += 1;
            self.stats.recv_batches += 1;
            self.stats.recv_datagrams += batch.datagrams() as u64;
            self.stats.recv_bytes += batch.bytes.len() as u64;
            let Batch { bytes, segment_bytes, from } = &mut batch;
            let port = Port::Shared;
            sink(Received { bytes, segment_bytes: *segment_bytes, from: *from, port });
            self.switch.borrow_mut().spare.push(batch.bytes);
        }
        Ok(batches)
    }

    /// As a socket does; a receiver that is not there or is full is no error.
    fn send(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<SendStatus> {
        let segment_bytes = if segment_bytes == 0 { bytes.len() } else { segment_bytes };
        let segment_bytes = segment_bytes.min(bytes.len()).max(1);
        let datagrams = bytes.len().div_ceil(segment_bytes).max(1);
        if bytes.len() > SEND_RUN_BYTES_MAX || datagrams > SEND_RUN_SEGMENTS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "one send carries at most 64 datagrams and 65,507 bytes: cut it in several",
            ));
        }
        self.stats.send_calls += 1;
        self.stats.send_datagrams += datagrams as u64;
        self.stats.send_bytes += bytes.len() as u64;
        self.switch.borrow_mut().deliver(self.local, to, bytes, segment_bytes);
        Ok(SendStatus::Sent)
    }

    /// Never sleeps: hands over what is there and returns; whoever simulates advances the time.
    fn wait(
        &mut self,
        _deadline_nanos: Option<u64>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        self.stats.waits += 1;
        self.stats.wakes += u64::from(self.wake.unpark());
        self.recv(usize::MAX, sink)
    }

    fn waker(&self) -> DriverWaker {
        self.wake.waker()
    }

    fn stats(&self) -> DriverStats {
        let switch = self.switch.borrow();
        let kernel_drops =
            switch.queues.get(&self.local).map_or(0, |queue| queue.dropped_datagrams);
        DriverStats { kernel_drops, ..self.stats }
    }

    fn buffers(&self) -> SocketBuffers {
        SocketBuffers {
            recv_bytes: QUEUE_BYTES_MAX,
            send_bytes: QUEUE_BYTES_MAX,
            recv_requested_bytes: QUEUE_BYTES_MAX / 2,
            send_requested_bytes: QUEUE_BYTES_MAX / 2,
        }
    }
}

impl Drop for MemoryDriver {
    fn drop(&mut self) {
        self.switch.borrow_mut().queues.remove(&self.local);
    }
}

#[cfg(test)]
mod tests {
    use super::{MemoryDriver, MemoryNetwork};
    use crate::driver::Driver;
    use crate::socket::{BindError, SendStatus};

    fn pair() -> (MemoryNetwork, MemoryDriver, MemoryDriver) {
        let network = MemoryNetwork::new();
        let first = network.bind("192.0.2.1:1".parse().expect("address")).expect("free");
        let second = network.bind("192.0.2.2:0".parse().expect("address")).expect("free");
        (network, first, second)
    }

    #[test]
    fn a_run_arrives_with_its_segment_size_and_sender() {
        let (_network, mut first, mut second) = pair();
        let sent = first.send(second.local_addr(), &[7; 250], 100).expect("send");
        assert_eq!(sent, SendStatus::Sent);
        let mut seen = Vec::new();
        let batches = second
            .wait(None, &mut |received| {
                seen.push((received.bytes.len(), received.segment_bytes, received.from));
            })
            .expect("wait");
        assert_eq!((batches, seen), (1, vec![(250, 100, first.local_addr())]));
        assert_eq!(second.stats().recv_datagrams, 3);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (_network, mut first, mut second) = pair();
        for _ in 0..200 {
            let _ = first.send(second.local_addr(), &vec![0; 60_000], 0).expect("send");
        }
        let received = second.recv(usize::MAX, &mut |_| {}).expect("recv") as u64;
        assert!(received > 0 && second.stats().kernel_drops > 0);
        assert_eq!(received + second.stats().kernel_drops, 200);
    }

    #[test]
    fn an_address_is_held_until_its_driver_is_dropped() {
        let (network, first, _second) = pair();
        let address = first.local_addr();
        assert!(matches!(network.bind(address), Err(BindError::AddressInUse { .. })));
        drop(first);
        assert_eq!(network.bind(address).expect("free again").local_addr(), address);
    }

    #[test]
    fn a_sink_may_send() {
        let (_network, mut first, mut second) = pair();
        let (to_first, to_second) = (first.local_addr(), second.local_addr());
        let _ = first.send(to_second, b"ping", 0).expect("send");
        let mut third = first;
        let batches = second
            .recv(8, &mut |received| {
                assert_eq!(
                    third.send(to_first, received.bytes, 0).expect("send"),
                    SendStatus::Sent
                );
            })
            .expect("recv");
        assert_eq!(batches, 1);
        assert_eq!(third.recv(8, &mut |_| {}).expect("recv"), 1);
    }
}
