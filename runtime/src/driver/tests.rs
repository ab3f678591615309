//! Goal: on the real kernel, each driver parks and wakes, and no datagram or wake is lost.

use super::system::{DriverKind, SystemDriver};
use super::uring::{UringDriver, UringOptions};
use super::{Driver, Port, Received};
use crate::clock::Clock;
use crate::socket::{
    GroupMember, GroupOptions, SendStatus, SideOptions, SocketGroup, SocketOptions, UdpSocket,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().expect("an address"), &SocketOptions::default()).expect("bind")
}

fn driver(kind: DriverKind, address: &str) -> SystemDriver {
    SystemDriver::open(kind, socket(address), None).expect("a driver")
}

/// A driver with a side socket for datagrams that begin with 1.
pub(super) fn driver_with_side(kind: DriverKind) -> SystemDriver {
    let side = SideOptions { first_byte: 1, recv_buffer_bytes: 128 << 10 };
    let options = GroupOptions { side: Some(side), ..GroupOptions::default() };
    let mut group =
        SocketGroup::bind("127.0.0.1:0".parse().expect("an address"), &options).expect("a group");
    let GroupMember { main, side, .. } = group.members.remove(0);
    SystemDriver::open(kind, main, side).expect("a driver")
}

/// Each of these is a test per driver.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $test() { super::$test(super::DriverKind::Uring); })*
        }
        mod epoll {
            $(#[test] fn $test() { super::$test(super::DriverKind::Epoll); })*
        }
    };
}

on_both!(
    a_datagram_sent_before_the_wait_ends_it,
    a_datagram_sent_while_parked_ends_the_wait,
    hot_reads_and_waits_alternate_without_loss,
    a_wait_ends_at_its_deadline,
    a_wake_before_the_wait_ends_it_and_only_it,
    no_wake_is_lost_over_many_rounds,
    a_dropped_driver_frees_its_port_at_once,
    a_datagram_for_the_side_ends_the_wait_and_is_read_there_only,
    a_member_hears_both_its_ports_and_speaks_from_any,
    a_flood_of_one_port_leaves_the_other_its_turn,
);

pub(super) fn send(from: &UdpSocket, to: SocketAddr, bytes: &[u8], segment_bytes: usize) {
    assert_eq!(from.send(to, bytes, segment_bytes).expect("send"), SendStatus::Sent);
}

/// Waits until `datagrams` have come, for at most a second each time, and returns them.
pub(super) fn collect(driver: &mut SystemDriver, datagrams: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    while seen.len() < datagrams {
        let deadline = Clock::new().now_nanos() + SECOND;
        let before = seen.len();
        let mut sink = |received: Received<'_>| {
            seen.extend(received.bytes.chunks(received.segment_bytes).map(<[u8]>::to_vec));
        };
        driver.wait(Some(deadline), &mut sink).expect("wait");
        driver.recv(64, &mut sink).expect("recv");
        assert!(seen.len() > before, "nothing in a second after {before} of {datagrams}");
    }
    seen
}

fn a_datagram_sent_before_the_wait_ends_it(kind: DriverKind) {
    let mut driver = driver(kind, "127.0.0.1:0");
    let sender = socket("127.0.0.1:0");
    for round in 0..100u8 {
        send(&sender, driver.local_addr(), &[round], 0);
        let mut seen = Vec::new();
        let deadline = Clock::new().now_nanos() + SECOND;
        let batches = driver.wait(Some(deadline), &mut |received| {
            assert_eq!(received.from, sender.local_addr());
            seen.extend_from_slice(received.bytes);
        });
        assert_eq!((batches.expect("wait"), seen), (1, vec![round]));
    }
    let from_the_ring = if kind == DriverKind::Uring { 100 } else { 0 };
    assert_eq!(driver.stats().buffers_lent, from_the_ring);
    assert_eq!(driver.stats().buffers_returned, from_the_ring);
}

fn a_datagram_sent_while_parked_ends_the_wait(kind: DriverKind) {
    let mut driver = driver(kind, "[::1]:0");
    let to = driver.local_addr();
    let sending = thread::spawn(move || {
        let sender = socket("[::1]:0");
        thread::sleep(Duration::from_millis(20));
        send(&sender, to, &[9; 5 * 1_200 + 1], 1_200);
    });
    let seen = collect(&mut driver, 6);
    sending.join().expect("no panic");
    assert_eq!(
        seen.iter().map(Vec::len).collect::<Vec<_>>(),
        [1_200, 1_200, 1_200, 1_200, 1_200, 1]
    );
    assert_eq!(driver.stats().recv_datagrams, 6);
}

fn hot_reads_and_waits_alternate_without_loss(kind: DriverKind) {
    let mut driver = driver(kind, "127.0.0.1:0");
    let sender = socket("127.0.0.1:0");
    let mut seen = Vec::new();
    for round in 0..2_000u32 {
        send(&sender, driver.local_addr(), &round.to_ne_bytes(), 0);
        let mut sink = |received: Received<'_>| {
            let bytes: [u8; 4] = (&*received.bytes).try_into().expect("four bytes");
            seen.push(u32::from_ne_bytes(bytes));
        };
        // Every third datagram is read by the ring, armed throughout; the others by plain calls.
        if round % 3 == 0 {
            let deadline = Clock::new().now_nanos() + SECOND;
            driver.wait(Some(deadline), &mut sink).expect("wait");
        } else {
            driver.recv(8, &mut sink).expect("recv");
        }
    }
    assert_eq!(seen, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn more_batches_than_buffers_lose_nothing() {
    let mut driver = UringDriver::new(
        socket("127.0.0.1:0"),
        UringOptions { ring_buffers: 4, ..Default::default() },
    )
    .expect("a ring");
    let senders = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    // Alternating senders cannot be joined to batches, so each datagram takes a buffer.
    for round in 0..40u8 {
        send(&senders[usize::from(round % 2)], driver.local_addr(), &[round], 0);
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let deadline = Clock::new().now_nanos() + SECOND;
        let mut sink = |received: Received<'_>| seen.push(received.bytes[0]);
        let batches = driver.wait(Some(deadline), &mut sink).expect("wait");
        assert!(batches > 0, "the rest was overlooked");
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    let stats = driver.stats();
    assert!(stats.multishot_rearms > 0, "the buffers never ran out");
    assert_eq!((stats.buffers_lent, stats.buffers_returned), (40, 40));
}

fn a_wait_ends_at_its_deadline(kind: DriverKind) {
    let mut driver = driver(kind, "127.0.0.1:0");
    let clock = Clock::new();
    for millis in [1, 20] {
        let deadline = clock.now_nanos() + millis * 1_000_000;
        assert_eq!(driver.wait(Some(deadline), &mut |_| {}).expect("wait"), 0);
        let late = clock.now_nanos().checked_sub(deadline).expect("not before the deadline");
        assert!(late < SECOND / 2, "late by {late} ns");
    }
    assert_eq!(driver.wait(Some(0), &mut |_| {}).expect("wait"), 0);
    assert_eq!(driver.stats().wakes, 0);
}

fn a_wake_before_the_wait_ends_it_and_only_it(kind: DriverKind) {
    let mut driver = driver(kind, "127.0.0.1:0");
    driver.waker().wake();
    let clock = Clock::new();
    assert_eq!(driver.wait(None, &mut |_| {}).expect("wait"), 0);
    let begin = clock.now_nanos();
    driver.wait(Some(begin + 10_000_000), &mut |_| {}).expect("wait");
    assert!(clock.now_nanos() - begin >= 10_000_000, "a stale wake ended a later wait");
    assert_eq!((driver.stats().waits, driver.stats().wakes), (2, 1));
}

/// The pattern that shards use: publish, then wake; the other side waits without a deadline until
/// it has seen all that was published. A lost wake-up hangs this test.
fn no_wake_is_lost_over_many_rounds(kind: DriverKind) {
    const ROUNDS: u64 = 20_000;
    let mut driver = driver(kind, "127.0.0.1:0");
    let waker = driver.waker();
    let published = Arc::new(AtomicU64::new(0));
    let consumed = Arc::new(AtomicU64::new(0));
    let (ours, theirs) = (Arc::clone(&published), Arc::clone(&consumed));
    let waking = thread::spawn(move || {
        for round in 1..=ROUNDS {
            ours.store(round, Ordering::Release);
            waker.wake();
            // Half the rounds in lock step (the driver is parked or about to), half at full speed.
            while round % 2 == 0 && theirs.load(Ordering::Acquire) < round {
                std::hint::spin_loop();
                thread::yield_now();
            }
        }
    });
    while consumed.load(Ordering::Relaxed) < ROUNDS {
        driver.wait(None, &mut |_| {}).expect("wait");
        consumed.store(published.load(Ordering::Acquire), Ordering::Release);
    }
    waking.join().expect("no panic");
    assert!(driver.stats().wakes >= ROUNDS / 2);
}

fn a_dropped_driver_frees_its_port_at_once(kind: DriverKind) {
    let first = driver(kind, "127.0.0.1:0");
    let address = first.local_addr();
    let waker = first.waker();
    for round in 0..20 {
        let mut driver = driver(kind, "127.0.0.1:0");
        driver.wait(Some(Clock::new().now_nanos() + 100_000), &mut |_| {}).expect("wait");
        let address = driver.local_addr();
        drop(driver);
        let again = UdpSocket::bind(address, &SocketOptions::default());
        assert!(again.is_ok(), "round {round}: {:?}", again.err());
    }
    drop(first);
    assert!(UdpSocket::bind(address, &SocketOptions::default()).is_ok());
    // A waker that outlives its driver wakes nobody, harmlessly.
    waker.wake();
}

fn a_datagram_for_the_side_ends_the_wait_and_is_read_there_only(kind: DriverKind) {
    let mut driver = driver_with_side(kind);
    let sender = socket("127.0.0.1:0");
    let nothing = &mut |_: Received<'_>| panic!("nothing was sent to the main socket");
    assert_eq!(driver.recv_side(8, nothing).expect("recv"), 0);
    for round in 0..50u8 {
        assert!(!driver.is_side_pending(), "it was found empty");
        send(&sender, driver.local_addr(), &[1, round], 0);
        let deadline = Clock::new().now_nanos() + 10 * SECOND;
        while !driver.is_side_pending() && Clock::new().now_nanos() < deadline {
            assert_eq!(driver.wait(Some(deadline), nothing).expect("wait"), 0);
        }
        let mut seen = Vec::new();
        let mut sink = |received: Received<'_>| seen.push(received.bytes.to_vec());
        assert_eq!(driver.recv_side(1, &mut sink).expect("recv"), 1);
        assert!(driver.is_side_pending(), "there may be more");
        assert_eq!(driver.recv_side(8, nothing).expect("recv"), 0);
        assert_eq!(seen, [vec![1, round]]);
    }
    assert_eq!(driver.stats().side_datagrams, 50);
}

/// Two members with a port of their own each, and where these are.
fn members(kind: DriverKind) -> (Vec<SystemDriver>, Vec<SocketAddr>) {
    let options = GroupOptions { members: 2, own_ports: Some(0), ..GroupOptions::default() };
    let group =
        SocketGroup::bind("127.0.0.1:0".parse().expect("an address"), &options).expect("a group");
    let own = |member: &GroupMember| member.own.as_ref().expect("an own port").socket.local_addr();
    let own = group.members.iter().map(own).collect();
    let open = |member| SystemDriver::of_member(kind, member, &group.hold).expect("a driver");
    (group.members.into_iter().map(open).collect(), own)
}

fn a_member_hears_both_its_ports_and_speaks_from_any(kind: DriverKind) {
    let (mut drivers, own) = members(kind);
    let sender = socket("127.0.0.1:0");
    let shared = drivers[0].local_addr();
    for round in 0..100u8 {
        // Each ends a sleep, and each is found by a plain look.
        let (to, port) =
            if round % 2 == 0 { (own[1], Port::Member(1)) } else { (shared, Port::Shared) };
        send(&sender, to, &[0x40, 1, round], 0);
        let mut seen = Vec::new();
        let deadline = Clock::new().now_nanos() + 10 * SECOND;
        while seen.is_empty() && Clock::new().now_nanos() < deadline {
            let mut sink = |it: Received<'_>| seen.push((it.bytes[2], it.port, it.from));
            if round % 4 < 2 {
                drivers[1].wait(Some(deadline), &mut sink).expect("wait");
            } else {
                drivers[1].recv(1, &mut sink).expect("recv");
            }
        }
        assert_eq!(seen, [(round, port, sender.local_addr())]);
    }
    assert_eq!(drivers[1].stats().recv_datagrams, 100);
    let from = |port: Port, driver: &mut SystemDriver| {
        let sent = driver.send_from(port, sender.local_addr(), b"hello", 0).expect("send");
        assert_eq!(sent, SendStatus::Sent);
        let mut buffer = [0; 100];
        let deadline = Clock::new().now_nanos() + 10 * SECOND;
        loop {
            if let Some(meta) = sender.recv(&mut buffer).expect("recv") {
                return meta.from;
            }
            assert!(Clock::new().now_nanos() < deadline, "it comes");
        }
    };
    assert_eq!(from(Port::Shared, &mut drivers[1]), shared);
    assert_eq!(from(Port::Member(1), &mut drivers[1]), own[1]);
    assert_eq!(from(Port::Member(0), &mut drivers[1]), own[0], "another member's");
    assert_eq!(drivers[1].stats().send_datagrams, 3);
    let unknown = drivers[1].send_from(Port::Member(7), sender.local_addr(), b"hello", 0);
    assert_eq!(unknown.expect_err("no such port").raw_os_error(), Some(libc::EBADF));
}

fn a_flood_of_one_port_leaves_the_other_its_turn(kind: DriverKind) {
    let (mut drivers, own) = members(kind);
    let (sender, shared) = (socket("127.0.0.1:0"), drivers[0].local_addr());
    for (full, other) in [(shared, own[0]), (own[0], shared)] {
        for _ in 0..20 {
            send(&sender, full, &[0x40, 0], 0);
        }
        send(&sender, other, &[0x40, 0, 7], 0);
        let mut looks = 0;
        let mut is_found = false;
        while !is_found {
            looks += 1;
            assert!(looks <= 3, "one batch a look, the ports in turn");
            let mut sink = |it: Received<'_>| is_found |= it.bytes.len() == 3;
            drivers[0].recv(1, &mut sink).expect("recv");
        }
        while drivers[0].recv(64, &mut |_| {}).expect("recv") > 0 {}
    }
}
