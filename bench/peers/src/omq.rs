//! OMQ (crate omq-tokio): PUSH/PULL and REQ/REP over TCP, TCP with CURVE and QUIC; SCATTER/GATHER and CLIENT/SERVER over Dart, its
//! reliable UDP. Each process is one thread with tokio.
//!
//! Options differ from the defaults where its own benchmarks do: 4 MiB of socket buffer for QUIC and Dart, a payload pool and LAN
//! mode for Dart. It sends at once what it takes at once and awaits the rest, as they do.

use std::{collections::VecDeque, future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};
use omq_tokio::{
    Context, CurveKeypair, CurvePublicKey, DartCongestion, Endpoint, Error, Message, Options,
    PayloadPool, Socket, SocketType, TrySendError, message::MAX_INLINE_MESSAGE,
    options::WorkloadProfile,
};

use crate::text;

/// How long a socket that is closed goes on sending; also the longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// What its benchmarks ask for; the kernel grants at most `net.core.rmem_max`.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bytes of a payload pool, and its slots at most.
const POOL_BYTES: usize = 64 << 20;
const POOL_SLOTS_MAX: usize = 8192;
/// Messages taken before the runtime's other tasks have a turn.
const TURN_MESSAGES: usize = 128;
const NAME: &str = "localhost";

/// One of OMQ's transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Omq {
    Tcp,
    Curve,
    Quic,
    Dart,
}

impl Omq {
    /// The way of this name.
    pub(crate) fn new(way: &str) -> Option<Self> {
        match way {
            "tcp" => Some(Self::Tcp),
            "curve" => Some(Self::Curve),
            "quic" => Some(Self::Quic),
            "dart" => Some(Self::Dart),
            _ => None,
        }
    }
}

impl Sides for Omq {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        run(async {
            let kind = if *self == Self::Dart { SocketType::Gather } else { SocketType::Pull };
            let socket = self.bind(kind, meter.size(), ready).await?;
            loop {
                for _ in 0..TURN_MESSAGES {
                    if !meter.take(body_of(&next(&socket).await?)?) {
                        return Ok(socket.close().await?);
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        run(async {
            let kind = if *self == Self::Dart { SocketType::Scatter } else { SocketType::Push };
            let socket = self.connect(kind, load.size(), address).await?;
            let mut bodies = Bodies::new(load.size());
            while let Some(message) = bodies.next(|body| load.fill(body)) {
                match socket.try_send(message) {
                    Ok(()) => {}
                    Err(TrySendError::Full(message)) => socket.send(message).await?,
                    Err(error) => return Err(error.to_string().into()),
                }
            }
            Ok(socket.close().await?)
        })
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        run(async {
            let kind = if *self == Self::Dart { SocketType::Server } else { SocketType::Rep };
            let socket = self.bind(kind, 64, ready).await?;
            loop {
                let message = socket.recv().await?;
                let was_last = is_last(body_of(&message)?);
                socket.send(message).await?;
                if was_last {
                    return Ok(socket.close().await?);
                }
            }
        })
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        run(async {
            let kind = if *self == Self::Dart { SocketType::Client } else { SocketType::Req };
            let socket = self.connect(kind, exchange.size(), address).await?;
            let mut bodies = Bodies::new(exchange.size());
            while let Some(message) = bodies.next(|body| exchange.ask(body)) {
                socket.send(message).await?;
                exchange.answered(body_of(&socket.recv().await?)?);
            }
            Ok(socket.close().await?)
        })
    }
}

impl Omq {
    async fn bind(self, kind: SocketType, size: usize, ready: Ready<'_>) -> Outcome<Socket> {
        let mut options = self.options(kind, size)?;
        let mut secret = String::new();
        match self {
            Self::Curve => {
                let keys = CurveKeypair::generate();
                secret = keys.public.to_z85();
                options = options.curve_server(keys);
            }
            Self::Quic => {
                let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
                secret = text::to_hex(made.cert.pem().as_bytes());
                options.quic.server_cert_pem = Some(made.cert.pem().into());
                options.quic.server_key_pem = Some(made.signing_key.serialize_pem().into());
            }
            Self::Tcp | Self::Dart => {}
        }
        let socket = Context::current().socket(kind, options);
        let endpoint: Endpoint = format!("{}://127.0.0.1:0", self.scheme()).parse()?;
        ready(&format!("{};{secret}", socket.bind(endpoint).await?));
        Ok(socket)
    }

    async fn connect(self, kind: SocketType, size: usize, address: &str) -> Outcome<Socket> {
        let (endpoint, known) = address.split_once(';').ok_or("an address without its key part")?;
        let mut options = self.options(kind, size)?;
        match self {
            Self::Curve => {
                let key = CurvePublicKey::from_z85(known)?;
                options = options.curve_client(CurveKeypair::generate(), key);
            }
            Self::Quic => {
                options.quic.trust_pem = Some(text::from_hex(known)?);
                options.quic.trust_system = false;
                options.quic.server_name = Some(NAME.into());
            }
            Self::Tcp | Self::Dart => {}
        }
        let socket = Context::current().socket(kind, options);
        socket.connect(endpoint.parse::<Endpoint>()?).await?;
        socket.wait_connected(1, PATIENCE).await?;
        Ok(socket)
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Tcp | Self::Curve => "tcp",
            Self::Quic => "quic",
            Self::Dart => "dart",
        }
    }

    fn options(self, kind: SocketType, size: usize) -> Outcome<Options> {
        let mut options = Options::default().linger(PATIENCE);
        if matches!(self, Self::Quic | Self::Dart) {
            options.recv_buffer_size = Some(SOCKET_BUFFER_BYTES);
            options.send_buffer_size = Some(SOCKET_BUFFER_BYTES);
        }
        if self == Self::Dart {
            let is_one_way = matches!(kind, SocketType::Scatter | SocketType::Gather);
            options.workload_profile = Some(if is_one_way {
                WorkloadProfile::Throughput
            } else {
                WorkloadProfile::Latency
            });
            options.recv_batching = is_one_way;
            options.dart.congestion = DartCongestion::Lan;
            if kind != SocketType::Scatter {
                let slots = (POOL_BYTES / size).min(POOL_SLOTS_MAX);
                options.recv_payload_pool = Some(PayloadPool::new([(size, slots)])?);
            }
        }
        Ok(options)
    }
}

fn run(side: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(side)
}

/// The next message: at once when there is one.
async fn next(socket: &Socket) -> Result<Message, Error> {
    match socket.try_recv() {
        Err(Error::WouldBlock) => socket.recv().await,
        other => other,
    }
}

fn body_of(message: &Message) -> Outcome<&[u8]> {
    Ok(message.part_slice(0).ok_or("a message without a part")?)
}

/// Bodies to send. Those that are not copied into the message go round, so that nothing is allocated when the transport keeps up.
struct Bodies {
    scratch: Vec<u8>,
    round: VecDeque<Bytes>,
}

impl Bodies {
    fn new(size: usize) -> Self {
        let count = if size > MAX_INLINE_MESSAGE { ((1 << 20) / size).clamp(64, 1024) } else { 0 };
        let round = (0..count).map(|_| Bytes::from(vec![0; size])).collect();
        Self { scratch: vec![0; size], round }
    }

    /// The next message, unless `fill` says that there is none.
    fn next(&mut self, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Message> {
        let Some(oldest) = self.round.pop_front() else {
            return fill(&mut self.scratch).then(|| Message::from_slice(&self.scratch));
        };
        // One that is still on its way is left to the transport, and another takes its place.
        let size = self.scratch.len();
        let mut body = oldest.try_into_mut().unwrap_or_else(|_| BytesMut::zeroed(size));
        if !fill(&mut body) {
            return None;
        }
        let body = body.freeze();
        self.round.push_back(body.clone());
        Some(Message::single(body))
    }
}
