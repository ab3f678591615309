//! Hellos: what anybody may make a shard work for, and how much of its time they get.
//!
//! They come by the driver's side socket. A batch is steered by its first datagram, though, so a sender can put hellos behind
//! another datagram, and they come with the traffic. Always holds: where there is a side socket, no hello is handled but by
//! [`Hellos::take`]; of those that came with the traffic a few wait for it, and the rest are dropped and counted, since an
//! honest dialler repeats. After a portion the shard rests from hellos for fifteen times as long as they took, unless it has
//! nothing else to do.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use cubed_runtime::{Driver, Port, Received};
use cubed_transport::handshake::Kind;
use cubed_transport::time::Instant;

use crate::limits::{HELLOS_LOOK_INTERVAL, HELLOS_PER_TURN_MAX, HELLOS_QUEUED_MAX, HELLOS_REST};

/// A datagram that waits: who sent it, and its bytes.
type Queued = (SocketAddr, Vec<u8>);

/// The hellos of one shard.
pub(crate) struct Hellos {
    /// There is a side socket for them.
    are_apart: bool,
    /// When to take some although the shard has other work.
    due_at: Instant,
    /// Those that came with the traffic.
    queued: VecDeque<Queued>,
    spare: Vec<Vec<u8>>,
    counters: HelloCounters,
}

/// What one shard has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HelloCounters {
    pub(crate) queued: u64,
    pub(crate) dropped: u64,
}

impl Hellos {
    pub(crate) fn new(are_apart: bool) -> Self {
        Self {
            are_apart,
            due_at: Instant::default(),
            queued: VecDeque::with_capacity(HELLOS_QUEUED_MAX),
            spare: Vec::new(),
            counters: HelloCounters::default(),
        }
    }

    /// Whether this datagram of the traffic is a hello and is not to be handled there; it then waits, or is dropped.
    #[inline]
    pub(crate) fn set_aside(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_hello = self.are_apart && datagram.first() == Some(&(Kind::Hello as u8));
        if is_hello {
            self.queue(from, datagram);
        }
        is_hello
    }

    #[cold]
    fn queue(&mut self, from: SocketAddr, datagram: &[u8]) {
        if self.queued.len() == HELLOS_QUEUED_MAX {
            self.counters.dropped += 1;
            return;
        }
        self.counters.queued += 1;
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.queued.push_back((from, bytes));
    }

    /// Whether it is their turn: at once when the shard has nothing else to do and some are known to wait, else from time to
    /// time.
    #[inline]
    pub(crate) fn are_due(&self, driver: &impl Driver, is_idle: bool, now: Instant) -> bool {
        now >= self.due_at || (is_idle && (driver.is_side_pending() || !self.queued.is_empty()))
    }

    /// Gives a few to `sink`, those that wait here first; how many there were.
    ///
    /// # Errors
    ///
    /// The system's, when the side socket is broken.
    pub(crate) fn take(
        &mut self,
        driver: &mut impl Driver,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let mut count = 0;
        while let Some((from, mut bytes)) = self.queued.pop_front() {
            count += 1;
            let segment_bytes = bytes.len().max(1);
            // What port it came to is in the address already.
            sink(Received { bytes: &mut bytes, segment_bytes, from, port: Port::Shared });
            self.spare.push(bytes);
        }
        Ok(count + driver.recv_side(HELLOS_PER_TURN_MAX - count, sink)?)
    }

    /// Begins the rest after a portion that took from `begun` to `ended`.
    pub(crate) fn rest(&mut self, driver: &impl Driver, begun: Instant, ended: Instant) {
        let spent = ended.saturating_duration_since(begun);
        let is_over = !driver.is_side_pending();
        let rest = if is_over { HELLOS_LOOK_INTERVAL } else { spent * HELLOS_REST };
        self.due_at = ended + rest;
    }

    pub(crate) fn counters(&self) -> HelloCounters {
        self.counters
    }
}

// Half a portion at least is left to the side socket.
const _: () = assert!(HELLOS_QUEUED_MAX <= HELLOS_PER_TURN_MAX / 2);

#[cfg(test)]
mod tests {
    //! Goal: hellos get their portion and no more, wherever they came from, and a shard with other work rests from them.
    use std::time::Duration;

    use cubed_runtime::{DriverKind, GroupOptions, SideOptions, SocketGroup, SystemDriver};

    use super::*;

    const HELLO: u8 = Kind::Hello as u8;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn from() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], 9))
    }

    /// A driver with a side socket at which so many hellos wait.
    fn driver(hellos: u8) -> SystemDriver {
        let side = SideOptions { first_byte: HELLO, recv_buffer_bytes: 128 << 10 };
        let options = GroupOptions { side: Some(side), ..GroupOptions::default() };
        let mut group = SocketGroup::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &options);
        let member = group.as_mut().expect("a group").members.remove(0);
        let driver = SystemDriver::open(DriverKind::Epoll, member.main, member.side);
        let driver = driver.expect("a driver");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        for number in 0..hellos {
            sender.send_to(&[HELLO, 0, number], driver.local_addr()).expect("send");
        }
        driver
    }

    fn take(hellos: &mut Hellos, driver: &mut SystemDriver) -> Vec<u8> {
        let mut seen = Vec::new();
        let count = hellos.take(driver, &mut |hello| seen.push(hello.bytes[2])).expect("take");
        assert_eq!(count, seen.len());
        seen
    }

    #[test]
    fn of_those_among_the_traffic_a_few_wait_and_the_rest_are_counted() {
        let (mut hellos, mut driver) = (Hellos::new(true), driver(20));
        for number in 100..110 {
            assert!(hellos.set_aside(from(), &[HELLO, 0, number]));
            assert!(!hellos.set_aside(from(), &[0x40, 0, number]), "no hello");
        }
        assert!(!hellos.set_aside(from(), &[]));
        let queued = HELLOS_QUEUED_MAX as u64;
        assert_eq!(hellos.counters(), HelloCounters { queued, dropped: 10 - queued });
        assert_eq!(take(&mut hellos, &mut driver), [100, 101, 102, 103, 0, 1, 2, 3]);
        assert_eq!(take(&mut hellos, &mut driver), (4..12).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_socket_of_their_own_they_stay_in_the_traffic() {
        assert!(!Hellos::new(false).set_aside(from(), &[HELLO, 0, 0]));
    }

    #[test]
    fn a_shard_with_other_work_rests_fifteen_times_as_long_as_they_took() {
        let (mut hellos, mut driver) = (Hellos::new(true), driver(20));
        take(&mut hellos, &mut driver);
        hellos.rest(&driver, at(1_000), at(1_002));
        let until = at(1_002) + Duration::from_millis(2) * HELLOS_REST;
        assert!(hellos.are_due(&driver, true, at(1_002)), "an idle one goes on");
        assert!(!hellos.are_due(&driver, false, at(1_031)));
        assert!(hellos.are_due(&driver, false, until));
        while !take(&mut hellos, &mut driver).is_empty() {}
        hellos.rest(&driver, until, until);
        assert!(!hellos.are_due(&driver, true, until), "there are none");
        assert!(hellos.are_due(&driver, false, until + HELLOS_LOOK_INTERVAL), "there may be some");
        hellos.set_aside(from(), &[HELLO, 0, 0]);
        assert!(hellos.are_due(&driver, true, until), "one waits here");
    }
}
