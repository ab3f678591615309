//! The relay's sockets and threads: one for clients, one per upstream socket, one that sends what was held back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::impairment::{Counts, Impairment, Plan};

/// How often a thread that waits for datagrams looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Buffers asked of the kernel, so that the relay drops nothing by itself.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams held back at once, at most; more are dropped as lost.
const HELD_MAX: usize = 100_000;

/// A running relay. It stops when dropped.
pub struct Relay {
    shared: Arc<Shared>,
    local: SocketAddr,
}

struct Shared {
    listener: UdpSocket,
    node: SocketAddr,
    state: Mutex<State>,
    /// Something was held back, or the relay stops.
    held_changed: Condvar,
    is_stopping: AtomicBool,
}

struct State {
    impairment: Impairment,
    begun: Option<Instant>,
    clients: HashMap<SocketAddr, Arc<Upstream>>,
    held: BinaryHeap<Reverse<Held>>,
    /// Orders what is held for the same moment, and makes every key unique.
    held_count: u64,
    rebinds_done: usize,
}

/// One client's socket towards the node.
struct Upstream {
    socket: UdpSocket,
    client: SocketAddr,
    /// Another one has taken its place.
    is_replaced: AtomicBool,
}

#[derive(Clone)]
enum Direction {
    ToNode(Arc<Upstream>),
    ToClient(SocketAddr),
}

struct Held {
    due: Instant,
    order: u64,
    direction: Direction,
    bytes: Vec<u8>,
}

impl Relay {
    /// Listens on a free port of loopback and forwards to `node`.
    ///
    /// # Errors
    ///
    /// The system's, when a socket or a thread is refused.
    pub fn start(node: SocketAddr, plan: Plan, seed: u64) -> io::Result<Self> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let local = listener.local_addr()?;
        let state = State {
            impairment: Impairment::new(plan, seed),
            begun: None,
            clients: HashMap::new(),
            held: BinaryHeap::new(),
            held_count: 0,
            rebinds_done: 0,
        };
        let shared = Arc::new(Shared {
            listener,
            node,
            state: Mutex::new(state),
            held_changed: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        });
        let (for_clients, for_held) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::Builder::new().spawn(move || for_clients.serve_clients())?;
        thread::Builder::new().spawn(move || for_held.send_held())?;
        Ok(Self { shared, local })
    }

    /// Where clients send to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Cuts the path, or opens it again as far as the schedule does.
    pub fn set_cut(&self, is_cut: bool) {
        self.shared.lock().impairment.is_cut = is_cut;
    }

    /// Gives every client another port towards the node. The old ports are closed.
    ///
    /// # Errors
    ///
    /// The system's, when a socket is refused.
    pub fn rebind(&self) -> io::Result<()> {
        self.shared.rebind(&mut self.shared.lock())
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().impairment.counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.shared.held_changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    fn serve_clients(self: &Arc<Self>) {
        let mut buffer = vec![0; 65_536];
        while !self.is_stopping() {
            let Ok((bytes, from)) = self.listener.recv_from(&mut buffer) else { continue };
            let mut state = self.lock();
            let Ok(upstream) = self.upstream(&mut state, from) else { continue };
            self.take(&mut state, &Direction::ToNode(upstream), &mut buffer[..bytes]);
        }
    }

    fn serve_node(self: &Arc<Self>, upstream: &Upstream) {
        let mut buffer = vec![0; 65_536];
        while !self.is_stopping() && !upstream.is_replaced.load(Ordering::Relaxed) {
            let Ok(bytes) = upstream.socket.recv(&mut buffer) else { continue };
            let mut state = self.lock();
            // Read again under the lock: what reaches an old port after the change is nobody's.
            if !upstream.is_replaced.load(Ordering::Relaxed) {
                let direction = Direction::ToClient(upstream.client);
                self.take(&mut state, &direction, &mut buffer[..bytes]);
            }
        }
    }

    /// The socket of a client, opened when it is first heard of; changes of port that are due happen before.
    fn upstream(
        self: &Arc<Self>,
        state: &mut State,
        client: SocketAddr,
    ) -> io::Result<Arc<Upstream>> {
        let elapsed = state.elapsed();
        let due = state.impairment.rebinds_due(elapsed);
        while state.rebinds_done < due {
            state.rebinds_done += 1;
            self.rebind(state)?;
        }
        if let Some(upstream) = state.clients.get(&client) {
            return Ok(Arc::clone(upstream));
        }
        state.impairment.counts.clients += 1;
        let upstream = self.open(client)?;
        state.clients.insert(client, Arc::clone(&upstream));
        Ok(upstream)
    }

    fn open(self: &Arc<Self>, client: SocketAddr) -> io::Result<Arc<Upstream>> {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        socket.connect(self.node)?;
        let is_replaced = AtomicBool::new(false);
        let upstream = Arc::new(Upstream { socket, client, is_replaced });
        let (shared, own) = (Arc::clone(self), Arc::clone(&upstream));
        thread::Builder::new().spawn(move || shared.serve_node(&own))?;
        Ok(upstream)
    }

    fn rebind(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let clients: Vec<SocketAddr> = state.clients.keys().copied().collect();
        for client in clients {
            // The old socket stays open until the new one has its port, which so is another one.
            let upstream = self.open(client)?;
            if let Some(old) = state.clients.insert(client, upstream) {
                old.is_replaced.store(true, Ordering::Relaxed);
            }
            state.impairment.counts.rebound += 1;
        }
        Ok(())
    }

    /// Lets a datagram have its fate.
    fn take(&self, state: &mut State, direction: &Direction, bytes: &mut [u8]) {
        let elapsed = state.elapsed();
        for passage in state.impairment.judge(elapsed, bytes.len()).into_iter().flatten() {
            let flip = |bytes: &mut [u8]| {
                if let Some(bit) = passage.flipped_bit {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            };
            flip(bytes);
            if passage.after.is_zero() {
                self.send(state, direction, bytes);
            } else if state.held.len() < HELD_MAX {
                state.hold(passage.after, direction.clone(), bytes.to_vec());
                self.held_changed.notify_all();
            } else {
                state.impairment.counts.lost += 1;
            }
            flip(bytes);
        }
    }

    fn send(&self, state: &mut State, direction: &Direction, bytes: &[u8]) {
        let sent = match direction {
            Direction::ToNode(upstream) => upstream.socket.send(bytes),
            Direction::ToClient(client) => self.listener.send_to(bytes, client),
        };
        match sent {
            Ok(_) => state.impairment.counts.sent += 1,
            Err(_) => state.impairment.counts.send_errors += 1,
        }
    }

    /// Sends what was held back when its time has come.
    fn send_held(&self) {
        let mut state = self.lock();
        while !self.is_stopping() {
            let now = Instant::now();
            let next = state.held.peek().map(|Reverse(held)| held.due);
            if next.is_some_and(|due| due <= now) {
                if let Some(Reverse(held)) = state.held.pop() {
                    self.send(&mut state, &held.direction, &held.bytes);
                }
                continue;
            }
            let pause = next.map_or(LOOK_INTERVAL, |due| due - now);
            let waited = self.held_changed.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// How long ago the first datagram came.
    fn elapsed(&mut self) -> Duration {
        self.begun.get_or_insert_with(Instant::now).elapsed()
    }

    fn hold(&mut self, after: Duration, direction: Direction, bytes: Vec<u8>) {
        self.held_count += 1;
        let (due, order) = (Instant::now() + after, self.held_count);
        self.held.push(Reverse(Held { due, order, direction, bytes }));
    }
}

impl Held {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.order)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
