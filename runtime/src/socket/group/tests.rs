//! Goal: each datagram reaches the socket that its bytes say, a flood of one kind leaves the others alone, the port is
//! exclusive, and no socket takes another's place.

use super::*;
use crate::buffers::RECV_BUFFER_BYTES;

const SIDE: SideOptions = SideOptions { first_byte: 1, recv_buffer_bytes: 128 << 10 };

fn options(members: usize) -> GroupOptions {
    GroupOptions { members, side: Some(SIDE), ..GroupOptions::default() }
}

fn bind(address: &str, options: &GroupOptions) -> SocketGroup {
    SocketGroup::bind(address.parse().expect("an address"), options).expect("a group")
}

fn sender() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("bind")
}

/// Every datagram that waits at `socket`.
fn datagrams(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; RECV_BUFFER_BYTES];
    let mut found = Vec::new();
    while let Some(meta) = socket.recv(&mut buffer).expect("recv") {
        found.extend(buffer[..meta.len].chunks(meta.segment_bytes).map(<[u8]>::to_vec));
        if meta.len == 0 {
            found.push(Vec::new());
        }
    }
    found
}

fn side(member: &GroupMember) -> &UdpSocket {
    member.side.as_ref().expect("a side socket")
}

#[test]
fn the_bytes_decide_for_every_value_and_size_of_the_group() {
    for address in ["127.0.0.1:0", "[::]:0"] {
        for count in [1, 2, 3, 8, 64] {
            let group = bind(address, &options(count));
            assert!(group.unsteered.is_none());
            let sender = sender();
            let to = ("127.0.0.1", group.members[0].main.local_addr().port());
            for number in 0..=u8::MAX {
                for kind in [0x40, SIDE.first_byte] {
                    sender.send_to(&[kind, number, 7], to).expect("send");
                    let member = &group.members[usize::from(number) % count];
                    let hit = if kind == SIDE.first_byte { side(member) } else { &member.main };
                    assert_eq!(datagrams(hit), [[kind, number, 7]], "{address} of {count}");
                }
            }
            let all = group.members.iter().flat_map(|member| [&member.main, side(member)]);
            assert_eq!(all.map(|socket| datagrams(socket).len()).sum::<usize>(), 0, "no strays");
        }
    }
}

#[test]
fn a_datagram_too_short_to_say_reaches_the_first_member() {
    let group = bind("127.0.0.1:0", &options(4));
    let sender = sender();
    let to = group.members[0].main.local_addr();
    for bytes in [&[][..], &[0x40], &[1]] {
        sender.send_to(bytes, to).expect("send");
    }
    assert_eq!(datagrams(&group.members[0].main).len(), 3);
    // A single member needs no second byte to know its side socket.
    let group = bind("127.0.0.1:0", &options(1));
    sender.send_to(&[1], group.members[0].main.local_addr()).expect("send");
    assert_eq!(datagrams(side(&group.members[0])), [[1]]);
}

#[test]
fn a_flood_of_one_kind_takes_nothing_from_the_others() {
    let group = bind("127.0.0.1:0", &options(2));
    let sender = sender();
    let [first, second] = &group.members[..] else { panic!("two members") };
    let to = first.main.local_addr();
    for _ in 0..1_000 {
        sender.send_to(&[1; 1_200], to).expect("send");
    }
    for number in 0..100 {
        sender.send_to(&[0x40, number].repeat(600), to).expect("send");
    }
    let counts = [first, second].map(|member| datagrams(&member.main).len());
    assert_eq!(counts, [50, 50]);
    assert_eq!(first.main.stats().kernel_drops + second.main.stats().kernel_drops, 0);
    assert!(datagrams(side(second)).len() < 1_000 && datagrams(side(first)).is_empty());
}

#[test]
fn a_run_sent_in_one_call_stays_whole() {
    let group = bind("127.0.0.1:0", &options(4));
    let sender = UdpSocket::bind("127.0.0.1:0".parse().expect("an address"), &options(1).socket);
    let sender = sender.expect("bind");
    let run: Vec<u8> = (0..20).flat_map(|number| [0x40, 2, number, 0].repeat(300)).collect();
    let _ = sender.send(group.members[0].main.local_addr(), &run, 1_200).expect("send");
    let found = datagrams(&group.members[2].main);
    assert_eq!(found.concat(), run);
    assert_eq!(group.members[2].main.stats().recv_batches, 1, "one batch");
}

#[test]
fn without_steering_the_kernel_spreads_and_there_are_no_side_sockets() {
    let group = bind("127.0.0.1:0", &GroupOptions { is_steered: false, ..options(4) });
    assert!(group.unsteered.is_none() && group.members.iter().all(|member| member.side.is_none()));
    let to = group.members[0].main.local_addr();
    for _ in 0..200 {
        sender().send_to(&[0x40, 0], to).expect("send");
    }
    let counts: Vec<_> = group.members.iter().map(|member| datagrams(&member.main).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(counts.iter().all(|count| *count > 0), "all of one byte, and spread: {counts:?}");
}

#[test]
fn the_port_is_busy_while_held_and_free_right_after() {
    let group = bind("127.0.0.1:0", &options(4));
    let address = group.members[0].main.local_addr();
    for other in [options(1), options(4), GroupOptions { is_steered: false, ..options(2) }] {
        let error = SocketGroup::bind(address, &other).expect_err("busy");
        assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
    }
    drop(group);
    for count in [4, 2, 8] {
        SocketGroup::bind(address, &options(count)).expect("free again");
    }
}

#[test]
fn a_program_of_the_same_user_that_shares_the_port_gets_nothing_and_shifts_nobody() {
    let group = bind("127.0.0.1:0", &options(4));
    let to = group.members[0].main.local_addr();
    let shared = SocketOptions { reuse_port: true, ..SocketOptions::default() };
    let mut others = vec![UdpSocket::bind(to, &shared).expect("the kernel allows it")];
    others.push(UdpSocket::bind(to, &shared).expect("the kernel allows it"));
    let sender = sender();
    let check = |others: &[UdpSocket]| {
        for number in 0..=u8::MAX {
            for kind in [0x40, SIDE.first_byte] {
                sender.send_to(&[kind, number], to).expect("send");
                let member = &group.members[usize::from(number) % 4];
                let hit = if kind == SIDE.first_byte { side(member) } else { &member.main };
                assert_eq!(datagrams(hit), [[kind, number]]);
            }
        }
        assert!(others.iter().all(|other| datagrams(other).is_empty()));
    };
    check(&others);
    // The first of them closes, and the kernel puts the last one into its place.
    others.remove(0);
    check(&others);
    others.clear();
    check(&others);
}

#[test]
fn every_socket_of_a_group_joins_datagrams_or_none_does() {
    for gro in [true, false] {
        let socket = SocketOptions { gro, ..SocketOptions::default() };
        let group = bind("127.0.0.1:0", &GroupOptions { socket, ..options(3) });
        let all = group.members.iter().flat_map(|member| [&member.main, side(member)]);
        assert!(all.into_iter().all(|socket| socket.gro_enabled() == gro));
    }
}

#[test]
fn a_port_that_is_given_back_within_the_patience_is_taken() {
    let group = bind("127.0.0.1:0", &options(2));
    let address = group.members[0].main.local_addr();
    let patience = Duration::from_secs(10);
    let next = GroupOptions { bind_patience: patience, ..options(3) };
    let ending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(group);
    });
    let group = SocketGroup::bind(address, &next).expect("the port in the end");
    assert_eq!(group.members.len(), 3);
    ending.join().expect("no panic");
}

#[test]
fn a_member_that_closes_leaves_the_others_in_their_places() {
    let mut group = bind("127.0.0.1:0", &options(4));
    let hold = group.hold.clone();
    let to = group.members[0].main.local_addr();
    let gone = group.members.remove(1);
    drop(gone);
    let sender = sender();
    for number in 0..4 {
        for kind in [0x40, SIDE.first_byte] {
            sender.send_to(&[kind, number], to).expect("send");
        }
    }
    for (member, number) in group.members.iter().zip([0, 2, 3]) {
        assert_eq!(datagrams(&member.main), [[0x40, number]]);
        assert_eq!(datagrams(side(member)), [[SIDE.first_byte, number]]);
    }
    // The port is free when the last of them has gone, hold included.
    drop(group);
    SocketGroup::bind(to, &options(1)).expect_err("still held");
    drop(hold);
    SocketGroup::bind(to, &options(1)).expect("free");
}

#[test]
fn own_ports_are_those_asked_for_or_the_start_fails() {
    let taken = sender();
    let busy = taken.local_addr().expect("an address").port();
    let options = GroupOptions { own_ports: Some(busy), ..options(2) };
    let error = SocketGroup::bind("127.0.0.1:0".parse().expect("an address"), &options);
    assert!(matches!(error.expect_err("busy"), BindError::AddressInUse { .. }));
    drop(taken);
    let group = bind("127.0.0.1:0", &GroupOptions { members: 1, ..options });
    let own = group.members[0].own.as_ref().expect("an own port");
    assert_eq!((own.socket.local_addr().port(), own.member), (busy, 0));
    let beyond = GroupOptions { own_ports: Some(u16::MAX), ..options };
    SocketGroup::bind("127.0.0.1:0".parse().expect("an address"), &beyond)
        .expect_err("there is no port 65536");
}
