//! The ceiling: the fastest that two processes of this machine can move sealed, framed messages
//! over UDP, with a window and without any reliability.
//!
//! What it does per message: the caller writes the body and a sequence tag behind a 4-byte frame
//! header; the receiver reads the frame and checks the tag. Per datagram: one AEAD seal and open.
//! Per run of datagrams: one GSO send, one GRO receive. Same socket options and pins as Cubed; no
//! code of Cubed's transport. Bodies above a datagram are copied whole at the receiver.
//!
//! The same loop without its parts is what lies below the ceiling: [`Form`].

pub mod frame;
pub mod receiver;
pub mod seal;
pub mod sender;

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use cubed::runtime::socket::{SocketOptions, UdpSocket};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    error::{BenchError, Result},
    machine::{self, Cores},
    meter::Meter,
    process::PeerProcess,
    subject::{ThroughputSlice, ThroughputSubject},
};
use frame::{FRAME_BYTES, HEADER_BYTES};
use receiver::{ReceiveCounts, ReceiveOrder, Receiver};
use seal::{Seal, Suite, TAG_BYTES};
use sender::{SendCounts, Sender, SliceOrder};

/// Windows tried, in datagrams; the best is kept.
pub const WINDOWS: [u64; 4] = [256, 512, 1024, 2048];

/// Largest body, in bytes.
pub const SIZE_BYTES_MAX: usize = 64 << 20;

/// Smallest datagram: header, tag, and room for a frame header and some of its body.
pub const DATAGRAM_BYTES_MIN: usize = 64;

/// Largest datagram: the longest UDP payload over IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Length of one calibration slice of one window.
const CALIBRATION_SLICE: Duration = Duration::from_millis(120);

/// Calibration slices of each window; the fastest counts, since a disturbance only slows.
const CALIBRATION_ROUNDS: usize = 2;

/// Sent before each slice and left out of it, as before those of Cubed.
const WARM_UP: Duration = Duration::from_millis(50);

/// Name of the hidden sub-command that runs the receiving process.
pub const PEER_COMMAND: &str = "peer-ceiling";

/// What of the ceiling's work the loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Sealed,
    /// All but the AEAD: UDP with GSO and GRO.
    Clear,
    /// A datagram for each message (or each part of one that is longer than a datagram), each sent and received by a call of its
    /// own, in clear: plain UDP.
    Single,
}

impl Form {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealed => "ceiling",
            Self::Clear => "UDP GSO/GRO",
            Self::Single => "plain UDP",
        }
    }

    fn suite(self) -> Suite {
        if self == Self::Sealed { Suite::of_this_machine() } else { Suite::Clear }
    }

    /// Length of its datagrams, where full ones have `datagram_bytes`.
    fn datagram_bytes(self, size_bytes: usize, datagram_bytes: usize) -> usize {
        if self == Self::Single {
            datagram_bytes.min(HEADER_BYTES + FRAME_BYTES + size_bytes + TAG_BYTES)
        } else {
            datagram_bytes
        }
    }
}

/// The ceiling for one message and datagram size: a peer process and a window that suits it.
#[derive(Debug)]
pub struct Ceiling {
    form: Form,
    peer: PeerProcess,
    socket: UdpSocket,
    cores: Cores,
    suite: Suite,
    size_bytes: usize,
    datagram_bytes: usize,
    window: u64,
    slices: u32,
    random: SystemRandom,
    meter: Option<Meter>,
}

impl Ceiling {
    /// Starts the receiving process and picks the best window in short slices (about one second).
    ///
    /// # Errors
    ///
    /// `Argument` outside [`SIZE_BYTES_MAX`], [`DATAGRAM_BYTES_MIN`] and [`DATAGRAM_BYTES_MAX`];
    /// else those of the process and the sockets.
    pub fn start(size_bytes: usize, datagram_bytes: usize) -> Result<Self> {
        Self::start_as(Form::Sealed, size_bytes, datagram_bytes)
    }

    /// As [`Ceiling::start`], of this form.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_as(form: Form, size_bytes: usize, datagram_bytes: usize) -> Result<Self> {
        check_limits(size_bytes, datagram_bytes)?;
        let cores = Cores::choose()?;
        let mut arguments = vec![PEER_COMMAND.to_owned(), "--core".into()];
        arguments.push(cores.receiver.to_string());
        if cores.are_shared() {
            arguments.push("--shares-core".into());
        }
        if form == Form::Single {
            arguments.push("--no-gro".into());
        }
        let mut ceiling = Self {
            form,
            peer: PeerProcess::start(&arguments)?,
            socket: bind(&SocketOptions::default())?,
            cores,
            suite: form.suite(),
            size_bytes,
            datagram_bytes: form.datagram_bytes(size_bytes, datagram_bytes),
            window: WINDOWS[0],
            slices: 0,
            random: SystemRandom::new(),
            meter: None,
        };
        ceiling.calibrate()?;
        Ok(ceiling)
    }

    /// Tells `meter` of every slice from here on, if there is one: of what was sent, since the receiver says what arrived only at the end.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// Datagrams in flight that the calibration chose.
    pub fn window(&self) -> u64 {
        self.window
    }

    fn calibrate(&mut self) -> Result<()> {
        let mut best = (0.0, WINDOWS[0]);
        for window in (0..CALIBRATION_ROUNDS).flat_map(|_| WINDOWS) {
            self.window = window;
            let rate = self.measure(CALIBRATION_SLICE)?.messages_per_second();
            if rate > best.0 {
                best = (rate, window);
            }
        }
        self.window = best.1;
        Ok(())
    }

    fn measure(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let mut key = vec![0; self.suite.key_bytes()];
        self.random
            .fill(&mut key)
            .map_err(|_| BenchError::Machine("the system gave no random bytes".into()))?;
        let seal = Seal::new(self.suite, &key)?;
        self.slices += 1;
        let order = SliceOrder {
            slice: self.slices,
            size_bytes: self.size_bytes,
            datagram_bytes: self.datagram_bytes,
            window: self.window,
            offload: self.form != Form::Single,
            shares_core: self.cores.are_shared(),
        };
        self.peer.begin(&ReceiveOrder {
            slice: self.slices,
            size_bytes: self.size_bytes,
            suite: self.suite,
            key,
            progress_every: self.window / 4,
        })?;
        let sent = self.send(&seal, order, duration)?;
        let received = self.peer.end()?;
        checked_slice(self.size_bytes, &sent, &received)
    }

    /// Runs the sender on a pinned thread of its own, so that the caller's thread stays as it is.
    fn send(&mut self, seal: &Seal, order: SliceOrder, duration: Duration) -> Result<SendCounts> {
        let (socket, to, core) = (&mut self.socket, self.peer.address(), self.cores.sender);
        let meter = self.meter.as_ref();
        let sender = move || {
            machine::pin(core)?;
            let _open = meter.map(Meter::open);
            Sender::new(socket, to, seal, order)
                .watched(meter)
                .run(duration)
                .map_err(BenchError::system("send to the ceiling's receiver"))
        };
        thread::scope(|scope| scope.spawn(sender).join())
            .map_err(|_| BenchError::Peer("the ceiling's sender panicked".into()))?
    }
}

impl ThroughputSubject for Ceiling {
    fn name(&self) -> &'static str {
        self.form.name()
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let meter = self.meter.take();
        let warmed_up = self.measure(WARM_UP);
        self.meter = meter;
        warmed_up?;
        self.measure(duration)
    }
}

/// Runs the receiving process until its stdin closes: the body of the hidden sub-command.
///
/// # Errors
///
/// Those of the socket and of the control channel.
pub fn run_peer(core: usize, shares_core: bool, gro: bool) -> Result<()> {
    let socket = bind(&SocketOptions { gro, ..SocketOptions::default() })?;
    let address = socket.local_addr();
    crate::peer::serve(&mut Receiver::new(socket, core, shares_core), address, None)
}

fn bind(options: &SocketOptions) -> Result<UdpSocket> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    UdpSocket::bind(address, options).map_err(|error| BenchError::Machine(error.to_string()))
}

fn check_limits(size_bytes: usize, datagram_bytes: usize) -> Result<()> {
    if size_bytes > SIZE_BYTES_MAX {
        return Err(BenchError::Argument(format!(
            "--size {size_bytes}: at most {SIZE_BYTES_MAX} bytes"
        )));
    }
    if !(DATAGRAM_BYTES_MIN..=DATAGRAM_BYTES_MAX).contains(&datagram_bytes) {
        return Err(BenchError::Argument(format!(
            "--datagram {datagram_bytes}: between {DATAGRAM_BYTES_MIN} and {DATAGRAM_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Joins the two sides' counts; an error when the receiver counted what was not sent.
fn checked_slice(
    size_bytes: usize,
    sent: &SendCounts,
    received: &ReceiveCounts,
) -> Result<ThroughputSlice> {
    let invented = received.next_message > sent.messages || received.delivered > sent.messages;
    if invented || received.duplicated > 0 || received.datagrams > sent.datagrams {
        return Err(BenchError::Corrupt(format!("sent {sent:?}, but received {received:?}")));
    }
    Ok(ThroughputSlice {
        seconds: received.seconds,
        sent: sent.messages,
        delivered: received.delivered,
        duplicated: received.duplicated,
        size_bytes: size_bytes as u64,
        datagrams: sent.datagrams,
        sends: sent.sends,
    })
}

const _: () = assert!(DATAGRAM_BYTES_MIN > HEADER_BYTES + FRAME_BYTES + TAG_BYTES);

// A window holds two runs of 64 datagrams, so that one can be filled while one is in flight, and
// progress comes at every quarter of it.
const _: () = assert!(WINDOWS[0] >= 4 * 64);

#[cfg(test)]
mod tests {
    //! Goal: counts that cannot be true void the measurement; limits are named.
    use super::*;

    const SENT: SendCounts = SendCounts { messages: 100, datagrams: 10, sends: 1, stalls: 0 };

    fn received(delivered: u64, next_message: u64, duplicated: u64) -> ReceiveCounts {
        let seconds = 1.0;
        let datagrams = 10;
        ReceiveCounts {
            seconds,
            delivered,
            duplicated,
            next_message,
            datagrams,
            ..ReceiveCounts::default()
        }
    }

    #[test]
    fn a_loss_is_counted() {
        let slice = checked_slice(64, &SENT, &received(90, 100, 0)).unwrap();
        assert_eq!((slice.sent, slice.delivered, slice.lost()), (100, 90, 10));
    }

    #[test]
    fn invented_or_doubled_messages_void_the_slice() {
        for wrong in [received(101, 100, 0), received(90, 101, 0), received(90, 100, 1)] {
            let result = checked_slice(64, &SENT, &wrong);
            assert!(matches!(result, Err(BenchError::Corrupt(_))), "{wrong:?}");
        }
    }

    #[test]
    fn plain_udp_has_a_datagram_for_each_message() {
        assert_eq!(Form::Single.datagram_bytes(64, 1452), 100);
        assert_eq!(Form::Single.datagram_bytes(65_536, 1452), 1452);
        assert_eq!(Form::Clear.datagram_bytes(64, 1452), 1452);
        assert_eq!(
            (Form::Clear.suite(), Form::Sealed.suite()),
            (Suite::Clear, Suite::of_this_machine())
        );
    }

    #[test]
    fn limits_name_the_flag() {
        let text = check_limits(SIZE_BYTES_MAX + 1, 1452).unwrap_err().to_string();
        assert!(text.contains("--size"), "{text}");
        for datagram in [0, 63, 65_508] {
            let text = check_limits(64, datagram).unwrap_err().to_string();
            assert!(text.contains("--datagram"), "{text}");
        }
    }
}
