//! Goal: whatever a call or a ring refuses for a while, a driver goes on, counts it, and overlooks nothing afterwards.

use super::system::{DriverKind, SystemDriver};
use super::tests::{SECOND, collect, driver_with_side, send, socket};
use super::uring::{UringDriver, UringOptions};
use super::{Driver, Received};
use crate::clock::Clock;
use crate::faults::{Call, Failure, Fault, clear, inject};
use crate::socket::{SendStatus, UdpSocket};

const BOTH: [DriverKind; 2] = [DriverKind::Uring, DriverKind::Epoll];

fn driver(kind: DriverKind) -> SystemDriver {
    SystemDriver::open(kind, socket("127.0.0.1:0"), None).expect("a driver")
}

fn ring(ring_buffers: u16, completions: u32) -> UringDriver {
    let options = UringOptions { ring_buffers, completions };
    UringDriver::new(socket("127.0.0.1:0"), options).expect("a ring")
}

fn fail(call: Call, errno: i32, one_in: u32) {
    inject(Fault { call, failure: Failure::Errno(errno), one_in });
}

fn soon() -> u64 {
    Clock::new().now_nanos() + SECOND / 100
}

/// Takes what a wait brings, as numbers.
fn wait_for_numbers(driver: &mut impl Driver, numbers: &mut Vec<u8>, deadline: Option<u64>) {
    let mut sink = |received: Received<'_>| numbers.extend_from_slice(received.bytes);
    driver.wait(deadline, &mut sink).expect("the driver goes on");
}

#[test]
fn refused_receives_leave_everything_for_later() {
    for kind in BOTH {
        for errno in [libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN] {
            let (mut driver, sender) = (driver(kind), socket("127.0.0.1:0"));
            fail(Call::Recv, errno, 1);
            for number in 0..10 {
                send(&sender, driver.local_addr(), &[number], 0);
                let nothing = &mut |_: Received<'_>| panic!("the call failed");
                assert_eq!(driver.recv(8, nothing).expect("no error"), 0);
            }
            assert_eq!(clear(), 10);
            let refusals = if errno == libc::EAGAIN { 0 } else { 10 };
            assert_eq!(driver.stats().memory_refusals, refusals);
            let numbers = collect(&mut driver, 10).concat();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_look_at_the_side_socket_that_is_refused_is_made_again() {
    for kind in BOTH {
        for errno in [libc::ENOMEM, libc::ENOBUFS] {
            let (mut driver, sender) = (driver_with_side(kind), socket("127.0.0.1:0"));
            let nothing = &mut |_: Received<'_>| panic!("nothing is there, or the call failed");
            assert_eq!(driver.recv_side(8, nothing).expect("no error"), 0);
            assert!(!driver.is_side_pending(), "found empty");
            send(&sender, driver.local_addr(), &[1], 0);
            while !driver.is_side_pending() {
                wait_for_numbers(&mut driver, &mut Vec::new(), None);
            }
            fail(Call::Recv, errno, 1);
            assert_eq!(driver.recv_side(8, nothing).expect("no error"), 0);
            assert_eq!((clear(), driver.stats().memory_refusals), (1, 1));
            // It was announced once and is not announced again.
            assert!(driver.is_side_pending(), "{kind} {errno}");
            assert_eq!(driver.recv_side(8, &mut |_| {}).expect("recv"), 1);
        }
    }
}

#[test]
fn a_sleep_that_is_refused_ends_early_and_overlooks_nothing() {
    for kind in BOTH {
        for errno in [libc::EINTR, libc::EAGAIN, libc::ENOMEM] {
            let (mut driver, sender) = (driver(kind), socket("127.0.0.1:0"));
            let mut numbers = Vec::new();
            fail(Call::Sleep, errno, 2);
            for number in 0..10 {
                send(&sender, driver.local_addr(), &[number], 0);
                wait_for_numbers(&mut driver, &mut numbers, Some(soon()));
            }
            // A wake is not overlooked either: without a deadline these waits would never end.
            for _ in 0..10 {
                driver.waker().wake();
                wait_for_numbers(&mut driver, &mut numbers, None);
            }
            assert!(clear() >= 5, "{kind} {errno}");
            while numbers.len() < 10 {
                let before = numbers.len();
                wait_for_numbers(&mut driver, &mut numbers, Some(soon()));
                assert!(numbers.len() > before, "{kind} {errno}: {before} of 10");
            }
            assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "{kind} {errno}");
        }
    }
}

#[test]
fn sends_without_room_are_turned_away_and_interrupted_ones_repeated() {
    let (receiver, sender) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let to = receiver.local_addr();
    for errno in [libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN] {
        fail(Call::Send, errno, 1);
        let refused = SendStatus::WouldBlock { sent_bytes: 0 };
        for (bytes, segment_bytes) in [(100, 0), (1_000, 100)] {
            assert_eq!(sender.send(to, &vec![7; bytes], segment_bytes).expect("send"), refused);
        }
        assert_eq!(clear(), 2);
    }
    fail(Call::Send, libc::EINTR, 2);
    send(&sender, to, &[7; 1_000], 100);
    send(&sender, to, &[7; 1_000], 100);
    assert_eq!(clear(), 1);
    assert_eq!(received(&receiver), 20);
}

/// How many datagrams there are to read.
fn received(socket: &UdpSocket) -> u64 {
    let mut buffer = vec![0; crate::buffers::RECV_BUFFER_BYTES];
    while socket.recv(&mut buffer).expect("recv").is_some() {}
    socket.stats().recv_datagrams
}

#[test]
fn a_completion_that_came_short_or_failed_costs_its_datagrams_and_no_buffer() {
    for failure in [Failure::Short(8), Failure::Short(100), Failure::Errno(libc::ENOMEM)] {
        let (mut driver, sender) = (ring(4, 128), socket("127.0.0.1:0"));
        let mut numbers = Vec::new();
        inject(Fault { call: Call::Completion, failure, one_in: 3 });
        for number in 0..30 {
            send(&sender, driver.local_addr(), &[number], 0);
            wait_for_numbers(&mut driver, &mut numbers, Some(soon()));
        }
        assert_eq!(clear(), 10);
        let expected: Vec<u8> = (0..30).filter(|number| number % 3 != 2).collect();
        assert_eq!(numbers, expected, "{failure:?}");
        let stats = driver.stats();
        assert_eq!(stats.recv_truncated, 10, "{failure:?}");
        assert_eq!((stats.buffers_lent, stats.buffers_returned), (30, 30));
    }
}

#[test]
fn a_ring_that_lost_completions_is_made_anew() {
    let mut driver = driver_with_side(DriverKind::Uring);
    let sender = socket("127.0.0.1:0");
    let mut numbers = Vec::new();
    let nothing = &mut |_: Received<'_>| panic!("nothing was sent to the side");
    for round in 0..5 {
        driver.recv_side(8, nothing).expect("recv");
        wait_for_numbers(&mut driver, &mut numbers, Some(soon()));
        fail(Call::Sleep, libc::EBADR, 1);
        wait_for_numbers(&mut driver, &mut numbers, Some(soon()));
        assert_eq!((clear(), driver.stats().ring_renewals), (1, round + 1));
        driver.recv_side(8, nothing).expect("recv");
        // Datagrams, wakes and the side are heard as before.
        send(&sender, driver.local_addr(), &[round as u8 + 2], 0);
        let expected = numbers.len() + 1;
        while numbers.len() < expected {
            wait_for_numbers(&mut driver, &mut numbers, Some(Clock::new().now_nanos() + SECOND));
        }
        driver.waker().wake();
        wait_for_numbers(&mut driver, &mut numbers, None);
        send(&sender, driver.local_addr(), &[1], 0);
        while !driver.is_side_pending() {
            wait_for_numbers(&mut driver, &mut numbers, None);
        }
        assert_eq!(driver.recv_side(1, &mut |_| {}).expect("recv"), 1);
    }
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
    let stats = driver.stats();
    assert_eq!((stats.buffers_lent, stats.buffers_returned), (5, 5));
}

/// The kernel reads 32 datagrams at one go; with buffers for all and room for 8 completions it overflows for real.
#[test]
fn a_full_completion_queue_loses_nothing() {
    const DATAGRAMS: u8 = 200;
    let mut driver = ring(256, 8);
    let senders = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    for number in 0..DATAGRAMS {
        // Alternating senders cannot be joined to batches, so each datagram takes a buffer and a completion.
        send(&senders[usize::from(number % 2)], driver.local_addr(), &[number], 0);
    }
    let mut numbers = Vec::new();
    while numbers.len() < usize::from(DATAGRAMS) {
        let before = numbers.len();
        wait_for_numbers(&mut driver, &mut numbers, Some(Clock::new().now_nanos() + SECOND));
        assert!(numbers.len() > before, "nothing in a second after {before}");
    }
    assert_eq!(numbers, (0..DATAGRAMS).collect::<Vec<_>>());
    let stats = driver.stats();
    assert!(stats.multishot_rearms > 0, "256 buffers were there, so only the queue was full");
    assert_eq!((stats.buffers_lent, stats.buffers_returned), (200, 200));
}
