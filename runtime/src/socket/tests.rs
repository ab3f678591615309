//! Loopback tests of the socket on the real kernel.

use super::{BindError, RecvMeta, SendStatus, SocketOptions, UdpSocket};
use std::io;
use std::net::SocketAddr;

const BUFFER_BYTES: usize = 65_536;

fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().expect("an address"), &SocketOptions::default()).expect("bind")
}

/// The next batch within a second, with its bytes.
fn receive(socket: &UdpSocket) -> (RecvMeta, Vec<u8>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    assert!(socket.wait_readable(Some(1_000_000_000)).expect("poll"), "nothing arrived");
    let meta = socket.recv(&mut buffer).expect("recv").expect("a datagram");
    buffer.truncate(meta.len);
    (meta, buffer)
}

/// Sends a run and checks that datagrams of the right sizes and bytes arrive, in whatever batches.
fn check_run(sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr, from: SocketAddr) {
    let run: Vec<u8> = (0..10 * 1_452 + 300).map(|index| (index % 251) as u8).collect();
    assert_eq!(sender.send(to, &run, 1_452).expect("send"), SendStatus::Sent);
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    while datagrams.len() < 11 {
        let (meta, bytes) = receive(receiver);
        assert_eq!(meta.from, from);
        assert!(!meta.truncated);
        datagrams.extend(bytes.chunks(meta.segment_bytes).map(<[u8]>::to_vec));
    }
    let expected: Vec<Vec<u8>> = run.chunks(1_452).map(<[u8]>::to_vec).collect();
    assert_eq!(datagrams, expected);
    assert_eq!(receiver.stats().recv_datagrams, 11);
    assert_eq!(receiver.stats().recv_bytes, run.len() as u64);
}

#[test]
fn a_run_over_ipv4_arrives_whole_in_few_batches() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    check_run(&sender, &receiver, receiver.local_addr(), sender.local_addr());
    assert!(sender.gso_enabled() && receiver.gro_enabled());
    assert_eq!(sender.stats().send_calls, 1);
    assert_eq!(receiver.stats().recv_batches, 1);
}

#[test]
fn a_run_over_ipv6_arrives_whole() {
    let (sender, receiver) = (bind("[::1]:0"), bind("[::1]:0"));
    check_run(&sender, &receiver, receiver.local_addr(), sender.local_addr());
}

#[test]
fn a_socket_on_all_addresses_knows_ipv4_peers_by_ipv4_addresses() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("[::]:0"));
    let to = SocketAddr::new("127.0.0.1".parse().expect("ip"), receiver.local_addr().port());
    check_run(&sender, &receiver, to, sender.local_addr());
    let status = receiver.send(sender.local_addr(), b"back", 0).expect("send");
    assert_eq!(status, SendStatus::Sent);
    let (meta, bytes) = receive(&sender);
    assert_eq!((meta.from, bytes.as_slice()), (to, b"back".as_slice()));
}

#[test]
fn a_run_is_sent_singly_once_segmentation_is_refused() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    sender.gso.set(false);
    check_run(&sender, &receiver, receiver.local_addr(), sender.local_addr());
    assert_eq!(sender.stats().send_calls, 1, "one sendmmsg");
}

#[test]
fn several_datagrams_are_received_by_one_call_each_in_its_slot() {
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let receiver = UdpSocket::bind("127.0.0.1:0".parse().expect("an address"), &options);
    let (sender, receiver) = (bind("127.0.0.1:0"), receiver.expect("bind"));
    for number in 0..12_u8 {
        // The last is longer than a slot.
        let bytes = vec![number; if number == 11 { 101 } else { usize::from(number) }];
        assert_eq!(sender.send(receiver.local_addr(), &bytes, 0).expect("send"), SendStatus::Sent);
    }
    let mut buffer = [0; 8 * 100];
    let mut seen = Vec::new();
    let mut take = |datagrams_max| {
        let sink = &mut |_: usize, meta: RecvMeta, bytes: &mut [u8]| {
            assert_eq!(meta.from, sender.local_addr());
            seen.push((bytes.to_vec(), meta.truncated));
        };
        receiver.recv_many(&mut buffer, 100, datagrams_max, sink).expect("recv")
    };
    assert_eq!([take(64), take(1), take(64), take(64)], [8, 1, 3, 0]);
    let expected = |number: u8| {
        (vec![number; if number == 11 { 100 } else { usize::from(number) }], number == 11)
    };
    assert_eq!(seen, (0..12).map(expected).collect::<Vec<_>>());
    let stats = receiver.stats();
    assert_eq!((stats.recv_calls, stats.recv_datagrams, stats.recv_truncated), (4, 12, 1));
}

#[test]
fn a_refused_run_falls_back_and_remembers() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    // Linux refuses to segment a socket whose checksums are off (EIO): a real refusal.
    super::set_option(&sender.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("option");
    check_run(&sender, &receiver, receiver.local_addr(), sender.local_addr());
    assert!(!sender.gso_enabled());
    assert_eq!(sender.stats().gso_fallbacks, 1);
    assert_eq!(sender.stats().send_calls, 2, "one refused, one sendmmsg");
}

#[test]
fn an_empty_socket_gives_nothing_and_waits_no_longer_than_told() {
    let socket = bind("127.0.0.1:0");
    assert_eq!(socket.recv(&mut [0; 64]).expect("recv"), None);
    assert!(!socket.wait_readable(Some(1_000_000)).expect("poll"));
}

#[test]
fn empty_datagrams_are_datagrams() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    assert_eq!(sender.send(receiver.local_addr(), b"", 0).expect("send"), SendStatus::Sent);
    let (meta, _) = receive(&receiver);
    assert_eq!((meta.len, meta.segment_bytes), (0, 1));
    assert_eq!(receiver.stats().recv_datagrams, 1);
}

#[test]
fn a_short_buffer_is_told() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    assert_eq!(sender.send(receiver.local_addr(), &[7; 100], 0).expect("send"), SendStatus::Sent);
    assert!(receiver.wait_readable(Some(1_000_000_000)).expect("poll"));
    let meta = receiver.recv(&mut [0; 10]).expect("recv").expect("a datagram");
    assert!(meta.truncated);
    assert_eq!(meta.len, 10);
    assert_eq!(receiver.stats().recv_truncated, 1);
}

#[test]
fn a_full_receiver_counts_its_drops() {
    let options = SocketOptions { recv_buffer_bytes: 4_096, ..SocketOptions::default() };
    let receiver =
        UdpSocket::bind("127.0.0.1:0".parse().expect("address"), &options).expect("bind");
    let sender = bind("127.0.0.1:0");
    for _ in 0..50 {
        let _ = sender.send(receiver.local_addr(), &[1; 1_000], 0).expect("send");
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    while receiver.recv(&mut buffer).expect("recv").is_some() {}
    // The count travels with the next datagram that is delivered.
    let _ = sender.send(receiver.local_addr(), &[1; 1_000], 0).expect("send");
    let (meta, _) = receive(&receiver);
    assert!(meta.kernel_drops > 0);
    let stats = receiver.stats();
    assert_eq!(stats.kernel_drops, u64::from(meta.kernel_drops));
    assert_eq!(stats.recv_datagrams + stats.kernel_drops, 51);
}

#[test]
fn sending_to_a_closed_port_fails_nothing() {
    let sender = bind("127.0.0.1:0");
    let closed = bind("127.0.0.1:0").local_addr();
    for _ in 0..3 {
        assert_eq!(sender.send(closed, b"anyone", 0).expect("send"), SendStatus::Sent);
        assert_eq!(sender.recv(&mut [0; 64]).expect("recv"), None);
    }
}

#[test]
fn runs_above_the_limits_and_foreign_addresses_are_refused() {
    let socket = bind("127.0.0.1:0");
    let to = socket.local_addr();
    for (bytes, segment_bytes) in [(65, 1), (65_508, 1_452)] {
        let error = socket.send(to, &vec![0; bytes], segment_bytes).expect_err("too much");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let v6 = "[::1]:9".parse().expect("an address");
    let error = socket.send(v6, b"x", 0).expect_err("wrong family");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_busy_port_is_explained() {
    let first = bind("127.0.0.1:0");
    let error = UdpSocket::bind(first.local_addr(), &SocketOptions::default()).expect_err("busy");
    assert!(matches!(error, BindError::AddressInUse { address } if address == first.local_addr()));
    let text = error.to_string();
    assert!(text.contains("is in use by another process: choose another port"), "{text}");
}

#[test]
fn a_foreign_address_is_explained() {
    let address = "192.0.2.1:0".parse().expect("an address");
    let error = UdpSocket::bind(address, &SocketOptions::default()).expect_err("not ours");
    assert!(error.to_string().starts_with("address 192.0.2.1 is not available on this host"));
}

#[test]
fn buffers_are_read_back_doubled() {
    let options = SocketOptions { recv_buffer_bytes: 100_000, ..SocketOptions::default() };
    let socket = UdpSocket::bind("127.0.0.1:0".parse().expect("address"), &options).expect("bind");
    let buffers = socket.buffers();
    assert_eq!(buffers.recv_requested_bytes, 100_000);
    assert_eq!(buffers.recv_bytes, 200_000);
    assert!(buffers.recv_granted());
}

#[test]
fn two_sockets_share_a_port_when_both_ask() {
    let options = SocketOptions { reuse_port: true, ..SocketOptions::default() };
    let first = UdpSocket::bind("127.0.0.1:0".parse().expect("address"), &options).expect("bind");
    let second = UdpSocket::bind(first.local_addr(), &options).expect("shared");
    assert_eq!(first.local_addr(), second.local_addr());
}

#[test]
fn a_datagram_longer_than_the_interface_carries_is_known_as_such() {
    let socket = bind("127.0.0.1:0");
    let bytes = vec![0; 65_508];
    let error = socket.send(socket.local_addr(), &bytes, 0).unwrap_err();
    assert!(super::is_too_long(&error), "{error:?}");
    assert!(!super::is_too_long(&io::Error::from_raw_os_error(libc::EINVAL)));
}
